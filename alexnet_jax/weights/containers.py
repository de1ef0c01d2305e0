"""Files of named arrays, and nothing but arrays: no file is ever allowed to run code.

Each reader gives ({name: array}, {what the file says of itself}) and raises ValueError where the
file is cut short or something else.
"""

from __future__ import annotations

import pickle
import re
import warnings
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from alexnet_jax.weights import caffe, caffemodel, own

ABOUT = "alexnet_jax"  # the name under which files of ours carry their description
Contents = tuple[dict[str, np.ndarray], dict[str, Any]]

TO_SAFETENSORS = (
    'python -c "import sys, torch, safetensors.torch as s; '
    "s.save_file({k: v.contiguous() for k, v in "
    "torch.load(sys.argv[1], weights_only=True, map_location='cpu').items()}, sys.argv[2])\" "
    "{name} {stem}.safetensors"
)


def read_safetensors(path: Path) -> Contents:
    """Source: github.com/huggingface/safetensors. Types that NumPy lacks are refused."""
    safetensors = _safetensors()
    try:
        with safetensors.safe_open(path, framework="numpy") as file:
            about = (file.metadata() or {}).get(ABOUT)
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (safetensors.SafetensorError, TypeError, AttributeError, KeyError) as error:
        raise ValueError(f"cut short, or no safetensors file ({error})") from error
    return arrays, own.parse(about) if about else {}


def write_safetensors(path: Path, arrays: dict[str, np.ndarray], about: str) -> None:
    """`about` goes with the arrays as metadata, which other readers pass over."""
    _safetensors()
    from safetensors.numpy import save_file

    # It writes the memory as it lies, whatever the strides say.
    arrays = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    save_file(arrays, path, metadata={"format": "pt", ABOUT: about})


def read_torch(path: Path) -> Contents:
    """A state dict that torch.save wrote, by torch's reader that runs no code from the file."""
    try:
        import torch
    except ImportError as error:
        how = TO_SAFETENSORS.replace("{name}", path.name).replace("{stem}", path.stem)
        raise ValueError(
            "reading it needs PyTorch, which is not installed; where it is, make a safetensors "
            f"file of it:\n  {how}"
        ) from error
    try:
        # Opened here, as torch would go by the ending of a name; its warnings say less than we do.
        with path.open("rb") as file, warnings.catch_warnings(action="ignore"):
            state = torch.load(file, weights_only=True, map_location="cpu")
    except pickle.UnpicklingError as error:
        # Of torch's message the name alone: the rest is advice on how to let it run.
        asked = re.search(r"GLOBAL (\S+)", str(error))
        what = (
            f"it asks for {asked[1]}" if asked else "it is a pickle of something else, or damaged"
        )
        raise ValueError(
            f"refused: {what}, and what holds more than tensors could run code; expected a state "
            "dict alone, {name: tensor}"
        ) from error
    except (RuntimeError, EOFError, KeyError, ValueError, AttributeError, TypeError) as error:
        first = str(error).split(". ")[0] or type(error).__name__
        raise ValueError(f"cut short, or no file of torch.save ({first})") from error
    if not isinstance(state, dict) or not all(isinstance(v, torch.Tensor) for v in state.values()):
        held = ", ".join(map(str, list(state)[:5])) if isinstance(state, dict) else type(state)
        raise ValueError(f"holds {held}; expected a state dict alone, {{name: tensor}}")
    tensors = {str(name): (v.float() if v.is_floating_point() else v) for name, v in state.items()}
    return {name: tensor.detach().numpy() for name, tensor in tensors.items()}, {}


def read_npz(path: Path) -> Contents:
    """NumPy's archive, without pickled objects."""
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
    except ValueError as error:
        if "allow_pickle" in str(error):
            raise ValueError("refused: it holds a pickled object, which could run code") from error
        raise ValueError(f"damaged ({error})") from error
    except (zipfile.BadZipFile, zlib.error, EOFError, KeyError) as error:
        raise ValueError(f"damaged ({error})") from error
    about = arrays.pop(ABOUT, None)
    return arrays, own.parse(str(about)) if about is not None else {}


def write_npz(path: Path, arrays: dict[str, np.ndarray], about: str) -> None:
    """`about` becomes an entry of its own, a text of no dimension."""
    with path.open("wb") as file:  # given a name, NumPy would add .npz to it
        np.savez(file, allow_pickle=False, **arrays, **{ABOUT: np.array(about)})


def read_caffemodel(path: Path) -> Contents:
    """A binary NetParameter."""
    network, layers = caffemodel.read_net(path.read_bytes())
    if not layers:
        raise ValueError("no layer with weights is in it: cut short, or no Caffe network")
    return caffe.from_blobs(layers), {"network": network}


def _safetensors() -> Any:
    try:
        import safetensors
    except ImportError as error:
        raise ValueError(
            "this needs the package safetensors: pip install 'alexnet_jax[weights]'"
        ) from error
    return safetensors
