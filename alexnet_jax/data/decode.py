"""Encoded images of any kind to RGB uint8, checked; and RGB to the fixed square the device gets.

Pillow reads everything; simplejpeg is the fast path for JPEG, and alone notices damage in the
middle of a scan. What cannot be read is refused with its name.
"""

from __future__ import annotations

import io
import math

import numpy as np
import simplejpeg
from PIL import Image

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF")
MAX_PIXELS = 64_000_000
ORIENTATION = 0x0112  # the EXIF tag


class BadImage(ValueError):
    """An image that cannot be decoded; the message begins with its name."""


def decode_rgb(
    data: bytes, name: str, *, min_side: int | None = None, max_pixels: int = MAX_PIXELS
) -> np.ndarray:
    """Decode to RGB, uint8 [H, W, 3], as a viewer shows it.

    EXIF orientation is applied, transparency laid over white, 16-bit grey scaled to 8 (v / 257); of
    an animation the first frame counts.

    Args:
        name: the file's name, for messages.
        min_side: a JPEG may come at 1/2, 1/4 or 1/8 of its size while its short side keeps so many
            pixels; that is faster than shrinking it later. None: full size.
        max_pixels: larger images are refused by their header, before any decoder allocates.

    Raises:
        BadImage: empty, truncated, corrupt, too large, or of none of the `FORMATS`.
    """
    if not data:
        raise BadImage(f"{name}: empty file")
    try:
        image = Image.open(io.BytesIO(data), formats=FORMATS)  # reads the header only
    except Image.UnidentifiedImageError:
        raise BadImage(f"{name}: not an image of type {', '.join(FORMATS)}") from None
    except Exception as error:  # decoders raise many kinds: OSError, SyntaxError, struct.error ...
        raise BadImage(f"{name}: {error}") from None
    width, height = image.size
    if width * height > max_pixels:
        raise BadImage(f"{name}: {width} x {height} is more than {max_pixels:,} pixels")
    try:
        orientation = _orientation(image)
        if image.format == "JPEG" and image.mode in ("RGB", "L"):
            pixels = _decode_jpeg(data, height, width, min_side)
        else:
            pixels = _convert(image)
    except Exception as error:
        raise BadImage(f"{name}: {error}") from None
    return _upright(pixels, orientation)


def decode_indices(data: bytes, name: str, *, max_pixels: int = MAX_PIXELS) -> np.ndarray:
    """Decode a mask, an image of one channel whose values are indices: uint8 [H, W].

    Of a PNG with a palette the values are the indices, not the colours.

    Raises:
        BadImage: as `decode_rgb`; a kind that loses values, as JPEG does; or colours.
    """
    try:
        image = Image.open(io.BytesIO(data), formats=("PNG", "BMP", "GIF"))
        if image.width * image.height > max_pixels:
            raise ValueError(f"{image.width} x {image.height} is more than {max_pixels:,} pixels")
        if image.mode not in ("L", "P", "1"):
            raise ValueError(
                f"its pixels are {image.mode}; a mask has one channel of 8 bits, class indices"
            )
        return np.asarray(image, np.uint8)
    except Image.UnidentifiedImageError:
        raise BadImage(f"{name}: not a mask of type PNG, BMP or GIF") from None
    except Exception as error:
        raise BadImage(f"{name}: {error}") from None


def canvas(image: np.ndarray, size: int) -> np.ndarray:
    """Scale the short side to `size` and cut out the middle: uint8 [H, W, 3] -> [size, size, 3].

    Bilinear, antialiased when shrinking (Pillow's). The cut begins at a whole pixel of the scaled
    image, rounded down: half a pixel would blur every second image.
    """
    return _resize(image, size, *_middle(image, size), Image.Resampling.BILINEAR)


def canvas_mask(mask: np.ndarray, size: int) -> np.ndarray:
    """What `canvas` does to an image, by nearest pixel: uint8 [H, W] -> [size, size]."""
    return _resize(mask, size, *_middle(mask, size), Image.Resampling.NEAREST)


def canvas_points(points: np.ndarray, shape: tuple[int, ...], size: int) -> np.ndarray:
    """Where `canvas` takes points [..., 2] (y, x) of an image [H, W, ...]: in pixels of the square,
    which they may lie outside of. Pixel i reaches from i to i + 1."""
    side = min(shape[:2])
    return points * (size / side) - [canvas_margin(n, side, size) for n in shape[:2]]


def canvas_margin(extent: int, side: int, size: int) -> int:
    """Whole pixels of the scaled image before the square that `canvas` cuts out of an axis of
    `extent` pixels, `side` of which are scaled to `size`."""
    return (extent - side) * size // side // 2


def random_resized_crop(
    image: np.ndarray,
    size: int,
    rng: np.random.Generator,
    scale: tuple[float, float] = (0.08, 1.0),
    ratio: tuple[float, float] = (3 / 4, 4 / 3),
) -> np.ndarray:
    """A random part of the image, scaled to a square: uint8 [H, W, 3] -> [size, size, 3].

    The part's share of the area is uniform in `scale`, its width / height log-uniform in `ratio`
    (Szegedy et al. 2015, section 6). If ten draws do not fit, it is the largest central part within
    `ratio`.

    Raises:
        ValueError: bounds that are not increasing, or a scale outside (0, 1].
    """
    if not 0 < scale[0] <= scale[1] <= 1 or not 0 < ratio[0] <= ratio[1]:
        raise ValueError(f"scale {scale} must rise within (0, 1] and ratio {ratio} above 0")
    height, width = image.shape[:2]
    for _ in range(10):
        area = height * width * rng.uniform(*scale)
        aspect = math.exp(rng.uniform(math.log(ratio[0]), math.log(ratio[1])))
        w, h = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        top, left = rng.random(), rng.random()
        if 0 < w <= width and 0 < h <= height:
            top, left = int(top * (height - h + 1)), int(left * (width - w + 1))
            return _resize(image, size, top, left, h, w, Image.Resampling.BILINEAR)
    w, h = min(width, height * ratio[1]), min(height, width / ratio[0])
    top, left = (height - h) / 2, (width - w) / 2
    return _resize(image, size, top, left, h, w, Image.Resampling.BILINEAR)


def _middle(image: np.ndarray, size: int) -> tuple[float, float, int, int]:
    """(top, left, height, width) of the square in the middle that `canvas` scales to `size`."""
    side = min(image.shape[:2])
    top, left = (canvas_margin(n, side, size) * side / size for n in image.shape[:2])
    return top, left, side, side


def _resize(
    image: np.ndarray,
    size: int,
    top: float,
    left: float,
    height: float,
    width: float,
    how: Image.Resampling,
) -> np.ndarray:
    box = (left, top, left + width, top + height)
    if image.shape[:2] == (size, size) and box == (0, 0, size, size):
        return image
    resized = Image.fromarray(image).resize((size, size), how, box=box)
    return np.asarray(resized)


def _decode_jpeg(data: bytes, height: int, width: int, min_side: int | None) -> np.ndarray:
    shrink = 1
    while min_side and shrink < 8 and min(height, width) >= 2 * shrink * min_side:
        shrink *= 2
    # simplejpeg takes the smallest of the codec's scales that reaches these sizes.
    least = {"min_height": -(-height // shrink), "min_width": -(-width // shrink)}
    return simplejpeg.decode_jpeg(data, "RGB", **(least if shrink > 1 else {}), strict=True)


def _convert(image: Image.Image) -> np.ndarray:
    image.load()
    if image.mode.startswith("I"):  # 16-bit grey, which convert("RGB") would clip at 255
        grey = np.asarray(image).astype(np.uint32).clip(0, 65535)
        image = Image.fromarray(((grey + 128) // 257).astype(np.uint8))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image)
    return np.asarray(image.convert("RGB"))


def _orientation(image: Image.Image) -> int:
    try:
        return image.getexif().get(ORIENTATION, 1)
    except Exception:  # damaged metadata is common, leaves the pixels whole, and says nothing
        return 1


def _upright(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """Undo EXIF orientations 1 to 8 (Exif 3.0, 4.6.5); others are taken as 1."""
    if orientation in (5, 6, 7, 8):
        pixels = pixels.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    return np.ascontiguousarray(pixels)
