"""What decoding one image may take: bytes, memory, seconds; and what all of them may take at once."""

import os
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache

from holotype import forks
from holotype.errors import HolotypeError, UnreadableHere, UnreadableImage
from holotype.pool.formats.header import Header

VARIABLE = "HOLOTYPE_MAX_MEGAPIXELS"
DEFAULT = 400
WHOLE = 100_000_000  # pixels that are decoded at full size: where no size is asked for
REDUCED = 16_000_000  # pixels above which an image is shrunk as it is decoded, where a size is asked for
TOGETHER = 1 << 30  # bytes for all decoding in this process at once
_ORDINARY = 256 << 20  # bytes up to which an image is decoded in this process
_ORDINARY_SECONDS = 3.0
_MOST_PASSES = 25  # over an image of the greatest size
_PROGRAM = 256 << 20  # address space of the process that decodes, before it does


@dataclass(frozen=True)
class Limits:
    """Limits of one image, all from the greatest number of megapixels.

    pixels   of an image that is decoded, after scaled decoding
    size     bytes of an encoded image
    memory   bytes of all processes together that decode what is not ordinary; none gets more
    seconds  of CPU time that one of them may take
    patience seconds of the clock, for a machine that has much else to do
    """

    pixels: int

    @property
    def size(self) -> int:
        return max(self.pixels, 64 << 20)

    @property
    def memory(self) -> int:
        return max(8 * self.pixels, 1 << 30)

    @property
    def seconds(self) -> int:
        return max(60, 60 * self.pixels // (DEFAULT * 10**6))

    @property
    def patience(self) -> int:
        return 4 * self.seconds

    def check_size(self, size: int) -> None:
        """Raise `UnreadableHere` for an encoded image of more than the limit's bytes."""
        if size > self.size:
            raise UnreadableHere(f"{size:,} bytes are more than the limit of {self.size:,}; {self.advice}")

    @property
    def advice(self) -> str:
        """How to raise the limits."""
        return f"to allow more, set {VARIABLE} above {self.pixels // 10**6}, or shrink the image"


def limits() -> Limits:
    """Return the limits, as $HOLOTYPE_MAX_MEGAPIXELS says. Raises `HolotypeError` where that is no number."""
    return _limits(os.environ.get(VARIABLE, ""))


@lru_cache
def _limits(text: str) -> Limits:
    given = text.strip() or str(DEFAULT)
    if not given.isascii() or not given.isdigit() or not 1 <= int(given) <= 100_000:
        raise HolotypeError(
            f"expected {VARIABLE} to be a whole number of megapixels, 1 to 100000, got {text!r}; "
            f"correct it, or unset it for {DEFAULT}"
        )
    return Limits(int(given) * 10**6)


@dataclass(frozen=True)
class Cost:
    """What decoding takes, by the header: pixels of the result, bytes, seconds, and passes over the pixels."""

    pixels: int
    memory: int
    seconds: float
    passes: int

    @classmethod
    def of(cls, header: Header, fit: int | None) -> "Cost":
        """Estimate it for an image that will be shrunk to a long side of `fit`, or not (None)."""
        full = header.width * header.height
        divisor = scale(header, fit) ** 2
        pixels = full // divisor
        finished = min(pixels, REDUCED) if fit else pixels
        memory = header.held + header.decoding * pixels + header.finishing * finished + len(header.content)
        seconds = full * (1 + header.passes) / 2 / (header.speed * 1e6) + header.seconds
        return cls(pixels, round(memory), seconds, header.passes)

    def check(self, header: Header, fit: int | None, allowed: Limits) -> None:
        """Raise `UnreadableImage` for what no process may decode."""
        size = f"{header.width} x {header.height} pixels"
        if 0 in (header.width, header.height):
            raise UnreadableImage(f"{size} are no image")
        if fit is None and self.pixels > WHOLE:
            raise UnreadableImage(f"{size} are more than the limit of {WHOLE // 10**6} megapixels at full size")
        if self.pixels > allowed.pixels:
            raise UnreadableHere(
                f"{size} are more than the limit of {allowed.pixels // 10**6} megapixels; {allowed.advice}"
            )
        if self.memory + _PROGRAM > allowed.memory:
            raise UnreadableHere(
                f"{size} of {header.format} take {(self.memory + _PROGRAM) / 1e9:.1f} GB to decode, more than the "
                f"limit of {allowed.memory / 1e9:.1f} GB; {allowed.advice}"
            )
        if header.width * header.height * self.passes > _MOST_PASSES * allowed.pixels:
            raise UnreadableHere(
                f"{size} in {self.passes:,} scans are more than the limit of {_MOST_PASSES} passes over "
                f"{allowed.pixels // 10**6} megapixels; {allowed.advice}"
            )

    @property
    def ordinary(self) -> bool:
        """Whether this process decodes it; most images are."""
        return self.memory <= _ORDINARY and self.seconds <= _ORDINARY_SECONDS

    @property
    def address_space(self) -> int:
        """Bytes of address space for a process that decodes it: the estimate, a quarter more, and the program."""
        return self.memory * 5 // 4 + _PROGRAM


def scale(header: Header, fit: int | None) -> int:
    """Return 8, 4, 2 or 1: how much smaller the decoder gives the image without going below `fit`."""
    long = max(header.width, header.height, 1)
    if fit is None or not (header.scales or header.levels):
        return 1
    if header.levels:
        return 1 << min(header.levels, max(long // (3 * fit), 1).bit_length() - 1) if _large(header) else 1
    asked = max(1, header.width * fit // long), max(1, header.height * fit // long)
    least = min(header.width // asked[0], header.height // asked[1])
    return next((by for by in (8, 4, 2) if least >= by), 1)


def _large(header: Header) -> bool:
    return header.width * header.height > REDUCED


class Room:
    """Bytes that several threads share: who wants more than are left waits, and who comes later waits behind it.

    Made once, and kept for ever.
    """

    def __init__(self) -> None:
        self.begin_in_child()
        forks.note(self)

    def begin_in_child(self) -> None:
        """Have all of it: the threads that held some are not there."""
        self._taken = 0
        self._waiting = deque[object]()
        self._changed = threading.Condition()

    @contextmanager
    def hold(self, amount: int, size: int) -> Iterator[None]:
        """Take `amount` of `size` bytes for a while; what is larger than all waits until it is alone."""
        turn = object()
        with self._changed:
            self._waiting.append(turn)
            try:
                self._changed.wait_for(
                    lambda: turn is self._waiting[0] and (self._taken == 0 or self._taken + amount <= size)
                )
                self._taken += amount
            finally:
                self._waiting.remove(turn)
                self._changed.notify_all()
        try:
            yield
        finally:
            with self._changed:
                self._taken -= amount
                self._changed.notify_all()
