"""The cache does not grow for ever: what nobody used for long goes, what is in use or not ours stays."""

import json
import os
import time
from pathlib import Path

import pytest
from conftest import MakeTar

from holotype.encoders import towers
from holotype.encoders.registry import load_encoder
from holotype.pool import tars
from holotype.pool.pool import open_pool
from holotype.stale import remove_stale
from holotype.vectors.folders import known_folders, open_shared

DAY = 24 * 3600


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOLOTYPE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def unused(path: Path, days: int) -> Path:
    """Set back when `path` was used last, which is made where it is not there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    os.utime(path, (time.time() - days * DAY,) * 2)
    return path


def folder_of(path: Path, content: bytes) -> Path:
    path.mkdir()
    (path / "0.jpg").write_bytes(content)
    return path


def test_digests_go_when_nobody_used_them_for_90_days(tmp_path: Path, cache: Path) -> None:
    first = folder_of(tmp_path / "first", b"one")
    open_pool(first).digests()
    [kept] = (cache / "digests").iterdir()
    part = unused(cache / "digests" / f".{kept.name[:40]}.123-0123abcd.part", 91)
    foreign = [unused(cache / "digests" / name, 400) for name in ("notes.txt", "a.npz", f"{kept.name}.old")]
    (linked := cache / "digests" / f"{'0' * 64}.npz").symlink_to(foreign[0])
    os.utime(linked, (0, 0), follow_symlinks=False)
    unused(kept, 89)
    open_pool(folder_of(tmp_path / "second", b"two")).digests()
    assert kept.exists()
    assert not part.exists()
    unused(kept, 91)
    assert open_pool(first).digests()  # that is a use
    open_pool(folder_of(tmp_path / "third", b"three")).digests()
    assert kept.exists()
    pool = open_pool(first)
    unused(kept, 91)
    open_pool(folder_of(tmp_path / "fourth", b"four")).digests()
    assert not kept.exists()
    assert pool.digests() == open_pool(first).digests()  # who lacks it reads the images again
    assert all(path.exists() for path in [*foreign, linked])


def test_listings_of_tars_go_as_well(cache: Path, make_tar: MakeTar, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tars, "_KEPT", 1)
    first, second = (unused(make_tar([("0.jpg", b"x")], name), 1) for name in ("first.tar", "second.tar"))
    open_pool(first)
    [kept] = (cache / "listings").iterdir()
    unused(kept, 91)
    open_pool(first)
    open_pool(second)
    assert len([*(cache / "listings").iterdir()]) == 2
    unused(kept, 91)
    (cache / "listings" / "mine.npz").touch()
    open_pool(make_tar([("1.jpg", b"y")], "third.tar"))  # too new to be kept: nothing is written, nothing goes
    assert kept.exists()
    open_pool(unused(make_tar([("1.jpg", b"y")], "fourth.tar"), 1))
    assert not kept.exists()
    assert len(open_pool(first)) == 1


def test_where_vectors_are_is_forgotten_only_where_they_are_not(tmp_path: Path, cache: Path, network: str) -> None:
    pool, encoder = open_pool(folder_of(tmp_path / "pool", b"x")), load_encoder(network)
    for name in ("here", "gone", "away"):
        open_shared(tmp_path / name, encoder, pool)
    for name in ("here", "away"):
        (tmp_path / name).mkdir(exist_ok=True)
        (tmp_path / name / "embeddings.json").write_text(
            json.dumps({"fingerprint": encoder.fingerprint, "encoder": encoder.name, "dim": encoder.dim})
        )
    notes = [unused(note, 91) for note in (cache / "vectors" / "known").iterdir()]
    assert len(notes) == 3
    open_shared(tmp_path / "away", encoder, pool)
    assert sum(note.exists() for note in notes) == 2
    assert set(known_folders()) == {tmp_path / "here", tmp_path / "away"}


def test_a_note_that_is_damaged_or_was_never_whole_goes_and_stops_nothing(
    tmp_path: Path, cache: Path, network: str
) -> None:
    notes, pool = cache / "vectors" / "known", open_pool(folder_of(tmp_path / "pool", b"x"))
    names = [f".{'a' * 16}.json.123-0123abcd.part", *(f"{letter * 16}.json" for letter in "bcdef")]
    contents = [b"", b"{", b"[1]", b"{}", b"\xff", b"[" * 100_000]
    for name, content in zip(names, contents, strict=True):
        notes.mkdir(parents=True, exist_ok=True)
        (notes / name).write_bytes(content)
        unused(notes / name, 91)
    open_shared(tmp_path / "vectors", load_encoder(network), pool)
    assert not any((notes / name).exists() for name in names)
    assert len([*notes.iterdir()]) == 1


def test_encoders_of_older_formats_go_and_what_the_hub_gave_stays_known(
    cache: Path, network: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoders = cache / "encoders"
    load_encoder(network)
    now = {unused(path, 400).name for path in encoders.iterdir()}
    monkeypatch.setattr(towers, "_FORMAT", 3)
    source = unused(encoders / "owner--net-v1.onnx.source.json", 400)
    used = unused(encoders / "other-v1.onnx", 10)
    load_encoder(network)
    there = {path.name for path in encoders.iterdir()}
    assert not now & there
    assert {source.name, used.name} < there
    monkeypatch.setattr(towers, "_FORMAT", 2)
    load_encoder(network)
    assert {path.name for path in encoders.iterdir()} == there | now  # those of a later version are not ours to remove


def test_a_folder_that_cannot_be_listed_stops_nothing(tmp_path: Path) -> None:
    remove_stale(tmp_path / "absent", ".*")
    (tmp_path / "file").touch()
    remove_stale(tmp_path / "file", ".*")
    remove_stale(tmp_path, ".*")
    assert (tmp_path / "file").exists()
