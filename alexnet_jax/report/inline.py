"""Pictures as text within a page, so that the report is one file."""

from __future__ import annotations

import base64
import io
import re
import warnings

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from PIL import Image  # matplotlib depends on it

from alexnet_jax.report.plots import INK


def svg(figure: Figure) -> str:
    """The figure as an <svg> element for a page: its text stays text, in the page's colour."""
    text = io.StringIO()
    with (
        matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "report"}),
        warnings.catch_warnings(),
    ):
        # the reader's fonts may have the characters that ours lacks
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        figure.savefig(text, format="svg", transparent=True, bbox_inches="tight", pad_inches=0.02)
    element = text.getvalue()[text.getvalue().index("<svg") :]
    element = re.sub(r"<metadata>.*?</metadata>|<!--.*?-->", "", element, flags=re.DOTALL)
    element = re.sub(r' xmlns(:xlink)?="[^"]*"', "", element)  # HTML knows both
    element = re.sub(r'<g id="[^"]*"', "<g", element)  # not referred to; alike in all figures
    return re.sub(r"\n+", "\n", element.replace(INK, "currentColor"))


def png(figure: Figure) -> bytes:
    """The figure as a PNG file with a transparent ground, pixel for pixel at its own dpi."""
    data = io.BytesIO()
    figure.savefig(data, format="png", transparent=True, dpi=figure.dpi)
    return data.getvalue()


def thumbnail(image: np.ndarray, side: int = 192) -> str:
    """An image uint8 [H, W, 3], made no larger than `side`, as a data URI: JPEG, small ones PNG."""
    picture = Image.fromarray(np.asarray(image))
    small = max(picture.size) <= 64
    picture.thumbnail((side, side))
    data = io.BytesIO()
    picture.save(data, format="PNG" if small else "JPEG", quality=88)
    return data_uri(data.getvalue(), "image/png" if small else "image/jpeg")


def data_uri(data: bytes, kind: str = "image/png") -> str:
    return f"data:{kind};base64,{base64.b64encode(data).decode('ascii')}"
