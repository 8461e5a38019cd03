"""Names from outside: in a form that can be stored and printed everywhere, and in one by which they are compared.

Whoever packs a tar or names a file chooses its name: bytes that are no UTF-8, line ends, commands to the terminal, and
characters that turn the direction of the text around them, so that a name looks like another.
"""

import re
import unicodedata
from contextlib import suppress

# Control characters, line and paragraph ends, surrogates, and what turns the direction of a text.
_UNSAFE = re.compile("[\0-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]")
_INVISIBLE = "Cf"  # zero-width spaces, byte-order marks, soft hyphens


def printable(name: str) -> str:
    """Return `name` with what cannot be stored or printed as `\\xe9` (a byte that is no UTF-8), `\\n`, `\\u202e`."""
    if name.isascii() and name.isprintable():
        return name
    with suppress(UnicodeError):  # in a plain locale each byte of a name in UTF-8 is one that Python keeps
        name = name.encode(errors="surrogateescape").decode(errors="surrogateescape")
    return _UNSAFE.sub(_escaped, name)


def shown(text: str) -> str:
    """Return `text` of several lines, each as `printable` has it."""
    return text if text.isascii() and text.isprintable() else "\n".join(map(printable, text.split("\n")))


def _escaped(found: re.Match[str]) -> str:
    character = found[0]
    if "\udc80" <= character <= "\udcff":  # how Python keeps a byte that is no UTF-8
        return f"\\x{ord(character) - 0xDC00:02x}"
    return character.encode("unicode_escape").decode()


def composed(text: str) -> str:
    """Return `text` in Unicode's form NFC: an accented letter that some systems take apart is one character."""
    return text if text.isascii() else unicodedata.normalize("NFC", text)


def comparable(part: str) -> str:
    """Return a part of a path as names are compared: composed, nothing invisible, one blank between words."""
    if part.isascii():
        return " ".join(part.split())
    seen = (character for character in composed(part) if unicodedata.category(character) != _INVISIBLE)
    return " ".join("".join(seen).split())


def spelled_out(text: str) -> str:
    """Return `text` in ASCII, with the code of each other character: it tells apart what looks the same."""
    return printable(text).encode("ascii", "backslashreplace").decode()
