"""A page of pictures about one trained network: what it sees in a photograph of your own."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import optax
from answers import markdown_table
from seeing import cropped, feature_maps, kernels_over_time, look, taps, where_it_looks

from alexnet_jax import AlexNet, init_state
from alexnet_jax.assemble import open_source
from alexnet_jax.data.decode import canvas, decode_rgb
from alexnet_jax.data.preprocess import Preprocessing
from alexnet_jax.restored import Restored, load
from alexnet_jax.train.checkpoint import load_arrays, steps_in
from alexnet_jax.weights import Weights, of_run, read

TOP = 3  # answers told of a picture


class Network(NamedTuple):
    """A trained classifier, ready to be looked into."""

    weights: Weights
    net: AlexNet
    variables: dict[str, Any]
    preprocessing: Preprocessing
    restored: Restored | None  # of a run


def network(path: str) -> Network:
    """A classifier out of a run (its best checkpoint), one checkpoint, or a file of weights.

    Raises ValueError where it is no whole classifier or does not say how pictures are prepared.
    """
    restored = None if Path(path).expanduser().is_file() else load(path)
    weights = read(path) if restored is None else of_run(restored)
    if weights.absent:
        raise ValueError(f"{path} has no {', '.join(weights.absent)}, so that it answers nothing")
    if weights.preprocessing is None:
        raise ValueError(f"{path} does not say how its images are to be prepared")
    stats = {"batch_stats": weights.batch_stats} if weights.batch_stats else {}
    return Network(
        weights,
        AlexNet(weights.spec),
        {"params": weights.params, **stats},
        Preprocessing.from_json(weights.preprocessing),
        restored,
    )


def show(
    path: str, images: Sequence[str], patch: int | None, stride: int | None, out: Path
) -> None:
    """Write README.md, kernels.png, where.jpg, and maps.png of the first picture into `out`.

    Raises as `network` does, and FileNotFoundError or BadImage with a picture's name.
    """
    weights, net, variables, p, restored = network(path)
    names, canvases = files(images, p) if images else examples(path, restored, p)
    patch, stride = patch or p.size // 5, stride or math.ceil(p.size / 16)
    how: dict[str, Any] = {"net": net, "preprocessing": p}
    looked = look(variables, canvases, None, **how, patch=patch, stride=stride)
    count, seen = net.spec.num_classes, cropped(canvases, p)
    classes = weights.classes or tuple(f"class {i}" for i in range(count))
    told = [
        [f"{classes[c]} {100 * shares[c]:.1f} %" for c in np.argsort(-shares, kind="stable")[:TOP]]
        for shares in looked.probability
    ]
    best = [answers[0] for answers in told]
    out.mkdir(parents=True, exist_ok=True)
    for name, figure in {
        "kernels.png": kernels_over_time(kernels(weights, restored)),
        "where.jpg": where_it_looks(seen, best, {"": looked}, stride=stride),
        "maps.png": feature_maps(seen[0], taps(variables, canvases[0], **how)),
    }.items():
        figure.savefig(out / name, dpi=110)
    table = markdown_table(
        ["picture", "answers"], [[n, ", ".join(t)] for n, t in zip(names, told, strict=True)]
    )
    page = (
        f"# What {path} sees",
        f"`{weights.spec.name}` for {count} classes{origin(restored)}. The kernels of its first "
        "convolution, each stretched to its own range:",
        "![The kernels of the first convolution](kernels.png)",
        table,
        "Saliency: the gradient of the first answer's logit. Occlusion: red is where a grey patch "
        f"of {patch} pixels takes away its probability, blue where it adds some.",
        "![Saliency and occlusion](where.jpg)",
        f"Every tap's value for {names[0]}, the strongest channels first:",
        "![Feature maps of every tap](maps.png)",
    )
    (out / "README.md").write_text("\n\n".join(page) + "\n")
    print(f"{table}\n{out / 'README.md'}")


def files(images: Sequence[str], p: Preprocessing) -> tuple[list[str], np.ndarray]:
    """Names and canvases uint8 [B, S, S, 3] of picture files."""
    paths = [Path(image).expanduser() for image in images]
    if missing := [str(path) for path in paths if not path.is_file()]:
        raise FileNotFoundError(f"{missing[0]}: no such picture file")
    pictures = [decode_rgb(path.read_bytes(), str(path)) for path in paths]
    return [path.name for path in paths], np.stack([canvas(x, p.canvas) for x in pictures])


def examples(
    path: str, restored: Restored | None, p: Preprocessing
) -> tuple[list[str], np.ndarray]:
    """Names and canvases of the first four test pictures of a run's own data."""
    if restored is None:
        raise ValueError(f"{path} is a file of weights: give --image, pictures to look at")
    config = restored.config
    source = open_source(
        config.data, canvas=p.canvas, seed=config.seed, data_dir=config.input.data_dir
    )
    split = source.splits.get("test", source.splits["validation"])
    names, pictures = [], []
    for i in range(min(4, len(split))):
        image, name = split[i]["image"], split.name(i)
        image = image if isinstance(image, np.ndarray) else decode_rgb(image, name)
        names.append(name if config.data.startswith("street/") else Path(name).name)
        pictures.append(canvas(image, p.canvas))
    return names, np.stack(pictures)


def origin(restored: Restored | None) -> str:
    """What a run was trained on, and how long; of a file nothing is known."""
    if restored is None:
        return ""
    step, size, data = restored.path.name, restored.config.batch_size, restored.config.data
    return f", after {step} updates of {size} images of {data}"


def kernels(weights: Weights, restored: Restored | None) -> dict[str, np.ndarray]:
    """conv1's kernels by when: before training and at a run's checkpoints, as far as they exist."""
    last = weights.params["backbone"]["conv1"]["kernel"]
    if restored is None:
        return {"conv1": last}
    config, size, task = restored.config, restored.preprocessing.size, restored.task
    found = {}
    if config.init is None:
        fresh = jax.jit(
            lambda seed: init_state(
                seed=seed, task=task, tx=optax.identity(), image_shape=(size, size, 3)
            ).params["backbone"]["conv1"]["kernel"]  # of the rest nothing is computed
        )
        found["before training"] = np.asarray(fresh(np.uint32(config.seed)))
    folder = restored.path.parent
    for step in steps_in(folder):
        if str(step) == restored.path.name:
            found[f"step {step}, the one looked at"] = last
        else:
            params = load_arrays(folder, step)["params"]
            found[f"step {step}"] = params["backbone"]["conv1"]["kernel"]
    if "before training" in found:
        found["what training added"] = last - found["before training"]
    return found
