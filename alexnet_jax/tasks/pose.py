"""Pose: where the fourteen joints of one person are, by regression or by heat maps; PCK.

Joints that are not visible change neither the loss nor a metric; neither does, therefore, a picture
without a person.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import jax.numpy as jnp
import numpy as np
from jax import Array

from alexnet_jax.data.skeleton import JOINTS
from alexnet_jax.models import fcn
from alexnet_jax.models.cascade import Cascade
from alexnet_jax.models.deep_pose import OUTPUTS, DeepPose
from alexnet_jax.tasks import heat_maps, keypoints
from alexnet_jax.tasks.base import (
    Answers,
    Batch,
    Context,
    OnNet,
    Sums,
    forward,
    mean_of_known,
    valid_rows,
)
from alexnet_jax.tasks.ranking import best_and_worst
from alexnet_jax.tasks.stick_figure import stick_figure


@dataclass(frozen=True)
class Pose(OnNet):
    """What both heads have in common: all but the outputs, how they are learnt and where they say
    the joints are.

    The batch holds `image` [B, S, S, 3], `joints` float32 [B, 1, 14, 2] (y, x) in its pixels and
    `joint_visible` bool [B, 1, 14].
    """

    net: Any

    name: ClassVar[str] = "pose"
    annotations: ClassVar[tuple[str, ...]] = ("joints", "joint_visible")

    def errors(self, outputs: Array, joints: Array, side: int) -> Array:
        """The loss of each joint, [B, 14], of joints in an image of side x side pixels."""
        raise NotImplementedError

    def decode(self, outputs: Array) -> dict[str, Array]:
        """`joints` float32 [B, 14, 2] (y, x) in pixels of the image; `score` float32 [B, 14] where
        the head tells one."""
        raise NotImplementedError

    @property
    def monitor(self) -> tuple[str, str]:
        return "pck", "max"

    @staticmethod
    def classes(source: Any) -> tuple[str, ...]:
        if not source.joints:
            raise ValueError(
                f"{source.name} has no joints of one person, which pose learns: give "
                "street/people, a folder with joints.mat and images/im0001.jpg ..., or a prepared "
                "flic/small"
            )
        return source.joints

    def weights(self, batch: Batch) -> dict[str, Array]:
        return {"loss": labels(batch)[1].sum().astype(jnp.float32)}

    def terms(self, outputs: Array, batch: Batch, train: bool) -> Sums:
        joints, visible = labels(batch)
        errors = self.errors(outputs, joints, batch["image"].shape[1])
        total = jnp.where(visible, errors, 0.0).sum()
        return {"loss": (total, self.weights(batch)["loss"])}

    def sums(self, outputs: Array, batch: Batch) -> Sums:
        return keypoints.scores(self.decode(outputs)["joints"], *labels(batch))

    def truth(self, batch: Batch) -> dict[str, Array]:
        joints, visible = labels(batch)
        return {"true": joints, "visible": visible}

    def counts(self, sums: Mapping[str, Any]) -> dict[str, int]:
        return {"joints": round(sums["mean_error"][1])}

    def findings(self, answers: Answers, classes: Sequence[str]) -> dict[str, Any]:
        """Joint by joint, of those whose person's torso is seen: PCK, PDJ, and the mean error in
        torsos, which also ranks the examples."""
        error = np.asarray(keypoints.errors(answers["joints"], answers["true"], answers["visible"]))
        per_class = {
            name: _figures(of_joint[np.isfinite(of_joint)])
            for name, of_joint in zip(classes, error.T, strict=True)
        }
        mean = np.array([mean_of_known(of_person) for of_person in error])
        examples = best_and_worst(
            -mean, answers["index"], lambda row: f"mean error {mean[row]:.1%} of the torso"
        )
        return {"per_class": per_class, "examples": examples}

    def tell(self, answer: Answers, classes: Sequence[str], top: int) -> list[dict[str, Any]]:
        """Every joint, whatever `top` says."""
        told: list[dict[str, Any]] = [
            {"joint": name, "x": float(x), "y": float(y)}
            for name, (y, x) in zip(classes, answer["joints"], strict=True)
        ]
        for one, score in zip(told, answer.get("score", ()), strict=False):
            one["score"] = float(score)
        return told

    def draw(self, image: np.ndarray, answer: Answers) -> dict[str, np.ndarray]:
        drawn = {"answer": stick_figure(image, answer["joints"], np.ones(len(JOINTS), bool))}
        if "true" in answer:
            drawn["truth"] = stick_figure(image, answer["true"], answer["visible"])
        return drawn


@dataclass(frozen=True)
class Regression(Pose):
    """DeepPose's first stage: the squared distance, in sides of the image (equation 2)."""

    net: DeepPose

    def __post_init__(self) -> None:
        if self.net.spec.num_classes != OUTPUTS:
            raise ValueError(
                f"the spec has {self.net.spec.num_classes} classes; a regression of joints needs "
                f"{OUTPUTS}: spec({self.net.spec.name!r}, num_classes={OUTPUTS})"
            )

    def errors(self, outputs: Array, joints: Array, side: int) -> Array:
        return (((outputs - joints) / side) ** 2).sum(axis=-1)

    def decode(self, outputs: Array) -> dict[str, Array]:
        """`joints`; a regression tells no score."""
        return {"joints": outputs}


@dataclass(frozen=True)
class Cascaded(Regression):
    """DeepPose with its later stages (models/cascade.py). The loss is the first stage's; each later
    one has a term of its own, `stage2` and so on: the squared distance in sides of its square
    (equation 6), of a joint an example, which is drawn in training; in evaluation it is the mean
    over joints, in a square of the true torso's size. Examples whose torso is not seen do not count
    there. Metrics of training are the first stage's."""

    net: Cascade

    def weights(self, batch: Batch) -> dict[str, Array]:
        examples = (keypoints.torso(*labels(batch)) > 0).sum().astype(jnp.float32)
        return super().weights(batch) | dict.fromkeys(self.net.later, examples)

    def losses(
        self, params: Any, model_state: Any, batch: Batch, context: Context
    ) -> tuple[Sums, Array, Any]:
        joints, visible = labels(batch)
        how: dict[str, Any] = {}
        if context.train:
            how = {"method": "rehearse", "joints": joints, "visible": visible}
        outputs, model_state = forward(self.net, params, model_state, batch, context, **how)
        torso = keypoints.torso(joints, visible)
        if context.train:
            outputs, misses = outputs
            squares = (misses**2).sum(axis=-1)  # [B, refinements]
        else:
            side = self.net.box * jnp.where(torso > 0, torso, 1.0)[:, None, None]
            squares = (keypoints.distances(outputs[:, 1:], joints[:, None]) / side) ** 2
            seen = jnp.maximum(visible.sum(axis=-1), 1)[:, None]
            squares = jnp.where(visible[:, None], squares, 0.0).sum(axis=-1) / seen
        first = self.errors(outputs[:, 0], joints, batch["image"].shape[1])
        totals = {"loss": jnp.where(visible, first, 0.0).sum()}
        squares = jnp.where(torso[:, None] > 0, squares, 0.0).sum(axis=0)
        totals |= dict(zip(self.net.later, squares, strict=True))
        weights = self.weights(batch)
        return {name: (totals[name], weights[name]) for name in weights}, outputs, model_state

    def decode(self, outputs: Array) -> dict[str, Array]:
        """`joints`, the last stage's."""
        return {"joints": outputs[:, -1]}


@dataclass(frozen=True)
class HeatMaps(Pose):
    """A map of places for each joint (heat_maps.py), by a network that scores places as one for
    segmentation does. `sigma` is the width of what is learnt, in steps of the map."""

    net: fcn.FCN
    sigma: float = 1.0

    def __post_init__(self) -> None:
        fcn.check_skips(self.net.spec, self.net.skips)
        if self.net.pixels or self.net.spec.num_classes != len(JOINTS):
            raise ValueError(
                f"heat maps of joints need FCN(spec, pixels=False) of {len(JOINTS)} classes; given "
                f"pixels={self.net.pixels} and {self.net.spec.num_classes}"
            )
        if self.sigma <= 0:
            raise ValueError(f"sigma is {self.sigma}; expected more than 0 steps of the map")

    @property
    def places(self) -> fcn.Places:
        return fcn.places(self.net.spec)[(fcn.FEATURES, *self.net.skips)[-1]]

    def errors(self, outputs: Array, joints: Array, side: int) -> Array:
        return heat_maps.divergence(outputs, joints, self.places, self.sigma)

    def decode(self, outputs: Array) -> dict[str, Array]:
        joints, score = heat_maps.locate(outputs, self.places)
        return {"joints": joints, "score": score}


def pose(net: DeepPose | fcn.FCN, sigma: float = 1.0) -> Pose:
    """The pose task on a network: regression on a DeepPose or Cascade, heat maps on an FCN."""
    if isinstance(net, Cascade):
        return Cascaded(net)
    return Regression(net) if isinstance(net, DeepPose) else HeatMaps(net, sigma)


def labels(batch: Batch) -> tuple[Array, Array]:
    """(joints [B, 14, 2], visible bool [B, 14]), none visible in the rows that do not count."""
    visible = batch["joint_visible"][:, 0] & valid_rows(batch)[:, None]
    return jnp.where(visible[..., None], batch["joints"][:, 0], 0.0), visible


def _figures(errors: np.ndarray) -> dict[str, float | int | None]:
    """What the report tells of a joint, from its errors in torsos [N]."""
    told: dict[str, float | int | None] = {
        name: float((errors <= part).mean()) if len(errors) else None
        for name, part in keypoints.OF_TORSO.items()
    }
    mean = float(errors.mean()) if len(errors) else None
    return told | {"error / torso": mean, "joints": len(errors)}
