"""From a Config to the parts of a run: data, network, task, optimizer, preprocessing."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax.numpy as jnp

from alexnet_jax.cache import cache_folder
from alexnet_jax.config import Config, Multi, Pose, Segmentation, Stopping
from alexnet_jax.data.augment import Augment
from alexnet_jax.data.loader import Crop
from alexnet_jax.data.preprocess import Preprocessing
from alexnet_jax.data.skeleton import MIRRORED_JOINTS
from alexnet_jax.data.sources.base import Source
from alexnet_jax.data.sources.coco import from_coco, is_coco
from alexnet_jax.data.sources.folder import from_folder
from alexnet_jax.data.sources.leeds import from_leeds, is_leeds_folder
from alexnet_jax.data.sources.masks import from_mask_folder, is_mask_folder
from alexnet_jax.data.sources.voc import from_voc, is_voc
from alexnet_jax.data.sources.voc_masks import from_voc_masks, is_voc_masks
from alexnet_jax.models.alexnet import AlexNet
from alexnet_jax.models.cascade import Cascade
from alexnet_jax.models.deep_pose import OUTPUTS, DeepPose
from alexnet_jax.models.detector import Detector, without_dense
from alexnet_jax.models.fcn import FCN
from alexnet_jax.models.spec import Spec, smallest_size, spec
from alexnet_jax.optim import schedules
from alexnet_jax.optim.chain import Optimizer, optimizer
from alexnet_jax.optim.rules import Rules, parse_rules
from alexnet_jax.tasks.base import Task
from alexnet_jax.tasks.classification import classification
from alexnet_jax.tasks.detection import detection
from alexnet_jax.tasks.multi import Joined, classes_of, multi
from alexnet_jax.tasks.pose import pose
from alexnet_jax.tasks.registry import task_type
from alexnet_jax.tasks.segmentation import segmentation
from alexnet_jax.transfer.discriminative import lr_decay_rules
from alexnet_jax.transfer.freeze import freeze_rules
from alexnet_jax.transfer.stages import Stage, plan

# (whether a folder is in a form, what reads it): the first that is
FORMS: tuple[tuple[Callable[[Path], bool], Callable[..., Source]], ...] = (
    (is_voc_masks, from_voc_masks),
    (is_voc, from_voc),
    (is_coco, from_coco),
    (is_mask_folder, from_mask_folder),
    (is_leeds_folder, from_leeds),
)


def open_source(
    data: str,
    *,
    canvas: int,
    seed: int,
    data_dir: str | None = None,
    annotations: Sequence[str] | None = None,
) -> Source:
    """The data set that `data` names: embedded, a folder of images, or a prepared tfds set.

    `annotations` are those that will be asked for, as a task names them: of a prepared set that has
    more, the others are not decoded. None: all.

    Raises FileNotFoundError or ValueError that says what there is and what to do.
    """
    if not data:
        raise ValueError(
            "no data set is given: --data PATH, a folder in a form that --help tells for the task, "
            "or the name of a prepared data set"
        )
    if data.startswith("street/"):
        from alexnet_jax.data.street import source

        return source(data.removeprefix("street/"), size=canvas, cache_dir=cache_folder())
    path = Path(data).expanduser()
    if path.is_dir():
        for is_one, read in FORMS:
            if is_one(path):
                return read(path, seed=seed)
    if path.exists() or data.startswith((".", "/", "~")):
        return from_folder(path, seed=seed)
    from alexnet_jax.data.sources.tfds import from_tfds

    return from_tfds(data, data_dir=data_dir, seed=seed, annotations=annotations)


def make_spec(config: Config, classes: int) -> Spec:
    """The named spec with the config's changes, for so many classes."""
    changes = {k: v for k, v in vars(config.model).items() if v is not None}
    made = spec(config.spec, num_classes=classes, **changes)
    if config.task == "detection" and config.model.dense:
        raise ValueError(
            f"model.dense is {config.model.dense}, and detection has no dense layers; leave it out"
        )
    return without_dense(made) if config.task == "detection" else made


def make_task(config: Config, spec: Spec, classes: Sequence[str] = ()) -> Task:
    """The config's task on the network of a spec; raises ValueError for an unknown one.

    Of several tasks, `classes` (tasks/multi.py) are what each has its share of, and labels are
    smoothed of those that have some.
    """
    smoothing = config.run.label_smoothing
    if smoothing and not {"classification", "segmentation"} & {*config.task.split("+")}:
        raise ValueError(
            f"run.label_smoothing is {smoothing}; {config.task} has no labels to smooth"
        )
    return _make_task(config, spec, classes)


def _make_task(config: Config, spec: Spec, classes: Sequence[str]) -> Task:
    kind = task_type(config.task)
    if isinstance(kind, Joined):
        alone = dataclasses.replace(config, multi=Multi())
        specs = {
            one.name: dataclasses.replace(spec, num_classes=len(classes_of(classes, one.name)))
            for one in kind.tasks
        }
        parts = [
            _make_task(dataclasses.replace(alone, task=name), of, ()) for name, of in specs.items()
        ]
        return multi(parts, config.multi.weights)
    if config.multi.weights:
        raise ValueError(
            f"multi.weights goes with several tasks, as detection+segmentation, not {config.task}"
        )
    precision, smoothing = config.run.precision, config.run.label_smoothing
    if config.task == "segmentation":
        sides = tuple(range(spec.num_classes))  # a class stays what it is in a mirror image
        how = config.segmentation
        net = _fcn(how, spec, precision, sides)
        return segmentation(net, smoothing, how.class_weights, how.jaccard)
    if config.task == "detection":
        return detection(Detector(spec, **_numbers(precision)))
    if config.task == "pose":
        return pose(_pose_net(config, spec), config.pose.sigma)
    return classification(make_net(spec, precision), smoothing)


def _pose_net(config: Config, spec: Spec) -> DeepPose | FCN:
    numbers, how = _numbers(config.run.precision), config.pose
    if how.head == "regression":
        spec = dataclasses.replace(spec, num_classes=OUTPUTS)
        if how.refinements:
            return Cascade(spec, **numbers, refinements=how.refinements, box=how.box)
        return DeepPose(spec, **numbers)
    return _fcn(how, spec, config.run.precision, MIRRORED_JOINTS, pixels=False)


def _fcn(
    how: Segmentation | Pose,
    spec: Spec,
    precision: str,
    sides: tuple[int, ...],
    **fields: Any,
) -> FCN:
    """The network of `how`; `sides` says which class each one is in a mirror image."""
    return FCN(
        spec,
        **_numbers(precision),
        skips=how.skips,
        refine=how.refine,
        context=how.context,
        mirrored=sides if how.mirrored else (),
        **fields,
    )


def make_net(spec: Spec, precision: str) -> AlexNet:
    """The classifier of a spec under one of config.PRECISIONS."""
    return AlexNet(spec, **_numbers(precision))


def _numbers(precision: str) -> dict[str, Any]:
    """A network's settings under one of config.PRECISIONS."""
    exact = precision == "exact"
    return {"dtype": jnp.dtype("float32" if exact else precision), "exact": exact}


def with_monitor(config: Config, task: Task) -> Config:
    """The config, stopping on the task's own metric where it says nothing else."""
    stopping, (metric, mode) = config.stopping, task.monitor
    if stopping.monitor != Stopping().monitor:
        return config
    stopping = dataclasses.replace(stopping, monitor=f"validation/{metric}", mode=mode)
    return dataclasses.replace(config, stopping=stopping)


def make_preprocessing(config: Config) -> Preprocessing:
    """Sizes from the config, or else the spec's; refuses a size that the spec cannot take."""
    shape = make_spec(config, 2)
    size = config.input.size or shape.image_size
    if size < (smallest := smallest_size(shape)):
        raise ValueError(
            f"input.size is {size}; the smallest that {shape.name!r} works on is {smallest}"
        )
    canvas = config.input.canvas or size
    return Preprocessing(canvas, size, config.input.mean, config.input.std)


def make_augment(config: Config, classes: int) -> Augment:
    """What is left to do on the device."""
    crop = "center" if config.input.crop_files else config.augment.crop
    return dataclasses.replace(config.augment, crop=crop, num_classes=classes)


def file_crop(config: Config) -> Crop | None:
    """What the decoder cuts out of each file; None for its centre."""
    if not config.input.crop_files:
        return None
    if config.task != "classification":
        raise ValueError(
            f"input.crop_files goes with classification, not {config.task}: its crops move no "
            "annotations; augment.crop resized does"
        )
    if config.augment.crop != "resized":
        raise ValueError(
            f"input.crop_files goes with augment.crop resized, not {config.augment.crop}"
        )
    return Crop(config.augment.scale, config.augment.ratio)


def make_stages(config: Config, examples: int) -> tuple[Stage, ...]:
    """The stages that transfer.freeze asks for, one where it asks for none."""
    return plan(config.transfer.freeze, batch_size=config.batch_size, num_examples=examples)


def make_optimizer(
    config: Config, *, total_steps: int, examples: int, freeze: str | None = None
) -> Optimizer:
    """The optimizer with its schedule in steps, and everything up to the tap `freeze` frozen."""
    settings: dict[str, Any] = dict(vars(config.optimizer))
    name, rules = settings.pop("name"), parse_rules(settings.pop("rules"))
    network = make_spec(config, classes=2)
    transfer = (
        *freeze_rules(network, freeze),
        *lr_decay_rules(network, config.transfer.lr_decay),
    )
    return optimizer(
        name,
        learning_rate=config.learning_rate,
        schedule=schedules.build(
            config.schedule,
            total_steps=total_steps,
            batch_size=config.batch_size,
            num_examples=examples,
        ),
        rules=Rules((*rules, *transfer)),  # a rule of the user's goes first
        **settings,
    )


def total_steps(config: Config, examples: int) -> int:
    """Steps that cover `epochs` epochs; training batches straddle them and are always full."""
    return max(1, -(-round(config.epochs * examples) // config.batch_size))


def evaluation_interval(config: Config, examples: int) -> int:
    """Examples from one evaluation to the next."""
    every = config.run.evaluate_every
    if "step" in every:
        return config.batch_size * schedules.steps(
            every, batch_size=config.batch_size, num_examples=examples
        )
    return schedules.steps(every, batch_size=1, num_examples=examples)
