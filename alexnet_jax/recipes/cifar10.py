"""CIFAR-10 (Krizhevsky 2009) at its own 32 px: ten classes, 50,000 training images."""

from alexnet_jax.config import Augment, Config, Input, Model, Optimizer, Schedule

config = Config(
    data="cifar10",
    spec="small",
    run_dir="runs/cifar10",
    epochs=20,
    batch_size=128,
    learning_rate=0.05,
    patience=8,
    model=Model(conv1_stride=1, normalization="batch", dropout_rate=0.2),
    optimizer=Optimizer(momentum=0.9, nesterov=True, l2=5e-4),
    schedule=Schedule(name="cosine", warmup="1 epoch"),
    augment=Augment(crop="random", pad=4, flip=0.5),
    input=Input(size=32),
)
