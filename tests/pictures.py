"""Pictures that tests make: `blurred` and as a file's bytes."""

import io
from typing import Any

import numpy as np
from PIL import Image


def blurred(row: int, size: tuple[int, int] = (64, 48)) -> Image.Image:
    """Return a soft picture that `row` alone decides."""
    cells = np.random.default_rng(row).integers(0, 256, (3, 4, 3), dtype=np.uint8)
    return Image.fromarray(cells).resize(size, Image.Resampling.BICUBIC)


def encoded(image: Image.Image, format: str = "JPEG", **options: Any) -> bytes:  # noqa: A002
    """Return the bytes of a file of `image`."""
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()
