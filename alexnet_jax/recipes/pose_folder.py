"""Your own photographs of one person: `--data PATH` with images/im0001.jpg ... and joints.mat.

From scratch as it stands. A network of ImageNet has no batch normalization, and learns more slowly:
`--init FILE --model.normalization none --learning-rate 1e-3 --transfer.keep head`.
"""

from alexnet_jax.config import Augment, Config, Input, Model, Optimizer, Pose, Schedule, Stopping

config = Config(
    task="pose",
    data="",
    spec="one_weird_trick",
    run_dir="runs/pose-folder",
    epochs=60,
    batch_size=8,
    learning_rate=3e-3,
    patience=15,
    # Convolutions alone, as in segmentation_folder.py.
    model=Model(normalization="batch", dense=(), dropout=()),
    pose=Pose(skips=("conv5", "conv2", "conv1"), refine=48, context=True, mirrored=True),
    stopping=Stopping(monitor="validation/pck"),
    optimizer=Optimizer(name="adamw", decay=0.02, clip=10.0),
    schedule=Schedule(name="cosine", warmup="1 epoch"),
    augment=Augment(crop="resized", scale=(0.6, 1.0), flip=0.5),
    input=Input(canvas=224, size=224),
)
