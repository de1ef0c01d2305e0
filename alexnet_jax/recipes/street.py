"""Car or bus, rendered: the lecture notes' data set A. Minutes on two CPU cores."""

from alexnet_jax.config import Augment, Config, Optimizer

config = Config(
    data="street/a",
    spec="small",
    run_dir="runs/street",
    epochs=60,
    batch_size=32,
    learning_rate=0.01,
    patience=8,
    optimizer=Optimizer(momentum=0.9, l2=5e-4),
    augment=Augment(crop="random", pad=4, pad_mode="reflect", flip=0.5),
)
