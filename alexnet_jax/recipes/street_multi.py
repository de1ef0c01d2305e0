"""Objects of rendered street scenes as boxes, and every pixel's class, from one backbone."""

from dataclasses import replace

from alexnet_jax.config import Segmentation, Stopping
from alexnet_jax.recipes.street_detection import config as detection

config = replace(
    detection,
    task="detection+segmentation",
    run_dir="runs/street-multi",
    segmentation=Segmentation(
        # The maps are detection's, half as fine as those of street-segmentation.
        skips=("conv5", "conv2", "conv1"),
        refine=48,
        # Background, car, bus, bicycle, motorbike, man, woman: what is thin is else given to the
        # background, which has four fifths of all pixels.
        class_weights=(1.0, 1.5, 1.5, 2.5, 2.0, 2.5, 2.5),
    ),
    stopping=Stopping(monitor="validation/detection/ap50"),
)
