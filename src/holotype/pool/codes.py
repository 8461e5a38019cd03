"""Codes: which image of a pool is meant, however somebody writes its name.

An exemplar, a row of a test set, an answer and a line of a list of ids all come through here.
"""

import difflib
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from itertools import islice

from holotype.names import comparable, composed, counted, printable, spelled_out
from holotype.pool.members import path_parts, split_suffix

_NAMED = 3  # images that an error names


class _Index:
    """The rows of each key; of most there is one."""

    def __init__(self, keys: Iterable[tuple[int, str]]) -> None:
        self._first: dict[str, int] = {}
        self._more: dict[str, list[int]] = {}
        for row, key in keys:
            if self._first.setdefault(key, row) != row:
                self._more.setdefault(key, []).append(row)

    def __getitem__(self, key: str) -> list[int]:
        first = self._first.get(key)
        return [] if first is None else [first, *self._more.get(key, ())]


class Codes:
    """Finds the rows that a code may mean; of these steps the first that finds any decides.

    1. the id, or the whole path with its suffix
    2. the last part of either
    3. one of these with another image suffix
    4. the same up to Unicode's form (NFC, NFD), blanks, invisible characters, `\\` for `/`, and zeros before a number
    5. a longer path of which one end is a whole id: the longest

    A name that is one image's without its suffix, and another's with it, means both.
    """

    def __init__(self, ids: Sequence[str], suffixes: Sequence[str], rows: Mapping[str, int]) -> None:
        """`suffixes`: what each id lacks of its file's name; empty where that is not known."""
        self._ids, self._suffixes, self._rows = ids, suffixes, rows

    def find(self, code: str, *, longer: bool = True) -> list[int]:
        """Return the rows that `code` may mean; one where it is clear, none where it means no image.

        longer   take the last step too; not for what may be the path of a file outside the pool
        """
        name = printable(code).removeprefix("./")
        if name in self._rows:
            return [self._rows[name]]
        found = self._exact(name) or self._otherwise_ended(name) or self._alike(name)
        return found or (self._end_of(name) if longer else [])

    def _exact(self, name: str) -> list[int]:
        stem, suffix = split_suffix(name)
        named = self._ended([*self._whole(stem), *self._kept[stem]], suffix)
        if named or "/" in name:
            return sorted({*named, *self._kept[name]})
        ended = self._ended([*self._last[stem], *self._kept_last[stem]], suffix)
        return sorted({*self._last[name], *ended, *self._kept_last[name]})

    def _otherwise_ended(self, name: str) -> list[int]:
        stem, _ = split_suffix(name)
        whole = sorted({*self._whole(stem), *self._kept[stem]})
        return whole if whole or "/" in stem else sorted({*self._last[stem], *self._kept_last[stem]})

    def _alike(self, name: str) -> list[int]:
        key, suffix = key_of(name)
        found = self._alike_whole[key] if "/" in key else self._alike_whole[key] or self._alike_last[key]
        return found if len(found) < 2 else self._ended(found, suffix) or found

    def _end_of(self, name: str) -> list[int]:
        key, suffix = key_of(name)
        while "/" in key:
            key = key.partition("/")[2]
            if found := self._alike_whole[key]:
                return found if len(found) < 2 else self._ended(found, suffix) or found
        return []

    def _whole(self, name: str) -> list[int]:
        row = self._rows.get(name)
        return [] if row is None else [row]

    def _ended(self, rows: Sequence[int], suffix: str) -> list[int]:
        """Those of `rows` whose file ends in `suffix`."""
        return [row for row in rows if suffix and self._suffix(row).lower() == suffix.lower()]

    def _suffix(self, row: int) -> str:
        """The suffix of a row's file, where it is known."""
        lacking = self._suffixes[row] if self._suffixes else ""
        return lacking or split_suffix(self._ids[row])[1]

    @cached_property
    def _last(self) -> _Index:
        return _Index((row, name.rpartition("/")[2]) for row, name in enumerate(self._ids))

    @cached_property
    def _kept_stems(self) -> list[tuple[int, str]]:
        """What comes before the suffix of ids that kept it."""
        return [(row, split_suffix(self._ids[row])[0]) for row, suffix in enumerate(self._suffixes) if not suffix]

    @cached_property
    def _kept(self) -> _Index:
        return _Index(self._kept_stems)

    @cached_property
    def _kept_last(self) -> _Index:
        return _Index((row, stem.rpartition("/")[2]) for row, stem in self._kept_stems)

    @cached_property
    def _alike_whole(self) -> _Index:
        return _Index((row, key_of(name)[0]) for row, name in enumerate(self._ids))

    @cached_property
    def _alike_last(self) -> _Index:
        keys = (key_of(name.replace("\\", "/").rpartition("/")[2])[0] for name in self._ids)
        return _Index(enumerate(keys))

    def explain(self, code: str, source: str, among: int | None = None) -> str:
        """Say why `code` means no image of the pool `source`, or that it means several, and what to write.

        among   images of the pool, where these are only some of them
        """
        rows = self.find(code)
        if len(rows) > 1:
            by_file = bool(split_suffix(code)[1])
            some = [self._told_apart(row, rows, by_file) for row in rows[:_NAMED]]
            several = f"{len(rows)} images of {source} ({', '.join(some)})"
            return f"{code_shown(code)} means {several}; give the whole id of one"
        near = self._near(split_suffix(printable(code).removeprefix("./"))[0])
        look = f"ids look like {', '.join(near)}"
        if near and _looks_like(code, near[0]):
            look += f"; the first is spelled {spelled_out(near[0])}, and the one given {spelled_out(code)}"
        return f"no image {code_shown(code)} in {source} ({counted(among or len(self._ids), 'image')}); {look}"

    def _told_apart(self, row: int, rows: Sequence[int], by_file: bool) -> str:
        """The id of `row`; with its file where that may be meant, and with codes of characters if two look alike."""
        name = self._ids[row]
        if any(other != row and composed(self._ids[other]) == composed(name) for other in rows):
            return f"{name}, spelled {spelled_out(name)}"
        file = self._ids[row] + (self._suffixes[row] if self._suffixes else "")
        return f"{name}, the file {file}" if by_file and file != name else name

    def _near(self, stem: str) -> list[str]:
        alike = self._with_part(stem.rpartition("/")[2])
        return difflib.get_close_matches(stem, alike, n=_NAMED, cutoff=0.5) or list(self._ids[:_NAMED])

    def _with_part(self, part: str) -> list[str]:
        """Some ids with `part`, or how it begins, in them: difflib would take seconds for all of a large pool."""
        start = part[:3]
        whole = islice((name for name in self._ids if part in name), 300)
        begun = islice((name for name in self._ids if start in name), 300)
        return list(dict.fromkeys([*whole, *begun]))


def code_shown(code: str) -> str:
    """Return `code` in quotes, as it can be printed."""
    return repr(code) if code.isprintable() else f"'{printable(code)}'"


def key_of(name: str) -> tuple[str, str]:
    """What codes that mean the same have in common, and the suffix."""
    plain = name.isascii() and not any(odd in name for odd in (" ", "\\", "//", "./"))  # of a million most are
    whole = name if plain else "/".join(comparable(part) for part in path_parts(name.replace("\\", "/")))
    before, slash, last = whole.rpartition("/")
    stem, suffix = split_suffix(last) if "." in last else (last, "")
    if stem.isascii() and stem.isdigit():
        stem = stem.lstrip("0") or "0"
    return f"{before}{slash}{stem}", suffix


def _looks_like(code: str, name: str) -> bool:
    """Whether two names may look alike though they are others: of one length, with few other letters than ASCII's."""
    same = sum(one == other for one, other in zip(composed(code), composed(name), strict=False))
    return not (code.isascii() and name.isascii()) and 2 * same >= max(len(code), len(name))
