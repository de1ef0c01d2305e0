"""Car or bus, rendered: the lecture notes' data set A. Minutes on two CPU cores."""

from alexnet_jax.config import Augment, Config, Model, Optimizer

config = Config(
    data="street/a",
    spec="small",
    run_dir="runs/street",
    epochs=60,
    batch_size=32,
    learning_rate=0.02,
    patience=6,
    model=Model(dropout_rate=0.25),
    # The first gradients of a He-initialized net are 50 times those that follow: unclipped, one
    # seed in three never leaves ln(2).
    optimizer=Optimizer(momentum=0.9, l2=5e-4, clip=1.0),
    augment=Augment(crop="random", pad=4, pad_mode="reflect", flip=0.5),
)
