"""Your own photographs and boxes: `--data PATH`, a folder in PASCAL VOC's or COCO's form."""

from alexnet_jax.config import Augment, Config, Input, Optimizer, Schedule, Stopping

config = Config(
    task="detection",
    data="",
    spec="notes_227",
    run_dir="runs/detection-folder",
    epochs=90,
    batch_size=16,
    learning_rate=2e-4,
    patience=15,
    stopping=Stopping(monitor="validation/ap50"),
    optimizer=Optimizer(name="adamw", decay=1e-4, clip=10.0),
    schedule=Schedule(name="cosine", warmup="1 epoch"),
    augment=Augment(crop="resized", scale=(0.4, 1.0), flip=0.5),
    input=Input(canvas=256, size=256),
)
