"""Weights as torch saved them before its version 1.6, read without torch: tensors, and nothing else.

Such a file is a pickle, a program that may call whatever it names. It is not run here: its instructions are read, those
that weights need, and each does no more than say where the numbers of a tensor lie.
"""

import io
import pickletools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from holotype.errors import EncoderError

_MAGIC = 0x1950A86A20F9469CFC6C  # what such a file begins with
_PROTOCOL = 1001
_DICT, _TENSOR = "collections OrderedDict", "torch._utils _rebuild_tensor_v2"
_KINDS: Mapping[str, np.dtype[Any]] = {"torch FloatStorage": np.dtype("<f4"), "torch LongStorage": np.dtype("<i8")}
_COUNT = np.dtype("<i8")  # what stands before the numbers of a storage
_GIVEN = ("BININT", "BININT1", "BININT2", "LONG1", "BINUNICODE")  # an instruction's own argument is the value
_MARK = object()

Tensors = Mapping[str, NDArray[Any]]


def read_tensors(path: Path) -> Tensors:
    """Return the tensors of a state dict in `path`, by name; they cannot be written to.

    Raises `EncoderError` where it holds anything else.
    """
    try:
        return _read(path.read_bytes())
    except EncoderError as error:
        raise EncoderError(f"{path} cannot be read: {error}") from None
    except OSError as error:
        raise EncoderError(f"{path} cannot be read: {error.strerror or error}") from None
    except Exception as error:  # whatever a damaged file leads to
        raise EncoderError(
            f"expected a state dict of torch in {path}, and it cannot be read ({type(error).__name__})"
        ) from None


def _read(content: bytes) -> Tensors:
    file = io.BytesIO(content)
    magic, protocol, system = (_Instructions(file).follow() for _ in range(3))
    if (magic, protocol) != (_MAGIC, _PROTOCOL) or not (isinstance(system, dict) and system.get("little_endian")):
        raise EncoderError("it is no state dict in torch's older format")
    described = _Instructions(file)
    tensors, keys = described.follow(), _Instructions(file).follow()
    if not isinstance(tensors, dict) or not all(isinstance(one, _Tensor) for one in tensors.values()):
        raise EncoderError("it holds something other than tensors by name")
    numbers = {key: _numbers(content, file, described.storages[key]) for key in keys}
    return {name: one.within(numbers[one.storage.key]) for name, one in tensors.items()}


@dataclass(frozen=True)
class _Name:
    """What a file names, to be called."""

    text: str


@dataclass(frozen=True)
class _Storage:
    """So many numbers, which stand behind all that is said of them."""

    key: str
    kind: np.dtype[Any]
    count: int


@dataclass(frozen=True)
class _Tensor:
    """A part of a storage: where it begins, and how far its numbers are apart along each axis."""

    storage: _Storage
    start: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    def within(self, numbers: NDArray[Any]) -> NDArray[Any]:
        """Return it as a part of the `numbers` of its storage."""
        if not prod(self.shape):
            return np.zeros(self.shape, numbers.dtype)
        steps = [stride * numbers.itemsize for stride in self.strides]
        return np.lib.stride_tricks.as_strided(numbers[self.start :], self.shape, steps, writeable=False)


_NEW: Mapping[str, Callable[[Any], Any]] = {
    "EMPTY_DICT": lambda _: {},
    "EMPTY_LIST": lambda _: [],
    "EMPTY_TUPLE": lambda _: (),
    "GLOBAL": _Name,
    "MARK": lambda _: _MARK,
    "NEWFALSE": lambda _: False,
    "NEWTRUE": lambda _: True,
    "NONE": lambda _: None,
}


class _Instructions:
    """The instructions of one pickle in `file`, up to its end; what it needs to know of storages is kept."""

    def __init__(self, file: io.BytesIO) -> None:
        self._file = file
        self._stack: list[Any] = []
        self._known: dict[int, Any] = {}
        self.storages: dict[str, _Storage] = {}
        stack = self._stack
        self._steps: dict[str, Callable[[], object]] = {
            "TUPLE": self._tuple,
            "TUPLE1": lambda: self._tuple(1),
            "TUPLE2": lambda: self._tuple(2),
            "TUPLE3": lambda: self._tuple(3),
            "SETITEM": lambda: self._fill([stack.pop(-2), stack.pop()]),
            "SETITEMS": lambda: self._fill(self._since_mark()),
            "APPEND": lambda: self._extend([stack.pop()]),
            "APPENDS": lambda: self._extend(self._since_mark()),
            "BUILD": stack.pop,  # what torch notes of its modules, of which nothing is needed
            "BINPERSID": lambda: stack.append(self._storage(stack.pop())),
            "REDUCE": self._call,
        }

    def follow(self) -> Any:
        """Return what they make."""
        for code, given, _ in pickletools.genops(self._file):
            self._do(code.name, given)
        (made,) = self._stack
        return made

    def _do(self, name: str, given: Any) -> None:
        if name in _GIVEN:
            self._stack.append(given)
        elif name in _NEW:
            self._stack.append(_NEW[name](given))
        elif name in ("BINPUT", "LONG_BINPUT"):
            self._known[given] = self._stack[-1]
        elif name in ("BINGET", "LONG_BINGET"):
            self._stack.append(self._known[given])
        elif name in self._steps:
            self._steps[name]()
        elif name not in ("PROTO", "STOP"):
            raise EncoderError(f"it has an instruction that weights do not need ({name})")

    def _tuple(self, count: int | None = None) -> None:
        """Put a tuple in place of the last `count` values, or of those since the mark."""
        values = self._since_mark() if count is None else [self._stack.pop() for _ in range(count)][::-1]
        self._stack.append(tuple(values))

    def _fill(self, values: list[Any]) -> None:
        table = self._stack[-1]
        if not isinstance(table, dict) or not all(type(key) is str for key in values[::2]):
            raise EncoderError("it puts something into what is no table of names")
        table.update(zip(values[::2], values[1::2], strict=True))

    def _extend(self, values: list[Any]) -> None:
        if not isinstance(self._stack[-1], list):
            raise EncoderError("it puts something into what is no list")
        self._stack[-1].extend(values)

    def _call(self) -> None:
        words = self._stack.pop()
        self._stack.append(_called(self._stack.pop(), words))

    def _since_mark(self) -> list[Any]:
        place = len(self._stack) - 1
        while self._stack[place] is not _MARK:
            place -= 1
            if place < 0:
                raise EncoderError("it is damaged")
        values = self._stack[place + 1 :]
        del self._stack[place:]
        return values

    def _storage(self, about: Any) -> _Storage:
        what, kind, key, _, count, view = about
        of = _KINDS.get(kind.text) if isinstance(kind, _Name) else None
        plain = type(what) is str and type(key) is str and type(count) is int
        if of is None or not plain or what != "storage" or view is not None or count < 0:
            raise EncoderError("it holds something other than numbers")
        return self.storages.setdefault(key, _Storage(key, of, count))


def _called(what: Any, words: Any) -> Any:
    """Return what torch's own functions would; no other has a place in weights."""
    if what == _Name(_DICT) and words == ():
        return {}
    if what == _Name(_TENSOR) and isinstance(words, tuple):
        return _tensor(*words[:4])
    raise EncoderError(f"it names {getattr(what, 'text', 'something')[:80]}, which weights do not need")


def _tensor(storage: Any, start: Any, shape: Any, strides: Any) -> _Tensor:
    """Return a tensor if it lies within its storage."""
    if not isinstance(storage, _Storage) or not isinstance(shape, tuple) or not isinstance(strides, tuple):
        raise EncoderError("it has a tensor without numbers")
    numbers = (start, *shape, *strides)
    if len(shape) != len(strides) or not all(type(one) is int and one >= 0 for one in numbers):
        raise EncoderError("it has a tensor of no possible shape")
    last = start + sum((length - 1) * stride for length, stride in zip(shape, strides, strict=True))
    if prod(shape) > storage.count or (prod(shape) and last >= storage.count):
        raise EncoderError("it has a tensor that reaches beyond its numbers")
    return _Tensor(storage, start, shape, strides)


def _numbers(content: bytes, file: io.BytesIO, storage: _Storage) -> NDArray[Any]:
    """The numbers that stand next in the file."""
    count, size = file.read(_COUNT.itemsize), storage.count * storage.kind.itemsize
    here = file.tell()
    if count != np.array(storage.count, _COUNT).tobytes() or size > len(content) - here:
        raise EncoderError("it ends before its numbers do")
    file.seek(here + size)
    return np.frombuffer(content, storage.kind, storage.count, here)
