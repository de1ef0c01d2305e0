"""Your own photographs: `--data PATH` with train/CLASS/*.jpg, and val/ and test/ beside train/."""

from alexnet_jax.config import Augment, Config, Input, Optimizer

config = Config(
    data="",
    spec="notes_227",
    run_dir="runs/folder",
    epochs=90,
    batch_size=32,
    learning_rate=0.01,
    patience=10,
    optimizer=Optimizer(momentum=0.9, l2=5e-4, clip=5.0),
    augment=Augment(crop="random", flip=0.5, pca_noise=0.1),
    input=Input(canvas=256),
)
