"""Your own photographs and masks: `--data PATH` with train/*.jpg, trainannot/*.png, classes.txt.

From scratch as it stands. A network of ImageNet has no batch normalization, and learns more slowly:
`--init FILE --model.normalization none --learning-rate 1e-3 --transfer.keep head`.
"""

from alexnet_jax.config import (
    Augment,
    Config,
    Input,
    Model,
    Optimizer,
    Schedule,
    Segmentation,
    Stopping,
)

config = Config(
    task="segmentation",
    data="",
    spec="one_weird_trick",
    run_dir="runs/segmentation-folder",
    epochs=60,
    batch_size=8,
    learning_rate=3e-3,
    patience=15,
    # Convolutions alone: 50 million parameters of dense layers learn nothing from some hundred
    # photographs.
    model=Model(normalization="batch", dense=(), dropout=()),
    segmentation=Segmentation(skips=("conv5", "conv2", "conv1"), refine=48),
    stopping=Stopping(monitor="validation/mean_iou"),
    optimizer=Optimizer(name="adamw", decay=0.02, clip=10.0),
    schedule=Schedule(name="cosine", warmup="1 epoch"),
    augment=Augment(crop="resized", scale=(0.4, 1.0), flip=0.5),
    input=Input(canvas=224, size=224),
)
