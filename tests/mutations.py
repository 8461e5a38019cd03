"""Broken input for fuzzing: real bytes that something happened to, the same at each run and within a fixed budget."""

import os
import struct
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st

Bytes = st.SearchStrategy[bytes]

NUMBERS = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)
TEXTS: Sequence[str] = (
    *("", " ", "0", "-1", "1e999", "nan", "None", "null", "true", '"', "'", "\0", "\n", ",", ";", "é", "e\u0301"),
    *("\ud800", "\u202e", "x" * 5000, "../../x", "C:\\x", "=1+1", "[" * 3000, "{}", "[]", "\ufeff"),
)


def budget(examples: int) -> Callable[[Any], Any]:
    """As many examples, always the same ones, of whatever size; a failure is told as it came, not made smaller.

    With $HOLOTYPE_FUZZ so many times as many, others each time (`pytest --hypothesis-seed=N` gives them again).
    """
    times = int(os.environ.get("HOLOTYPE_FUZZ", "0"))
    return settings(
        max_examples=examples * max(times, 1),
        derandomize=not times,
        database=None,
        deadline=None,
        phases=[Phase.explicit, Phase.generate],
        suppress_health_check=list(HealthCheck),
    )


@contextmanager
def one_sentence(kind: type[Exception]) -> Iterator[None]:
    """What is in here is done, or refused by an error of `kind` that says why in one line; all else is a fault."""
    try:
        yield
    except kind as error:
        _check_sentence(str(error))


def _check_sentence(text: str) -> None:
    assert text.strip()
    assert "\n" not in text
    text.encode()  # it can be printed


@st.composite
def mutated(draw: st.DrawFn, seeds: Sequence[bytes], most: int = 6) -> bytes:
    """One of `seeds`, after up to `most` accidents: bits, numbers, cuts, repeats, and pieces of another seed."""
    content = bytearray(draw(st.sampled_from(seeds)))
    for _ in range(draw(st.integers(1, most))):
        start = _place(draw, len(content))
        size = draw(st.integers(1, 64))
        match draw(st.sampled_from(("flip", "number", "cut", "drop", "repeat", "splice", "fill"))):
            case "flip" if content:
                content[min(start, len(content) - 1)] ^= 1 << draw(st.integers(0, 7))
            case "number":
                order = draw(st.sampled_from(("<I", ">I", "<H", ">H", "B")))
                number = draw(st.sampled_from(NUMBERS)) & (256 ** struct.calcsize(order) - 1)
                content[start : start + struct.calcsize(order)] = struct.pack(order, number)
            case "cut":
                del content[start:]
            case "drop":
                del content[start : start + size]
            case "repeat":
                content[start:start] = content[start : start + size] * draw(st.integers(1, 20))
            case "splice":
                other = draw(st.sampled_from(seeds))
                place = _place(draw, len(other))
                content[start : start + size] = other[place : place + size]
            case _:
                content[start : start + size] = draw(st.sampled_from((b"\0", b"\xff", b" ", b"7"))) * size
    return bytes(content)


def _place(draw: st.DrawFn, size: int) -> int:
    """Half of the accidents happen in the first 200 bytes, where formats say what they are."""
    first = draw(st.booleans())
    return draw(st.integers(0, max(0, min(size, 200) if first else size)))


@st.composite
def altered(draw: st.DrawFn, value: Any) -> Any:
    """`value`, as JSON has it, with some of its parts gone, of another type, twice or deeper."""
    if draw(st.integers(0, 9)) == 0:
        return draw(st.sampled_from((None, True, 0, -1, 1e308, 10**30, [], {}, *TEXTS)))
    if isinstance(value, dict):
        kept = {key: draw(altered(one)) for key, one in value.items() if draw(st.integers(0, 11))}
        return kept | ({draw(st.sampled_from(TEXTS)): 1} if draw(st.integers(0, 11)) == 0 else {})
    if isinstance(value, list):
        kept_list = [draw(altered(one)) for one in value if draw(st.integers(0, 11))]
        return kept_list + (kept_list[:1] if draw(st.booleans()) else [])
    return value


@st.composite
def table(draw: st.DrawFn, header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A CSV like that of `header` and `rows`, with cells, lines, columns and separators that somebody spoilt."""
    lines = [list(header), *(list(row) for row in rows)]
    for _ in range(draw(st.integers(0, 5))):
        number = draw(st.integers(0, max(0, len(lines) - 1)))
        if not lines:
            break
        line = lines[number]
        match draw(st.sampled_from(("cell", "cell", "less", "more", "gone", "twice", "blank"))):
            case "cell" if line:
                line[draw(st.integers(0, len(line) - 1))] = draw(st.sampled_from(TEXTS) | st.text(max_size=8))
            case "less" if line:
                line.pop()
            case "more":
                line.append(draw(st.sampled_from(TEXTS)))
            case "gone":
                lines.pop(number)
            case "twice":
                lines.insert(number, list(line))
            case _:
                lines.insert(number, [])
    between, end = draw(st.sampled_from((",", ",", ",", ";", "\t"))), draw(st.sampled_from(("\n", "\r\n", "\r")))
    quote = draw(st.sampled_from(("{}", '"{}"')))
    return draw(st.sampled_from(("", "\ufeff"))) + end.join(between.join(map(quote.format, line)) for line in lines)
