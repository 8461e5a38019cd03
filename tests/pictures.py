"""Pictures that tests make: `blurred` and as a file's bytes."""

import io
from typing import Any

import numpy as np
from PIL import Image, ImageDraw


def blurred(row: int, size: tuple[int, int] = (64, 48)) -> Image.Image:
    """Return a soft picture that `row` alone decides."""
    cells = np.random.default_rng(row).integers(0, 256, (3, 4, 3), dtype=np.uint8)
    return Image.fromarray(cells).resize(size, Image.Resampling.BICUBIC)


def encoded(image: Image.Image, format: str = "JPEG", **options: Any) -> bytes:  # noqa: A002
    """Return the bytes of a file of `image`."""
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


def shapes(count: int) -> list[tuple[str, bytes]]:
    """Return (file name, bytes of a JPEG) of pictures on grounds of many colours.

    0, 6, 12, ... are red circles, 4, 10, ... blue squares, 2, 8, ... green triangles, odd ones lines.
    """
    return [(f"{number}.jpg", encoded(_shape(number), quality=90)) for number in range(count)]


def _shape(number: int) -> Image.Image:
    random = np.random.default_rng(number)
    image = Image.new("RGB", (96, 96), tuple(random.integers(140, 256, 3).tolist()))
    draw, (x, y), size = ImageDraw.Draw(image), random.integers(34, 62, 2).tolist(), int(random.integers(18, 28))
    box = (x - size, y - size, x + size, y + size)
    if number % 2:
        for line in random.integers(0, 96, (8, 4)).tolist():
            draw.line(line, fill=tuple(random.integers(0, 256, 3).tolist()), width=4)
    elif number % 3 == 0:
        draw.ellipse(box, fill=(210, 20, 20))
    elif number % 3 == 1:
        draw.rectangle(box, fill=(20, 20, 210))
    else:
        draw.polygon([(x, y - size), (x - size, y + size), (x + size, y + size)], fill=(20, 170, 20))
    return image
