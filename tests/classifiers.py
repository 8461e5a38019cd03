"""What the tests of the Classifier share: how it is fitted, and pictures as bytes."""

import io
from typing import Any

from PIL import Image

PICTURES = 150
OPTIONS: dict[str, Any] = {"threshold": 0.9, "near_duplicate": 0.99999, "doubtful_band": 0.25}
CLASSES = {"red": ["000"], "green": ["001"]}


def png(pixels: Any) -> bytes:
    """Return `pixels` as a PNG."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()
