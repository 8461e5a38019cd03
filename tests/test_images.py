"""Bytes to upright RGB pixels, and what is refused on the way."""

import errno
import io
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import Jpeg
from numpy.typing import NDArray
from PIL import Image

from holotype.errors import UnreadableHere, UnreadableImage
from holotype.pool.decoding import decode_content
from holotype.pool.formats.header import Header
from holotype.pool.images import contact_sheet, decode, letterbox, middle, thumbnail

WHITE, RED = (255, 255, 255), (255, 0, 0)


def encoded(image: Image.Image, format: str = "PNG", **options: Any) -> bytes:  # noqa: A002
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


def noise(width: int = 64, height: int = 48) -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8))


def near(image: Image.Image, colour: tuple[int, int, int], place: tuple[int, int] = (0, 0)) -> bool:
    got = np.asarray(image)[place[1], place[0]].astype(int)
    return image.mode == "RGB" and bool((abs(got - np.array(colour)) <= 3).all())


def test_no_bytes() -> None:
    with pytest.raises(UnreadableImage, match="0 bytes"):
        decode(b"")


def test_text_named_jpg(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_text("<html>not found</html>")
    with pytest.raises(UnreadableImage, match="not an image: it starts with b'<html>"):
        decode(tmp_path / "a.jpg")


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(UnreadableImage, match=r"a\.jpg cannot be read"):
        decode(tmp_path / "a.jpg")


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("fit", [None, 8])
def test_cut_in_half(format: str, fit: int | None) -> None:  # noqa: A002
    whole = encoded(noise(), format)
    with pytest.raises(UnreadableImage, match="cannot be decoded"):
        decode(whole[: len(whole) // 2], fit=fit)


@pytest.mark.parametrize(
    ("error", "why"),
    [
        (OSError(errno.EMFILE, "Too many open files"), "Too many open files"),
        (MemoryError(), "there is not enough memory"),
    ],
)
def test_what_keeps_an_image_from_being_decoded_now_says_nothing_of_its_bytes(
    error: Exception, why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And so it is tried again by the next command."""

    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr("holotype.pool.images.decode_content", fail)
    with pytest.raises(UnreadableHere, match=f"cannot be decoded now: {why}"):
        decode(encoded(noise()))


def counted(monkeypatch: pytest.MonkeyPatch, first: Exception | None = None) -> list[Header]:
    """What is decoded from now on. The first time it fails with `first`."""
    begun: list[Header] = []

    def decoded(header: Header, fit: int | None) -> Image.Image:
        begun.append(header)
        if first and len(begun) == 1:
            raise first
        return decode_content(header, fit)

    monkeypatch.setattr("holotype.pool.images.decode_content", decoded)
    return begun


@pytest.mark.parametrize("format", ["JPEG", "PNG", "GIF", "BMP", "TIFF"])
def test_what_is_broken_for_certain_is_decoded_once(
    format: str,  # noqa: A002
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    whole, begun = encoded(noise(), format), counted(monkeypatch)
    with pytest.raises(UnreadableImage, match="cannot be decoded"):
        decode(whole[: len(whole) // 2])
    assert len(begun) == 1


def test_what_may_be_broken_or_lack_memory_is_decoded_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    """libjpeg has one error for both."""
    begun = counted(monkeypatch, OSError("broken data stream when reading image file"))
    assert decode(encoded(noise(), "JPEG")).size == noise().size
    assert len(begun) == 2


def test_opened_pillow_image_that_is_cut() -> None:
    whole = encoded(noise())
    with pytest.raises(UnreadableImage, match="cannot be decoded"):
        decode(Image.open(io.BytesIO(whole[: len(whole) // 2])))


def test_pillow_image_without_pixels() -> None:
    with pytest.raises(UnreadableImage, match="0 x 5"):
        decode(Image.new("RGB", (0, 5)))


def test_cmyk_jpeg() -> None:
    assert near(decode(encoded(Image.new("CMYK", (8, 8), (0, 255, 255, 0)), "JPEG", quality=95)), RED)


def test_16_bit_grey_stays_mid_grey() -> None:
    deep = Image.fromarray(np.full((4, 4), 32768, dtype=np.uint16))
    assert near(decode(encoded(deep)), (128, 128, 128))


@pytest.mark.parametrize("value", [0.5, 127.5])
def test_floats_with_nan(value: float) -> None:
    pixels = np.full((4, 4), value, dtype=np.float32)
    pixels[3, 3] = np.nan
    assert near(decode(encoded(Image.fromarray(pixels), "TIFF")), (127, 127, 127))


def test_palette_with_alpha_over_white() -> None:
    image = Image.new("P", (2, 1), 0)
    image.putpalette([0, 0, 0, 255, 0, 0])
    image.putpixel((1, 0), 1)
    got = decode(encoded(image, transparency=bytes([0, 255])))
    assert near(got, WHITE)
    assert near(got, RED, (1, 0))


def test_rgb_with_transparent_colour_over_white() -> None:
    assert near(decode(encoded(Image.new("RGB", (2, 2), (0, 0, 9)), transparency=(0, 0, 9))), WHITE)


def test_rgba_over_white() -> None:
    assert near(decode(encoded(Image.new("RGBA", (2, 2), (255, 0, 0, 128)))), (255, 127, 127))


def test_la_over_white() -> None:
    assert near(decode(encoded(Image.new("LA", (2, 2), (0, 0)))), WHITE)


def test_1_bit() -> None:
    assert near(decode(encoded(Image.new("1", (2, 2), 1))), WHITE)


def test_greyscale() -> None:
    assert near(decode(encoded(Image.new("L", (8, 8), 90), "JPEG")), (90, 90, 90))


@pytest.mark.parametrize("fit", [None, 8])
def test_rotated_by_exif(fit: int | None) -> None:
    sideways = Image.new("RGB", (64, 32), "white")
    sideways.paste(RED, (0, 0, 32, 32))  # the left half, which orientation 6 turns to the top
    exif = Image.Exif()
    exif[0x0112] = 6
    got = decode(encoded(sideways, "JPEG", exif=exif, quality=95), fit=fit)
    assert got.height == 2 * got.width
    assert near(got, RED)
    assert near(got, WHITE, (0, got.height - 1))


def test_one_pixel(jpeg: Jpeg) -> None:
    pixels = letterbox(decode(jpeg(RED, (1, 1)), fit=8), (8, 8), WHITE)
    assert pixels.shape == (8, 8, 3)
    assert abs(pixels.astype(int) - RED).max() <= 3


@pytest.mark.parametrize(("size", "rows"), [((1000, 3), 1), ((1000, 100), 22), ((1000, 1000), 224)])
def test_letterbox_keeps_the_aspect_ratio(jpeg: Jpeg, size: tuple[int, int], rows: int) -> None:
    pixels = letterbox(decode(jpeg((0, 0, 0), size), fit=224), (224, 224), WHITE)
    dark: NDArray[np.bool_] = pixels.max(axis=2) < 128
    assert dark.any(axis=1).sum() == rows
    assert dark.any(axis=0).all()


@pytest.mark.parametrize(("size", "kept"), [((40, 20), (30, 15)), ((1, 1), (1, 1)), ((3, 2), (2, 2))])
def test_the_middle_is_cut_evenly_from_all_sides(size: tuple[int, int], kept: tuple[int, int]) -> None:
    image = Image.new("RGB", size, "red")
    image.paste("blue", (size[0] // 2, size[1] // 2, size[0] // 2 + 1, size[1] // 2 + 1))
    found = middle(image)
    assert found.size == kept
    left, top = (size[0] - kept[0]) // 2, (size[1] - kept[1]) // 2
    assert found.getpixel((size[0] // 2 - left, size[1] // 2 - top)) == (0, 0, 255)


def test_letterbox_of_a_wide_target() -> None:
    assert letterbox(noise(), (10, 40), (1, 2, 3)).shape == (10, 40, 3)
    assert tuple(letterbox(noise(), (10, 40), (1, 2, 3))[0, 0]) == (1, 2, 3)


def test_200_megapixel_jpeg_is_decoded_scaled() -> None:
    limit = Image.MAX_IMAGE_PIXELS
    data = encoded(Image.new("L", (20000, 10000), 90), "JPEG")
    assert decode(data, fit=224).size == (2500, 1250)
    with pytest.raises(UnreadableImage, match=r"20000 x 10000 .* 100 megapixels"):
        decode(data)
    assert limit == Image.MAX_IMAGE_PIXELS


@pytest.mark.parametrize("long", [448, 449, 638, 1276, 1599])
@pytest.mark.parametrize("short", [1, 100, 448])
def test_scaled_decoding_stays_above_the_size_that_is_wanted(long: int, short: int) -> None:
    for fit in (224, 319, 320):
        found = decode(encoded(Image.new("RGB", (short, long)), "JPEG"), fit=fit)
        assert found.height >= fit
        assert found.height <= 2 * fit or short == 1


def test_scaled_decoding_changes_little() -> None:
    data = encoded(noise(30, 20).resize((1500, 1000), Image.Resampling.BICUBIC), "JPEG", quality=95)
    scaled, full = decode(data, fit=224), decode(data)
    assert scaled.width < full.width
    a, b = (letterbox(image, (224, 224), WHITE).astype(int) for image in (scaled, full))
    assert abs(a - b).mean() < 1.5


@pytest.mark.parametrize(
    "pixels",
    [
        np.zeros((4, 4, 2), np.uint8),
        np.zeros(4, np.uint8),
        np.zeros((0, 4, 3), np.uint8),
        np.zeros((4, 4, 3)),
    ],
)
def test_arrays_that_are_no_pixels(pixels: Any) -> None:
    with pytest.raises(UnreadableImage, match="expected pixels of shape"):
        decode(pixels)


@pytest.mark.parametrize("shape", [(4, 5), (4, 5, 3), (4, 5, 4)])
def test_arrays(shape: tuple[int, ...]) -> None:
    got = decode(np.full(shape, 255, np.uint8))
    assert got.size == (5, 4)
    assert near(got, WHITE)


def test_many_threads() -> None:
    limit = Image.MAX_IMAGE_PIXELS
    data = [encoded(noise(), "JPEG"), encoded(noise(), "PNG"), b"broken"] * 50
    expected = [np.asarray(decode(one, fit=16)).tobytes() for one in data[:2]] * 50

    def work(one: bytes) -> bytes | None:
        try:
            return np.asarray(decode(one, fit=16)).tobytes()
        except UnreadableImage:
            return None

    with ThreadPoolExecutor(16) as threads:
        got = list(threads.map(work, data))
    assert [one for one in got if one] == expected
    assert limit == Image.MAX_IMAGE_PIXELS


def test_thumbnail_and_contact_sheet() -> None:
    assert decode(thumbnail(noise(400, 100))).size == (128, 32)
    assert contact_sheet([noise()] * 11, columns=10, side=20).size == (200, 40)
    assert contact_sheet([], columns=2, side=20).size == (40, 20)


def test_bytes_of_any_kind_and_what_is_no_source(jpeg: Jpeg) -> None:
    data = jpeg((200, 0, 0))
    for same in (bytearray(data), memoryview(data)):
        assert decode(same).tobytes() == decode(data).tobytes()
    for wrong in (io.BytesIO(data), None, iter([data])):
        with pytest.raises(UnreadableImage, match=f"expected a path, encoded bytes, .* got {type(wrong).__name__}"):
            decode(wrong)  # type: ignore[arg-type]
