"""The tasks there are, by name."""

from __future__ import annotations

from typing import Any

from alexnet_jax.tasks.classification import Classification
from alexnet_jax.tasks.detection import Detection
from alexnet_jax.tasks.multi import Joined
from alexnet_jax.tasks.pose import Pose
from alexnet_jax.tasks.segmentation import Segmentation

TASKS: dict[str, Any] = {
    task.name: task for task in (Classification, Segmentation, Detection, Pose)
}


def task_type(name: str) -> Any:
    """The class of a task, or what is known of several, "detection+segmentation".

    Raises ValueError for an unknown name, with those that exist, and for tasks that do not go
    together.
    """
    if "+" in name:
        return Joined(tuple(task_type(one) for one in name.split("+")))
    if name not in TASKS:
        raise ValueError(f"no task is called {name!r}; there are {', '.join(TASKS)}")
    return TASKS[name]
