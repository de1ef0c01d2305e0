"""The model card: what a network is, what it was trained on, how well it does, how to use it.

Plain Markdown; the front matter is what model hubs read
(huggingface.co/docs/hub/model-cards).
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from alexnet_jax.data.letterbox import GREY
from alexnet_jax.leaves import digest
from alexnet_jax.models import spec as specs
from alexnet_jax.weights.base import Weights
from alexnet_jax.weights.files import replacing
from alexnet_jax.weights.own import to_arrays

if TYPE_CHECKING:
    from alexnet_jax.restored import Restored

FRONT = """---
library_name: alexnet_jax
pipeline_tag: {hub}
tags:
- {hub}
- alexnet
- jax
metrics:
- {metric}
---
"""


class Hub(NamedTuple):
    """What a card says of a task: its name at model hubs, a metric, what its programs answer."""

    hub: str
    metric: str
    answer: str


TASKS = {
    "classification": Hub("image-classification", "accuracy", "`probability` and `label`."),
    "segmentation": Hub(
        "image-segmentation",
        "mean_iou",
        "`mask`, uint8 [1, {size}, {size}]: the class of each pixel of the crop.",
    ),
    "detection": Hub(
        "object-detection",
        "ap50",
        "the best boxes first: `boxes` [1, N, 4], (y0, x0, y1, x1) in pixels of the crop, `score` "
        "[1, N], and `box_label` [1, N], -1 where there is none.",
    ),
    "pose": Hub(
        "keypoint-detection",
        "pck",
        "`joints` [1, 14, 2], (y, x) in pixels of the crop, pixel i reaching from i to i + 1, and "
        "of a network with heat maps `score` [1, 14]; the classes name them.",
    ),
}
OTHER = Hub("other", "loss", "what the task decodes.")
SHOWN = 20  # names of classes that a card lists
RECIPE = (
    ("initial parameters", "init"), ("seed", "seed"), ("epochs, at most", "epochs"),
    ("batch size", "batch_size"), ("learning rate", "learning_rate"),
    ("schedule", "schedule.name"), ("optimizer", "optimizer.name"),
    ("momentum", "optimizer.momentum"), ("L2", "optimizer.l2"), ("L1", "optimizer.l1"),
    ("decoupled decay", "optimizer.decay"), ("average of parameters", "optimizer.ema"),
    ("patience", "patience"),
)  # fmt: skip

USE = {
    ".stablehlo": """A program for CPU, CUDA GPU and TPU; its parameters are in `{stem}.npz`. In
Python, with `pip install jax flatbuffers`:

```python
import jax, jax.export, numpy as np, pathlib
program = jax.export.deserialize(bytearray(pathlib.Path("{stem}.stablehlo").read_bytes()))
parameters = {{k: v for k, v in np.load("{stem}.npz").items() if k != "alexnet_jax"}}
images = np.zeros((1, {canvas}, {canvas}, 3), np.float32)  # of 0..255
answer = program.call(parameters, images)
```

The answer is {answer}
""",
    ".onnx": """In Python, with `pip install onnxruntime`:

```python
import numpy as np, onnxruntime
session = onnxruntime.InferenceSession("{stem}.onnx")
images = np.zeros((1, {canvas}, {canvas}, 3), np.uint8)
logits, probability = session.run(["logits", "probability"], {{"image": images}})
```
""",
    ".safetensors": """torchvision's layout. Images are to be cropped and normalized first, as said
above. In Python, with `pip install torch torchvision safetensors`, and here with
`pip install 'alexnet_jax[weights]'`:

```python
import safetensors.torch
state = safetensors.torch.load_file("{stem}.safetensors")  # names as in torchvision's AlexNet
from alexnet_jax.weights import read
weights = read("{stem}.safetensors")  # .spec, .params, .preprocessing, .classes
```
""",
    ".npz": """Images are to be cropped and normalized first, as said above. In Python, with
`pip install alexnet_jax`:

```python
from alexnet_jax import AlexNet
from alexnet_jax.weights import read
weights = read("{stem}.npz")
variables = {{"params": weights.params, "batch_stats": weights.batch_stats}}
logits = AlexNet(weights.spec).apply(variables, images)  # [B, {size}, {size}, 3], normalized
```
""",
}


def write_card(weights: Weights, target: Path, run: Restored | None = None) -> Path | None:
    """Write the card of a file beside it, as README.md, or as STEM.md where that is taken.

    Nobody's text is replaced, and an edited card is somebody's: a card of the same network only
    gains a section for a further file. Returns where the card is, or None where both are taken.
    """
    body = about(weights, target.stem, run)
    of, p = weights.spec, weights.preprocessing or {}
    names = {"stem": target.stem, "size": of.image_size, **p}
    names["answer"] = _hub(weights).answer.format(**names)
    sections = {e: f"\n### `{target.stem}{e}`\n\n" + use.format(**names) for e, use in USE.items()}

    def card(endings: set[str]) -> str:
        return body + "".join(text for e, text in sections.items() if e in endings)

    for path in (target.with_name("README.md"), target.with_suffix(".md")):
        old = path.read_text("utf-8") if path.exists() else ""
        told = {e for e, text in sections.items() if text in old}
        if old and old != card(told):
            continue
        with replacing(path) as temporary:
            temporary.write_text(card(told | {target.suffix}), "utf-8")
        return path
    return None


def about(weights: Weights, stem: str, run: Restored | None = None) -> str:
    """The card up to its sections on how to use each file."""
    data = run.meta["data"] if run else None
    title = f"{weights.spec.name} on {data['name']}" if data else weights.spec.name
    parts = [
        FRONT.format(**_hub(weights)._asdict()),
        f"# {stem}: {title}\n",
        "Licence: not stated\n",
        "## Network\n",
        _network(weights),
        "## Input\n",
        _input(weights.preprocessing, weights.task),
        "## Training\n",
        _training(run),
        "## Results\n",
        _results(run),
        "## Use\n",
    ]
    return "\n".join(parts)


def _hub(weights: Weights) -> Hub:
    if weights.task in TASKS:
        return TASKS[weights.task]
    parts = [name for name in weights.task.split("+") if name in TASKS]  # of several, each its own
    answers = "\n".join(f"- of {name}, called `{name}/...`: {TASKS[name].answer}" for name in parts)
    return OTHER._replace(answer=f"what each task says:\n\n{answers}") if parts else OTHER


def _network(weights: Weights) -> str:
    names = weights.classes
    count = len(names) or weights.spec.num_classes
    listed = ", ".join(f"{i} {name}" for i, name in enumerate(names[:SHOWN]))
    more = f", ... (all {count} are in the files)" if len(names) > SHOWN else ""
    total = sum(array.size for array in to_arrays(weights).values())
    return _list(
        {
            "classes": f"{count}: {listed}{more}" if names else f"{count}, names not known",
            "numbers": f"{total:,}, sha256 {digest(to_arrays(weights))}",
            "spec": f"`{json.dumps(specs.to_json(weights.spec))}`",
            "layers that are missing": ", ".join(weights.absent) or None,
            "notes": "; ".join(weights.notes) or None,
        }
    )


def _input(p: dict[str, Any] | None, task: str) -> str:
    if p is None:
        return "How images are to be prepared is not known.\n"
    canvas, size = p["canvas"], p["size"]
    framed = (
        f"the long side scaled to {canvas}, then grey ({GREY}) added evenly on both sides"
        if "detection" in task.split("+")
        else f"the short side scaled to {canvas}, then the middle cut out"
    )
    return f"RGB pictures, {canvas} x {canvas} pixels of 0..255: {framed}.\n\n" + _list(
        {
            "crop": f"the middle {size} x {size}" if size < canvas else "none",
            "subtracted mean (red, green, blue)": p["mean"],
            "divided by": p["std"],
            "order of channels afterwards": p["channels"],
        }
    )


def _training(run: Restored | None) -> str:
    if run is None:
        return "Not known: the weights come from a file.\n"
    data = run.meta["data"]
    return _list(
        {
            "data": f"{data['name']}, version {data['version']}, fingerprint {data['fingerprint']}",
            **{label: _setting(run.config, field) for label, field in RECIPE},
            "checkpoint": f"step {run.path.name}",
            "versions": ", ".join(f"{k} {v}" for k, v in run.meta["versions"].items()),
        }
    )


def _results(run: Restored | None) -> str:
    """What the end of the run said of this very checkpoint."""
    path = run.path.parent.parent / "results.json" if run else None
    results: dict = json.loads(path.read_text()) if path and path.is_file() else {}
    if run is None or results.get("best_step") != int(run.path.name):
        return "Not known.\n"
    splits: dict[str, dict[str, Any]] = results["splits"]
    if run.task.name == "classification":
        header = ["right", "accuracy", "loss"]
        told = {
            split: [f"{f['correct']} of {f['count']}", f"{f['top1']:.2%}", f"{f['loss']:.4f}"]
            for split, f in splits.items()
        }
    else:
        header = list(dict.fromkeys(name for figures in splits.values() for name in figures))
        told = {
            split: [f"{f.get(name, math.nan):.5g}" for name in header]
            for split, f in splits.items()
        }
    rows = [f"| {' | '.join([split, *values])} |" for split, values in told.items()]
    note = "" if "test" in results["splits"] else "\nThese figures were also used for stopping.\n"
    head = f"| {' | '.join(['split', *header])} |"
    return "\n".join([head, "|---" * (len(header) + 1) + "|", *rows, note])


def _setting(config: Any, field: str) -> Any:
    for name in field.split("."):
        config = getattr(config, name)
    return config


def _list(facts: dict[str, Any]) -> str:
    return "".join(f"- {k}: {v}\n" for k, v in facts.items() if v not in (None, 0.0) or k == "seed")
