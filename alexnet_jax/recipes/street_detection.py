"""Objects of rendered street scenes, six classes, as boxes."""

from alexnet_jax.config import Augment, Config, Model, Optimizer, Run, Schedule, Stopping

config = Config(
    task="detection",
    data="street/scenes",
    spec="small",
    run_dir="runs/street-detection",
    epochs=30,
    batch_size=16,
    learning_rate=3e-3,
    patience=10,
    model=Model(normalization="batch", dropout_rate=0.0),
    stopping=Stopping(monitor="validation/ap50"),
    optimizer=Optimizer(name="adamw", decay=0.02, clip=10.0),
    schedule=Schedule(name="cosine", warmup="1 epoch"),
    augment=Augment(crop="random", pad=4, pad_mode="reflect", flip=0.5),
    run=Run(evaluate_every="2 epochs"),
)
