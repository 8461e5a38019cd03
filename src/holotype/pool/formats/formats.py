"""The formats that are read, told apart by their first bytes; nothing else ever reaches a decoder."""

import struct
from collections.abc import Callable

from holotype.errors import UnreadableImage
from holotype.pointers import why_pointer
from holotype.pool.formats.bitmaps import read_bmp, read_gif
from holotype.pool.formats.boxes import brands, read_avif, read_heif, read_jpeg2000
from holotype.pool.formats.header import Header, Malformed
from holotype.pool.formats.jpeg import read_jpeg
from holotype.pool.formats.png import read_png
from holotype.pool.formats.tiff import read_tiff
from holotype.pool.formats.webp import read_webp

NAMES = "JPEG, PNG, WebP, GIF, BMP, TIFF, JPEG 2000, AVIF or HEIF"
_STARTS: dict[bytes, Callable[[bytes], Header]] = {
    b"\xff\xd8\xff": read_jpeg,
    b"\x89PNG\r\n\x1a\n": read_png,
    b"GIF87a": read_gif,
    b"GIF89a": read_gif,
    b"BM": read_bmp,
    b"II*\0": read_tiff,
    b"MM\0*": read_tiff,
    b"II+\0": read_tiff,
    b"MM\0+": read_tiff,
    b"\0\0\0\x0cjP  \r\n\x87\n": read_jpeg2000,
    b"\xff\x4f\xff\x51": read_jpeg2000,
}
_AVIF = frozenset([b"avif", b"avis"])
_HEIF = frozenset([b"mif1", b"msf1", b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs"])


def read_header(data: bytes) -> Header:
    """Return what the head of an encoded image says. Raises `UnreadableImage`."""
    read = _reader(data)
    if read is None:
        raise UnreadableImage(why_pointer(data) or f"not an image: it starts with {data[:8]!r}; expected {NAMES}")
    try:
        return read(data)
    except Malformed as error:
        raise UnreadableImage(f"cannot be decoded: {error}") from None
    except (struct.error, IndexError, OverflowError, ValueError) as error:  # numbers that lead out of the file
        raise UnreadableImage(f"cannot be decoded: its header is damaged ({error})") from None


def _reader(data: bytes) -> Callable[[bytes], Header] | None:
    for start, read in _STARTS.items():
        if data.startswith(start):
            return read
    if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
        return read_webp
    kinds = brands(data)
    return read_avif if kinds & _AVIF else read_heif if kinds & _HEIF else None
