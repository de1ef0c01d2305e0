"""Your own photographs of one person: `--data PATH` with images/im0001.jpg ... and joints.mat."""

from alexnet_jax.config import Augment, Config, Input, Optimizer, Stopping

config = Config(
    task="pose",
    data="",
    spec="notes_227",
    run_dir="runs/pose-folder",
    epochs=90,
    batch_size=16,
    learning_rate=0.01,
    patience=10,
    stopping=Stopping(monitor="validation/pck"),
    optimizer=Optimizer(momentum=0.9, l2=5e-4, clip=1.0),
    augment=Augment(crop="random", flip=0.5),
    input=Input(canvas=256),
)
