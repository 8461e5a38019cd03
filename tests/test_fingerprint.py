"""What a pool is known by: its fingerprint follows the content, and costs little on a large pool."""

import io
import os
import shutil
import time
from pathlib import Path

import numpy as np
from conftest import MakeTar
from numpy.typing import NDArray
from PIL import Image

from holotype.pool.pool import Pool, open_pool


def test_fingerprint(make_tar: MakeTar) -> None:
    def of(*members: tuple[str, bytes]) -> str:
        return open_pool(make_tar(members)).fingerprint

    a, b = ("a.jpg", b"x"), ("b.jpg", b"y")
    assert of(a, b) == of(a, b)
    assert len({of(a, b), of(b, a), of(a, ("b.jpg", b"yy")), of(a)}) == 4


def frames(seed: int, count: int = 300) -> list[bytes]:
    """Images of one size with a black border, as the frames of a film are when they are stored as BMP."""
    random = np.random.default_rng(seed)
    found = []
    for _ in range(count):
        pixels = np.zeros((120, 160, 3), np.uint8)
        pixels[40:80] = random.integers(0, 256, (40, 160, 3))
        found.append(bmp(pixels))
    return found


def bmp(pixels: NDArray[np.uint8]) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "BMP")
    return buffer.getvalue()


def folder_of(path: Path, contents: list[bytes]) -> Path:
    path.mkdir()
    for n, content in enumerate(contents):
        (path / f"{n:04}.bmp").write_bytes(content)
    return path


def test_pools_of_the_same_names_and_sizes_differ_by_content(tmp_path: Path, make_tar: MakeTar) -> None:
    for seed in (1, 2):
        folder_of(tmp_path / str(seed), frames(seed))
    one, other = (open_pool(tmp_path / name) for name in "12")
    assert (one.ids, one.sizes) == (other.ids, other.sizes)
    assert one.fingerprint != other.fingerprint
    tar = make_tar([(f"{n:04}.bmp", content) for n, content in enumerate(frames(1))])
    assert open_pool(tar).fingerprint == one.fingerprint


def test_a_copy_has_the_same_fingerprint(tmp_path: Path) -> None:
    folder_of(tmp_path / "a", frames(1, 20))
    shutil.copytree(tmp_path / "a", tmp_path / "b", copy_function=shutil.copyfile)
    os.utime(tmp_path / "b" / "0001.bmp", (0, 0))
    assert open_pool(tmp_path / "a").fingerprint == open_pool(tmp_path / "b").fingerprint


def test_any_image_that_is_replaced_at_equal_size_changes_the_fingerprint(tmp_path: Path) -> None:
    contents = frames(1)
    folder = folder_of(tmp_path / "a", contents)
    before = open_pool(folder).fingerprint
    for row, content in enumerate(frames(2)):
        path = folder / f"{row:04}.bmp"
        if row % 20 == 0:
            path.write_bytes(content)
            assert open_pool(folder).fingerprint != before, row
            path.write_bytes(contents[row])
    assert open_pool(folder).fingerprint == before


class Counting:
    """A million images, of which it is counted which are read."""

    def __init__(self) -> None:
        self.rows: list[int] = []

    def read(self, row: int) -> bytes:
        self.rows.append(row)
        return b"x"


def test_the_fingerprint_of_a_large_pool_looks_into_some_images() -> None:
    reader, count = Counting(), 1_000_000
    pool = Pool("the pool", [str(n) for n in range(count)], [1] * count, reader)
    start = time.process_time()
    assert pool.fingerprint == pool.fingerprint
    assert time.process_time() - start < 5  # it is about one
    assert len(reader.rows) == 2000
    assert (reader.rows[0], reader.rows[-1]) == (0, count - 1)
    assert set(np.diff(reader.rows)) == {500, 501}


def test_the_fingerprint_reads_pieces_of_a_large_image(make_tar: MakeTar) -> None:
    """First, last and between them; a byte in any is seen, and the rest is not read."""
    whole = bytes(1_000_000)

    def of(place: int) -> str:
        content = bytearray(whole)
        content[place] = 1
        return open_pool(make_tar([("a.bmp", bytes(content))])).fingerprint

    plain = open_pool(make_tar([("a.bmp", whole)])).fingerprint
    assert len({plain, *map(of, (0, 4095, 142_500, 999_999))}) == 5
    assert of(50_000) == plain


def test_a_fingerprint_with_an_image_that_is_gone(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "a", frames(1, 3))
    whole, part = open_pool(folder).fingerprint, open_pool(folder)
    (folder / "0001.bmp").unlink()
    assert part.fingerprint != whole
