"""Figures' files as pictures of the page."""

import base64
import io

import numpy as np
from PIL import Image

from jtrace.report.picture import STEP, read_picture


def test_a_picture_keeps_its_size_black_and_white_and_nearly_every_colour(tmp_path):
    colours = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    colours[0], colours[1] = 0, 255
    Image.fromarray(colours).save(tmp_path / "a.png")
    picture = read_picture(tmp_path / "a.png")
    shown = np.asarray(Image.open(io.BytesIO(base64.b64decode(picture.webp))).convert("RGB"))
    assert (picture.width, picture.height) == (30, 20)
    assert (shown[:2] == colours[:2]).all()
    assert np.abs(shown.astype(int) - colours).max() <= STEP // 2
    assert read_picture(tmp_path / "a.png") == picture


def test_what_is_see_through_in_the_file_is_not_black(tmp_path):
    Image.new("RGBA", (2, 2), (255, 255, 255, 255)).save(tmp_path / "a.png")
    shown = Image.open(io.BytesIO(base64.b64decode(read_picture(tmp_path / "a.png").webp)))
    assert shown.convert("RGB").getpixel((0, 0)) == (255, 255, 255)
