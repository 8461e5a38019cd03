"""`Header`: what an image needs to be decoded, known before any decoder sees it."""

from dataclasses import dataclass

LOW_BITS = 28  # bytes for each pixel that it takes to look at the lower 8 of 16 bits of colours


class Malformed(ValueError):
    """The head of a file does not hold together; the message says where."""


@dataclass(frozen=True)
class Header:
    """What the head of an image file says.

    format        Pillow's name of it
    width, height pixels of the first frame, before it is turned upright
    content       the file without its metadata: whatever is broken there, the pixels are as before
    orientation   1 to 8, as in EXIF
    decoding      bytes that the decoder holds for each pixel, its result among them
    finishing     bytes for each pixel that it takes to make RGB of the result
    scales        whether the decoder can give a half, a quarter or an eighth of the size, and then holds only that
    held          bytes that the decoder holds besides, whatever the scale
    passes        how often it goes over all pixels
    speed         megapixels a second, at the least, on one slow core
    seconds       that it takes besides, on one slow core
    levels        how often its size can be halved before decoding (JPEG 2000)
    certain       whether width and height are those that the decoder will go by
    unsigned      whether the 32-bit integers that the decoder gives have no sign, whatever it says
    nodata        a value that stands for "nothing was measured here"
    """

    format: str
    width: int
    height: int
    content: bytes
    orientation: int = 1
    decoding: float = 4
    finishing: float = 16
    scales: bool = False
    held: int = 0
    passes: int = 1
    speed: float = 30
    seconds: float = 0
    levels: int = 0
    certain: bool = True
    unsigned: bool = False
    nodata: float | None = None
