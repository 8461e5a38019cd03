"""Codes: which image of a pool is meant, and what is said where none is."""

import os
import time
import unicodedata
from collections.abc import Sequence

import pytest

from holotype.errors import PoolError
from holotype.pool.pool import Pool


def pool_of(*ids: str, suffixes: Sequence[str] = ()) -> Pool:
    class Nothing:
        def read(self, row: int) -> bytes:
            return b""

    return Pool("the pool", list(ids), [1] * len(ids), Nothing(), suffixes=suffixes)


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


def test_unknown_code_in_a_large_pool() -> None:
    pool = pool_of(*(f"photos/{n % 1000:03}/{n}" for n in range(300_000)))
    assert pool.row("123456.jpg") == 123456
    assert pool.row(" 0123457.jpg ") == 123457  # these two build what later look-ups use
    for code, near in [("photos/48/3048.jpg", "photos/048/3048"), ("30480000", "photos"), ("zebra" * 20, "photos")]:
        start = time.process_time()
        with pytest.raises(PoolError, match=f"ids look like .*{near}"):
            pool.row(code)
        assert time.process_time() - start < 0.5  # difflib over all ids would take seconds


def test_find_does_not_guess() -> None:
    pool = pool_of("x/7", "y/7", "x/8")
    assert [pool.find(code) for code in ("8", "x/7.jpg", "7", "z/8", "9", "")] == [2, 0, None, None, None, None]


NFC, NFD = (unicodedata.normalize(form, "Pokémon_0") for form in ("NFC", "NFD"))
WRITTEN = {
    " x/3048.jpg ": "x/3048",
    "./x//3048": "x/3048",
    r"x\3048.jpg": "x/3048",
    r".\x\3048.JPG": "x/3048",
    "x/003048": "x/3048",
    "03048.png": "x/3048",
    "\ufeffx/3048": "x/3048",
    "12": "00012",
    "12.jpg": "00012",
    "0": "00000",
    r"C:\data\pool\x\3048.jpg": "x/3048",
    "/home/me/pool/00012.jpg": "00012",
    "/elsewhere/x/12.jpg": "00012",
    NFD: NFC,
    f"{NFD}.jpg": NFC,
    os.fsdecode(b"caf\xe9.jpg"): r"caf\xe9",
    r"caf\xe9": r"caf\xe9",
    "screen 3 PM.png": "screen 3\u202fPM",
    "a\u202eb": r"a\u202eb",
}


@pytest.mark.parametrize("code", WRITTEN)
def test_codes_as_people_and_programs_write_them(code: str) -> None:
    pool = pool_of("x/3048", "00000", "00012", NFC, r"caf\xe9", "screen 3\u202fPM", r"a\u202eb")
    assert pool.ids[pool.row(code)] == WRITTEN[code]


def test_a_tar_from_windows() -> None:
    pool = pool_of(r"photos\0", r"photos\10")
    assert [pool.row(code) for code in (r"photos\10.jpg", "photos/10", "10.jpg", "0")] == [1, 1, 1, 0]


@pytest.mark.parametrize("code", ["12", " 012", "0012.jpg"])
def test_a_number_that_stands_for_two(code: str) -> None:
    with pytest.raises(PoolError, match=r"means 2 images of the pool \(00012, 000012\)"):
        pool_of("00012", "000012").row(code)


def test_a_number_as_it_is_written_wins() -> None:
    assert pool_of("00012", "12").row("12") == 1


def test_two_forms_of_one_name_are_told_apart() -> None:
    both = pool_of(NFC, NFD)
    assert (both.row(NFC), both.row(NFD)) == (0, 1)
    with pytest.raises(PoolError, match=r"means 2 images .* spelled Pok\\xe9mon_0, .* spelled Poke\\u0301mon_0\)"):
        both.row(f" {NFC}")


def test_a_name_that_only_looks_the_same() -> None:
    with pytest.raises(PoolError, match=r"first is spelled cat_0, and the one given c\\u0430t_0"):
        pool_of("cat_0", "dog_0").row("c\u0430t_0")  # a Cyrillic letter


BANNERS = pool_of("banner", "banner.jpg.webp", suffixes=[".jpg", ""])


def test_a_code_that_is_one_images_name_and_anothers_file() -> None:
    with pytest.raises(PoolError, match=r"means 2 images .*\(banner, the file banner\.jpg, banner\.jpg\.webp\)"):
        BANNERS.row("banner.jpg")
    assert [BANNERS.row(code) for code in ("banner", "./banner", "banner.jpg.webp")] == [0, 0, 1]


def test_the_same_in_two_folders() -> None:
    pool = pool_of("x/banner", "y/banner.jpg", suffixes=[".jpg", ".webp"])
    assert pool.find("banner.jpg") is None
    assert [pool.row(code) for code in ("banner", "x/banner.jpg", "banner.jpg.webp", "y/banner.jpg")] == [0, 0, 1, 1]


def test_ids_that_kept_their_suffix() -> None:
    pool = pool_of("a.png", "a.webp", "x/a", suffixes=["", "", ".gif"])
    assert [pool.row(code) for code in ("a.png", "./a.webp", "a.PNG", "a.gif", "x/a.jpg")] == [0, 1, 0, 2, 2]
    for code, found in (("a", r"3 images .* \(a\.png, a\.webp, x/a\)"), ("a.bmp", r"2 images .* \(a\.png, a\.webp\)")):
        with pytest.raises(PoolError, match=f"means {found}"):
            pool.row(code)


def test_the_right_file_wins_over_one_with_another_suffix() -> None:
    assert pool_of("7", "x/7", suffixes=[".png", ".jpg"]).row("7.jpg") == 1
