"""Rendered street scenes, pixel by pixel: background and six classes, by FCN-8s."""

from alexnet_jax.config import Augment, Config, Model, Optimizer, Schedule, Stopping

config = Config(
    task="segmentation",
    data="street/scenes",
    spec="small",
    run_dir="runs/street-segmentation",
    epochs=30,
    batch_size=16,
    learning_rate=0.06,
    patience=8,
    model=Model(dropout_rate=0.25),
    stopping=Stopping(monitor="validation/mean_iou"),
    optimizer=Optimizer(momentum=0.9, l2=5e-4, clip=1.0),
    schedule=Schedule(name="cosine", warmup="1 epoch"),
    augment=Augment(crop="random", pad=4, pad_mode="reflect", flip=0.5),
)
