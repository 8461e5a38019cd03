"""Bytes to upright RGB pixels, within limits; letterbox; contact sheets."""

import io
import mmap
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from holotype.errors import UnreadableImage, UnreadableNow
from holotype.pool.decoding import blames_bytes, decode_content, is_deep, passing, to_rgb, upright
from holotype.pool.deep import to_8_bits
from holotype.pool.drawn import is_drawn
from holotype.pool.formats.formats import read_header
from holotype.pool.formats.header import Header
from holotype.pool.isolation import decode_apart
from holotype.pool.limits import TOGETHER, Cost, Room, limits

Pixels = NDArray[np.uint8]
Source = str | Path | bytes | bytearray | memoryview | Image.Image | NDArray[np.uint8]

_PICTURES = ".jpg .jpeg .jpe .jfif .png .webp .gif .bmp .tif .tiff .jp2 .avif .heic .heif"
SUFFIXES = frozenset(_PICTURES.split())
MARGIN = (127, 127, 127)  # what a letterbox is filled with for a network: close to the mean of each
_room = Room()


def decode(source: Source, *, fit: int | None = None) -> Image.Image:
    """Return `source` (a path, encoded bytes, a Pillow image, or pixels h x w [x 3|4] uint8) as upright RGB.

    `fit`: the long side in pixels that it will be shrunk to. It lets a JPEG be decoded at 1/2, 1/4 or 1/8 of its size
    but never below `fit`, and any image of more than 16 megapixels shrink as it is decoded, never below 3 `fit`.
    Transparency is laid over white; more than 8 bits are scaled by what they hold (`deep.to_8_bits`); the rotation
    of EXIF is applied. Nothing else of the metadata is looked at, so nothing there can spoil an image.

    Its bounds, whatever the image and however many threads decode: what is ordinary is decoded here, in at most
    1 GB for all threads together (`limits.TOGETHER`); the rest by processes that share `Limits.memory`, and each is
    ended after `Limits.seconds`. Both follow from HOLOTYPE_MAX_MEGAPIXELS (see `limits`).

    Raises `UnreadableImage` with the reason, also for an image beyond the limits.
    """
    if isinstance(source, np.ndarray):
        return _from_array(source)
    if isinstance(source, Image.Image):
        return _from_pillow(source)
    data = _bytes_of(source)
    if not data:
        raise UnreadableImage("the file has 0 bytes")
    if is_drawn(data):
        raise UnreadableImage("holotype drew it: a sheet, or a figure of a report")
    allowed = limits()
    allowed.check_size(len(data))
    header = read_header(data)
    cost = Cost.of(header, fit)
    cost.check(header, fit, allowed)
    if not (cost.ordinary and header.certain):
        image = decode_apart(header, fit, cost, allowed)
        return to_8_bits(image, header.nodata, unsigned=header.unsigned) if is_deep(image) else image
    try:
        with _room.hold(cost.memory, TOGETHER):
            return _decoded_here(header, fit)
    except UnreadableImage:
        raise
    except Exception as error:
        if blames_bytes(error, header.format):
            raise _undecodable(error) from error
        with _room.hold(TOGETHER, TOGETHER):  # once more, alone: too little memory looks like broken bytes to a decoder
            return _decoded_alone(header, fit, cost)


def is_ordinary(data: bytes, *, fit: int | None = None) -> bool:
    """Whether `decode` does not start a process for these bytes: they are small enough, or are refused at once."""
    try:
        header = read_header(data)
    except UnreadableImage:
        return True
    return Cost.of(header, fit).ordinary and header.certain


def _decoded_here(header: Header, fit: int | None) -> Image.Image:
    image = decode_content(header, fit)
    return to_8_bits(image, header.nodata, unsigned=header.unsigned) if is_deep(image) else image


def _decoded_alone(header: Header, fit: int | None, cost: Cost) -> Image.Image:
    """Raises `UnreadableNow` where there is not the memory that decoding takes: then nothing is known of the bytes."""
    try:
        mmap.mmap(-1, cost.memory).close()  # asks for it, and touches none
        return _decoded_here(header, fit)
    except UnreadableImage:
        raise
    except Exception as error:
        raise _undecodable(error) from error


def _from_pillow(image: Image.Image) -> Image.Image:
    if 0 in image.size:
        raise UnreadableImage(f"{image.width} x {image.height} pixels are no image")
    try:
        image.load()
        turned = upright(image)
        return to_8_bits(turned) if is_deep(turned) else to_rgb(turned)
    except Exception as error:
        raise _undecodable(error) from error


def _undecodable(error: Exception) -> UnreadableImage:
    # Decoders raise whatever they like at broken input (OSError, SyntaxError, struct.error, ...);
    # one bad image must never stop a run.
    if why := passing(error):
        return UnreadableNow(f"cannot be decoded now: {why}")
    return UnreadableImage(f"cannot be decoded: {str(error) or type(error).__name__}")


def middle(image: Image.Image, share: float = 0.75) -> Image.Image:
    """Return the middle of `image`: `share` of its width and of its height."""
    width, height = max(round(image.width * share), 1), max(round(image.height * share), 1)
    left, top = (image.width - width) // 2, (image.height - height) // 2
    return image.crop((left, top, left + width, top + height))


def letterbox(image: Image.Image, size: tuple[int, int], fill: tuple[int, int, int]) -> Pixels:
    """Fit `image` into (height, width), keeping its aspect ratio; the rest is `fill`. Returns h x w x 3 uint8."""
    height, width = size
    scale = min(width / image.width, height / image.height)
    inner = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    resized = image.resize(inner, Image.Resampling.BICUBIC, reducing_gap=3.0)
    canvas = Image.new("RGB", (width, height), fill)
    canvas.paste(resized, ((width - inner[0]) // 2, (height - inner[1]) // 2))
    return np.asarray(canvas)


def thumbnail(image: Image.Image, side: int = 128) -> bytes:
    """Return `image` re-encoded as a JPEG of at most `side` pixels on its long side."""
    small = image.copy()
    small.thumbnail((side, side))
    buffer = io.BytesIO()
    small.save(buffer, "JPEG", quality=80)
    return buffer.getvalue()


def contact_sheet(images: Sequence[Image.Image], *, columns: int = 10, side: int = 112) -> Image.Image:
    """Lay `images` out row by row in cells of `side` pixels."""
    rows = max(1, -(-len(images) // columns))
    sheet = Image.new("RGB", (columns * side, rows * side), "white")
    for place, image in enumerate(images):
        cell = Image.fromarray(letterbox(image, (side - 4, side - 4), (255, 255, 255)))
        sheet.paste(cell, (place % columns * side + 2, place // columns * side + 2))
    return sheet


def read_file(path: Path) -> bytes:
    """Return an encoded image. Raises `UnreadableImage`, before reading it where its size is beyond the limit."""
    try:
        with path.open("rb") as file:
            return read_open(file)
    except OSError as error:
        raise UnreadableImage(f"{path} cannot be read: {error.strerror or error}") from None


def read_open(file: BinaryIO) -> bytes:
    """Return the encoded image in an open file, also in one that grows. Raises `UnreadableHere`, as `read_file`."""
    allowed, size = limits(), os.fstat(file.fileno()).st_size
    allowed.check_size(size)
    return file.read(size or allowed.size + 1)  # a pipe has no size


def _bytes_of(source: Any) -> bytes:
    if isinstance(source, bytes):
        return source
    if isinstance(source, bytearray | memoryview):
        return bytes(source)
    if isinstance(source, str | os.PathLike):
        return read_file(Path(source))
    raise UnreadableImage(
        "expected a path, encoded bytes, a Pillow image, or pixels of shape (height, width, 3) and dtype uint8, got "
        f"{type(source).__name__}"
    )


def _from_array(pixels: NDArray[np.uint8]) -> Image.Image:
    shaped = pixels.ndim == 2 or (pixels.ndim == 3 and pixels.shape[2] in (3, 4))
    if not shaped or pixels.dtype != np.uint8 or 0 in pixels.shape:
        raise UnreadableImage(
            f"expected pixels of shape (height, width, 3) and dtype uint8, got {pixels.shape} of {pixels.dtype}"
        )
    return to_rgb(Image.fromarray(pixels))
