"""Rendered street scenes, pixel by pixel: background and six classes.

FCN whose skips are joined by convolutions: what is thin at 64 px needs more than added scores. Its
first convolution keeps every pixel, so all maps are twice as fine as the classifier's; it does
without dense layers, which would see most of the picture at once. What is thin is else given to the
background, which has four fifths of all pixels: overlap counts besides cross-entropy.
"""

from alexnet_jax.config import (
    Augment,
    Config,
    Model,
    Optimizer,
    Run,
    Schedule,
    Segmentation,
    Stopping,
)

config = Config(
    task="segmentation",
    data="street/scenes",
    spec="small",
    run_dir="runs/street-segmentation",
    epochs=40,
    batch_size=32,
    learning_rate=4e-3,
    patience=5,
    model=Model(normalization="batch", width=1.5, conv1_stride=1, dense=(), dropout=()),
    segmentation=Segmentation(skips=("conv5", "conv2"), refine=64, mirrored=True, jaccard=1.0),
    stopping=Stopping(monitor="validation/mean_iou"),
    optimizer=Optimizer(name="adamw", decay=0.05, clip=10.0),
    schedule=Schedule(name="cosine", warmup="1 epoch"),
    augment=Augment(
        crop="random",
        pad=4,
        pad_mode="reflect",
        flip=0.5,
        brightness=0.2,
        contrast=0.2,
        saturation=0.2,
    ),
    run=Run(evaluate_every="4 epochs"),
)
