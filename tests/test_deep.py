"""Images of more than 8 bits are scaled by what they hold, so that none is black or white that is not."""

import io
import struct
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from pictures import encoded
from PIL import Image

from holotype.pool.decoding import top_of
from holotype.pool.images import decode


def ramp(low: float, high: float, kind: Any) -> NDArray[Any]:
    """A picture (16, 64) that goes from `low` to `high`."""
    return np.tile(np.linspace(low, high, 64), (16, 1)).astype(kind)


def tiff(values: NDArray[Any], *, order: str = "<", bits: int | None = None, extra: bytes = b"") -> bytes:
    """An uncompressed TIFF (height, width) or (height, width, 3) of any type, in either byte order."""
    kinds = {"u": 1, "i": 2, "f": 3}
    height, width, *samples = values.shape
    count = samples[0] if samples else 1
    depth = bits or values.dtype.itemsize * 8
    pixels = values.astype(values.dtype.newbyteorder("<" if order == "<" else ">")).tobytes()
    tags = {256: width, 257: height, 258: depth, 259: 1, 262: 2 if samples else 1, 277: count, 278: height}
    tags |= {273: 8, 279: len(pixels), 284: 1, 339: kinds[values.dtype.kind]}
    entries = [struct.pack(f"{order}HHII", name, 4, 1, tags[name]) for name in sorted(tags)]
    if extra:
        entries.append(struct.pack(f"{order}HHI", 42113, 2, len(extra)) + extra.ljust(4, b"\0"))
    mark = b"II*\0" if order == "<" else b"MM\0*"
    head = mark + struct.pack(f"{order}I", 8 + len(pixels))
    return head + pixels + struct.pack(f"{order}H", len(entries)) + b"".join(entries) + bytes(4)


def grey(data: bytes) -> NDArray[np.int64]:
    """The middle row of what is decoded, which must be grey."""
    pixels = np.asarray(decode(data)).astype(np.int64)
    assert (pixels == pixels[..., :1]).all()
    row: NDArray[np.int64] = pixels[len(pixels) // 2, :, 0]
    return row


WHOLE = ramp(0, 255, np.int64)[0]


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("high", [255, 1023, 4095, 16383, 65535])
@pytest.mark.parametrize("kind", [np.uint16, np.int16, np.uint32, np.int32, np.float32])
def test_a_ramp_becomes_a_ramp(kind: Any, high: int, order: str) -> None:
    if kind is np.int16 and high == 65535:
        high = 32767  # half of it: still a ramp, of half the brightness
    got = grey(tiff(ramp(0, high, kind), order=order))
    top = WHOLE[-1] if high != 32767 else 127
    assert abs(got - np.linspace(0, top, 64)).max() <= 2


def test_integers_without_a_sign_beyond_two_billion() -> None:
    assert abs(grey(tiff(ramp(0, 4e9, np.uint32))) - WHOLE).max() <= 2
    assert abs(grey(tiff(ramp(0, 4e9, np.uint32), order=">")) - WHOLE).max() <= 2


@pytest.mark.parametrize("kind", [np.int16, np.int32, np.float32])
def test_negative_values_go_from_the_least_to_the_greatest(kind: Any) -> None:
    assert abs(grey(tiff(ramp(-1000, 3000, kind))) - WHOLE).max() <= 2


@pytest.mark.parametrize(("low", "high"), [(0, 1), (-1, 1), (-3, -1), (0, 1.4), (0, 20), (0, 1e6)])
def test_floats(low: float, high: float) -> None:
    assert abs(grey(tiff(ramp(low, high, np.float32))) - WHOLE).max() <= 2


def test_what_is_not_measured_is_black() -> None:
    values = ramp(0, 4095, np.float32)
    values[:, 0], values[:, 1], values[:, 2], values[:, 3] = np.nan, -np.inf, -3.4e38, np.inf
    got = grey(tiff(values))
    assert list(got[:3]) == [0, 0, 0]
    assert got[3] == 255
    assert abs(got[4:] - WHOLE[4:]).max() <= 2


def test_gdals_value_for_no_data() -> None:
    values = ramp(0, 4095, np.int32)
    values[:, 0] = -99
    got = grey(tiff(values, extra=b"-99"))
    assert got[0] == 0
    assert abs(got[1:] - WHOLE[1:]).max() <= 2


@pytest.mark.parametrize(
    ("value", "kind", "expected"),
    [(0, np.int32, 0), (200, np.int32, 200), (32768, np.uint16, 127), (-5, np.int32, 0), (0.5, np.float32, 127)],
)
def test_a_picture_of_one_value(value: float, kind: Any, expected: int) -> None:
    assert set(grey(tiff(np.full((8, 8), value, kind)))) == {expected}


def test_only_nan() -> None:
    assert set(grey(tiff(np.full((8, 8), np.nan, np.float32)))) == {0}


def test_12_bits_in_a_png_of_16() -> None:
    assert abs(grey(encoded(Image.fromarray(ramp(0, 4095, np.uint16)), "PNG")) - WHOLE).max() <= 2


@pytest.mark.parametrize("high", [4095, 16383, 65535])
@pytest.mark.parametrize("order", ["<", ">"])
def test_colours_of_16_bits(high: int, order: str) -> None:
    colours = np.stack([ramp(0, high, np.uint16), ramp(high, 0, np.uint16), ramp(0, 0, np.uint16)], axis=2)
    got = np.asarray(decode(tiff(colours, order=order)))[8].astype(int)
    assert abs(got[:, 0] - WHOLE).max() <= 2
    assert abs(got[:, 1] - WHOLE[::-1]).max() <= 2
    assert got[:, 2].max() == 0
    assert len(np.unique(got[:, 0])) == 64  # also of 12 bits, none of the 64 steps is lost


@pytest.mark.parametrize(
    ("high", "top"),
    [(0, 1), (0.2, 1), (1, 1), (1.5, 1.5), (31, 31), (32, 255), (256, 1023), (5000, 16383), (1e5, 1e5)],
)
def test_what_is_white(high: float, top: float) -> None:
    assert top_of(high) == top


@pytest.mark.parametrize("start", [29_300, 3_000, 60_000])
def test_values_that_lie_close_together_far_from_zero_are_told_apart(start: int) -> None:
    """As cameras for heat give hundredths of a kelvin."""
    values = np.arange(start, start + 60, dtype=np.uint16).reshape(6, 10).repeat(8, 0).repeat(8, 1)
    buffer = io.BytesIO()
    Image.fromarray(values).save(buffer, "PNG")
    seen = np.asarray(decode(buffer.getvalue()))
    assert (seen.min(), seen.max()) == (0, 255)
    assert len(np.unique(seen)) == 60


def test_an_even_picture_stays_even() -> None:
    buffer = io.BytesIO()
    Image.fromarray(np.full((8, 8), 30_000, np.uint16)).save(buffer, "PNG")
    assert np.ptp(np.asarray(decode(buffer.getvalue()))) == 0
