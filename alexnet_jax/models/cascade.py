"""Spec -> DeepPose with its later stages, which look at each joint again, near where it was said.

Toshev and Szegedy 2014, arXiv:1312.4659, section 3.2: stage s sees, for each joint, the square
around the joint as stage s - 1 predicts it, of side `box` diameters of the predicted pose, brought
to the network's input size, and tells how far off the joint is, in sides of that square. A stage is
one network for all joints, whose i-th pair of outputs is read for joint i.

Like theirs, a stage learns from simulated predictions: a joint of each example, drawn at random, is
displaced by a normal distribution with mean and variance of the errors of the stage before. Theirs
are trained one after the other, each on the errors of the trained one before it. Here all stages
learn at once, from errors of about the last hundred updates, which shrink as the stage before
learns. No gradient flows from one stage to another.

Parameters: stage 1 is `backbone` and `head`, as DeepPose's; `stage2/{backbone, head}` and so on,
heads zero at first, so that stages begin by leaving joints where they are. The errors are sums in
the collection "errors", `errors2/{count, first, second}` and so on.
"""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import Array, lax

from alexnet_jax.data.skeleton import JOINTS
from alexnet_jax.data.window import Window, resample
from alexnet_jax.models.backbone import Backbone, Pass, as_float, begin
from alexnet_jax.models.deep_pose import OUTPUTS, DeepPose
from alexnet_jax.models.spec import Spec
from alexnet_jax.tasks.keypoints import torso

KEPT = 0.99  # of the sums of errors, from each update to the next


class Cascade(DeepPose):
    """`Cascade(spec).apply({"params": p}, images) -> joints`, float32 [B, stages, 14, 2].

    (y, x) in pixels of the square images as each stage tells them, the last of whom has the answer.
    `refinements` stages follow the first, which sees the whole image. Arguments, other fields and
    errors as `DeepPose` has them; `taps` are the first stage's.
    """

    refinements: int = 1
    box: float = 2.0  # side of the square, in diameters of the pose; theirs is 1 on FLIC, 2 on LSP

    @property
    def later(self) -> tuple[str, ...]:
        """Names of the stages behind the first: stage2, ..."""
        return tuple(f"stage{s}" for s in range(2, 2 + self.refinements))

    def setup(self) -> None:
        for name in self.later:
            stage = Stage(self.spec, self.dtype, self.param_dtype, self.exact)
            setattr(self, name, stage)
            setattr(self, _errors(name), Errors())

    def __call__(self, images: Array, *, taps: bool = False, **how: Any) -> Any:
        images = as_float(images)
        joints, values = super().__call__(images, taps=True, **how)
        stages = [joints]
        for name in self.later:
            if self.is_initializing():
                getattr(self, _errors(name))()
            stages.append(self.refined(name, images, stages[-1]))
        told = jnp.stack(stages, axis=1)
        return (told, values) if taps else told

    def refined(self, name: str, images: Array, joints: Array) -> Array:
        """All joints as a stage tells them, [B, 14, 2], from those of the stage before."""
        side = self.box * torso(joints, jnp.ones(joints.shape[:2], bool))
        seen = crops(images, joints, side)
        seen, passing = begin(self, seen.reshape(-1, *images.shape[1:]))
        outputs = getattr(self, name)(seen, passing)
        own = jnp.arange(len(JOINTS))
        outputs = outputs.reshape(-1, len(JOINTS), len(JOINTS), 2)[:, own, own]
        return joints + side[:, None, None] * outputs

    def rehearse(
        self,
        images: Array,
        joints: Array,
        visible: Array,
        *,
        rows: Array | None = None,
        valid: Array | None = None,
        axis_name: str | None = None,
        frozen: tuple[str, ...] = (),
        train: bool = True,
    ) -> tuple[Array, Array]:
        """A pass of training: (the first stage's joints [B, 1, 14, 2], misses).

        Args:
            joints, visible: the truth, [B, 14, 2] in pixels and bool [B, 14].

        Misses float32 [B, refinements, 2] are what each later stage says of the joint that was
        drawn less what is right, in sides of its square; those of an example whose torso is not
        seen mean nothing. Keys come from the rng "dropout".
        """
        images, joints, visible = as_float(images), jnp.asarray(joints), jnp.asarray(visible)
        rows = jnp.arange(len(images), dtype=jnp.int32) if rows is None else rows
        how: dict[str, Any] = {"axis_name": axis_name, "train": train, "rows": rows}
        first = super().__call__(images, valid=valid, frozen=frozen, **how)
        diameter = torso(joints, visible)
        counted = visible & (diameter > 0)[:, None]
        scale = jnp.where(diameter > 0, diameter, 1.0)[:, None]
        every = jnp.arange(len(images))
        key, misses = self.make_rng("dropout"), []
        told, known = first, counted
        for number, name in enumerate(self.later):
            errors = lax.stop_gradient(told - joints) / scale[..., None]
            spread = getattr(self, _errors(name))
            mean, deviation = spread(errors, known, axis_name)
            keys = jax.vmap(jax.random.fold_in, (None, 0))(jax.random.fold_in(key, number), rows)
            joint, noise = jax.vmap(_draw)(keys, counted)
            true = joints[every, joint]
            centre = true + scale * (mean[joint] + deviation[joint] * noise)
            side = self.box * scale
            seen = crops(images, centre[:, None], side[:, 0])[:, 0]
            still = tuple(
                layer.removeprefix(f"{name}/backbone/")
                for layer in frozen
                if layer.startswith(f"{name}/backbone/")
            )
            seen, passing = begin(self, seen, valid=counted.any(axis=-1), frozen=still, **how)
            outputs = getattr(self, name)(seen, passing)
            said = outputs.reshape(-1, len(JOINTS), 2)[every, joint]
            misses.append(said - (true - centre) / side)
            told = joints.at[every, joint].set(centre + side * said)
            known = counted & jax.nn.one_hot(joint, len(JOINTS), dtype=bool)
        return first[:, None], jnp.stack(misses, axis=1)


class Stage(nn.Module):
    """A stage behind the first: squares [B, S, S, 3] -> float32 [B, 2 x 14] displacements."""

    spec: Spec
    dtype: Any
    param_dtype: Any
    exact: bool

    @nn.compact
    def __call__(self, images: Array, how: Pass) -> Array:
        settings = (self.spec, self.dtype, self.param_dtype, self.exact)
        features = Backbone(*settings, name="backbone")(images, how)["features"]
        head = nn.Dense(
            OUTPUTS,
            dtype=self.dtype,
            param_dtype=self.param_dtype,
            kernel_init=nn.initializers.zeros,
            name="head",
        )
        return head(features).astype(jnp.promote_types(jnp.float32, self.dtype))


class Errors(nn.Module):
    """Mean and standard deviation of a stage's errors, [14, 2] each, joint by joint.

    Errors [B, 14, 2], of which those `counted`, bool [B, 14], are added first, over every device
    under `axis_name`. Both are 0 for a joint that was never counted.
    """

    @nn.compact
    def __call__(
        self,
        errors: Array | None = None,
        counted: Array | None = None,
        axis_name: str | None = None,
    ) -> tuple[Array, Array]:
        count = self.variable("errors", "count", jnp.zeros, (len(JOINTS), 1))
        first = self.variable("errors", "first", jnp.zeros, (len(JOINTS), 2))
        second = self.variable("errors", "second", jnp.zeros, (len(JOINTS), 2))
        if errors is not None and counted is not None:
            weight = counted[..., None].astype(errors.dtype)
            errors = jnp.where(counted[..., None], errors, 0.0)
            sums = weight.sum(axis=0), errors.sum(axis=0), (errors**2).sum(axis=0)
            sums = sums if axis_name is None else lax.psum(sums, axis_name)
            for kept, new in zip((count, first, second), sums, strict=True):
                kept.value = KEPT * kept.value + new
        number = jnp.maximum(count.value, jnp.finfo(jnp.float32).tiny)
        mean = first.value / number
        return mean, jnp.sqrt(jnp.maximum(second.value / number - mean**2, 0.0))


def crops(images: Array, centres: Array, side: Array) -> Array:
    """Squares around points, brought to the images' size: float32 [B, P, S, S, C].

    Args:
        images: [B, S, S, C].
        centres: [B, P, 2] (y, x) in pixels.
        side: [B] of an image's squares, in pixels.

    Pixels that see nothing of the image are 0. Neither centres nor sides have a gradient.
    """
    centres, side = lax.stop_gradient((centres, side))
    plain = jnp.zeros(len(images), bool)

    def around(centre: Array) -> Array:
        y, x = (centre - side[:, None] / 2).T
        return resample(images, Window(y, x, side, side, plain), images.shape[1])

    return jax.vmap(around, 1, 1)(centres)


def _errors(stage: str) -> str:
    """Where the errors that a stage learns from are kept: errors2 of stage2."""
    return stage.replace("stage", "errors")


def _draw(key: Array, visible: Array) -> tuple[Array, Array]:
    """One of an example's visible joints, the first where there is none; and noise [2]."""
    which, how_far = jax.random.split(key)
    joint = jax.random.categorical(which, jnp.where(visible, 0.0, -jnp.inf))
    return joint, jax.random.normal(how_far, (2,))
