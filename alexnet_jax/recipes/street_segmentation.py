"""Rendered street scenes, pixel by pixel: background and six classes.

FCN whose skips are joined by convolutions: what is thin at 64 px needs more than added scores.
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
    batch_size=16,
    learning_rate=3e-3,
    patience=10,
    model=Model(normalization="batch", dropout_rate=0.0),
    segmentation=Segmentation(
        skips=("conv5", "conv2", "conv1"),
        refine=48,
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
