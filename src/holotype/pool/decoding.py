"""Encoded images to upright pixels, with what is known of them from their header. Loads Pillow, and nothing else."""

import io
import sys
import warnings
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from importlib import import_module
from typing import Any

from PIL import Image, ImageFile, ImageMath

from holotype.errors import UnreadableHere
from holotype.pool.formats.header import Header
from holotype.pool.formats.jpeg import end_of_first_scan
from holotype.pool.formats.orientation import TAG, orientation_of
from holotype.pool.formats.png import lacks_rows
from holotype.pool.limits import REDUCED, WHOLE, scale

TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_DECODERS = {
    "JPEG": ("PIL.JpegImagePlugin", "JpegImageFile"),
    "PNG": ("PIL.PngImagePlugin", "PngImageFile"),
    "WEBP": ("PIL.WebPImagePlugin", "WebPImageFile"),
    "GIF": ("PIL.GifImagePlugin", "GifImageFile"),
    "BMP": ("PIL.BmpImagePlugin", "BmpImageFile"),
    "TIFF": ("PIL.TiffImagePlugin", "TiffImageFile"),
    "JPEG2000": ("PIL.Jpeg2KImagePlugin", "Jpeg2KImageFile"),
    "AVIF": ("PIL.AvifImagePlugin", "AvifImageFile"),
    "HEIF": ("pillow_heif", "HeifImageFile"),  # registers nothing: other users of Pillow see no change
}
_OF_BYTES = ("image file is truncated", "unrecognized data stream contents")  # what Pillow says of no shortage
_BY_LIBRARIES = ("JPEG", "TIFF", "JPEG2000", "WEBP", "AVIF", "HEIF")
_DEPTHS = (8, 10, 12, 14, 16)  # bits that cameras and scanners give
_DARK = 32  # no picture of 8 bits stays below it
_END = b"\xff\xd9"  # of a JPEG
_RESTARTS = [bytes([0xFF, 0xD0 + k]) for k in range(8)]
# what could stand before its end, or behind a restart marker
_FILLERS = [some + b"".join(mark + some for mark in _RESTARTS) for some in (b"\x55\xaa" * 64, b"\x12\x34" * 64)]
_GREY, _NEAR = 128, 2  # what libjpeg makes of pixels that are missing, and how far a colour is taken for it
_BLOCK = 16  # pixels; the first block that is missing may be of any colour
_GAP = 3  # an image is never shrunk to less than three times the size that is wanted, as in `letterbox`
_NEARLY_ALL = 64  # of 256: what the upper byte of 16 bits reaches in an image of more than 14
_OTHER_BYTE = {"L": "B", "B": "L", "N": "B" if sys.byteorder == "little" else "L"}
_STRIP = 1_000_000  # pixels that are shrunk at once


def decode_content(header: Header, fit: int | None) -> Image.Image:
    """Return the image of a header, upright: RGB, or one of the deep modes (`is_deep`).

    A large one is shrunk on the way where its long side will be `fit`. Raises whatever Pillow raises.
    """
    image = _opened(header, fit)
    raw = _raw_mode(image)
    try:
        image.load()
        _refuse_missing_rows(image, header)
    except OSError:
        if not _may_lack_its_end_mark(header):
            raise
        image = _completed(header, fit)
    full = _with_low_bits(image, header, raw) if ";16" in raw and raw.startswith("RGB") else image
    shrunk = _shrunk(full, fit)
    turn = orientation_of(image.info.get("exif", b"")) if header.format == "AVIF" else header.orientation
    return _turned(shrunk if is_deep(shrunk) else to_rgb(shrunk), turn)


def passing(error: Exception) -> str:
    """Say what keeps an image from being decoded now: memory, or the system. Nothing for a fault of its bytes."""
    if isinstance(error, MemoryError):
        return "there is not enough memory"
    return error.strerror or "" if isinstance(error, OSError) and error.errno is not None else ""


def blames_bytes(error: Exception, format: str) -> bool:  # noqa: A002
    """Whether an error of `decode_content` is one that bytes alone lead to, however little memory there is.

    libjpeg, OpenJPEG, libtiff, libwebp and libavif say the same of both; Pillow's own decoders tell them apart.
    """
    said = _OF_BYTES if format in _BY_LIBRARIES else (*_OF_BYTES, "broken data stream")
    return isinstance(error, OSError) and error.errno is None and str(error).startswith(said)


def upright(image: Image.Image) -> Image.Image:
    """Turn an image that Pillow has opened as its metadata says; what is broken there says nothing."""
    turn = 1
    if isinstance(raw := image.info.get("exif"), bytes):
        turn = orientation_of(raw)
    else:
        with suppress(Exception), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            turn = image.getexif().get(TAG, 1)
    return _turned(image, turn)


def is_deep(image: Image.Image) -> bool:
    """Whether its values are more than 8 bits."""
    return image.mode.startswith("I") or image.mode == "F"


def to_rgb(image: Image.Image) -> Image.Image:
    """Return an image of 8 bits as RGB, its transparency laid over white."""
    if image.mode == "RGB" and not image.has_transparency_data:
        return image
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        white = Image.new("RGBA", rgba.size, "white")
        return Image.alpha_composite(white, rgba).convert("RGB")
    return image.convert("RGB")


def top_of(high: float) -> float:
    """Return what stands for white in an image of more than 8 bits whose greatest value is `high`, none negative.

    Up to 1: 1. Below 32: `high`, as all would be black otherwise. Then the least of 2^8 - 1, 2^10 - 1, 2^12 - 1,
    2^14 - 1 and 2^16 - 1 that is not below `high`; beyond, `high`.
    """
    if high <= 1:
        return 1.0
    return high if high < _DARK else next((2.0**bits - 1 for bits in _DEPTHS if high <= 2**bits - 1), high)


def _opened(header: Header, fit: int | None) -> ImageFile.ImageFile:
    """Open it by the one decoder that belongs to its format, and set it to the scale that `fit` allows."""
    image: ImageFile.ImageFile = _decoder(header.format)(io.BytesIO(header.content))
    by = scale(header, fit)
    if by > 1 and header.levels:
        image.reduce = by.bit_length() - 1  # type: ignore[method-assign, assignment]  # JPEG 2000 has it as a setting
    elif by > 1:
        image.draft(None, (max(1, image.width // by), max(1, image.height // by)))
    return image


def _refuse_missing_rows(image: Image.Image, header: Header) -> None:
    """Raise `OSError` where a JPEG or a PNG has fewer rows than its header says: decoders say nothing of it.

    The last pixel tells which are worth a closer look: what is missing is grey in a JPEG, and nothing in a PNG.
    """
    last = image.crop((image.width - 1, image.height - 1, *image.size))
    if header.format == "JPEG":
        grey: Any = (last.getchannel("K") if last.mode == "CMYK" else last.convert("L")).getpixel((0, 0))
        suspicious = abs(grey - _GREY) <= _NEAR or header.width <= _BLOCK
        if suspicious and header.width * header.height <= WHOLE:
            _completed(header, fit=1)  # at an eighth of its size, which tells missing blocks
    elif header.format == "PNG" and not any(last.tobytes()) and lacks_rows(header.content):
        raise OSError("image file is truncated")


def _may_lack_its_end_mark(header: Header) -> bool:
    """Whether it is a JPEG of one scan, as some cameras write them, without the mark behind it."""
    small = header.width * header.height <= REDUCED
    return header.format == "JPEG" and not header.held and small and not header.content.endswith(_END)


def _completed(header: Header, fit: int | None) -> ImageFile.ImageFile:
    """Return the image of a JPEG whose first scan is whole: whatever stands behind that, it is the same.

    Its end mark may be missing. Raises `OSError` where pixels are missing.
    """
    content, end = header.content, end_of_first_scan(header.content)
    rest = content[end:] if content.endswith(_END) else content[end:] + _END

    def filled(filler: bytes) -> ImageFile.ImageFile:
        image = _opened(replace(header, content=content[:end] + filler + rest), fit)
        image.load()
        return image

    image = filled(b"")
    pixels = image.tobytes()
    if any(filled(filler).tobytes() != pixels for filler in _FILLERS):
        raise OSError("image file is truncated")
    return image


def _decoder(name: str) -> Any:
    """Return Pillow's class for a format; it is loaded when it is first needed."""
    module, of_format = _DECODERS[name]
    try:
        return getattr(import_module(module), of_format)
    except ImportError:
        raise UnreadableHere(
            "a HEIF picture (.heic) needs pillow-heif, which is not installed: pip install 'holotype[heif]'"
        ) from None


def _turned(image: Image.Image, orientation: int) -> Image.Image:
    return image.transpose(TURNS[orientation]) if orientation in TURNS else image


def _shrunk(image: Image.Image, fit: int | None) -> Image.Image:
    """Shrink a large image by a whole number, strip by strip, so that RGB is made of a few rows at a time."""
    factor = max(image.size) // (fit * _GAP) if fit else 1
    if image.width * image.height <= REDUCED or factor <= 1:
        return image
    mode = "RGB" if not is_deep(image) else "F" if image.mode == "F" else "I"
    shrunk = Image.new(mode, (-(-image.width // factor), -(-image.height // factor)))
    rows = max(_STRIP // image.width // factor, 1) * factor
    for top in range(0, image.height, rows):
        strip = image.crop((0, top, image.width, min(top + rows, image.height)))
        plain = to_rgb(strip) if mode == "RGB" else strip.convert(mode)
        shrunk.paste(plain.reduce(factor), (0, top // factor))
    return shrunk


def _raw_mode(image: ImageFile.ImageFile) -> str:
    """How the values lie in the file, such as "RGB;16B"."""
    given = image.tile[0].args if image.tile else ""
    first = given[0] if isinstance(given, tuple) and given else given
    return first if isinstance(first, str) else ""


def _with_low_bits(image: Image.Image, header: Header, raw: str) -> Image.Image:
    """Of colours with 16 bits Pillow gives the upper 8; where they hold next to nothing, take the lower ones too."""
    if _high(image) >= _NEARLY_ALL:
        return image
    other = _opened(header, None)
    swapped = raw[:-1] + _OTHER_BYTE[raw[-1]]
    other.tile = [
        tile._replace(args=(swapped, *tile.args[1:]) if isinstance(tile.args, tuple) else swapped)
        for tile in other.tile
    ]
    other.load()
    bands = [_joined(high, low) for high, low in zip(image.split()[:3], other.split()[:3], strict=True)]
    top = round(top_of(max(map(_high, bands))))
    colours = [_computed(lambda of: of["band"] * 255 / top, band=band).convert("L") for band in bands]
    return Image.merge(image.mode, [*colours, *image.split()[3:]])


def _joined(high: Image.Image, low: Image.Image) -> Image.Image:
    """One band of 16 bits, as 32-bit integers, from its bytes."""
    return _computed(lambda of: of["high"] * 256 + of["low"], high=high, low=low)


def _computed(how: Callable[[dict[str, Any]], Any], **bands: Image.Image) -> Image.Image:
    image: Image.Image = ImageMath.lambda_eval(how, **bands)
    return image


def _high(image: Image.Image) -> float:
    """The greatest value of its colours."""
    highs: list[float] = [band.getextrema()[1] for band in image.split()[:3]]  # type: ignore[misc]
    return max(highs)
