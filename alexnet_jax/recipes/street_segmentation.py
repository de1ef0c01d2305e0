"""Rendered street scenes, pixel by pixel: background and six classes, by FCN-8s."""

from alexnet_jax.config import Augment, Config, Optimizer, Stopping

config = Config(
    task="segmentation",
    data="street/scenes",
    spec="small",
    run_dir="runs/street-segmentation",
    epochs=40,
    batch_size=16,
    learning_rate=0.02,
    patience=6,
    stopping=Stopping(monitor="validation/mean_iou"),
    optimizer=Optimizer(momentum=0.9, l2=5e-4, clip=1.0),
    augment=Augment(crop="random", pad=4, pad_mode="reflect", flip=0.5),
)
