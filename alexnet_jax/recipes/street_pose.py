"""Rendered men and women, one a picture: fourteen joints of each, by heat maps."""

from alexnet_jax.config import Augment, Config, Model, Optimizer, Schedule, Stopping

config = Config(
    task="pose",
    data="street/people",
    spec="small",
    run_dir="runs/street-pose",
    epochs=30,
    batch_size=32,
    learning_rate=0.06,
    patience=8,
    model=Model(dropout_rate=0.25),
    stopping=Stopping(monitor="validation/pck"),
    optimizer=Optimizer(momentum=0.9, l2=5e-4, clip=1.0),
    schedule=Schedule(name="cosine", warmup="1 epoch"),
    augment=Augment(crop="random", pad=4, pad_mode="reflect", flip=0.5),
)
