"""Your own photographs and boxes: `--data PATH`, a folder in PASCAL VOC's or COCO's form.

From scratch as it stands. A network of ImageNet has no batch normalization, and learns more slowly:
`--init FILE --model.normalization none --learning-rate 1e-3 --transfer.keep head`.
"""

from alexnet_jax.config import Augment, Config, Input, Model, Optimizer, Schedule, Stopping

config = Config(
    task="detection",
    data="",
    spec="one_weird_trick",
    run_dir="runs/detection-folder",
    epochs=60,
    batch_size=8,
    learning_rate=3e-3,
    patience=15,
    model=Model(normalization="batch"),
    stopping=Stopping(monitor="validation/ap50"),
    optimizer=Optimizer(name="adamw", decay=0.02, clip=10.0),
    schedule=Schedule(name="cosine", warmup="1 epoch"),
    augment=Augment(crop="resized", scale=(0.4, 1.0), flip=0.5),
    input=Input(canvas=256, size=256),
)
