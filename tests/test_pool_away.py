"""Images that cannot be read for a while are never taken for broken ones: tried again, or the command stops."""

import gc
import os
import resource
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import Jpeg, MakeTar, write_tar
from pictures import blurred, encoded
from PIL import Image
from system import nobody

from holotype import patience
from holotype.encoders.encode import encode_images
from holotype.encoders.registry import load_encoder
from holotype.encoders.runtimes import OnnxEncoder
from holotype.errors import PoolError, UnreadableHere, UnreadableNow
from holotype.pool.formats.formats import read_header
from holotype.pool.isolation import decode_apart
from holotype.pool.limits import Cost, limits
from holotype.pool.pool import Pool, open_pool
from holotype.vectors.store import embed

COUNT = 30


@pytest.fixture
def encoder(network: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> OnnxEncoder:
    monkeypatch.setenv("HOLOTYPE_CACHE", str(tmp_path / "cache"))
    return load_encoder(network)


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patience, "_PATIENCE", 0.2)


def fill(folder: Path) -> Pool:
    folder.mkdir()
    for row in range(COUNT):
        (folder / f"{row:02}.jpg").write_bytes(encoded(blurred(row)))
    return open_pool(folder)


@contextmanager
def few_files() -> Iterator[None]:
    """This process can open no more files than it has."""
    gc.collect()  # else files of other tests may be closed meanwhile
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    free = os.open(os.devnull, os.O_RDONLY)
    os.close(free)
    resource.setrlimit(resource.RLIMIT_NOFILE, (free, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


@contextmanager
def renamed(folder: Path) -> Iterator[None]:
    away = folder.with_name("away")
    folder.rename(away)
    yield
    away.rename(folder)


@contextmanager
def emptied(folder: Path) -> Iterator[None]:
    """As when a disk is taken out: its mount point is there, and empty."""
    with renamed(folder):
        folder.mkdir()
        yield
        folder.rmdir()


@contextmanager
def closed(folder: Path) -> Iterator[None]:
    folder.chmod(0)
    yield
    folder.chmod(0o755)


AWAY: list[Callable[[Path], object]] = [renamed, emptied, lambda _: few_files()]


@pytest.mark.parametrize("away", AWAY)
def test_what_is_away_for_a_moment_costs_no_image(away: Callable[[Path], object], tmp_path: Path) -> None:
    pool = fill(tmp_path / "pool")
    fault = away(tmp_path / "pool")
    fault.__enter__()  # type: ignore[attr-defined]
    back = threading.Timer(0.5, lambda: fault.__exit__(None, None, None))  # type: ignore[attr-defined]
    back.start()
    assert [pool.read(row) for row in range(3)] == [encoded(blurred(row)) for row in range(3)]
    back.join()


@pytest.mark.parametrize("away", AWAY)
@pytest.mark.usefixtures("impatient")
def test_what_is_away_for_longer_stops_the_command_and_nothing_is_called_broken(
    away: Callable[[Path], object], tmp_path: Path, encoder: OnnxEncoder
) -> None:
    pool = fill(tmp_path / "pool")
    if away is AWAY[-1]:
        embed(pool, encoder, tmp_path / "v")  # what else is opened is open
        pool = open_pool(tmp_path / "pool")
        with few_files(), pytest.raises(UnreadableNow, match="Too many open files"):
            pool.read(0)
        return
    with away(tmp_path / "pool"), pytest.raises(PoolError, match=r"cannot be read now \(.*give the same command again"):  # type: ignore[attr-defined]
        embed(pool, encoder, tmp_path / "v")
    found = embed(open_pool(tmp_path / "pool"), encoder, tmp_path / "v")
    assert (len(found.rows), found.unreadable) == (COUNT, {})


@pytest.mark.usefixtures("impatient")
def test_a_few_images_that_are_gone_or_forbidden_stop_nothing(encoder: OnnxEncoder) -> None:
    with nobody() as folder:
        fill(folder / "pool")
        for row in range(10, 20):
            (folder / "pool" / f"{row}.jpg").chmod(0)
        pool = open_pool(folder / "pool")
        (folder / "pool" / "03.jpg").unlink()
        found = embed(pool, encoder, folder / "v")
        assert len(found.unreadable) == 11
        assert found.unreadable["03"] == "cannot be read: No such file or directory"
        assert found.unreadable["10"] == "cannot be read: Permission denied"
        for row in range(10, 20):
            (folder / "pool" / f"{row}.jpg").chmod(0o644)
        assert embed(open_pool(folder / "pool"), encoder, folder / "v").unreadable == {}
        with closed(folder / "pool"), pytest.raises(PoolError, match="cannot be read now"):
            embed(pool, encoder, folder / "w")


def test_of_a_tar_too(make_tar: MakeTar, jpeg: Jpeg) -> None:
    pool = open_pool(make_tar([(f"{row}.jpg", jpeg()) for row in range(3)]))
    path = Path(pool.source)
    before, whole = path.stat(), path.read_bytes()
    os.truncate(path, 100)
    with pytest.raises(PoolError, match="was changed while it was in use"):
        pool.read(2)
    path.write_bytes(whole)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))  # as if nothing had happened
    with pytest.raises(PoolError, match="was changed while it was in use"):
        pool.read(2)
    assert open_pool(path).read(2) == jpeg()


def test_a_picture_that_was_half_written_is_read_again(encoder: OnnxEncoder) -> None:
    whole = encoded(blurred(1))
    given = iter([whole[:500], whole[:900], whole])
    (found,) = encode_images(["a"], lambda _: next(given), encoder)
    assert (found.ids, found.unreadable) == (["a"], {})


def kill_at_once(monkeypatch: pytest.MonkeyPatch, most: int = 1000) -> list[subprocess.Popen[bytes]]:
    """End the first `most` processes that decode as soon as they begin, as a system does that lacks memory."""
    begun: list[subprocess.Popen[bytes]] = []

    class Ended(subprocess.Popen[bytes]):
        def __init__(self, *words: Any, **options: Any) -> None:
            super().__init__(*words, **options)
            begun.append(self)
            if len(begun) <= most:
                os.kill(self.pid, signal.SIGKILL)

    monkeypatch.setattr(subprocess, "Popen", Ended)
    return begun


@pytest.mark.parametrize("most", [1, 2])
def test_a_decoder_that_somebody_ended_says_nothing_of_the_picture(
    most: int, jpeg: Jpeg, monkeypatch: pytest.MonkeyPatch
) -> None:
    header, begun = read_header(jpeg()), kill_at_once(monkeypatch, most)
    cost = Cost.of(header, None)
    if most == 1:
        assert decode_apart(header, None, cost, limits()).size == (16, 12)
    else:
        with pytest.raises(UnreadableHere, match=r"ended twice, by signal 9, .* lacks memory; free memory"):
            decode_apart(header, None, cost, limits())
    assert len(begun) == 2


def test_pictures_whose_decoders_are_ended_each_time_stop_no_run_and_are_tried_again(
    tmp_path: Path, encoder: OnnxEncoder
) -> None:
    fill(tmp_path / "pool")
    for row in range(8):
        moving = encoded(blurred(row), "AVIF", save_all=True, append_images=[blurred(row + 1)])
        (tmp_path / "pool" / f"large{row}.avif").write_bytes(moving)
    with pytest.MonkeyPatch.context() as here:
        kill_at_once(here)
        for _ in range(2):
            found = embed(open_pool(tmp_path / "pool"), encoder, tmp_path / "v")
            assert (len(found.rows), len(found.unreadable)) == (COUNT, 8)
            assert "ended twice, by signal 9" in found.unreadable["large3"]
    assert embed(open_pool(tmp_path / "pool"), encoder, tmp_path / "v").unreadable == {}


def test_too_little_memory_is_no_broken_picture(tmp_path: Path) -> None:
    Image.fromarray(np.zeros((5000, 5000, 3), np.uint8)).save(tmp_path / "a.jpg", quality=50)
    script = """
import resource, sys
from holotype.errors import UnreadableImage
from holotype.pool.images import decode
decode(sys.argv[1], fit=2000)
content = open(sys.argv[1], "rb").read()
used = int(next(line for line in open("/proc/self/status") if line.startswith("VmSize")).split()[1]) << 10
resource.setrlimit(resource.RLIMIT_AS, (used + (20 << 20), resource.RLIM_INFINITY))
for given in (content, content[:-9000]):
    try:
        decode(given, fit=5000)
    except UnreadableImage as error:
        print(type(error).__name__)
resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
print(decode(content, fit=5000).size)
try:
    decode(content[:9000], fit=5000)
except UnreadableImage as error:
    print(type(error).__name__)
"""
    done = subprocess.run(
        [sys.executable, "-c", script, tmp_path / "a.jpg"], capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines() == ["UnreadableNow", "UnreadableNow", "(5000, 5000)", "UnreadableImage"]


def linked(path: Path) -> None:
    path.with_name("backup.tar").hardlink_to(path)


def guarded(path: Path) -> None:
    path.chmod(0o400)


def moved(path: Path) -> None:
    path.rename(path.with_name("elsewhere.tar"))


@pytest.mark.parametrize("change", [linked, guarded, moved])
def test_a_tar_in_use_may_be_linked_to_guarded_and_moved(
    change: Callable[[Path], None], make_tar: MakeTar, jpeg: Jpeg
) -> None:
    path = make_tar([(f"{row}.jpg", jpeg()) for row in range(3)])
    pool = open_pool(path)
    change(path)
    assert [pool.read(row) for row in range(3)] == [jpeg()] * 3


@pytest.mark.parametrize("also", [linked, guarded, moved])
@pytest.mark.parametrize("place", ["header", "image"])
def test_but_not_written_over_with_its_time_set_back(also: Callable[[Path], None], place: str, tmp_path: Path) -> None:
    images = [encoded(blurred(row)) for row in range(3)]
    write_tar(tmp_path / "a.tar", [(f"{row}.jpg", image) for row, image in enumerate(images)])
    pool, before = open_pool(tmp_path / "a.tar"), (tmp_path / "a.tar").stat()
    assert pool.read(0) == images[0]
    content = (tmp_path / "a.tar").read_bytes()
    if place == "header":
        other = write_tar(tmp_path / "b.tar", [(f"{row}.jpg", images[row - 3]) for row in range(3, 6)]).read_bytes()
    else:
        other = content.replace(images[2], bytes(reversed(images[2])))
    (tmp_path / "a.tar").write_bytes(other)
    os.utime(tmp_path / "a.tar", ns=(before.st_atime_ns, before.st_mtime_ns))
    also(tmp_path / "a.tar")
    assert len(other) == len(content)
    with pytest.raises(PoolError, match="was changed while it was in use"):
        pool.read(0)
