"""`street`: rendered street scenes with boxes, masks and joints, pure in (config, seed, index)."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageFilter

from alexnet_jax.data.skeleton import JOINTS
from alexnet_jax.data.street.backdrop import paint_backdrop, paint_foreground
from alexnet_jax.data.street.canvas import OVERSAMPLE, Canvas
from alexnet_jax.data.street.light import draw_light, shade
from alexnet_jax.data.street.scene import MAKERS, Placed, compose

VERSION = "1.1.0"  # rises whenever a pixel or an annotation changes

CLASSES: dict[str, tuple[str, ...]] = {
    "a": ("car", "bus"),
    "b": ("bicycle", "bike", "man", "woman"),
    "scenes": tuple(MAKERS),
    "people": ("man", "woman"),
}
# Padded numbers of objects and of people; one person at least, so that no array is empty.
MAX_OBJECTS = {"a": 1, "b": 1, "scenes": 6, "people": 1}
MAX_PEOPLE = {"a": 1, "b": 1, "scenes": 6, "people": 1}

_IGNORED_BELOW = 0.25  # objects of which less can be seen are no fair question


def render(config: str, seed: int, index: int, size: int = 64) -> dict:
    """One example. The same (config, seed, index) shows the same scene at every size.

    Args:
        config: "a" (a car or a bus), "b" (a bicycle, a motorbike, a man or a woman), "people" (a
            man or a woman) or "scenes" (one to six of all).
        seed, index: non-negative; the main object's class is `index` modulo the number of classes.
        size: S, the side of the picture in pixels.

    Returns:
        image uint8 [S, S, 3];
        label int, the class of the main object;
        boxes float32 [N, 4] (y0, x0, y1, x1 in pixels) around what is visible, from far to near;
        box_label int32 [N], -1 for none;
        box_ignore bool [N], true for objects that are nearly hidden or tiny;
        segmentation uint8 [S, S], 0 background, 1 + class elsewhere;
        joints float32 [P, 14, 2] (y, x in pixels) of the people in the order of their boxes, named
            in `skeleton.JOINTS`; rows of padding are zero;
        joint_visible bool [P, 14], inside the picture and not covered by something else.
    """
    _check(config, seed, index, size)
    classes = CLASSES[config]
    label = index % len(classes)
    rng = _generator(config, seed, index, stream=0)
    light = draw_light(rng)
    canvas = Canvas(size, light)
    scene = compose(config, classes[label], rng)
    ground = paint_backdrop(canvas, rng, scene.horizon)
    for placed in scene.placed:
        _shadow(canvas, placed, shade(ground, light.shadow))
    listed: list[tuple[Placed, int]] = []
    for placed in scene.placed:
        canvas.owner = len(listed) + 1 if placed.listed else 0
        placed.thing.paint(canvas, placed.view)
        if placed.listed:
            listed.append((placed, int((canvas.owners() == canvas.owner).sum())))
    if rng.random() < 0.45:
        paint_foreground(canvas, rng)
    example = _annotate(canvas, config, listed, size)
    noise = _generator(config, seed, index, stream=1)
    return {"image": _expose(canvas.picture(), rng, noise), "label": label, **example}


def _check(config: str, seed: int, index: int, size: int) -> None:
    if config not in CLASSES:
        raise ValueError(
            f"street has no configuration {config!r}: choose one of {', '.join(CLASSES)}"
        )
    if seed < 0 or index < 0:
        raise ValueError(f"seed and index count from 0, got seed={seed}, index={index}")
    if size < 16:
        raise ValueError(f"size is the side of the picture in pixels, 16 or more; got {size}")


def _generator(config: str, seed: int, index: int, stream: int) -> np.random.Generator:
    number = tuple(CLASSES).index(config)
    return np.random.Generator(np.random.Philox(key=[seed, index << 8 | number << 4 | stream]))


def _shadow(canvas: Canvas, placed: Placed, colour: tuple[float, float, float]) -> None:
    thing, view = placed.thing, placed.view
    x, z = thing.length / 2 * 0.96, max(thing.width / 2, 0.2)
    drift = canvas.light.sun * -0.4 * thing.height * view.axes[:, 0]
    feet = np.array([(-x, 0.0, -z), (-x, 0.0, z), (x, 0.0, z), (x, 0.0, -z)])
    corners = view(np.concatenate([feet, feet + drift * (1, 0, 1)]))
    for a, b in ((0, 1), (1, 2), (2, 3), (3, 0)):  # the feet swept to where the roof's shadow lies
        canvas.polygon(corners[[a, b, b + 4, a + 4]], colour)
    canvas.polygon(corners[:4], colour)
    canvas.polygon(corners[4:], colour)


def _annotate(canvas: Canvas, config: str, listed: list[tuple[Placed, int]], size: int) -> dict:
    classes, owners = CLASSES[config], canvas.owners()
    number, people = MAX_OBJECTS[config], MAX_PEOPLE[config]
    boxes = np.zeros((number, 4), np.float32)
    box_label = np.full(number, -1, np.int32)
    box_ignore = np.zeros(number, bool)
    joints = np.zeros((people, len(JOINTS), 2), np.float32)
    joint_visible = np.zeros((people, len(JOINTS)), bool)
    to_class = np.zeros(256, np.uint8)
    objects = persons = 0
    for owner, (placed, painted) in enumerate(listed, start=1):
        kind = classes.index(placed.thing.kind)
        to_class[owner] = 1 + kind
        mask = owners == owner
        seen = int(mask.sum())
        if seen == 0:
            continue
        rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
        corners = rows[0], columns[0], rows[-1] + 1, columns[-1] + 1
        boxes[objects] = np.array(corners, np.float32) / OVERSAMPLE
        box_label[objects] = kind
        box_ignore[objects] = seen < max(_IGNORED_BELOW * painted, 2e-3 * owners.size)
        objects += 1
        if placed.thing.joints is not None:
            points = placed.view(placed.thing.joints)
            joints[persons] = points[:, ::-1] * size
            joint_visible[persons] = _visible(mask, points)
            persons += 1
    middle = OVERSAMPLE // 2
    return {
        "boxes": boxes,
        "box_label": box_label,
        "box_ignore": box_ignore,
        "segmentation": to_class[owners[middle::OVERSAMPLE, middle::OVERSAMPLE]],
        "joints": joints,
        "joint_visible": joint_visible,
    }


def _visible(mask: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Inside the picture and on or beside a pixel of this person."""
    side = len(mask)
    reach = max(1, side // 96)
    near = []
    for x, y in points * side:
        inside = 0 <= x < side and 0 <= y < side
        i, j = int(y), int(x)
        window = mask[max(i - reach, 0) : i + reach + 1, max(j - reach, 0) : j + reach + 1]
        near.append(inside and bool(window.any()))
    return np.array(near)


def _expose(
    picture: Image.Image, rng: np.random.Generator, noise: np.random.Generator
) -> np.ndarray:
    """Uneven light, contrast, blur and sensor noise."""
    size = picture.width
    blur = float(rng.uniform(0.2, 0.6)) if rng.random() < 0.35 else 0.0
    field = rng.uniform(0.88, 1.12, (3, 3)).astype(np.float32)
    contrast, lift = float(rng.uniform(0.8, 1.15)), float(rng.uniform(-12, 18))
    grain = float(rng.uniform(1.0, 9.0))
    if blur:
        picture = picture.filter(ImageFilter.GaussianBlur(blur * size / 64))
    shading = np.asarray(Image.fromarray(field).resize((size, size), Image.Resampling.BICUBIC))
    pixels = noise.standard_normal((size, size, 3), np.float32)
    pixels *= grain
    pixels += np.asarray(picture) * (contrast * shading[:, :, None])
    pixels += 110 * (1 - contrast) + lift
    return np.clip(pixels, 0, 255, out=pixels).astype(np.uint8)
