"""Metadata never costs pixels: whatever is broken in it, the picture is decoded, and upright where that can be read."""

import io
import struct
import zlib
from collections.abc import Callable

import numpy as np
import pytest
from pictures import blurred, encoded
from PIL import Image, ImageOps, PngImagePlugin

from holotype.errors import UnreadableImage
from holotype.pool.formats.orientation import orientation_of
from holotype.pool.images import decode

PICTURE = blurred(1)
RATIONAL, ORIENTATION, MAKER = 0x011A, 0x0112, 0x927C
SOUND = struct.pack("<HHII", ORIENTATION, 3, 1, 6)
BEYOND = struct.pack("<HHII", RATIONAL, 5, 1, 0x7FFFFFFF)  # its value would lie beyond the block
NO_TYPE = struct.pack("<HHII", MAKER, 99, 7, 0)
ENDLESS = struct.pack("<HHII", 0x0110, 2, 0xFFFFFFFF, 8)


def exif(*entries: bytes, count: int | None = None) -> bytes:
    """A TIFF block with these entries, which may claim to have more."""
    return b"II*\0\x08\0\0\0" + struct.pack("<H", count or len(entries)) + b"".join(entries) + b"\0\0\0\0"


BLOCKS = {
    "value beyond the block": exif(BEYOND, SOUND),
    "unknown type": exif(NO_TYPE, SOUND),
    "endless text": exif(ENDLESS, SOUND),
    "more entries than there are": exif(SOUND, count=500),
    "division by zero": exif(struct.pack("<HHII", RATIONAL, 5, 1, 38), SOUND) + bytes(8),
    "twice the prefix": b"Exif\0\0" + exif(SOUND),
}
USELESS = {
    "empty": b"",
    "no block": b"garbage" * 9,
    "start beyond": b"II*\0\xff\xff\xff\xff",
    "cut": exif(SOUND)[:15],
}


def segment(marker: int, body: bytes, length: int | None = None) -> bytes:
    return struct.pack(">BBH", 0xFF, marker, (len(body) if length is None else length) + 2) + body


def chunk(kind: bytes, body: bytes, *, checksum: bytes | None = None) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + (checksum or struct.pack(">I", zlib.crc32(kind + body)))


def jpeg_with(*segments: bytes) -> bytes:
    data = encoded(PICTURE)
    return b"".join([data[:2], *segments, data[2:]])


def png_with(*chunks: bytes) -> bytes:
    data = encoded(PICTURE, "PNG")
    return b"".join([data[:33], *chunks, data[33:]])


def webp_with(kind: bytes, body: bytes) -> bytes:
    data = encoded(PICTURE, "WEBP", exif=b"Exif\0\0" + b"?" * len(body), xmp=b"?" * len(body))
    at = data.index(kind) + 8
    return data[:at] + body + data[at + len(body) :]


def jpeg_exif(block: bytes) -> bytes:
    return jpeg_with(segment(0xE1, b"Exif\0\0" + block))


def png_exif(block: bytes) -> bytes:
    return png_with(chunk(b"eXIf", block))


def webp_exif(block: bytes) -> bytes:
    return webp_with(b"EXIF", block or b"?")


def turned(data: bytes) -> bool:
    """Whether it is decoded as `PICTURE` is, turned as orientation 6 says; else it must be as it was."""
    plain = PICTURE.transpose(Image.Transpose.ROTATE_270)
    got = decode(data)
    expected = plain if got.size == plain.size else PICTURE
    assert abs(np.asarray(got).astype(int) - np.asarray(expected)).mean() < 4
    return got.size == plain.size


@pytest.mark.parametrize("container", [jpeg_exif, png_exif, webp_exif])
@pytest.mark.parametrize("what", BLOCKS)
def test_a_broken_exif_block_keeps_its_orientation(container: Callable[[bytes], bytes], what: str) -> None:
    assert turned(container(BLOCKS[what]))


@pytest.mark.parametrize("container", [jpeg_exif, png_exif, webp_exif])
@pytest.mark.parametrize("what", USELESS)
def test_an_exif_block_that_says_nothing(container: Callable[[bytes], bytes], what: str) -> None:
    assert not turned(container(USELESS[what]))


def text_of(length: int) -> bytes:
    return zlib.compress(bytes(length), 9)


@pytest.mark.parametrize(
    "data",
    [
        png_with(chunk(b"iCCP", b"a\0\0" + zlib.compress(np.random.default_rng(0).bytes(3 << 20)))),
        png_with(chunk(b"iCCP", b"no end of the name")),
        png_with(chunk(b"tEXt", b"Comment\0" + b"x" * (5 << 20))),
        png_with(chunk(b"zTXt", b"Comment\0\0" + text_of(100 << 20))),
        png_with(*[chunk(b"zTXt", b"Raw profile type exif\0\0" + text_of(30 << 20))] * 4),
        png_with(chunk(b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + text_of(30 << 20)[:-9])),
        png_with(*[chunk(b"tEXt", f"key{number}".encode() + b"\0" + b"y" * 900_000) for number in range(80)]),
        png_with(chunk(b"tEXt", b"a\0b", checksum=b"none")),
        png_with(chunk(b"pHYs", b"\1"), chunk(b"gAMA", b""), chunk(b"acTL", b"\0" * 8), chunk(b"fcTL", b"")),
        png_with(struct.pack(">I", 0x7FFFFFF0) + b"tEXt" + b"longer than the file"),
        jpeg_with(*[segment(0xE2, b"ICC_PROFILE\0" + bytes([k, 99]) + b"x" * 60_000) for k in range(50)]),
        jpeg_with(segment(0xE2, b"MPF\0" + b"II*\0" + b"\xff" * 40)),
        jpeg_with(segment(0xE1, b"Exif\0\0" + exif(BEYOND), length=60_000)),
        jpeg_with(segment(0xE1, b"", length=-2), segment(0xFE, b"short", length=-1)),
        jpeg_with(segment(0xED, b"Photoshop 3.0\0" + b"8BIM\x03\xed\0\0\xff\xff\xff\xff")),
        jpeg_with(segment(0xEE, b"Adobe"), segment(0xE0, b"JFIF"), segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0<x")),
        webp_with(b"XMP ", b"<x:xmpmeta"),
    ],
    ids=lambda data: f"{len(data)} bytes",
)
def test_other_broken_metadata(data: bytes) -> None:
    assert not turned(data)


def test_a_clean_picture_is_not_changed_by_what_surrounds_it() -> None:
    for name in ("JPEG", "PNG", "WEBP", "TIFF"):
        block = PICTURE.getexif()
        block[ORIENTATION] = 6
        with_it = encoded(PICTURE, name, exif=block.tobytes(), icc_profile=b"no profile")
        plain = decode(encoded(PICTURE, name)).transpose(Image.Transpose.ROTATE_270)
        assert decode(with_it).tobytes() == plain.tobytes()


def tiff_with(*entries: bytes) -> bytes:
    """A TIFF whose directory has these entries besides."""
    data = encoded(PICTURE, "TIFF")
    (at,) = struct.unpack_from("<I", data, 4)
    (count,) = struct.unpack_from("<H", data, at)
    own = [data[at + 2 + 12 * k : at + 14 + 12 * k] for k in range(count)]
    names = {entry[:2] for entry in entries}
    every = sorted([*(one for one in own if one[:2] not in names), *entries], key=lambda one: one[1::-1])
    directory = struct.pack("<H", len(every)) + b"".join(every) + bytes(4)
    return data[:4] + struct.pack("<I", len(data)) + data[8:] + directory


@pytest.mark.parametrize("entry", [BEYOND, NO_TYPE, ENDLESS, struct.pack("<HHII", 34675, 7, 0xFFFF, 0xFFFFFFF0)])
def test_a_tiff_with_a_broken_tag(entry: bytes) -> None:
    assert turned(tiff_with(entry, SOUND))
    assert not turned(tiff_with(entry))


def test_a_tiff_whose_one_value_is_claimed_to_be_two() -> None:
    assert turned(tiff_with(SOUND, struct.pack("<HHIHH", 277, 3, 2, 3, 3)))  # samples for each pixel
    assert turned(tiff_with(struct.pack("<HHIHH", ORIENTATION, 3, 2, 6, 6)))


@pytest.mark.parametrize("format", ["AVIF", "HEIF"])
@pytest.mark.parametrize("block", [b"garbage!" * 5, exif(BEYOND, SOUND)], ids=["garbage", "rational"])
def test_exif_of_avif_and_heif(format: str, block: bytes) -> None:  # noqa: A002
    good = Image.Exif()
    good[ORIENTATION], good[0x010E] = 6, "a description of some length"
    if format == "AVIF":
        data = encoded(PICTURE, "AVIF", exif=good, quality=95)
    else:
        heif = pytest.importorskip("pillow_heif")
        buffer = io.BytesIO()
        heif.from_pillow(blurred(1)).save(buffer, exif=good.tobytes(), quality=95)
        data = buffer.getvalue()
    at = max(data.rfind(b"II*\0"), data.rfind(b"MM\0*"))
    assert turned(data)
    assert turned(data[:at] + block + data[at + len(block) :])  # the boxes say it, not the block


@pytest.mark.parametrize("compressed", [True, False])
def test_orientation_in_xmp_and_in_imagemagicks_text(compressed: bool) -> None:
    info = PngImagePlugin.PngInfo()
    info.add_itxt("XML:com.adobe.xmp", '<x tiff:Orientation="6"/>', zip=compressed)
    assert turned(encoded(PICTURE, "PNG", pnginfo=info))
    raw = b"Exif\0\0" + exif(BEYOND, SOUND)
    info = PngImagePlugin.PngInfo()
    info.add_text("Raw profile type exif", f"\nexif\n{len(raw):8}\n{raw.hex()}\n", zip=compressed)
    assert turned(encoded(PICTURE, "PNG", pnginfo=info))
    assert turned(encoded(PICTURE, xmp=b"<tiff:Orientation>6</tiff:Orientation>"))
    assert turned(webp_with(b"XMP ", b'<x tiff:Orientation="6"/>'))


@pytest.mark.parametrize("value", range(10))
def test_every_orientation_is_as_in_pillow(value: int) -> None:
    block = Image.Exif()
    block[ORIENTATION] = value
    for name in ("JPEG", "PNG", "WEBP", "TIFF"):
        data = encoded(PICTURE, name, exif=block)
        assert decode(data).tobytes() == ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert("RGB").tobytes()


@pytest.mark.parametrize(
    ("entry", "expected"),
    [
        (struct.pack("<HHIHH", ORIENTATION, 3, 1, 8, 0), 8),
        (struct.pack("<HHII", ORIENTATION, 4, 1, 3), 3),
        (struct.pack("<HHII", ORIENTATION, 1, 1, 5), 5),
        (struct.pack("<HHII", ORIENTATION, 2, 1, 5), 1),
        (struct.pack("<HHII", ORIENTATION, 3, 1, 9), 1),
        (struct.pack("<HHII", ORIENTATION, 3, 1, 0), 1),
    ],
)
def test_what_counts_as_an_orientation(entry: bytes, expected: int) -> None:
    assert orientation_of(exif(entry)) == expected


def test_an_opened_picture_with_a_broken_block() -> None:
    image = Image.open(io.BytesIO(png_exif(exif(BEYOND, SOUND))))
    assert decode(image).size == (48, 64)


@pytest.mark.parametrize("data", [png_exif(b""), jpeg_exif(b"")])
def test_pixels_that_are_cut_are_still_refused(data: bytes) -> None:
    with pytest.raises(UnreadableImage, match="cannot be decoded"):
        decode(data[: len(data) * 2 // 3])
