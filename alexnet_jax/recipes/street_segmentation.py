"""Rendered street scenes, pixel by pixel: background and six classes.

FCN whose skips are joined by convolutions: what is thin at 64 px needs more than added scores. Its
first convolution keeps every pixel, so all maps are twice as fine as the classifier's; it does
without dense layers, which would see most of the picture at once.
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
    epochs=28,
    batch_size=16,
    learning_rate=3e-3,
    patience=10,
    model=Model(normalization="batch", width=1.5, conv1_stride=1, dense=(), dropout=()),
    segmentation=Segmentation(
        skips=("conv5", "conv2"),
        refine=64,
        # Background, car, bus, bicycle, motorbike, man, woman: what is thin is else given to the
        # background, which has four fifths of all pixels.
        class_weights=(1.0, 1.5, 1.5, 2.5, 2.0, 2.5, 2.5),
    ),
    stopping=Stopping(monitor="validation/mean_iou"),
    optimizer=Optimizer(name="adamw", decay=0.02, clip=10.0),
    schedule=Schedule(name="cosine", warmup="1 epoch"),
    augment=Augment(crop="random", pad=4, pad_mode="reflect", flip=0.5),
    run=Run(evaluate_every="2 epochs"),
)
