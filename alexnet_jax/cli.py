"""Train, study and hand over AlexNets. python -m alexnet_jax COMMAND --help tells the options.

train     [RECIPE]          train, or go on with an unfinished run
evaluate  RUN               count right answers on a split
predict   RUN IMAGE...      what is on these pictures
inspect   RUN|CHECKPOINT    steps, metrics, shapes, versions, digests
probe     RUN|FILE          how much a frozen network's features tell of another data set
convert   IN OUT            a run or a file of weights, as a file of weights
export    RUN|FILE OUT      a network for other programs: StableHLO, ONNX, with a model card
doctor                      devices and versions
"""

from __future__ import annotations

import difflib
import os
import shlex
import sys
import textwrap
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Annotated, Any

import docstring_parser
import tyro
from docstring_parser import Docstring, DocstringStyle
from tyro.conf import Positional, arg

if TYPE_CHECKING:
    from alexnet_jax.config import Config

# Quieter start: the messages of XLA's C++ side at level INFO and WARNING are no news to a user.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")


def main(argv: list[str]) -> int:
    """Run a command; returns the exit status."""
    if not argv or argv[0] in ("-h", "--help", "help"):
        print(__doc__)
        return 0
    if argv[0] not in COMMANDS:
        near = difflib.get_close_matches(argv[0], COMMANDS, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else f"; there are {', '.join(COMMANDS)}"
        print(f"no command is called {argv[0]!r}{hint}", file=sys.stderr)
        return 2
    try:
        return COMMANDS[argv[0]](argv[1:])
    except BrokenPipeError:
        raise
    except EXPECTED() as error:
        # What a user can mend is told in words; everything else keeps its traceback.
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return 1


def EXPECTED() -> tuple[type[Exception], ...]:
    """Errors whose message says all: looked up late, since their modules load slowly."""
    from alexnet_jax.train.checkpoint import DamagedCheckpoint
    from alexnet_jax.train.loop import NonFiniteLoss
    from alexnet_jax.train.run import RunLockedError
    from alexnet_jax.training import TooManyBadImages

    return (
        ValueError,
        OSError,
        ImportError,  # of a package that only some commands need
        RunLockedError,
        NonFiniteLoss,
        TooManyBadImages,
        DamagedCheckpoint,
    )


def parse(kind: Any, argv: list[str], command: str, default: Any = None, about: str = "") -> Any:
    """The options as a dataclass; prints help, or what is wrong with them, and exits."""
    keywords = {} if default is None else {"default": default}
    return tyro.cli(
        kind,
        args=argv,
        prog=f"python -m alexnet_jax {command}",
        description=about or None,
        config=(tyro.conf.AvoidSubcommands,),
        **keywords,
    )


_read_docs = docstring_parser.parse_from_object


def _unbroken(obj: Any, style: DocstringStyle = DocstringStyle.AUTO) -> Docstring:
    """The docstrings of a class, each field's in one line."""
    docs = _read_docs(obj, style)
    for field in docs.params:
        field.description = " ".join((field.description or "").split())
    return docs


# tyro reads docstrings by this, and would break lines in --help where the source does.
docstring_parser.parse_from_object = _unbroken


def _train(argv: list[str]) -> int:
    from alexnet_jax.config import Config
    from alexnet_jax.recipes import NAMES, recipe

    name = argv[0] if argv and not argv[0].startswith("-") else "street"
    rest = argv[1:] if argv and not argv[0].startswith("-") else argv
    command = "train [RECIPE]" if {"-h", "--help"} & set(rest) else f"train {name}"
    names = textwrap.fill(", ".join(NAMES), 76, break_on_hyphens=False)
    about = (
        "Train an AlexNet, or go on with an unfinished run. RECIPE is a set of defaults:\n"
        f"{textwrap.indent(names, '  ')}\n\nThe defaults told below are those of {name}."
    )
    config = parse(Config, rest, command, recipe(name), about)
    _check_used(config, recipe(name))
    if config.run.deterministic:
        # Read when the backend starts, so it must stand before jax is used.
        flag = "--xla_gpu_exclude_nondeterministic_ops=true"
        os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {flag}".strip()

    _set_up_jax()
    from alexnet_jax.train.early_stopping import Reason
    from alexnet_jax.train.loop import INTERRUPTED
    from alexnet_jax.training import train

    if config.dry_run:
        from alexnet_jax.dry_run import dry_run

        dry_run(config)
        return 0
    again = [a for a in argv if a not in ("--fresh", "--fresh=True")]
    reason = train(config, shlex.join(["python", "-m", "alexnet_jax", "train", *again]))
    return {INTERRUPTED: 130, Reason.NON_FINITE.value: 1}.get(reason, 0)


def _set_up_jax() -> None:
    """What whoever imports the package decides for himself, before jax computes anything."""
    from alexnet_jax.cache import keep_compiled
    from alexnet_jax.memory import dispatch_in_place

    keep_compiled()
    dispatch_in_place()


def _check_used(config: Config, default: Config) -> None:
    """Raises ValueError for options that would change nothing."""
    for task in ("segmentation", "pose"):
        if task not in config.task.split("+") and getattr(config, task) != getattr(default, task):
            raise ValueError(
                f"an option --{task}.* is given, and the task is {config.task}; leave it out, or "
                f"give --task {task}"
            )
    if (keep := config.transfer.keep) and config.init is None:
        raise ValueError(f"transfer.keep is {keep!r}, and nothing is loaded; give --init, too")


@dataclass(frozen=True)
class Evaluate:
    """Count a run's right answers, pixels or joints on a split, every example once."""

    run: Positional[Annotated[str, arg(metavar="RUN")]]
    """Run folder (its best checkpoint), or one checkpoint."""
    data: str | None = None
    """Data set instead of the run's own; its classes must be the same."""
    split: str = "test"
    """train, validation or test."""
    which: str = "best"
    """best or last."""
    views: int = 1
    """1, or 10: four corners, centre and their mirror images, averaged."""
    batch_size: int = 128
    """How many are computed at once; changes no figure."""


@dataclass(frozen=True)
class Predict:
    """What a run's best network sees on pictures."""

    run: Positional[Annotated[str, arg(metavar="RUN")]]
    """Run folder, or one checkpoint."""
    images: Positional[Annotated[tuple[str, ...], arg(metavar="IMAGE...")]]
    """Picture files."""
    format: str = "text"
    """text or json."""
    top: int = 5
    """Classes to tell per picture; boxes are told all."""
    out: str | None = None
    """Folder for what is drawn, in all tasks but classification; by default each picture's."""


@dataclass(frozen=True)
class Inspect:
    """What a run or a checkpoint holds."""

    path: Positional[Annotated[str, arg(metavar="RUN|CHECKPOINT")]]
    """Run folder, or one checkpoint."""
    format: str = "text"
    """text or json."""


@dataclass(frozen=True)
class Probe:
    """Tell the classes of a data set from the features of a network as it is."""

    source: Positional[Annotated[str, arg(metavar="RUN|FILE")]]
    """Run folder (its best checkpoint), one checkpoint, or a file of weights (see convert)."""
    data: str = "street/b"
    """street/a, street/b, an image folder, or a prepared tensorflow-datasets set by name."""
    tap: str = "pool5"
    """conv1, pool1, ..., pool5, fc6 or fc7."""
    method: str = "linear"
    """linear (ridge regression) or knn (nearest neighbours)."""
    shots: tuple[int, ...] = (0,)
    """Training images per class, such as 5 10 20; 0 for all there are."""
    draws: int = 5
    """Different draws of so few images."""
    neighbours: int = 5
    """Nearest neighbours that vote."""
    mirrored: bool = False
    """Learn from every picture and its mirror image, and judge by the mean of both: for what looks
    the same from left and right, as photographs of things do."""
    strength: float | None = None
    """Of ridge regression's penalty, in units of the features' mean squared length; left out, it is
    chosen for every draw, on validation where test is judged, otherwise by leaving one out."""


@dataclass(frozen=True)
class Convert:
    """Write a network's weights for other programs, or read other programs' weights."""

    source: Positional[Annotated[str, arg(metavar="IN")]]
    """Run folder (its best checkpoint), one checkpoint, or a .safetensors, .pth, .pt, .caffemodel
    or .npz file."""
    target: Positional[Annotated[str, arg(metavar="OUT")]]
    """.npz (ours; any network), or .safetensors (torchvision's AlexNet)."""
    spec: str | None = None
    """Which network a file holds that does not say it itself, such as bvlc_alexnet."""


@dataclass(frozen=True)
class Export:
    """Hand a trained network over to other programs, with a card that describes it."""

    source: Positional[Annotated[str, arg(metavar="RUN|FILE")]]
    """Run folder (its best checkpoint), one checkpoint, or a file of weights (see convert)."""
    target: Positional[Annotated[str, arg(metavar="OUT")]]
    """.stablehlo (a program for jax, and its parameters as .npz beside it), .onnx, .safetensors
    (torchvision's AlexNet) or .npz (ours). The card is README.md in its folder."""
    spec: str | None = None
    """Which network a file holds that does not say it itself, such as bvlc_alexnet."""


@dataclass(frozen=True)
class Doctor:
    """Devices and versions, and what is missing."""


def _run(kind: Any, command: str, module: str = "commands") -> Callable[[list[str]], int]:
    """The command's function has its name; `module` holds it."""

    def call(argv: list[str]) -> int:
        options = parse(kind, argv, command)
        _set_up_jax()
        function = getattr(import_module(f"alexnet_jax.{module}"), command)
        print(function(**vars(options)))
        return 0

    return call


COMMANDS: dict[str, Callable[[list[str]], int]] = {
    "train": _train,
    "evaluate": _run(Evaluate, "evaluate"),
    "predict": _run(Predict, "predict"),
    "inspect": _run(Inspect, "inspect"),
    "probe": _run(Probe, "probe", "transfer.command"),
    "convert": _run(Convert, "convert"),
    "export": _run(Export, "export", "export.command"),
    "doctor": _run(Doctor, "doctor"),
}
