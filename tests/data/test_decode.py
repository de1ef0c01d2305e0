from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image, ImageOps

from alexnet_jax.data.decode import BadImage, canvas, decode_rgb, random_resized_crop


def encode(image: Image.Image, kind: str, **options) -> bytes:
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def png(width: int, height: int, depth: int, colour: int, rows: bytes) -> bytes:
    """A PNG by the book (W3C PNG, section 11): `rows` with their filter bytes."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return (
            struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        )

    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


def photo(height: int = 48, width: int = 64) -> np.ndarray:
    """A smooth picture without symmetry, which JPEG keeps nearly unchanged."""
    y, x = np.mgrid[:height, :width]
    x, y = x / width, y / height
    return np.stack([250 * x, 250 * y, 120 + 100 * (x - y)], axis=-1).astype(np.uint8)


def near(a: np.ndarray, b: np.ndarray, tolerance: int) -> bool:
    return a.shape == b.shape and int(abs(a.astype(int) - b.astype(int)).max()) <= tolerance


@pytest.mark.parametrize(
    ("kind", "options", "tolerance"),
    [
        ("PNG", {}, 0),
        ("BMP", {}, 0),
        ("WEBP", {"lossless": True}, 0),
        ("JPEG", {"quality": 100, "subsampling": 0}, 3),
        ("JPEG", {"quality": 100, "subsampling": 0, "progressive": True}, 3),
    ],
)
def test_rgb_comes_back(kind, options, tolerance):
    pixels = decode_rgb(encode(Image.fromarray(photo()), kind, **options), "a")
    assert pixels.dtype == np.uint8 and near(pixels, photo(), tolerance)


@pytest.mark.parametrize(("kind", "tolerance"), [("PNG", 0), ("GIF", 0), ("JPEG", 2)])
def test_one_channel_becomes_three_equal_ones(kind, tolerance):
    grey = photo()[..., 0]
    pixels = decode_rgb(encode(Image.fromarray(grey), kind, **{"quality": 100}), "a")
    assert near(pixels, np.stack([grey] * 3, axis=-1), tolerance)


def test_sixteen_bit_grey_is_scaled():
    values = np.array([[0, 256, 257, 32768, 65535, 40000]], np.uint16)
    pixels = decode_rgb(encode(Image.fromarray(values), "PNG"), "a")
    assert pixels[0, :, 1].tolist() == np.round(values[0] / 257).astype(int).tolist()


def test_sixteen_bit_rgb_is_scaled():
    values = np.array([[[0, 257, 65535], [32768, 514, 40000]]])
    pixels = decode_rgb(png(2, 1, 16, 2, b"\0" + values.astype(">u2").tobytes()), "a")
    assert near(pixels, np.round(values / 257).astype(np.uint8), 1)


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_alpha_is_laid_over_white(mode):
    channels = {"RGBA": [200, 100, 0], "LA": [100]}[mode]
    alpha = np.array([0, 51, 128, 255], np.uint8)
    stored = np.array([[[*channels, a] for a in alpha]], np.uint8)
    pixels = decode_rgb(encode(Image.fromarray(stored), "PNG"), "a")
    share = alpha[None, :, None] / 255
    expected = share * np.array(channels) + (1 - share) * 255
    assert near(pixels, np.broadcast_to(np.round(expected), (1, 4, 3)), 1)


@pytest.mark.parametrize("kind", ["PNG", "GIF"])
def test_palette_with_a_transparent_entry(kind):
    image = Image.new("P", (3, 1))
    image.putpalette([250, 10, 20, 0, 128, 0, 9, 9, 9])
    image.putdata([0, 1, 2])
    pixels = decode_rgb(encode(image, kind, transparency=2), "a")
    assert pixels[0].tolist() == [[250, 10, 20], [0, 128, 0], [255, 255, 255]]


def test_cmyk_jpeg_becomes_rgb():
    image = Image.new("CMYK", (16, 16), (0, 255, 255, 0))  # no cyan: red
    assert near(decode_rgb(encode(image, "JPEG"), "a"), np.full((16, 16, 3), (255, 0, 0)), 3)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize(("kind", "tolerance"), [("PNG", 0), ("JPEG", 2)])
def test_exif_orientation_is_applied(kind, tolerance, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encode(Image.fromarray(photo()), kind, exif=exif)
    shown = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert("RGB"))
    pixels = decode_rgb(data, "a")
    assert near(pixels, shown, tolerance) and pixels.flags.c_contiguous


def test_damaged_exif_leaves_the_pixels():
    damaged = b"Exif\0\0II*\0\x08\0\0\0\xff\xff\0\0"
    assert near(decode_rgb(encode(Image.fromarray(photo()), "PNG", exif=damaged), "a"), photo(), 0)


def test_an_image_of_another_kind_than_its_name_says_and_junk_behind_the_end():
    assert near(decode_rgb(encode(Image.fromarray(photo()), "PNG"), "a.jpg"), photo(), 0)
    jpeg = encode(Image.fromarray(photo()), "JPEG")
    assert near(decode_rgb(jpeg + b"junk", "a.jpg"), decode_rgb(jpeg, "a.jpg"), 0)


def noisy_jpeg() -> bytearray:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    return bytearray(encode(Image.fromarray(noise), "JPEG"))


def damaged(kind: str) -> bytes:
    jpeg = noisy_jpeg()
    lossless = encode(Image.open(io.BytesIO(jpeg)), "PNG")
    middle = len(jpeg) // 2
    if kind == "damage in the scan":
        jpeg[middle : middle + 64] = bytes(64)
        return bytes(jpeg)
    huge = bytearray(jpeg)
    size = huge.index(b"\xff\xc0") + 5
    huge[size : size + 4] = struct.pack(">HH", 60000, 60000)
    return {
        "empty": b"",
        "HTML": b"<!DOCTYPE html><html><body>404</body></html>",
        "zeros": bytes(1000),
        "half a JPEG": bytes(jpeg[:middle]),
        "JPEG without its end": bytes(jpeg[:-2]),
        "JPEG header": bytes(jpeg[:100]),
        "half a PNG": lossless[: len(lossless) // 2],
        "GIF header": encode(Image.fromarray(photo()), "GIF")[:20],
        "PNG bomb": png(20000, 20000, 8, 0, bytes(1000)),
        "PNG of 70 million pixels": png(10000, 7000, 8, 0, bytes(1000)),
        "JPEG bomb": bytes(huge),
        "TIFF": encode(Image.fromarray(photo()), "TIFF"),
    }[kind]


@pytest.mark.parametrize(
    "kind",
    [
        "empty",
        "HTML",
        "zeros",
        "half a JPEG",
        "JPEG without its end",
        "JPEG header",
        "damage in the scan",
        "half a PNG",
        "GIF header",
        "PNG bomb",
        "PNG of 70 million pixels",
        "JPEG bomb",
        "TIFF",
    ],
)
def test_what_cannot_be_read_is_refused_by_name(kind):
    with pytest.raises(BadImage, match=r"^Straße 7/größe\.jpg: .+") as caught:
        decode_rgb(damaged(kind), "Straße 7/größe.jpg")
    assert isinstance(caught.value, ValueError)


@pytest.mark.parametrize("kind", ["PNG bomb", "PNG of 70 million pixels", "JPEG bomb"])
def test_the_size_is_judged_by_the_header(kind):
    with pytest.raises(BadImage, match="pixels"):  # and not for the missing pixels' sake
        decode_rgb(damaged(kind), "a")


@pytest.mark.parametrize(
    ("height", "width"),
    [
        (100, 200),
        (200, 100),
        (64, 64),
        (90, 120),
        (50, 53),
        (97, 50),
        (71, 50),
        (40, 77),
        (333, 500),
    ],
)
def test_canvas_is_torchvisions_resize_and_center_crop(height, width):
    """torchvision.transforms.functional: `_compute_resized_image_output_size`, `center_crop`."""
    image, size = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8), 50
    short, long = min(height, width), max(height, width)
    long = int(size * long / short)
    shape = (long, size) if width > height else (size, long)  # Pillow's: width, height
    scaled = np.asarray(Image.fromarray(image).resize(shape, Image.Resampling.BILINEAR))
    top, left = (round((side - size) / 2.0) for side in scaled.shape[:2])
    # Pillow rounds after each of its two passes, whose order it chooses.
    assert near(canvas(image, size), scaled[top : top + size, left : left + size], 1)


@pytest.mark.parametrize(("height", "width"), [(50, 51), (50, 53), (97, 50), (50, 50)])
def test_an_image_of_the_right_height_or_width_keeps_its_pixels(height, width):
    """Where an odd number of columns is to go, the cut must not fall between two pixels."""
    image = np.random.default_rng(0).integers(0, 256, (height, width, 3)).astype(np.uint8)
    top, left = round((height - 50) / 2), round((width - 50) / 2)
    np.testing.assert_array_equal(canvas(image, 50), image[top : top + 50, left : left + 50])


@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 300), (7, 5)])
def test_canvas_enlarges_small_images(height, width):
    assert canvas(np.full((height, width, 3), 77, np.uint8), 16).tolist() == [[[77] * 3] * 16] * 16


def test_a_large_jpeg_may_come_smaller_and_looks_the_same():
    large = np.asarray(Image.fromarray(photo()).resize((800, 600), Image.Resampling.BICUBIC))
    data = encode(Image.fromarray(large), "JPEG", quality=95)
    assert decode_rgb(data, "a", min_side=151).shape == (300, 400, 3)
    assert decode_rgb(data, "a", min_side=150).shape == (150, 200, 3)
    assert decode_rgb(data, "a", min_side=1).shape == (75, 100, 3)
    assert decode_rgb(data, "a", min_side=301).shape == large.shape
    odd = encode(Image.fromarray(large[:, :798]), "JPEG")  # a quarter would not be whole
    assert decode_rgb(odd, "a", min_side=1).shape == (300, 399, 3)
    assert near(canvas(decode_rgb(data, "a", min_side=64), 64), canvas(large, 64), 6)


def crops(count: int, **bounds) -> np.ndarray:
    """Height, width and centre (y, x) of drawn boxes, read off an image of its own coordinates."""
    y, x = np.mgrid[:200, :250]
    image = np.stack([y, x, y], axis=-1).astype(np.uint8)
    found = []
    for number in range(count):
        crop = random_resized_crop(image, 32, np.random.default_rng(number), **bounds).astype(float)
        # Away from the border, where the filter is cut off, a ramp stays a ramp.
        height = (crop[24, 16, 0] - crop[8, 16, 0]) * 2
        width = (crop[16, 24, 1] - crop[16, 8, 1]) * 2
        found.append((height, width, crop[..., 0].mean(), crop[..., 1].mean()))
    return np.array(found)


def test_random_crops_keep_to_scale_and_ratio_and_use_all_of_both():
    height, width, y, x = crops(400).T
    share, ratio = height * width / (200 * 250), width / height
    assert 0.07 < share.min() < 0.11 and 0.85 < share.max() < 1.03
    assert 0.7 < ratio.min() < 0.78 and 1.28 < ratio.max() < 1.4
    # Uniform up to 1, less the large ones that do not fit.
    assert 0.4 < share.mean() < 0.54
    # As many left and above of the middle as right and below.
    assert abs(np.mean(y) - 99.5) < 5 and abs(np.mean(x) - 124.5) < 5


def test_random_crop_is_a_function_of_its_generator():
    image = photo()
    first, again, other = (
        random_resized_crop(image, 16, np.random.default_rng(seed)) for seed in (1, 1, 2)
    )
    assert (first == again).all() and (first != other).any()


def test_a_crop_that_cannot_fit_is_the_largest_central_one():
    strip = np.zeros((10, 300, 3), np.uint8)
    strip[:, 140:160] = 255
    crop = random_resized_crop(strip, 8, np.random.default_rng(0), scale=(1, 1), ratio=(1, 2))
    # 20 x 10 in the middle; the filter sees a little of what lies beyond.
    assert crop[:, 1:-1].min() == 255 and 200 < crop[:, [0, -1]].min() < 255


def test_senseless_bounds_are_refused():
    with pytest.raises(ValueError, match=r"scale \(0\.5, 0\.2\)"):
        random_resized_crop(photo(), 8, np.random.default_rng(0), scale=(0.5, 0.2))
