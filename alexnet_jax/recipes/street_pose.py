"""Rendered men and women, one a picture: fourteen joints of each, by heat maps."""

from alexnet_jax.config import Augment, Config, Model, Optimizer, Pose, Run, Schedule, Stopping

config = Config(
    task="pose",
    data="street/people",
    spec="small",
    run_dir="runs/street-pose",
    epochs=28,
    batch_size=16,
    learning_rate=3e-3,
    patience=10,
    # What tells left from right is small: a face, a foot, which leg hides the other. All maps are
    # therefore twice as fine as the spec's, and dense layers would see too many places.
    model=Model(normalization="batch", dense=(), dropout=(), conv1_stride=1),
    # Wider Gaussians around both sides would meet between them.
    pose=Pose(skips=("conv5",), refine=96, sigma=0.5, context=True, mirrored=True),
    stopping=Stopping(monitor="validation/pck"),
    optimizer=Optimizer(name="adamw", decay=0.02, clip=10.0),
    schedule=Schedule(name="cosine", warmup="1 epoch"),
    augment=Augment(
        crop="resized",
        scale=(0.7, 1.0),
        ratio=(0.87, 1.15),
        flip=0.5,
        brightness=0.2,
        contrast=0.2,
        saturation=0.2,
    ),
    run=Run(evaluate_every="4 epochs"),
)
