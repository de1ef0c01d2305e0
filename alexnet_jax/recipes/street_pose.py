"""Rendered men and women, one a picture: fourteen joints of each, by heat maps."""

from alexnet_jax.config import Augment, Config, Model, Optimizer, Pose, Run, Schedule, Stopping

config = Config(
    task="pose",
    data="street/people",
    spec="small",
    run_dir="runs/street-pose",
    epochs=40,
    batch_size=16,
    learning_rate=3e-3,
    patience=10,
    model=Model(normalization="batch", dropout_rate=0.0),
    pose=Pose(skips=("conv5", "conv2"), refine=64),
    stopping=Stopping(monitor="validation/pck"),
    optimizer=Optimizer(name="adamw", decay=0.02, clip=10.0),
    schedule=Schedule(name="cosine", warmup="1 epoch"),
    augment=Augment(crop="random", pad=4, pad_mode="reflect", flip=0.5),
    run=Run(evaluate_every="2 epochs"),
)
