"""A canvas that remembers who owns each pixel, and a view that puts solid things on it."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import numpy as np
from PIL import Image, ImageDraw

from alexnet_jax.data.street.light import Colour, Light

# Odd, so that the middle sample of each pixel is its centre: masks need no voting.
OVERSAMPLE = 3

_ANGLES = np.linspace(0.0, 2.0 * np.pi, 24, endpoint=False)
_CIRCLE = np.stack([np.cos(_ANGLES), np.sin(_ANGLES)], axis=-1)
_RING = np.concatenate([np.arange(24), [0, 0], np.arange(23, -1, -1)])


class Canvas:
    """An RGBA drawing whose fourth channel is the owner of each pixel: picture and mask in one.

    Points are float [n, 2] (x, y) in image sides: (0, 0) is the upper left corner, (1, 1) the lower
    right one. `owner` is 0 for scenery and 1 ... 255 for the object being painted. Colours that
    `glow` do not dim with the daylight.
    """

    def __init__(self, size: int, light: Light) -> None:
        self.side = size * OVERSAMPLE
        self.light = light
        self.owner = 0
        self._inks: dict[tuple[Colour, bool, int], tuple[int, int, int, int]] = {}
        self._picture = Image.new("RGBA", (self.side, self.side))
        self._draw = ImageDraw.Draw(self._picture)

    def polygon(self, points: np.ndarray | Sequence, colour: Colour, glow: bool = False) -> None:
        # Pillow counts from pixel centres.
        corners = np.asarray(points, dtype=np.float64) * self.side - 0.5
        self._draw.polygon(corners.ravel().tolist(), fill=self._paint(colour, glow))

    def gradient(self, bottom: float, above: Colour, below: Colour) -> None:
        """Fills the picture down to `bottom` from one glowing colour to the other."""
        height = min(max(round(bottom * self.side), 1), self.side)
        share = np.linspace(0.0, 1.0, height)[:, None]
        pixels = np.zeros((self.side, self.side, 4), np.uint8)
        pixels[:height, :, :3] = ((1 - share) * above + share * below).clip(0, 255)[:, None]
        self._picture.paste(Image.fromarray(pixels))

    def rectangle(
        self, x0: float, y0: float, x1: float, y1: float, colour: Colour, glow: bool = False
    ) -> None:
        if x1 > x0 and y1 > y0:
            corners = [value * self.side - 0.5 for value in (x0, y0, x1, y1)]
            self._draw.rectangle(corners, fill=self._paint(colour, glow))

    def line(
        self, points: np.ndarray | Sequence, colour: Colour, width: float, glow: bool = False
    ) -> None:
        """Straight strokes of `width` image sides, never thinner than one sample."""
        half = 0.5 * max(width, 1.0 / self.side) * self.side
        fill = self._paint(colour, glow)
        corners = (np.asarray(points, dtype=np.float64) * self.side - 0.5).tolist()
        for (x0, y0), (x1, y1) in pairwise(corners):
            length = math.hypot(x1 - x0, y1 - y0) or 1.0
            dx, dy = half * (y0 - y1) / length, half * (x1 - x0) / length
            self._draw.polygon(
                (x0 + dx, y0 + dy, x1 + dx, y1 + dy, x1 - dx, y1 - dy, x0 - dx, y0 - dy), fill=fill
            )

    def disc(
        self, centre: Sequence[float], radius: float, colour: Colour, glow: bool = False
    ) -> None:
        x, y = centre[0] * self.side, centre[1] * self.side
        radius = radius * self.side
        corners = (x - radius - 0.5, y - radius - 0.5, x + radius - 0.5, y + radius - 0.5)
        self._draw.ellipse(corners, fill=self._paint(colour, glow))

    def limb(self, ends: np.ndarray, radii: tuple[float, float], colour: Colour) -> None:
        """A tapered stroke with round ends: `ends` [2, 2], a radius at each."""
        (x0, y0), (x1, y1) = ends.tolist()
        length = math.hypot(x1 - x0, y1 - y0) or 1.0
        dx, dy = (y0 - y1) / length, (x1 - x0) / length
        r0, r1 = radii
        self.polygon(
            [
                (x0 + dx * r0, y0 + dy * r0),
                (x1 + dx * r1, y1 + dy * r1),
                (x1 - dx * r1, y1 - dy * r1),
                (x0 - dx * r0, y0 - dy * r0),
            ],
            colour,
        )
        self.disc((x0, y0), r0, colour)
        self.disc((x1, y1), r1, colour)

    def picture(self) -> Image.Image:
        """The antialiased RGB picture."""
        return self._picture.convert("RGB").reduce(OVERSAMPLE)

    def owners(self) -> np.ndarray:
        """uint8 [side, side] at the oversampled resolution."""
        return np.asarray(self._picture.getchannel("A"))

    def _paint(self, colour: Colour, glow: bool) -> tuple[int, int, int, int]:
        key = (colour, glow, self.owner)
        if key not in self._inks:
            tint = (1.0, 1.0, 1.0) if glow else self.light.tint
            r, g, b = (min(max(int(c * t), 0), 255) for c, t in zip(colour, tint, strict=True))
            self._inks[key] = (r, g, b, self.owner)
        return self._inks[key]


@dataclass(frozen=True)
class View:
    """Puts metres on the canvas. A thing stands at its own origin, faces +x; y is up, +z its right.

    `x`, `y` is where its origin comes to lie, in image sides; `scale` is image sides per metre.
    `yaw` 0 shows its right side with the front to the right, -pi/2 its front, pi/2 its rear;
    `pitch` looks down on it; `roll` tilts it; `nearness` is the inverse of its distance in metres
    (0: no perspective).
    """

    x: float
    y: float
    scale: float
    yaw: float
    pitch: float = 0.0
    roll: float = 0.0
    nearness: float = 0.0

    @cached_property
    def axes(self) -> np.ndarray:
        """[3, 3]: rows are the thing's axes, columns are right, down and towards the viewer."""
        c, s = math.cos(self.yaw), math.sin(self.yaw)
        cp, sp = math.cos(self.pitch), math.sin(self.pitch)
        cr, sr = math.cos(self.roll), math.sin(self.roll)
        turn = np.array([[c, -s * sp, -s * cp], [0.0, -cp, sp], [s, c * sp, c * cp]])
        return turn @ np.array([[cr, sr, 0.0], [-sr, cr, 0.0], [0.0, 0.0, 1.0]])

    @cached_property
    def _projection(self) -> np.ndarray:
        """[4, 3]: metres and a one -> (x w, y w, w)."""
        right, down, near = self.axes.T
        w = -self.nearness * near
        linear = np.stack([self.scale * right + self.x * w, self.scale * down + self.y * w, w], 1)
        return np.concatenate([linear, [[self.x, self.y, 1.0]]])

    def __call__(self, points: np.ndarray | Sequence) -> np.ndarray:
        """Metres [n, 3] -> image sides [n, 2]."""
        projected = np.asarray(points, np.float64) @ self._projection[:3] + self._projection[3]
        return projected[:, :2] / projected[:, 2:]

    def upright(self, points: np.ndarray | Sequence, z: float) -> np.ndarray:
        """Points [n, 2] (x, y) of the plane at `z`."""
        shift = self._projection[3] + z * self._projection[2]
        projected = np.asarray(points, np.float64) @ self._projection[:2] + shift
        return projected[:, :2] / projected[:, 2:]

    def circle(self, x: float, y: float, z: float, radius: float) -> np.ndarray:
        return self.upright(_CIRCLE * radius + (x, y), z)

    def ring(self, x: float, y: float, z: float, outer: float, inner: float) -> np.ndarray:
        """One polygon for a tyre: out along the rim, back along the hole."""
        radii = np.repeat([outer, inner], [25, 25])[:, None]
        return self.upright(_CIRCLE[_RING] * radii + (x, y), z)


@dataclass(frozen=True)
class Thing:
    """What can stand in a street: its class, its extent in metres and how it is painted."""

    kind: str
    length: float
    height: float
    width: float
    paint: Callable[[Canvas, View], None]
    joints: np.ndarray | None = None  # [14, 3] metres, of people

    def extent(self, view: View) -> tuple[float, float, float, float]:
        """Left, top, right, bottom of its bounding block in image sides."""
        x, z = self.length / 2, self.width / 2
        corners = view([(i, j, k) for i in (-x, x) for j in (0.0, self.height) for k in (-z, z)])
        (left, top), (right, bottom) = corners.min(axis=0), corners.max(axis=0)
        return left, top, right, bottom
