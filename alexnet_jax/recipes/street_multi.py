"""Objects of rendered street scenes as boxes, and every pixel's class, from one backbone."""

from dataclasses import replace

from alexnet_jax.config import Stopping
from alexnet_jax.recipes.street_detection import config as detection
from alexnet_jax.recipes.street_segmentation import config as segmentation

config = replace(
    detection,
    task="detection+segmentation",
    run_dir="runs/street-multi",
    # The maps are detection's, half as fine as those of segmentation alone.
    segmentation=replace(segmentation.segmentation, skips=("conv5", "conv2", "conv1"), refine=48),
    stopping=Stopping(monitor="validation/detection/ap50"),
)
