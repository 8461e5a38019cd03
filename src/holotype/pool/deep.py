"""Images of more than 8 bits, and of floats, to 8 bits by what they hold."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from holotype.pool.decoding import top_of

_NOTHING = 1e30  # what is beyond is no measured value but stands for one that is missing
_ONE_GREY = 1 / 32  # of white: a picture of light has no less between its darkest and its brightest point
_ROWS = 256  # that are scaled at once


def to_8_bits(image: Image.Image, nodata: float | None = None, *, unsigned: bool = False) -> Image.Image:
    """Return an image of mode I, I;16 or F as RGB.

    Black is 0 and white is `decoding.top_of` the greatest value. Where a value is negative, or all are so close that
    they would be one grey, black is the least value and white the greatest. What is not a number, or `nodata`, is
    black. `unsigned`: 32-bit integers without a sign.
    """
    values: NDArray[Any] = np.asarray(image)
    if unsigned and values.dtype == np.int32:
        values = values.view(np.uint32)
    low, high = _range(values, nodata)
    top = top_of(high)
    stretched = low < 0 or 0 < high - low < top * _ONE_GREY
    bottom, top = (low, high if high > low else low + 1) if stretched else (0.0, top)
    grey = np.empty(values.shape, np.uint8)
    for start in range(0, len(values), _ROWS):
        block = values[start : start + _ROWS].astype(np.float64)
        block[_missing(block, nodata)] = bottom
        grey[start : start + _ROWS] = np.clip((block - bottom) / (top - bottom) * 255, 0, 255).astype(np.uint8)
    return Image.fromarray(grey).convert("RGB")


def _missing(block: NDArray[np.float64], nodata: float | None) -> NDArray[np.bool_]:
    missing = ~(np.abs(block) < _NOTHING) & ~np.isposinf(block)
    return missing if nodata is None else missing | (block == np.float64(nodata)) | (block == np.float32(nodata))


def _range(values: NDArray[Any], nodata: float | None) -> tuple[float, float]:
    """The least and the greatest value that were measured; 0 and 0 where none was."""
    lows, highs = [], []
    for start in range(0, len(values), _ROWS):
        block = values[start : start + _ROWS].astype(np.float64)
        measured = block[~_missing(block, nodata) & ~np.isinf(block)]
        if measured.size:
            lows.append(float(measured.min()))
            highs.append(float(measured.max()))
    return (min(lows), max(highs)) if lows else (0.0, 0.0)
