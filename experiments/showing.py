"""A page of pictures about one trained network: what it sees in a photograph of your own."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
import optax
from answers import markdown_table
from seeing import (
    cropped,
    feature_maps,
    kernels_over_time,
    look,
    network,
    taps,
    variables,
    where_it_looks,
)

from alexnet_jax import init_state
from alexnet_jax.assemble import open_source
from alexnet_jax.data.decode import canvas, decode_rgb
from alexnet_jax.data.preprocess import Preprocessing
from alexnet_jax.restored import find_checkpoint, load
from alexnet_jax.train.checkpoint import load_arrays, steps_in

TOP = 3  # answers told of a picture


def show(
    path: str, images: Sequence[str], patch: int | None, stride: int | None, out: Path
) -> None:
    """Write README.md, kernels.png, where.png, and maps.png of the first picture into `out`.

    Raises as `network` does, and FileNotFoundError or BadImage with a picture's name.
    """
    weights, net, p = network(path)
    names, canvases = pictures_of(path, images, p)
    seen, given = cropped(canvases, p), variables(weights)
    how: dict[str, Any] = {"net": net, "preprocessing": p}
    stride = stride or math.ceil(p.size / 16)
    looked = look(given, canvases, None, **how, patch=patch or p.size // 5, stride=stride)
    count = net.spec.num_classes
    classes = weights.classes or tuple(f"class {i}" for i in range(count))
    ranked = np.argsort(-looked.probability, axis=1, kind="stable")[:, :TOP]
    told = [
        [f"{classes[c]} {100 * shares[c]:.1f} %" for c in order]
        for order, shares in zip(ranked, looked.probability, strict=True)
    ]
    out.mkdir(parents=True, exist_ok=True)
    figures = {
        "kernels.png": kernels_over_time(kernels(path, weights.params)),
        "where.png": where_it_looks(seen, [best for best, *_ in told], {"": looked}, stride=stride),
        "maps.png": feature_maps(seen[0], taps(given, canvases[0], **how)),
    }
    for name, figure in figures.items():
        figure.savefig(out / name, dpi=110)
    table = markdown_table(
        ["picture", "answers"], [[n, ", ".join(t)] for n, t in zip(names, told, strict=True)]
    )
    page = (
        f"# What {path} sees",
        "![The kernels of the first convolution](kernels.png)",
        table,
        "Saliency: the gradient of the first answer's logit. Occlusion: red is where a grey patch "
        f"of {patch or p.size // 5} pixels takes away its probability, blue where it adds some.",
        "![Saliency and occlusion](where.png)",
        f"Every tap's value for {names[0]}, the strongest channels first:",
        "![Feature maps of every tap](maps.png)",
    )
    (out / "README.md").write_text("\n\n".join(page) + "\n")
    print(f"{table}\n{out / 'README.md'}")


def pictures_of(path: str, images: Sequence[str], p: Preprocessing) -> tuple[list[str], np.ndarray]:
    """Names and canvases uint8 [B, S, S, 3] of picture files, or of the run's own test pictures."""
    if images:
        files = [Path(image).expanduser() for image in images]
        if missing := [str(file) for file in files if not file.is_file()]:
            raise FileNotFoundError(f"{missing[0]}: no such picture file")
        decoded = [decode_rgb(file.read_bytes(), str(file)) for file in files]
        return [file.name for file in files], np.stack([canvas(x, p.canvas) for x in decoded])
    if Path(path).expanduser().is_file():
        raise ValueError(f"{path} is a file of weights: give --image, pictures to look at")
    config = load(path).config
    source = open_source(config.data, canvas=p.canvas, seed=config.seed)
    split = source.splits.get("test", source.splits["validation"])
    rows = range(min(4, len(split)))
    decoded = [image if isinstance(image := split[i]["image"], np.ndarray)
               else decode_rgb(image, split.name(i)) for i in rows]  # fmt: skip
    return [split.name(i) for i in rows], np.stack([canvas(x, p.canvas) for x in decoded])


def kernels(path: str, params: Any) -> dict[str, np.ndarray]:
    """conv1's kernels by when: before training and at a run's checkpoints, as far as they exist."""
    last = params["backbone"]["conv1"]["kernel"]
    if Path(path).expanduser().is_file():
        return {"conv1": last}
    restored = load(path)
    config, size = restored.config, restored.preprocessing.size
    found = {}
    if config.init is None:
        fresh = jax.jit(
            lambda seed: init_state(
                seed=seed, task=restored.task, tx=optax.identity(), image_shape=(size, size, 3)
            ).params["backbone"]["conv1"]["kernel"]  # of the rest nothing is computed
        )
        found["before training"] = np.asarray(fresh(np.uint32(config.seed)))
    folder, chosen = find_checkpoint(path)
    for step in steps_in(folder):
        name = f"step {step}" + (", which is looked at" if step == chosen else "")
        if step == chosen:
            found[name] = last
        else:
            found[name] = load_arrays(folder, step)["params"]["backbone"]["conv1"]["kernel"]
    if "before training" in found:
        found["what training added"] = last - found["before training"]
    return found
