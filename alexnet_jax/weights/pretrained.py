"""A network as a local folder laid out as model hubs lay them out.

model.safetensors   torchvision's layout, where it can express the network; otherwise model.npz
config.json         spec, preprocessing, classes, and which of the two it is
README.md           the card
"""

from __future__ import annotations

import dataclasses
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING

from alexnet_jax.weights import own, torchvision
from alexnet_jax.weights.base import Weights
from alexnet_jax.weights.files import read, replacing, write

if TYPE_CHECKING:
    from alexnet_jax.restored import Restored

FILES = ("model.safetensors", "model.npz")


def save_pretrained(
    weights: Weights, folder: str | os.PathLike[str], run: Restored | None = None
) -> None:
    """Write the folder; each file all or nothing, config.json after the weights.

    The card tells of the run, where the weights are from one. A README.md that is there stays.
    """
    from alexnet_jax.export.card import write_card  # which needs this package

    folder = Path(folder).expanduser()
    folder.mkdir(parents=True, exist_ok=True)
    try:
        torchvision.to_arrays(weights)
        name = FILES[0]
    except ValueError:  # says what torchvision's AlexNet cannot express
        name = FILES[1]
    write(weights, folder / name)
    config = {"weights": name, **json.loads(own.describe(weights))}
    with replacing(folder / "config.json") as temporary:
        temporary.write_text(json.dumps(config, indent=2, ensure_ascii=False), "utf-8")
    write_card(weights, folder / name, run)


def from_pretrained(folder: str | os.PathLike[str]) -> Weights:
    """What `save_pretrained` wrote; preprocessing and names of the classes are config.json's.

    Raises FileNotFoundError for a missing file, or ValueError with the path and what is wrong.
    """
    folder = Path(folder).expanduser()
    path = folder / "config.json"
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist; expected a folder of save_pretrained")
    try:
        about = own.parse(path.read_text("utf-8"))
        if about.get("weights") not in FILES:
            raise ValueError(f"weights is {about.get('weights')!r}; expected {' or '.join(FILES)}")
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    weights = read(folder / about["weights"], about["spec"])
    if weights.spec != about["spec"]:
        raise ValueError(f"{path}: its spec is not that of {about['weights']}")
    return dataclasses.replace(
        weights, preprocessing=about["preprocessing"], classes=about["classes"]
    )
