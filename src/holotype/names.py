"""Names from outside: in a form that can be stored and printed everywhere, and in one by which they are compared.

Whoever packs a tar or names a file chooses its name: bytes that are no UTF-8, line ends, commands to the terminal, and
characters that turn the direction of the text around them, so that a name looks like another.
"""

import re
import shlex
import unicodedata
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path

# Control characters, line and paragraph ends, surrogates, and what turns the direction of a text or hides a part of it.
_UNSAFE = re.compile(
    "[\0-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069\u206a-\u206f\ufff9-\ufffb]"
)
_INVISIBLE = "Cf"  # zero-width spaces, byte-order marks, soft hyphens
_MARKS = ("Mn", "Me")  # what stands on the letter before it
_MOST_MARKS = 8  # on one letter; more would cover the lines around it
_MAY_STACK = re.compile(rf"[^\w\0-\x7f]{{{_MOST_MARKS + 1}}}")  # marks are no letters; found at once, and nearly never
OWN_RUN = "holotype run --images IMAGES --exemplar NAME=ID --out NEW"  # of what a run cannot take in
_NOT_ON_FAT = re.compile(r'[<>:"\\|?*]')
_called: dict[str, str] = {}  # place -> name
RIGHT_TO_LEFT = "[\u0590-\u08ff\ufb1d-\ufdff\ufe70-\ufefe\U00010800-\U00010fff\U0001e800-\U0001efff]"  # letters


def printable(name: str) -> str:
    """Return `name` with what cannot be stored or printed as `\\xe9` (a byte that is no UTF-8), `\\n`, `\\u202e`."""
    if name.isascii() and name.isprintable():
        return name
    with suppress(UnicodeError):  # in a plain locale each byte of a name in UTF-8 is one that Python keeps
        name = name.encode(errors="surrogateescape").decode(errors="surrogateescape")
    return _UNSAFE.sub(lambda found: _escaped(found[0]), _thinned(name) if _MAY_STACK.search(name) else name)


def _thinned(name: str) -> str:
    """Return `name` with the marks of a letter that has too many of them escaped."""
    count, kept = 0, list[str]()
    for character in name:
        kind = unicodedata.category(character)
        count = count + 1 if kind in _MARKS else count if kind == _INVISIBLE else 0
        kept.append(_escaped(character) if count > _MOST_MARKS and kind in _MARKS else character)
    return "".join(kept)


def call(place: str, name: str) -> None:
    """Have what is at `place`, a path, called `name` in all that is shown: people gave it under that name."""
    _called[place] = name


def named(text: str) -> str:
    """Return `text` with each place under the name that it has for people."""
    for place, name in _called.items():
        text = text.replace(place, name)
    return text


def shown(text: str) -> str:
    """Return `text` of several lines, each as `printable` has it, with places as people know them."""
    text = named(text) if _called else text
    return text if text.isascii() and text.isprintable() else "\n".join(map(printable, text.split("\n")))


def _escaped(character: str) -> str:
    if "\udc80" <= character <= "\udcff":  # how Python keeps a byte that is no UTF-8
        return f"\\x{ord(character) - 0xDC00:02x}"
    return character.encode("unicode_escape").decode()


def counted(count: int, noun: str) -> str:
    """Return a count before its noun: `1 image`, `2,688 images`."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def on_any_disk(name: str) -> str:
    """Return `name` as the name of a file that FAT and NTFS take as well."""
    return _NOT_ON_FAT.sub("-", name)


def command(*words: object) -> str:
    """Return a command of holotype as a shell takes it, whatever is in the names of files."""
    return shlex.join(["holotype", *map(str, words)])


def composed(text: str) -> str:
    """Return `text` in Unicode's form NFC: an accented letter that some systems take apart is one character."""
    return text if text.isascii() else unicodedata.normalize("NFC", text)


def same_name(name: str, others: Iterable[str]) -> str:
    """Return the one of `others` that is `name` in another form of Unicode; `name` where none is."""
    if not isinstance(name, str):
        return name  # what is wrong with it, is said where names are checked
    return next((other for other in others if isinstance(other, str) and composed(other) == composed(name)), name)


def comparable(part: str) -> str:
    """Return a part of a path as names are compared: composed, nothing invisible, one blank between words."""
    if part.isascii():
        return " ".join(part.split())
    seen = (character for character in composed(part) if unicodedata.category(character) != _INVISIBLE)
    return " ".join("".join(seen).split())


def spelled_out(text: str) -> str:
    """Return `text` in ASCII, with the code of each other character: it tells apart what looks the same."""
    return printable(text).encode("ascii", "backslashreplace").decode()


def is_right_to_left(text: str) -> bool:
    """Whether something in `text` is read from right to left, as Hebrew and Arabic are."""
    return not text.isascii() and re.search(RIGHT_TO_LEFT, text) is not None


def without_folders(names: Sequence[str]) -> list[str]:
    """Return what exemplars are called; whole paths are cut to their last parts, as many as tell them apart.

    Where a file lies on this machine is nobody's business who is answered from elsewhere.
    """
    paths = [Path(name) for name in names]

    def cut(path: Path) -> str:
        others = [other.parts for other in paths if other != path]
        for count in range(1, len(path.parts)):
            if path.parts[-count:] not in [parts[-count:] for parts in others]:
                return str(Path(*path.parts[-count:]))
        return str(path)

    return [cut(path) if path.is_absolute() else name for name, path in zip(names, paths, strict=True)]
