"""The tasks there are, by name."""

from __future__ import annotations

from typing import Any

from alexnet_jax.tasks.classification import Classification
from alexnet_jax.tasks.detection import Detection
from alexnet_jax.tasks.pose import Pose
from alexnet_jax.tasks.segmentation import Segmentation

TASKS: dict[str, Any] = {
    task.name: task for task in (Classification, Segmentation, Detection, Pose)
}


def task_type(name: str) -> Any:
    """The class of a task; raises ValueError for an unknown name, with those that exist."""
    if name not in TASKS:
        raise ValueError(f"no task is called {name!r}; there are {', '.join(TASKS)}")
    return TASKS[name]
