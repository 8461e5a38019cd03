"""Bytes to upright RGB pixels, within limits; letterbox; contact sheets."""

import io
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from holotype.errors import UnreadableImage

Pixels = NDArray[np.uint8]
Source = str | Path | bytes | Image.Image | NDArray[np.uint8]

SUFFIXES = frozenset([".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".jp2", ".avif"])
MAX_PIXELS = 100_000_000
_open_lock = threading.Lock()


def decode(source: Source, *, fit: int | None = None) -> Image.Image:
    """Return `source` (a path, encoded bytes, a Pillow image, or pixels h x w [x 3|4] uint8) as upright RGB.

    `fit`: the long side in pixels that it will be shrunk to, which lets a JPEG be decoded at 1/2, 1/4 or 1/8 of its
    size, but never below `fit`.
    Transparency is laid over white; 16-bit values are scaled to 8; EXIF rotation is applied.
    Raises `UnreadableImage` with the reason, also for images of more than `MAX_PIXELS` after scaled decoding.
    """
    if isinstance(source, np.ndarray):
        return _from_array(source)
    if isinstance(source, Image.Image):
        return _finish(source)
    data = source if isinstance(source, bytes) else _read(Path(source))
    if not data:
        raise UnreadableImage("the file has 0 bytes")
    try:
        with _open_lock, _no_pillow_limit():
            image = Image.open(io.BytesIO(data))
        if fit is not None:
            long = max(*image.size, 1)
            image.draft(None, (max(1, image.width * fit // long), max(1, image.height * fit // long)))
    except UnidentifiedImageError:
        raise UnreadableImage(f"not an image: it starts with {data[:8]!r}") from None
    except Exception as error:
        raise _undecodable(error) from error
    return _finish(image)


def _finish(image: Image.Image) -> Image.Image:
    _check_size(image)
    try:
        image.load()
        return _to_rgb(_upright(image))
    except Exception as error:
        raise _undecodable(error) from error


def _upright(image: Image.Image) -> Image.Image:
    """Pillow's own way copies the pixels even of an image that is upright already."""
    turned = image.getexif().get(ExifTags.Base.Orientation, 1) != 1
    return ImageOps.exif_transpose(image) if turned else image


def _undecodable(error: Exception) -> UnreadableImage:
    # Decoders raise whatever they like at broken input (OSError, SyntaxError, struct.error, ...);
    # one bad image must never stop a run.
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


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise UnreadableImage(f"{path} cannot be read: {error.strerror or error}") from None


def _check_size(image: Image.Image) -> None:
    if 0 in image.size:
        raise UnreadableImage(f"{image.width} x {image.height} pixels are no image")
    if image.width * image.height > MAX_PIXELS:
        raise UnreadableImage(
            f"{image.width} x {image.height} pixels are more than the limit of {MAX_PIXELS // 10**6} megapixels; "
            "shrink it first"
        )


@contextmanager
def _no_pillow_limit() -> Iterator[None]:
    """Pillow's own limit looks at the size before scaled decoding, and only warns; ours comes after."""
    limit = Image.MAX_IMAGE_PIXELS
    Image.MAX_IMAGE_PIXELS = None
    try:
        yield
    finally:
        Image.MAX_IMAGE_PIXELS = limit


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode == "RGB" and not image.has_transparency_data:
        return image
    if image.mode.startswith("I") or image.mode == "F":
        return _from_deep(image)
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        white = Image.new("RGBA", rgba.size, "white")
        return Image.alpha_composite(white, rgba).convert("RGB")
    return image.convert("RGB")


def _from_deep(image: Image.Image) -> Image.Image:
    """16-bit integers and floats, scaled to 8 bits by the range of their type (floats: 0 to 1 or 0 to 255)."""
    values = np.nan_to_num(np.asarray(image, dtype=np.float64))
    top = (1.0 if values.max(initial=0) <= 1 else 255.0) if image.mode == "F" else 65535.0
    return Image.fromarray(np.clip(values / top * 255, 0, 255).astype(np.uint8)).convert("RGB")


def _from_array(pixels: NDArray[np.uint8]) -> Image.Image:
    shaped = pixels.ndim == 2 or (pixels.ndim == 3 and pixels.shape[2] in (3, 4))
    if not shaped or pixels.dtype != np.uint8 or 0 in pixels.shape:
        raise UnreadableImage(
            f"expected pixels of shape (height, width, 3) and dtype uint8, got {pixels.shape} of {pixels.dtype}"
        )
    return _to_rgb(Image.fromarray(pixels))
