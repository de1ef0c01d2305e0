"""A run's settings as frozen dataclasses: the command line's options.

Pure code takes plain arguments and never a Config; only what assembles a run reads it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

from alexnet_jax.data.augment import Augment
from alexnet_jax.optim.schedules import Schedule, steps
from alexnet_jax.settings import flat

PRECISIONS = ("float32", "bfloat16", "exact")


def _require(settings: Any, name: str, ok: bool, expected: str) -> None:
    if not ok:
        raise ValueError(f"{name} is {getattr(settings, name)!r}; expected {expected}")


@dataclass(frozen=True)
class Model:
    """Changes to the named spec; what is left out stays as the spec has it."""

    width: float | None = None
    """Scales the number of filters and neurons."""
    depth: int | None = None
    """Repeats the convolutions after the second."""
    normalization: str | None = None
    """none, local_response, batch, layer or group."""
    norm_position: str | None = None
    """before or after the activation."""
    dense: tuple[int, ...] | None = None
    """Neurons of each dense layer before the head, such as 512; empty for convolutions alone."""
    dropout_rate: float | None = None
    """Share of the neurons that dropout leaves out of a step."""
    dropout: tuple[str, ...] | None = None
    """Taps that are dropped out on their way on, such as pool5 fc6."""
    kernel_init: str | None = None
    """glorot_uniform, he_normal, gaussian_2012, orthogonal, ..."""
    activation: str | None = None
    """relu, tanh, sigmoid, elu, leaky_relu, gelu, silu or identity."""
    conv1_stride: int | None = None
    """Step of the first convolution, in pixels."""


@dataclass(frozen=True)
class Optimizer:
    """The method, regularization and what else happens to a gradient."""

    name: str = "sgd"
    """sgd, adam, adamw, rmsprop, adagrad, lars, lamb, lion, muon, or any other of optax."""
    momentum: float | None = None
    """Decay of the averaged gradient; None for what the method has by itself."""
    nesterov: bool = False
    """Nesterov's form of the momentum."""
    l2: float = 0.0
    """Strength of l2 / 2 * |w|^2."""
    l2_form: str = "coupled"
    """coupled (added to the clipped gradient) or loss (a term of the loss)."""
    l1: float = 0.0
    """Strength of l1 * |w|."""
    l1_form: str = "coupled"
    """coupled, loss, or proximal (gives exact zeros)."""
    decay: float = 0.0
    """Decoupled weight decay, as AdamW's."""
    clip: float | None = None
    """Largest global norm of the gradient."""
    ema: float | None = None
    """Decay of averaged parameters, which are then what is evaluated and exported."""
    rules: tuple[str, ...] = ()
    """Settings per parameter, such as "^head/ lr_mult=10" "conv1/ frozen=true"."""
    extra: dict[str, float] = field(default_factory=dict)
    """Further settings of the method by optax's names, such as b2 0.95."""


@dataclass(frozen=True)
class Transfer:
    """What is done with the parameters that `init` brings."""

    keep: tuple[str, ...] = ()
    """Parameters that stay at their initialization, as regular expressions: "^head/", or fc head
    for a file of convolutions alone. A head of another number of classes stays without asking."""
    freeze: tuple[str, ...] = ()
    """Tap up to which nothing is trained, such as pool5: the network before it is a feature
    extractor, with its batch statistics and dropout still. Or stages, to thaw it bit by bit:
    pool5 "pool2 after 2 epochs" "none after 4 epochs"."""
    lr_decay: float = 1.0
    """What the learning rate is multiplied by from each layer to the one below it, so that early
    layers move less: 0.4, say."""
    against: str | None = None
    """Run folder that the report compares this run with, such as that of a run from scratch: its
    curve, and its confusion matrix once it is finished. Changes nothing in training."""


@dataclass(frozen=True)
class Stopping:
    """When to stop early; patience stands at the top."""

    monitor: str = "validation/top1"
    """In another task than classification by default its own, such as validation/mean_iou."""
    mode: str = "max"
    """min or max."""
    min_delta: float = 0.0
    """What an evaluation must gain to count as better."""
    threshold: float | None = None
    """Stop as soon as the metric is as good as this."""
    check_finite: bool = True
    """Stop at once on a metric that is not finite."""

    def __post_init__(self) -> None:
        _require(self, "mode", self.mode in ("min", "max"), "min or max")
        better = "min" if self.monitor.endswith("/loss") else self.mode
        _require(self, "mode", self.mode == better, f"min, since {self.monitor} is to fall")
        _require(self, "min_delta", self.min_delta >= 0, "at least 0")


@dataclass(frozen=True)
class Segmentation:
    """How the task segmentation comes from the scores of a deep layer to those of pixels."""

    skips: tuple[str, ...] = ("pool2", "pool1")
    """Taps whose own scores refine them, the deepest first; pool2 pool1 is FCN-8s."""
    refine: int | None = None
    """Channels in which the skips are joined and mixed by a 3x3 convolution, and which score the
    pixels around each place of the last one; none adds the scores of the skips, as FCN does."""
    context: bool = False
    """Whether each place also sees the mean of the deepest map, hence all of the picture; goes with
    refine."""
    mirrored: bool = False
    """Whether scores are, outside of training, the mean of the picture's and its mirror image's,
    which takes twice as long; not where several tasks share a backbone."""
    class_weights: tuple[float, ...] = ()
    """How much a pixel of each class counts in the loss, in the order of the classes; by default
    all alike."""
    jaccard: float = 0.0
    """Strength of a second loss, 1 - the intersection over union of each class that an image has,
    by probabilities: what is thin or small then counts as much as what is large."""

    def __post_init__(self) -> None:
        _require(self, "refine", self.refine is None or self.refine >= 1, "at least 1")
        fits = not self.context or self.refine is not None
        _require(self, "context", fits, "false without segmentation.refine")
        _require(self, "jaccard", 0 <= self.jaccard < math.inf, "at least 0")


@dataclass(frozen=True)
class Pose:
    """How the task pose tells where joints are."""

    head: str = "heatmap"
    """heatmap, or regression (DeepPose)."""
    skips: tuple[str, ...] = ("conv5", "pool2", "pool1")
    """Taps whose own maps refine those of the deep layers, the deepest first; the heat maps are as
    fine as the last one."""
    sigma: float = 1.0
    """Standard deviation of a joint in its heat map, in steps of the map."""
    refine: int | None = None
    """Channels in which the skips are joined and mixed by a 3x3 convolution; none adds up their own
    maps."""
    context: bool = False
    """Whether each place also sees the mean of the deepest map, hence all of the picture; goes with
    refine."""
    mirrored: bool = False
    """Whether heat maps are, outside of training, the mean of the picture's and its mirror image's,
    which takes twice as long; not where several tasks share a backbone."""
    refinements: int = 0
    """Stages of DeepPose behind a regression, which look at each joint again, near where it was
    said."""
    box: float = 2.0
    """Side of what they see around a joint, in torsos of the pose that the stage before said."""

    def __post_init__(self) -> None:
        _require(self, "refine", self.refine is None or self.refine >= 1, "at least 1")
        _require(self, "head", self.head in ("heatmap", "regression"), "heatmap or regression")
        fits = not self.context or self.refine is not None
        _require(self, "context", fits, "false without pose.refine")
        _require(self, "sigma", 0 < self.sigma < math.inf, "more than 0")
        _require(self, "box", 0 < self.box < math.inf, "more than 0")
        most = "at least 0" if self.head == "regression" else "0 with pose.head heatmap"
        fits = self.refinements == 0 or (self.head == "regression" and self.refinements > 0)
        _require(self, "refinements", fits, most)


@dataclass(frozen=True)
class Multi:
    """How several tasks go together, as in detection+segmentation."""

    weights: dict[str, float] = field(default_factory=dict)
    """What each task's losses are multiplied by, such as detection 1 segmentation 0.5; by default
    1."""


@dataclass(frozen=True)
class OnPlateau:
    """Lower the learning rate when the monitored metric stalls; off by default."""

    factor: float | None = None
    """What it is multiplied by."""
    patience: int = 4
    """Evaluations without a better one before that happens."""

    def __post_init__(self) -> None:
        _require(self, "factor", self.factor is None or 0 < self.factor < 1, "above 0 and below 1")
        _require(self, "patience", self.patience >= 1, "at least 1")
        fits = self.factor is not None or self.patience == OnPlateau.patience
        _require(self, "patience", fits, "a plateau.factor beside it")


@dataclass(frozen=True)
class Input:
    """From files to the network's input."""

    canvas: int | None = None
    """Side of the decoded square, in pixels; by default that of the network's input."""
    size: int | None = None
    """Side of the network's input, in pixels; by default the spec's."""
    mean: tuple[float, float, float] = (123.675, 116.28, 103.53)
    """Subtracted from red, green and blue (0..255)."""
    std: tuple[float, float, float] = (58.395, 57.12, 57.375)
    """Divides them."""
    examples: int | None = None
    """Train on the first so many examples only."""
    data_dir: str | None = None
    """Where prepared data sets lie; by default TFDS_DATA_DIR."""
    crop_files: bool = False
    """Take augment.crop resized out of the files while decoding them, not out of the canvas: finer
    pixels, and on a CPU faster; the split is then decoded anew for every batch."""
    workers: int = 2
    """Threads that decode."""
    memory: float = 1.0
    """GiB that a decoded split may take; a larger one is decoded anew for every batch."""
    bad_images: float = 0.01
    """Share of training images that may be unreadable before the run stops."""

    def __post_init__(self) -> None:
        for name in ("canvas", "size", "examples"):
            value = getattr(self, name)
            _require(self, name, value is None or value >= 1, "at least 1")
        _require(self, "workers", self.workers >= 1, "at least 1")
        _require(self, "memory", self.memory >= 0, "at least 0")
        _require(self, "bad_images", 0 <= self.bad_images <= 1, "a share, from 0 to 1")


@dataclass(frozen=True)
class Run:
    """How a run proceeds and what it keeps."""

    evaluate_every: str = "1 epoch"
    """In epochs, steps or examples; a checkpoint is saved at each evaluation."""
    keep: int = 2
    """How many of the latest checkpoints stay, besides the best."""
    precision: str = "float32"
    """float32; bfloat16: computation in bfloat16, parameters and reductions in float32; or exact:
    float32 with plain convolutions only, where a faster form would round otherwise."""
    label_smoothing: float = 0.0
    """Share of each label that is spread evenly over all classes (Szegedy et al. 2016)."""
    accumulate: int = 1
    """Parts that each batch is computed in, one after the other, to save memory."""
    model_devices: int = 1
    """Devices that share one copy of the parameters that a rule shards."""
    deterministic: bool = False
    """On a GPU, choose deterministic operations only."""

    def __post_init__(self) -> None:
        _require(self, "precision", self.precision in PRECISIONS, "float32, bfloat16 or exact")
        _require(self, "label_smoothing", 0 <= self.label_smoothing < 1, "at least 0, below 1")
        for name in ("keep", "accumulate", "model_devices"):
            _require(self, name, getattr(self, name) >= 1, "at least 1")
        every = steps(self.evaluate_every, batch_size=1, num_examples=1)
        _require(self, "evaluate_every", every >= 1, 'more than none, such as "1 epoch"')


@dataclass(frozen=True)
class Config:
    """Train an AlexNet."""

    task: str = "classification"
    """classification, segmentation, detection or pose; or several of the last three on one
    backbone, such as detection+segmentation, of which the first stops training by default."""
    data: str = "street/a"
    """street/a, street/b, an image folder with train/CLASS/*.jpg, or a prepared tensorflow-datasets
    set by name; for segmentation street/scenes, or a folder with train/, trainannot/ and
    classes.txt; for detection street/scenes, or a folder in PASCAL VOC's or COCO's form; for pose
    street/people, or a folder with images/ and joints.mat."""
    spec: str = "small"
    """small, notes_224, notes_227, original_2012, bvlc_alexnet, caffenet, one_weird_trick or
    batchnorm."""
    init: str | None = None
    """Run folder (its best checkpoint) or file of weights that gives the initial parameters."""
    run_dir: str = "runs/street"
    """Folder of the run; the same command goes on with an unfinished run."""
    seed: int = 0
    """Of all that is random: initial parameters, order, augmentation, dropout, what is held out."""
    epochs: float = 60
    """At most so many."""
    batch_size: int = 32
    """Images in an update, over all devices together."""
    learning_rate: float = 0.01
    """At its highest; `schedule` is its shape."""
    patience: int | None = 8
    """Evaluations without a better one before training stops; None for never."""
    fresh: bool = False
    """Start over: the run that lies in the folder is deleted."""
    dry_run: bool = False
    """Print parameters, rules, memory, step time and an estimate; train nothing."""
    model: Model = field(default_factory=Model)
    transfer: Transfer = field(default_factory=Transfer)
    optimizer: Optimizer = field(default_factory=Optimizer)
    schedule: Schedule = field(default_factory=Schedule)
    augment: Augment = field(default_factory=Augment)
    plateau: OnPlateau = field(default_factory=OnPlateau)
    stopping: Stopping = field(default_factory=Stopping)
    segmentation: Segmentation = field(default_factory=Segmentation)
    pose: Pose = field(default_factory=Pose)
    multi: Multi = field(default_factory=Multi)
    input: Input = field(default_factory=Input)
    run: Run = field(default_factory=Run)

    def __post_init__(self) -> None:
        rate, patience = self.learning_rate, self.patience
        _require(self, "seed", 0 <= self.seed < 2**32, "at least 0 and below 2**32")
        _require(self, "epochs", 0 < self.epochs < math.inf, "more than 0")
        _require(self, "batch_size", self.batch_size >= 1, "at least 1")
        _require(self, "learning_rate", 0 <= rate < math.inf, "at least 0")
        _require(self, "patience", patience is None or patience >= 1, "at least 1, or None")
        parts = self.run.accumulate
        fits = self.batch_size % parts == 0
        _require(self, "batch_size", fits, f"a multiple of run.accumulate, {parts}")


# What a resumed run may be given otherwise than it began with.
MAY_CHANGE = (
    "run_dir",
    "fresh",
    "dry_run",
    "epochs",
    "patience",
    "transfer.against",
    "input.workers",
    "input.memory",
    "input.data_dir",
    "input.bad_images",
    "run.keep",
    "run.model_devices",
)


def differences(begun: Config, now: Config) -> list[str]:
    """What `now` asks for otherwise than the run began with, and must not: "field: old -> new"."""
    allowed = set(MAY_CHANGE)
    if now.schedule.depends_on_total:
        allowed.remove("epochs")  # the schedule ends with them
    old, new = dict(flat(begun)), dict(flat(now))
    return [
        f"{name}: {old[name]!r} -> {new[name]!r}"
        for name in sorted(old)
        if name not in allowed and old[name] != new[name]
    ]
