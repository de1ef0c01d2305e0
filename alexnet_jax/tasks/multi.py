"""Several tasks at once: one backbone, a head for each, and the sum of their losses.

Sharing what is learnt is Caruana's (1997, "Multitask Learning", Machine Learning 28:41-75). What
losses, metrics, answers and classes are is left to the tasks. All of a task's names stand behind
its own: "detection/heat", "segmentation/mean_iou".
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import Array

from alexnet_jax.models.detector import Detector
from alexnet_jax.models.fcn import FCN
from alexnet_jax.models.shared import Head, Shared
from alexnet_jax.tasks.base import Answers, Batch, OnNet, Sums


@dataclass(frozen=True)
class Joined:
    """What can be told of several tasks by their names alone, before there is a network: `tasks`
    are tasks, or the Python classes of such.

    Raises ValueError for a task that is there twice, or that reads no maps of a backbone.
    """

    tasks: tuple[Any, ...]

    def __post_init__(self) -> None:
        names = [task.name for task in self.tasks]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"the task {self.name!r} has {twice[0]} more than once")
        if "classification" in names:
            raise ValueError(
                "classification reads a picture as a whole and shares no backbone here; "
                "segmentation, detection and pose do"
            )

    @property
    def name(self) -> str:
        return "+".join(task.name for task in self.tasks)

    @property
    def annotations(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(name for task in self.tasks for name in task.annotations))

    def classes(self, source: Any) -> tuple[str, ...]:
        """ "detection/car": those of each task, after each other."""
        return tuple(f"{task.name}/{one}" for task in self.tasks for one in task.classes(source))


@dataclass(frozen=True)
class Multi(Joined, OnNet):
    """Tasks whose networks differ in their heads alone; `factors` are what the losses of each are
    multiplied by in what is minimized, and in `loss`. Of a task's own loss nothing is changed.

    The batch holds what each of the tasks needs. Outputs are {name of a task: its outputs}.
    """

    tasks: tuple[Any, ...]
    factors: tuple[float, ...]

    def __post_init__(self) -> None:
        super().__post_init__()
        first = self.tasks[0].net
        for task in self.tasks:
            if not isinstance(task.net, FCN | Detector):
                raise ValueError(
                    f"{task.name} has a {type(task.net).__name__}, which reads a picture as a "
                    "whole and shares no backbone: an FCN does (--pose.head heatmap)"
                )
            if _backbone(task.net) != _backbone(first):
                raise ValueError(
                    f"{self.name} is to share one backbone, but the networks of "
                    f"{self.tasks[0].name} and {task.name} differ in their spec or dtype"
                )

    @property
    def net(self) -> Shared:  # type: ignore[override]
        of = self.tasks[0].net
        heads = tuple(Head(task.name, task.net) for task in self.tasks)
        return Shared(of.spec, of.dtype, of.param_dtype, of.exact, heads)

    @property
    def scores(self) -> tuple[str, ...]:  # type: ignore[override]
        return tuple(f"{task.name}/{name}" for task in self.tasks for name in task.scores)

    @property
    def monitor(self) -> tuple[str, str]:
        """The first task's."""
        metric, mode = self.tasks[0].monitor
        return f"{self.tasks[0].name}/{metric}", mode

    def weights(self, batch: Batch) -> dict[str, Array]:
        """Each term's, divided by the task's factor: infinite for one that is not to be learnt."""
        return {
            f"{task.name}/{term}": weight / factor if factor else jnp.full_like(weight, jnp.inf)
            for task, factor in zip(self.tasks, self.factors, strict=True)
            for term, weight in task.weights(batch).items()
        }

    def terms(self, outputs: Mapping[str, Any], batch: Batch, train: bool) -> Sums:
        return named({t.name: t.terms(outputs[t.name], batch, train) for t in self.tasks})

    def sums(self, outputs: Mapping[str, Any], batch: Batch) -> Sums:
        return named({t.name: t.sums(outputs[t.name], batch) for t in self.tasks})

    def decode(self, outputs: Mapping[str, Any]) -> dict[str, Array]:
        return named({t.name: t.decode(outputs[t.name]) for t in self.tasks})

    def truth(self, batch: Batch) -> dict[str, Array]:
        return named({t.name: t.truth(batch) for t in self.tasks})

    def metrics(self, sums: Mapping[str, Any]) -> dict[str, float]:
        """`loss`, what is minimized but for penalties; and the metrics of each."""
        found = {t.name: t.metrics(own(sums, t.name)) for t in self.tasks}
        factors = zip(self.tasks, self.factors, strict=True)
        loss = sum(factor * found[t.name]["loss"] for t, factor in factors if factor)
        return {"loss": loss, **named(found)}

    def counts(self, sums: Mapping[str, Any]) -> dict[str, int]:
        return named({t.name: t.counts(own(sums, t.name)) for t in self.tasks})

    def score(self, answers: Answers, classes: Sequence[str]) -> dict[str, float]:
        return named(
            {t.name: t.score(own(answers, t.name), classes_of(classes, t.name)) for t in self.tasks}
        )

    def findings(self, answers: Answers, classes: Sequence[str]) -> dict[str, Any]:
        """Those of all tasks; `key` has the classes of each, and an example its `task`."""
        told: dict[str, Any] = {"per_class": {}, "precision_at_recall": {}, "examples": []}
        told["key"] = {t.name: classes_of(classes, t.name) for t in self.tasks}
        for task in self.tasks:
            its = told["key"][task.name]
            found = task.findings({**own(answers, task.name), "index": answers["index"]}, its)
            for name in ("per_class", "precision_at_recall"):
                told[name] |= named({task.name: found.get(name, {})})
            told["examples"] += [{**one, "task": task.name} for one in found["examples"]]
            if "confusion" in found:
                told["confusion"] = {"classes": its, **found["confusion"]}
        return told

    def tell(self, answer: Answers, classes: Sequence[str], top: int) -> list[dict[str, Any]]:
        return [
            {"task": task.name, **said}
            for task in self.tasks
            for said in task.tell(own(answer, task.name), classes_of(classes, task.name), top)
        ]

    def draw(self, image: np.ndarray, answer: Answers) -> dict[str, np.ndarray]:
        return named({t.name: t.draw(image, own(answer, t.name)) for t in self.tasks})


def multi(tasks: Sequence[Any], weights: Mapping[str, float] | None = None) -> Multi:
    """Several tasks on one backbone; `weights` {task: factor} of their losses, 1 by default.

    Raises ValueError for a weight of none of the tasks, below 0 or not finite, and where all are 0.
    """
    names, weights = [task.name for task in tasks], weights or {}
    if unknown := [name for name in weights if name not in names]:
        raise ValueError(f"a weight is given for {unknown[0]!r}; the tasks are {', '.join(names)}")
    if wrong := [name for name, x in weights.items() if not 0 <= x < math.inf]:
        raise ValueError(f"the weight of {wrong[0]} is {weights[wrong[0]]}; expected at least 0")
    factors = tuple(float(weights.get(name, 1.0)) for name in names)
    if not any(factors):
        raise ValueError("the weights of all tasks are 0, so that nothing would be learnt")
    return Multi(tuple(tasks), factors)


def named(found: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """{"TASK/NAME": value} of {TASK: {NAME: value}}."""
    return {f"{task}/{name}": x for task, values in found.items() for name, x in values.items()}


def own(values: Mapping[str, Any], task: str) -> dict[str, Any]:
    """{NAME: value} of a task's {"TASK/NAME": value}."""
    before = f"{task}/"
    return {k.removeprefix(before): x for k, x in values.items() if k.startswith(before)}


def classes_of(classes: Sequence[str], task: str) -> tuple[str, ...]:
    """The classes of one of the tasks."""
    return tuple(own(dict.fromkeys(classes), task))


def _backbone(net: FCN | Detector) -> tuple[Any, ...]:
    """What networks that share a backbone have alike."""
    return replace(net.spec, num_classes=1), net.dtype, net.param_dtype, net.exact
