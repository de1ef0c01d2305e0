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

Box = tuple[float, float, float, float]  # Pillow's: left, top, right, bottom


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
            pixels and both sides stay whole, so that `canvas` cuts the same square out of it; that
            is faster than shrinking it later. None: full size.
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

    The pixels are those of torchvision's `Resize(size)` and `CenterCrop(size)` on Pillow images,
    which the weights in use were trained on: bilinear, antialiased when shrinking.
    """
    return _resize(image, size, _middle(image.shape, size), Image.Resampling.BILINEAR)


def canvas_mask(mask: np.ndarray, size: int) -> np.ndarray:
    """What `canvas` does to an image, by nearest pixel: uint8 [H, W] -> [size, size]."""
    return _resize(mask, size, _middle(mask.shape, size), Image.Resampling.NEAREST)


def canvas_points(points: np.ndarray, shape: tuple[int, ...], size: int) -> np.ndarray:
    """Where `canvas` takes points [..., 2] (y, x) of an image [H, W, ...]: in pixels of the square,
    which they may lie outside of. Pixel i reaches from i to i + 1."""
    scale, begin = canvas_affine(shape, size)
    return points * scale + begin


def canvas_affine(shape: tuple[int, ...], size: int) -> tuple[np.ndarray, np.ndarray]:
    """(scale, begin), float64 [2] each, of (y, x): canvas = image * scale + begin."""
    scaled, margin = np.transpose(_scaled(shape, size))
    return scaled / shape[:2], -margin.astype(np.float64)


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
            box = left, top, left + w, top + h
            return _resize(image, size, box, Image.Resampling.BILINEAR)
    w, h = min(width, height * ratio[1]), min(height, width / ratio[0])
    top, left = (height - h) / 2, (width - w) / 2
    box = left, top, left + w, top + h
    return _resize(image, size, box, Image.Resampling.BILINEAR)


def _scaled(shape: tuple[int, ...], size: int) -> list[tuple[int, int]]:
    """(length of the whole scaled image, pixels of it before the square) along y, and along x.

    Rounded as torchvision does: the length down, the margin half to even. Both are whole: a square
    that began between two pixels would be blurred.
    """
    short = min(shape[:2])
    lengths = [side * size // short for side in shape[:2]]
    return [(length, round((length - size) / 2)) for length in lengths]


def _middle(shape: tuple[int, ...], size: int) -> Box:
    """The square of the image that `canvas` scales to `size`."""
    (top, bottom), (left, right) = (
        (margin * side / length, (margin + size) * side / length)
        for side, (length, margin) in zip(shape, _scaled(shape, size), strict=False)
    )
    return left, top, right, bottom


def _resize(image: np.ndarray, size: int, box: Box, how: Image.Resampling) -> np.ndarray:
    if image.shape[:2] == (size, size) and box == (0, 0, size, size):
        return image
    resized = Image.fromarray(image).resize((size, size), how, box=box)
    return np.asarray(resized)


def _decode_jpeg(data: bytes, height: int, width: int, min_side: int | None) -> np.ndarray:
    for shrink in (8, 4, 2):
        whole = height % shrink == width % shrink == 0
        if min_side and whole and min(height, width) >= shrink * min_side:
            # simplejpeg takes the smallest of the codec's scales that reaches these sizes.
            least = {"min_height": height // shrink, "min_width": width // shrink}
            return simplejpeg.decode_jpeg(data, "RGB", strict=True, **least)
    return simplejpeg.decode_jpeg(data, "RGB", strict=True)


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
