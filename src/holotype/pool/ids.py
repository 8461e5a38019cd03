"""The ids of very many images: their text in one piece, and no object for each."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, overload

import numpy as np
from numpy.typing import NDArray

from holotype.names import printable
from holotype.pool.codes import Codes, key_of
from holotype.pool.images import SUFFIXES
from holotype.pool.members import split_suffix

if TYPE_CHECKING:
    import pyarrow as pa

MOST_LISTED = 1_000_000  # images above which their ids are kept so
_TOGETHER = 65_536  # that are text at the same time
_WORD = re.compile(r"[0-9A-Za-z]+")


class PackedTexts(Sequence[str]):
    """Texts in order; each becomes an object where it is asked for."""

    def __init__(self, values: "pa.ChunkedArray") -> None:
        self.values = values

    def __len__(self) -> int:
        return len(self.values)

    @overload
    def __getitem__(self, place: int) -> str: ...

    @overload
    def __getitem__(self, place: slice) -> list[str]: ...

    def __getitem__(self, place: int | slice) -> str | list[str]:
        if isinstance(place, slice):
            return self.take(np.arange(*place.indices(len(self))))
        found: str = self.values[int(place)].as_py()
        return found

    def __iter__(self) -> Iterator[str]:
        for start in range(0, len(self), _TOGETHER):
            yield from self.values.slice(start, _TOGETHER).to_pylist()

    def take(self, rows: NDArray[np.int64]) -> list[str]:
        """Return the texts at `rows`."""
        found: list[str] = self.values.take(rows).to_pylist()
        return found

    @cached_property
    def rows(self) -> "TextRows":
        """The row of each; of several that are the same the first."""
        return TextRows(self)

    def places(self, texts: Sequence[str]) -> NDArray[np.int64]:
        """Return the row of each of `texts`, of several the first; -1 of one that is none of these."""
        import pyarrow as pa
        import pyarrow.compute as pc

        found = pc.index_in(pa.array(texts, pa.large_string()), value_set=self.values)
        return np.asarray(pc.fill_null(found, -1).to_numpy(zero_copy_only=False), np.int64)

    def containing(self, words: Iterable[str]) -> NDArray[np.int64]:
        """Return the rows of the texts with all `words`, which are ASCII, in them, and of all that are not ASCII."""
        import pyarrow.compute as pc

        odd = pc.invert(pc.string_is_ascii(self.values)).to_numpy()
        inside = np.ones(len(self), bool)
        for word in words:
            inside &= pc.match_substring(self.values, word).to_numpy()
        return np.flatnonzero(inside | odd)

    def ending(self, ends: Iterable[str]) -> NDArray[np.int64]:
        """Return the rows of the texts that end in one of `ends`, small letters or capitals."""
        import pyarrow.compute as pc

        pattern = "|".join(map(re.escape, sorted(ends)))
        return np.flatnonzero(pc.match_substring_regex(self.values, rf"(?i)(?:{pattern})\z").to_numpy())


class TextList:
    """Texts that come one after the other: many of them become `PackedTexts` on the way, few a list.

    of_few   whether there are only a few different ones
    """

    def __init__(self, *, of_few: bool = False) -> None:
        self._chunks, self._rest, self._of_few = list[Any](), list[str](), of_few

    def extend(self, texts: Iterable[str]) -> None:
        """Add `texts`."""
        self._rest.extend(texts)
        if len(self._rest) > MOST_LISTED:
            self._pack()

    def gathered(self) -> list[str] | PackedTexts:
        """Return all of them."""
        return self.packed() if self._chunks else self._rest

    def packed(self) -> PackedTexts:
        """Return all of them, however few they are."""
        import pyarrow as pa

        self._pack()
        return PackedTexts(pa.chunked_array(self._chunks))

    def _pack(self) -> None:
        import pyarrow as pa

        packed = pa.array(self._rest, pa.large_string())
        self._chunks.append(packed.dictionary_encode() if self._of_few else packed)
        self._rest = []


def numbers_of_names(names: Sequence[str]) -> NDArray[np.int64]:
    """Return (n,) int64 the number that the last part of each path is; -1 where it is none, or of 19 digits."""
    import pyarrow as pa
    import pyarrow.compute as pc

    values = names.values if isinstance(names, PackedTexts) else pa.array(names, pa.large_string())
    last = pc.replace_substring_regex(values, "^.*/", "")
    is_number = pc.match_substring_regex(last, r"\A0*[0-9]{1,18}\z")
    found = pc.cast(pc.if_else(is_number, last, pa.scalar("-1", last.type)), pa.int64())
    return np.asarray(found.to_numpy(), np.int64)


class TextRows(Mapping[str, int]):
    """The first row of each of `texts`, looked up by their hashes in order."""

    def __init__(self, texts: PackedTexts) -> None:
        self._texts = texts
        hashes = np.fromiter(map(hash, texts), np.int64, len(texts))
        self._order = np.argsort(hashes, kind="stable")
        self._hashes = hashes[self._order]

    def __getitem__(self, text: str) -> int:
        for row in self.every(text):
            return row
        raise KeyError(text)

    def every(self, text: str) -> Iterator[int]:
        """Yield all rows of `text`."""
        wanted = hash(text)
        start, end = (int(np.searchsorted(self._hashes, wanted, side)) for side in ("left", "right"))
        yield from (row for row in self._order[start:end].tolist() if self._texts[row] == text)

    def __len__(self) -> int:
        return len(self._texts) - len(self.repeated)

    def __iter__(self) -> Iterator[str]:
        again = set(self.repeated)
        return (text for row, text in enumerate(self._texts) if row not in again)

    @cached_property
    def repeated(self) -> list[int]:
        """The rows of texts that are there before."""
        alike = self._order[1:][self._hashes[1:] == self._hashes[:-1]].tolist()
        return sorted(row for row in alike if self[self._texts[row]] != row)


def with_suffixes(stems: PackedTexts, suffixes: Sequence[str]) -> tuple[PackedTexts, Sequence[str]]:
    """Return ids, and what each lacks: a stem keeps its suffix where another has it, or where it is a whole path."""
    again = stems.rows.repeated
    rows = {*again, *(stems.rows[stems[row]] for row in again)}
    for row in stems.ending(SUFFIXES).tolist():
        stem, suffix = split_suffix(stems[row])
        if any(suffixes[other] == suffix for other in stems.rows.every(stem)):
            rows.add(row)
    if not rows:
        return stems, suffixes
    ids, rest = TextList(), TextList(of_few=True)
    ids.extend(stem + suffixes[row] if row in rows else stem for row, stem in enumerate(stems))
    rest.extend("" if row in rows else suffix for row, suffix in enumerate(suffixes))
    return ids.packed(), rest.packed()


class ManyCodes:
    """Finds what `Codes` finds among very many ids: those with a word of the code in them are looked through."""

    def __init__(self, ids: PackedTexts, suffixes: Sequence[str]) -> None:
        self._ids, self._suffixes = ids, suffixes

    def find(self, code: str, *, longer: bool = True) -> list[int]:
        """Return the rows that `code` may mean, see `Codes.find`."""
        codes, rows = self._near(code)
        return [int(row) for row in rows[codes.find(code, longer=longer)]]

    def explain(self, code: str, source: str) -> str:
        """Say why `code` means no image of the pool `source`, or that it means several, and what to write."""
        codes, rows = self._near(code)
        if not len(rows):
            rows = np.arange(min(3, len(self._ids)))
            codes = self._among(rows)
        return codes.explain(code, source, len(self._ids))

    def _near(self, code: str) -> tuple[Codes, NDArray[np.int64]]:
        """The ids that may be meant: those with all words of the last part in them, which nobody writes otherwise."""
        name = printable(code).removeprefix("./")
        if (row := self._ids.rows.get(name)) is not None:
            rows = np.array([row], np.int64)
        else:
            last = key_of(split_suffix(name)[0])[0].rpartition("/")[2]
            rows = self._ids.containing(word.lstrip("0") or "0" for word in _WORD.findall(last))
        return self._among(rows), rows

    def _among(self, rows: NDArray[np.int64]) -> Codes:
        ids = self._ids.take(rows)
        own = {name: place for place, name in enumerate(ids)}
        return Codes(ids, [self._suffixes[row] for row in rows.tolist()] if self._suffixes else [], own)
