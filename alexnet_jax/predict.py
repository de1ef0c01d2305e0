"""What a trained network sees on pictures: files in; ranked classes out, and the answer drawn.

A network sees the square in the middle of a picture, or the whole of it, as in training. What is
drawn has the picture's own size: maps of classes are laid back onto what was seen, and are void
beside it; boxes and joints are told and drawn in the picture's own pixels.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np
from PIL import Image

from alexnet_jax.data.decode import BadImage, canvas_affine, decode_rgb
from alexnet_jax.data.framing import WHOLE, framing
from alexnet_jax.data.letterbox import affine, boxes_back
from alexnet_jax.data.preprocess import Preprocessing
from alexnet_jax.data.window import VOID
from alexnet_jax.restored import Restored
from alexnet_jax.tasks.palette import palette
from alexnet_jax.train.canvas import predict_canvas

BATCH = 32  # one compiled shape; the last batch is filled up


def predict_files(
    restored: Restored, paths: list[str], top: int = 5, out: str | None = None
) -> list[dict[str, Any]]:
    """[{"image": path, "predictions": [{"class", "probability"}, ...]}, ...], best class first.

    Segmentation gives "share" (of the square seen) for "probability", and writes beside each
    picture, or into the folder `out`, what it names under "files": `mask`, a PNG of class indices
    with a palette, NAME_predicted_mask.png; and `answer`, the picture with its classes painted
    over, NAME_predicted_answer.png. Detection gives all boxes (Detection.tell) and writes `answer`.
    Pose gives {"joint", "x", "y"} in pixels of the picture, pixel i reaching from i to i + 1, with
    heat maps also "score", and writes `answer` with the joints drawn. Several tasks tell and write
    all of this, "task" saying whose it is: "detection/answer", NAME_predicted_detection_answer.png.
    Files of these names are replaced.

    Raises FileNotFoundError or IsADirectoryError; BadImage with the names of all that cannot be
    read; ValueError where two pictures' files would have one name.
    """
    p, task = restored.preprocessing, restored.task
    images, shapes, square = [], [], framing(task.annotations).image
    bad = []
    for path in paths:
        try:
            image = decode_rgb(_read(path), path)
        except BadImage as error:
            bad.append(str(error))
            continue
        images.append(square(image, p.canvas))
        shapes.append(image.shape[:2])
    if bad:
        raise BadImage("; ".join(bad) + ": leave them out")
    step = jax.jit(partial(predict_canvas, task=task, preprocessing=p))
    answers: list[dict[str, np.ndarray]] = []
    for start in range(0, len(images), BATCH):
        chunk = images[start : start + BATCH]
        padded = chunk + [np.zeros_like(images[0])] * (BATCH - len(chunk))
        found = jax.device_get(step(restored.state, {"image": np.stack(padded)}))
        answers += [{name: x[row] for name, x in found.items()} for row in range(len(chunk))]
    whole = _whole(restored)
    answers = [
        _in_the_picture(x, shape, p, whole) for x, shape in zip(answers, shapes, strict=True)
    ]
    told: list[dict[str, Any]] = [
        {"image": path, "predictions": task.tell(answer, restored.classes, top)}
        for path, answer in zip(paths, answers, strict=True)
    ]
    written: dict[Path, str] = {}
    for path, answer, one in zip(paths, answers, told, strict=True):
        files = _files(path, answer, restored, out)
        if not files:
            continue
        for file, picture in files.values():
            if written.setdefault(file, path) != path:
                raise ValueError(f"{written[file]} and {path} would both be drawn as {file}")
            file.parent.mkdir(parents=True, exist_ok=True)
            picture.save(file)
        one["files"] = {name: str(file) for name, (file, _) in files.items()}
    return told


def _in_the_picture(
    answer: dict[str, np.ndarray], shape: tuple[int, int], p: Preprocessing, whole: bool
) -> dict[str, np.ndarray]:
    """The answer with its boxes and joints, if any, in the pixels of a picture of this shape, of
    which the network saw the whole or the square in the middle; maps are void beside it."""
    margin = (p.canvas - p.size) // 2
    found = dict(answer)
    for name, x in answer.items():
        kind = name.rpartition("/")[2]
        if kind == "joints":
            found[name] = points_back(x, shape, p, whole)
        elif kind == "boxes":
            found[name] = boxes_back(x + margin, shape, p.canvas)
        elif whole and _is_map(x):
            scale, begin = _onto(shape, p, whole)
            where = (np.moveaxis(np.indices(x.shape), 0, -1) + 0.5 - begin) / scale
            inside = ((where >= 0) & (where < shape)).all(axis=-1)
            found[name] = np.where(inside, x, np.uint8(VOID))
    return found


def _files(
    path: str, answer: dict[str, np.ndarray], restored: Restored, out: str | None
) -> dict[str, tuple[Path, Image.Image]]:
    """{name: (where, picture)} of all that is drawn of an answer."""
    if "label" in answer:
        return {}  # it is words: the picture need not be read again
    image, whole = decode_rgb(_read(path), path), _whole(restored)
    laid = {
        name: lay_back(x, image.shape[:2], restored.preprocessing, whole)
        for name, x in answer.items()
        if _is_map(x)
    }
    pictures = {name: indexed(x) for name, x in laid.items()}
    drawn = restored.task.draw(image, {**answer, **laid})
    pictures |= {name: Image.fromarray(pixels) for name, pixels in drawn.items()}
    file = Path(path).expanduser()
    folder = file.parent if out is None else Path(out).expanduser()
    return {
        name: (folder / f"{file.stem}_predicted_{name.replace('/', '_')}.png", picture)
        for name, picture in pictures.items()
    }


def _whole(restored: Restored) -> bool:
    """Whether the network sees whole pictures, or else the square in the middle of each."""
    return framing(restored.task.annotations) is WHOLE


def _is_map(x: np.ndarray) -> bool:
    """Whether it is a class index for every pixel."""
    return x.ndim == 2 and x.dtype == np.uint8


def lay_back(
    mask: np.ndarray, shape: tuple[int, int], p: Preprocessing, whole: bool = False
) -> np.ndarray:
    """A map uint8 [size, size] of the network's input in a picture's pixels, uint8 [H, W].

    The way back from `decode.canvas`, or `letterbox` where the network saw the `whole` picture, and
    the centre crop, by nearest pixel; `VOID` beside it.
    """
    found = []
    for length, scale, begin in zip(shape, *_onto(shape, p, whole), strict=True):
        found.append(np.floor((np.arange(length) + 0.5) * scale + begin).astype(int))
    rows, columns = found
    inside = [(index >= 0) & (index < p.size) for index in found]
    laid = mask[rows.clip(0, p.size - 1)[:, None], columns.clip(0, p.size - 1)]
    return np.where(inside[0][:, None] & inside[1], laid, np.uint8(VOID))


def points_back(
    points: np.ndarray, shape: tuple[int, int], p: Preprocessing, whole: bool = False
) -> np.ndarray:
    """Points [..., 2] (y, x) of the network's input in a picture's pixels, as `lay_back`."""
    scale, begin = _onto(shape, p, whole)
    return (points - begin) / scale


def _onto(shape: tuple[int, int], p: Preprocessing, whole: bool) -> tuple[np.ndarray, np.ndarray]:
    """(scale, begin) of (y, x): network's input = picture * scale + begin."""
    scale, begin = (affine if whole else canvas_affine)(shape, p.canvas)
    return scale, begin - (p.canvas - p.size) // 2


def indexed(mask: np.ndarray) -> Image.Image:
    """Class indices uint8 [H, W] as a picture with a palette."""
    picture = Image.fromarray(mask)
    picture.putpalette(palette().ravel().tolist())
    return picture


def _read(path: str) -> bytes:
    file = Path(path).expanduser()
    if not file.is_file():
        if file.is_dir():
            raise IsADirectoryError(f"{path} is a folder; expected picture files: {path}/*.jpg")
        raise FileNotFoundError(f"{path}: no such picture file")
    return file.read_bytes()
