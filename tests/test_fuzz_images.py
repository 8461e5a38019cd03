"""Broken pictures in every format that is read: an upright RGB image comes out, or a reason, and nothing else."""

import io
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mutations import budget, mutated, one_sentence
from pictures import blurred, encoded
from PIL import Image

from holotype.errors import UnreadableImage
from holotype.pool.images import decode, thumbnail

EXIF = Image.Exif()
EXIF[0x0112] = 6
EXIF[0x011A] = 72.0
FORMATS: dict[str, dict[str, Any]] = {
    "JPEG": {"exif": EXIF, "comment": b"a comment", "icc_profile": b"\0" * 200},
    "PNG": {"exif": EXIF},
    "WEBP": {"exif": EXIF},
    "GIF": {"save_all": True, "append_images": [blurred(8)]},
    "BMP": {},
    "TIFF": {"compression": "tiff_lzw", "exif": EXIF},
    "JPEG2000": {},
    "AVIF": {},
    "MPO": {"save_all": True, "append_images": [blurred(9)]},
}
SEEDS = {name: [encoded(blurred(row), name, **options) for row in (1, 2)] for name, options in FORMATS.items()}
SEEDS["JPEG"].append(encoded(blurred(3), "JPEG", progressive=True))
SEEDS["PNG"] += [encoded(blurred(4).quantize(8), "PNG"), encoded(blurred(5).convert("I;16"), "PNG")]
SEEDS["TIFF"] += [encoded(blurred(6).convert("F"), "TIFF"), encoded(blurred(7).convert("CMYK"), "TIFF")]
EVERY = [one for seeds in SEEDS.values() for one in seeds]


def check(content: bytes) -> None:
    for fit in (None, 32):
        with one_sentence(UnreadableImage):
            image = decode(content, fit=fit)
            assert image.mode == "RGB"
            assert min(image.size) > 0
            assert Image.open(io.BytesIO(thumbnail(image, 32))).format == "JPEG"


@pytest.mark.parametrize("name", FORMATS)
def test_a_broken_picture_is_an_image_or_a_reason(name: str) -> None:
    @budget(120)
    @given(mutated(SEEDS[name]))
    def broken(content: bytes) -> None:
        check(content)

    broken()


@budget(200)
@given(st.binary(max_size=200) | mutated(EVERY, most=30))
def test_rubbish_is_an_image_or_a_reason(content: bytes) -> None:
    check(content)
