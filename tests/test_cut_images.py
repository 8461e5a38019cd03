"""Pictures that end before they should: what is missing is never taken for grey or black."""

import struct
import zlib
from typing import Any

import pytest
from pictures import blurred, encoded
from PIL import Image

from holotype.errors import UnreadableImage
from holotype.pool.images import decode

# of a PNG in passes: where the pixels of each begin, and how far they are apart
ADAM7 = [(0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)]


@pytest.mark.parametrize("grey", [False, True])
def test_a_jpeg_that_lacks_only_its_end_mark_is_whole(grey: bool) -> None:
    image = blurred(1, (160, 120)).convert("L" if grey else "RGB")
    whole = encoded(image, quality=90)
    assert whole.endswith(b"\xff\xd9")
    for fit in (None, 40):
        assert decode(whole[:-2], fit=fit).tobytes() == decode(whole, fit=fit).tobytes()
    for cut in (4, 40, 400):
        with pytest.raises(UnreadableImage, match="truncated"):
            decode(whole[:-cut])


def taller(jpeg: bytes, rows: int) -> bytes:
    """A JPEG whose header says that it has more rows."""
    (at,) = (place for frame in (b"\xff\xc0\x00", b"\xff\xc2\x00") if (place := jpeg.find(frame)) > 0)
    return jpeg[: at + 5] + struct.pack(">H", rows) + jpeg[at + 7 :]


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
@pytest.mark.parametrize("more", ["", "progressive", "restart_marker_rows", "optimize"])
def test_a_jpeg_with_fewer_rows_than_it_says_is_cut(mode: str, more: str) -> None:
    """Decoders make grey of what is missing, and say nothing."""
    options: dict[str, Any] = {more: True} if more else {}
    for width in (160, 12):
        whole = encoded(blurred(1, (width, 96)).convert(mode), quality=90, **options)
        for fit in (None, 20):
            decode(whole, fit=fit)
            for rows in (113, 128, 900):
                with pytest.raises(UnreadableImage, match="truncated"):
                    decode(taller(whole, rows), fit=fit)
    decode(encoded(Image.new(mode, (160, 96), "grey"), **options))


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "1", "P", "I;16"])
def test_a_png_with_fewer_rows_than_it_says_is_cut(mode: str) -> None:
    image = Image.new("I;16", (33, 20)) if mode == "I;16" else Image.new("L", (33, 20)).convert(mode)
    whole = encoded(image, "PNG")
    decode(whole)  # all of it is black
    head = whole[12:20] + struct.pack(">I", 21) + whole[24:29]
    with pytest.raises(UnreadableImage, match="truncated"):
        decode(whole[:12] + head + struct.pack(">I", zlib.crc32(head)) + whole[33:])


def test_a_black_png_in_passes_is_whole() -> None:
    """Pillow writes none of these."""
    for width, height in ((1, 1), (3, 2), (9, 10)):
        rows = [(-(-(width - x) // dx), -(-(height - y) // dy)) for x, y, dx, dy in ADAM7]
        pixels = b"".join(bytes(1 + columns) * count for columns, count in rows if columns > 0 < count)
        for data, is_whole in ((pixels, True), (pixels[:-1], False)):
            head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 1)
            chunks = ((b"IHDR", head), (b"IDAT", zlib.compress(data)), (b"IEND", b""))
            png = b"\x89PNG\r\n\x1a\n" + b"".join(
                struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
                for kind, body in chunks
            )
            if is_whole:
                assert decode(png).size == (width, height)
            else:
                with pytest.raises(UnreadableImage, match="truncated"):
                    decode(png)


def test_cmyk_without_the_mark_of_adobe_is_taken_as_browsers_take_it() -> None:
    """As inverted, as those with the mark are."""
    marked = encoded(blurred(1, (64, 48)).convert("CMYK"), quality=90)
    at = marked.find(b"\xff\xee")
    assert marked[at + 4 : at + 9] == b"Adobe"
    bare = marked[:at] + marked[at + 16 :]
    assert decode(bare).tobytes() == decode(marked).tobytes()


def test_a_progressive_jpeg_without_its_end_is_cut() -> None:
    whole = encoded(blurred(1, (160, 120)), quality=90, progressive=True)
    last = whole.rfind(b"\xff\xda")
    with pytest.raises(UnreadableImage, match="truncated"):
        decode(whole[:last])  # it would look whole, and is coarse
