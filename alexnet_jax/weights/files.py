"""`read` a file of weights, whoever wrote it; `write` one.

What a file is shows in its first bytes, whose weights they are in the arrays' names.
"""

from __future__ import annotations

import contextlib
import os
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

from alexnet_jax.models import spec as specs
from alexnet_jax.models.spec import Spec
from alexnet_jax.weights import caffe, containers, own, torchvision
from alexnet_jax.weights.base import Weights

LAYOUTS = (torchvision, caffe, own)
READABLE = ".safetensors, .pth, .pt, .caffemodel or .npz"


def read(path: str | os.PathLike[str], spec: Spec | str | None = None) -> Weights:
    """The weights in a .safetensors, .pth, .pt, .caffemodel or .npz file.

    `spec` says which network it is where the file does not: a name, or a Spec, whose number of
    classes gives way to the file's. Nothing in a file is executed.

    Raises FileNotFoundError, or ValueError with the path and what is wrong: another format, cut
    short, refused, or a list of layers that are missing, unexpected or of another shape.
    """
    path = Path(path).expanduser()
    if not path.is_file():
        what = "is a folder" if path.is_dir() else "does not exist"
        raise FileNotFoundError(f"{path} {what}; expected a file of weights: {READABLE}")
    given = specs.spec(spec) if isinstance(spec, str) else spec
    try:
        arrays, about = _container(path)(path)
        if "spec" in about:
            if given is not None and given.name != about["spec"].name:
                raise ValueError(f"it holds {about['spec'].name!r}, not {given.name!r}")
            given = about["spec"]
        for layout in LAYOUTS:
            if layout.is_named_so(arrays):
                return layout.from_arrays(arrays, about, given)
        raise ValueError(
            f"the arrays are called {', '.join(list(arrays)[:5]) or 'nothing, there are none'}; "
            "expected torchvision's names (features.0.weight), Caffe's (conv1.weight) or ours "
            "(backbone/conv1/kernel)"
        )
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def write(weights: Weights, path: str | os.PathLike[str]) -> None:
    """Write `.npz`, our own layout, or `.safetensors`, torchvision's state dict; all or nothing.

    Both carry spec, preprocessing, classes and notes along. Raises ValueError for another ending,
    or where torchvision's AlexNet cannot express the network.
    """
    path = Path(path).expanduser()
    if path.suffix == ".npz":
        arrays, save = own.to_arrays(weights), containers.write_npz
    elif path.suffix == ".safetensors":
        arrays, save = torchvision.to_arrays(weights), containers.write_safetensors
    else:
        raise ValueError(f"{path}: expected an ending of .npz or .safetensors to write")
    if not path.parent.is_dir():
        raise FileNotFoundError(f"{path.parent} does not exist; make the folder first")
    with replacing(path) as temporary:
        save(temporary, arrays, own.describe(weights))


def _container(path: Path) -> Callable[[Path], containers.Contents]:
    """The reader for a file's format."""
    with path.open("rb") as file:
        head = file.read(16)
    if head.startswith(b"PK"):
        try:
            with zipfile.ZipFile(path) as archive:
                is_torch = any(name.endswith("data.pkl") for name in archive.namelist())
        except zipfile.BadZipFile as error:
            raise ValueError(f"cut short: the archive lacks its end ({error})") from error
        return containers.read_torch if is_torch else containers.read_npz
    if head.startswith(b"\x80"):  # a bare pickle, as torch.save wrote before 1.6
        return containers.read_torch
    if head[8:9] == b"{" or path.suffix == ".safetensors":
        return containers.read_safetensors
    if path.suffix == ".caffemodel":
        return containers.read_caffemodel
    raise ValueError(f"begins with {head!r}, as none of {READABLE} does")


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A name beside `path`; what is written there takes its place once it is whole."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
