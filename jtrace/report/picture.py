"""Pictures as a page carries them: WebP in base64, a quarter of the bytes of the PNG file that figures are kept as."""

import base64
import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

STEP = 8  # of 255 levels of a colour: half of it, which nobody sees, is how far a colour moves


@dataclass(frozen=True)
class Picture:
    """A picture's WebP bytes in base64, and its size in pixels."""

    webp: str
    width: int
    height: int


def read_picture(path: Path) -> Picture:
    """Reads a PNG file as a picture for the page; the same file gives the same bytes.

    Colours are rounded to multiples of `STEP` (black and white stay), which takes a third off lossless WebP.
    """
    with Image.open(path) as png:
        colours = np.asarray(png.convert("RGB"), np.uint16)
    rounded = np.minimum((colours + STEP // 2) // STEP * STEP, 255).astype(np.uint8)
    image, webp = Image.fromarray(rounded), io.BytesIO()
    image.save(webp, "WEBP", lossless=True, quality=75, method=3)
    return Picture(base64.b64encode(webp.getvalue()).decode(), image.width, image.height)
