"""Codes: which image of a pool is meant, and what is said where none is."""

import time

import pytest

from holotype.errors import PoolError
from holotype.pool.pool import Pool


def pool_of(*ids: str) -> Pool:
    class Nothing:
        def read(self, row: int) -> bytes:
            return b""

    return Pool("the pool", list(ids), [1] * len(ids), Nothing())


@pytest.mark.parametrize("code", ["x/3048", "x/3048.jpg", "./x/3048.jpg", "3048", "3048.jpg", "./3048.JPG"])
def test_codes(code: str) -> None:
    assert pool_of("y/30", "x/3048").row(code) == 1


def test_code_with_a_dot() -> None:
    assert pool_of("a", "a.b").row("a.b") == 1
    assert pool_of("a", "a.b").row("a.b.jpg") == 1


def test_whole_id_wins_over_last_part() -> None:
    assert pool_of("x/7", "7").row("7") == 1


def test_ambiguous_code() -> None:
    with pytest.raises(PoolError, match=r"'7' means 2 images of the pool \(x/7, y/7\)"):
        pool_of("x/7", "y/7").row("7")


@pytest.mark.parametrize("code", ["3049", "nothing alike", ""])
def test_unknown_code(code: str) -> None:
    with pytest.raises(PoolError, match=r"no image .* ids look like .*3048"):
        pool_of("3048", "b").row(code)


def test_unknown_code_among_a_million() -> None:
    pool = pool_of(*(f"photos/{n % 1000:03}/{n}" for n in range(1_000_000)))
    assert pool.row("123456.jpg") == 123456  # builds what later look-ups use
    for code, near in [("photos/48/3048.jpg", "photos/048/3048"), ("3048000", "photos"), ("zebra" * 20, "photos")]:
        start = time.process_time()
        with pytest.raises(PoolError, match=f"ids look like .*{near}"):
            pool.row(code)
        assert time.process_time() - start < 1  # it is under half; difflib over a tenth of the ids takes ten


def test_find_does_not_guess() -> None:
    pool = pool_of("x/7", "y/7", "x/8")
    assert [pool.find(code) for code in ("8", "x/7.jpg", "7", "z/8", "9", "")] == [2, 0, None, None, None, None]
