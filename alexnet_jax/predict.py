"""What a trained network sees on pictures: files in, ranked classes out."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np

from alexnet_jax.data.decode import canvas, decode_rgb
from alexnet_jax.restored import Restored
from alexnet_jax.train.canvas import predict_canvas

BATCH = 32  # one compiled shape; the last batch is filled up


def predict_files(restored: Restored, paths: list[str], top: int = 5) -> list[dict[str, Any]]:
    """[{"image": path, "predictions": [{"class", "probability"}, ...]}, ...], best class first.

    Raises FileNotFoundError, or BadImage with the file's name.
    """
    p = restored.preprocessing
    images = [canvas(decode_rgb(_read(path), path), p.canvas) for path in paths]
    step = jax.jit(partial(predict_canvas, task=restored.task, preprocessing=p))
    rows: list[np.ndarray] = []
    for start in range(0, len(images), BATCH):
        chunk = images[start : start + BATCH]
        padded = chunk + [np.zeros_like(images[0])] * (BATCH - len(chunk))
        answer = step(restored.state, {"image": np.stack(padded)})
        rows.extend(np.asarray(answer["probability"])[: len(chunk)])
    return [
        {
            "image": path,
            "predictions": [
                {"class": restored.classes[i], "probability": float(row[i])}
                for i in np.argsort(-row, kind="stable")[:top]
            ],
        }
        for path, row in zip(paths, rows, strict=True)
    ]


def _read(path: str) -> bytes:
    file = Path(path).expanduser()
    if not file.is_file():
        raise FileNotFoundError(f"{path}: no such picture file")
    return file.read_bytes()
