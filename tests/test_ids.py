"""Pools of so many images that their ids are no objects: everything about them is as in others."""

from pathlib import Path

import numpy as np
import pytest
from conftest import MakeTar

from holotype.errors import PoolError
from holotype.pool import codes, digests, ids, pool
from holotype.pool.ids import numbers_of_names
from holotype.pool.pool import Pool, open_pool
from holotype.vectors.supplied import import_embeddings

NAMES = [f"a/{row:05}.jpg" for row in range(40)] + ["b/7.png", "b/photo 1.jpg", "c/Käfer.jpg", "c/Ka\u0308fer2.jpg"]
NAMES += ["d/x.jpg", "d/x.png", "e/y.jpg.png", "e/y.jpg"]
CODES = [
    *NAMES,
    "00007",
    "7",
    "a/7",
    "a/00007.webp",
    "photo  1",
    "photo 1.jpg",
    "c/Ka\u0308fer",
    "käfer",
    "Käfer2.jpg",
    "x",
    "d/x",
    "x.png",
    "y.jpg",
    "e/y.jpg",
    "y",
    "/home/me/a/00012.jpg",
    "b\\7",
    "nothing",
    "a",
    "",
    "...",
    "000",
    "a/39",
    "a/40",
    "./a/00003.jpg",
    "a/00012.jpg ",
    "photo 1.jpg\u00a0",
]


@pytest.fixture
def many(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten images are very many."""
    for module in (ids, pool):
        monkeypatch.setattr(module, "MOST_LISTED", 10)
    monkeypatch.setattr(digests, "_BLOCK", 7)


def members(names: list[str]) -> list[tuple[str, bytes]]:
    return [(name, name.encode()) for name in names]


def both(source: object, monkeypatch: pytest.MonkeyPatch) -> tuple[Pool, Pool]:
    """The pool, and the same pool as one of very many images."""
    few = open_pool(source)  # type: ignore[arg-type]
    with monkeypatch.context() as patch:
        for module in (ids, pool):
            patch.setattr(module, "MOST_LISTED", 10)
        many = open_pool(source)  # type: ignore[arg-type]
    return few, many


def test_it_is_the_same_pool(make_tar: MakeTar, monkeypatch: pytest.MonkeyPatch) -> None:
    few, many = both(make_tar(members(NAMES)), monkeypatch)
    assert isinstance(many.ids, ids.PackedTexts)
    assert list(many.ids) == few.ids
    assert many.ids[3:6] == few.ids[3:6]
    assert many.ids[-1] == few.ids[-1]
    assert (list(many.suffixes), list(many.sizes)) == (list(few.suffixes), list(few.sizes))
    assert {name: many.rows[name] for name in few.ids} == dict(few.rows) == dict(many.rows)
    assert "nothing" not in many.rows
    assert (many.stamp, many.fingerprint) == (few.stamp, few.fingerprint)
    assert [many.read(row) for row in range(len(many))] == [few.read(row) for row in range(len(few))]
    assert [many.path(row) for row in range(len(many))] == [few.path(row) for row in range(len(few))]
    assert many.row_of(few.read(20)) == 20
    assert many.digests([4, 5]) == few.digests([4, 5])


@pytest.mark.parametrize("longer", [True, False])
def test_a_code_means_the_same(make_tar: MakeTar, monkeypatch: pytest.MonkeyPatch, longer: bool) -> None:
    few, many = both(make_tar(members(NAMES)), monkeypatch)
    for code in CODES:
        assert many.codes.find(code, longer=longer) == few.codes.find(code, longer=longer), code


def test_a_code_that_means_none_is_told(make_tar: MakeTar, many: None) -> None:
    found = open_pool(make_tar(members(NAMES)))
    with pytest.raises(PoolError, match=rf"no image 'nothing' .*\({len(NAMES)} images\); ids look like ."):
        found.row("nothing")
    with pytest.raises(PoolError, match="means 2 images"):
        found.row("x")


def test_a_name_twice_is_refused(make_tar: MakeTar, many: None, tmp_path: Path) -> None:
    make_tar(members([f"{row}.jpg" for row in range(20)]), "pool-0.tar")
    make_tar(members([f"{row}.jpg" for row in range(19, 30)]), "pool-1.tar")
    with pytest.raises(PoolError, match=r"the id '19\.jpg' stands for 2 images"):
        open_pool(tmp_path / "pool-*.tar")


def test_pools_are_joined(make_tar: MakeTar, monkeypatch: pytest.MonkeyPatch) -> None:
    one = make_tar(members([f"{row}.jpg" for row in range(30)]), "one.tar")
    two = make_tar(members([f"{row}.jpg" for row in range(20, 50)]), "two.tar")
    few, many = both([one, two], monkeypatch)
    assert isinstance(many.ids, ids.PackedTexts)
    assert list(many.ids) == list(few.ids)
    assert list(many.ids)[30] == "two/20"
    assert many.stamp == few.stamp
    some = many.some(np.array([1, 29, 30, 59]))
    assert (list(some.ids), [some.read(row) for row in range(4)]) == (
        ["1", "29", "two/20", "two/49"],
        [b"1.jpg", b"29.jpg", b"20.jpg", b"49.jpg"],
    )
    assert some.reader.states().tolist() == few.reader.states()[[1, 29, 30, 59]].tolist()  # type: ignore[attr-defined]
    assert many.some(np.array([40])).path(0) == few.path(40)


def test_some_of_a_folder(tmp_path: Path) -> None:
    for row in range(9):
        (tmp_path / f"{row}.jpg").write_bytes(b"%d" % row)
    some = open_pool(tmp_path).some(np.array([2, 5]))
    assert [some.read(row) for row in range(2)] == [b"2", b"5"]
    assert (list(some.ids), some.path(1)) == (["2", "5"], str(tmp_path / "5.jpg"))


def test_vectors_fit_by_number_and_by_id(make_tar: MakeTar, many: None, tmp_path: Path) -> None:
    order = np.random.default_rng(0).permutation(30)
    found = open_pool(make_tar(members([f"d/{row:04}.jpg" for row in order])))
    vectors = np.eye(30, dtype=np.float16)
    np.save(tmp_path / "v.npy", vectors)
    by_number = import_embeddings(tmp_path / "v.npy", found)
    assert (by_number.take([0, 7]).argmax(axis=1) == order[[0, 7]]).all()
    (tmp_path / "v.ids.txt").write_text("".join(f"/elsewhere/d/{row:04}.jpg\n" for row in range(30)))
    by_id = import_embeddings(tmp_path / "v.npy", found)
    assert (by_id.rows == by_number.rows).all()


def test_numbers_of_names() -> None:
    names = ["7", "a/0007", "0", "000", "", "a/", "7a", "-7", "1" * 18, "1" * 19, "0" * 30 + "5", "٣"]
    assert numbers_of_names(names).tolist() == [7, 7, 0, 0, -1, -1, -1, -1, int("1" * 18), -1, 5, -1]


def test_words_of_a_code_are_what_nobody_writes_otherwise() -> None:
    assert codes.Codes(["0042"], [], {"0042": 0}).find("42") == [0]
