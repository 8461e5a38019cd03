"""Names from outside can be stored and printed everywhere, and are compared as people read them."""

import os
import unicodedata

import pytest

from holotype import names
from holotype.names import comparable, composed, counted, printable, shown, spelled_out, without_folders

UNSAFE = {
    os.fsdecode(b"caf\xe9"): r"caf\xe9",
    "図".encode().decode("ascii", "surrogateescape"): "図",
    "a\nb\r\tc": r"a\nb\r\tc",
    "\x1b[31mred": r"\x1b[31mred",
    "a\x7f\x9bb": r"a\x7f\x9bb",
    "gpj.\u202egnp": r"gpj.\u202egnp",
    "a\u2066b\u2069": r"a\u2066b\u2069",
    "line\u2028end": r"line\u2028end",
    "\ud800": r"\ud800",
    "mark\u200e\u061c": r"mark\u200e\u061c",
    "\u206amirrored\ufff9a\ufffab\ufffb": r"\u206amirrored\ufff9a\ufffab\ufffb",
    "\x1b]8;;http://a\x07b": r"\x1b]8;;http://a\x07b",  # a link, where the terminal knows them
    "e" + "\u0301" * 10 + "a\u0301": "e" + "\u0301" * 8 + r"\u0301\u0301" + "a\u0301",
    "e" + "\u0301\u200d" * 9: "e" + "\u0301\u200d" * 8 + r"\u0301" + "\u200d",
}


@pytest.mark.parametrize("name", UNSAFE)
def test_what_cannot_be_printed_is_escaped(name: str) -> None:
    assert printable(name) == UNSAFE[name]
    assert printable(UNSAFE[name]) == UNSAFE[name]
    printable(name).encode()


def test_marks_are_looked_at_only_where_many_may_stand_on_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    """To look at each character takes six times as long, for each name of a pool."""
    hidden = [chr(code) for code in range(0x110000) if unicodedata.category(chr(code)) in ("Mn", "Me", "Cf")]
    assert all(names._MAY_STACK.search(9 * character) for character in hidden)
    monkeypatch.setattr(names, "_thinned", None)
    for name in ("фотографии/коллекция/изображение_000123", "図/猫", "שָׁלוֹם", "Poke\u0301mon"):
        assert printable(name) == name


@pytest.mark.parametrize(
    "name", ["plain", "Pokémon", "Poke\u0301mon", "図/猫", "שלום", "👩\u200d🔬", "a b", "a\u202fb", "שָׁלוֹם", "ག྆ྷ", "ที่"]
)
def test_other_names_stay_as_they_are(name: str) -> None:
    assert printable(name) == shown(name) == name


def test_text_of_several_lines() -> None:
    assert shown("one\x1b[2J\ntwo\n") == "one\\x1b[2J\ntwo\n"


def test_names_that_read_the_same_compare_the_same() -> None:
    taken_apart = unicodedata.normalize("NFD", "Pokémon")
    assert composed(taken_apart) == comparable(taken_apart) == "Pokémon"
    assert comparable("\ufeff é \u200b") == "é"
    assert comparable(" a ") == "a"
    assert comparable("3\u202fPM é") == "3 PM é"
    assert comparable("A") != comparable("a")


def test_spelled_out() -> None:
    assert (spelled_out("Poke\u0301mon"), spelled_out("Pokémon")) == (r"Poke\u0301mon", r"Pok\xe9mon")


def test_a_count_fits_its_noun() -> None:
    assert [counted(count, "image") for count in (0, 1, 2, 2688)] == ["0 images", "1 image", "2 images", "2,688 images"]


@pytest.mark.parametrize(
    ("given", "called"),
    [
        (["/home/ada/cat.jpg", "000012", '"a cat"', "a/b.jpg"], ["cat.jpg", "000012", '"a cat"', "a/b.jpg"]),
        (["/home/ada/one/cat.jpg", "/home/ada/two/cat.jpg"], ["one/cat.jpg", "two/cat.jpg"]),
        (["/cat.jpg", "/home/cat.jpg"], ["/cat.jpg", "home/cat.jpg"]),
        (["/home/cat.jpg", "/home/cat.jpg"], ["cat.jpg", "cat.jpg"]),
        (["/"], ["/"]),
        ([], []),
    ],
)
def test_where_a_file_lies_is_left_out_where_that_says_nothing(given: list[str], called: list[str]) -> None:
    assert without_folders(given) == called
