"""How a command ends: its exit code, and the one line that says why."""

import io
import os
import signal
import sys
import traceback
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import TextIO

from holotype import files
from holotype.errors import HolotypeError, HolotypeWarning, OutputError
from holotype.names import named, printable

_FAILED, _INTERRUPTED = 1, 128 + signal.SIGINT
_SIGNALS = ("SIGTERM", "SIGHUP")
_VECTORS = "vectors that are finished are kept, and the same command goes on behind them"
# what is kept of a command that is stopped
_KEPT = {
    "embed": _VECTORS,
    "evaluate": _VECTORS,
    "search": _VECTORS,
    "run": f"{_VECTORS}; a run that was here before is as it was",
    "tune": "vectors and trials that are finished are kept, and the same command goes on behind them",
    "answer": "answers that were taken are kept; a run that was to follow them is as it was",
    "predict": "the lines that were printed are whole; of --out FILE nothing was written, and parts are kept",
}


@contextmanager
def one_line() -> Iterator[None]:
    """End the command line with one line on stderr and its code: 1 for an error, 130 for Ctrl-C, 141 for a closed pipe.

    With --debug among the arguments, which is taken out, errors keep their traceback. What is no error of ours leaves
    its traceback in a file of the cache.
    """
    _open_closed()
    debug = "--debug" in sys.argv
    sys.argv = [word for word in sys.argv if word != "--debug"]
    ended = _EndedBy()
    warnings.showwarning = _Warnings().show
    warnings.filterwarnings("default", category=HolotypeWarning)  # it stops nothing, also with PYTHONWARNINGS=error
    for stream in (sys.stdout, sys.stderr):  # a name that they cannot show loses no line
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        with ended.watching():
            yield
    except (SystemExit, KeyboardInterrupt) as stop:
        if isinstance(stop, SystemExit) and stop.code != _INTERRUPTED:
            raise
        _say(f"stopped: {_KEPT.get(next(iter(sys.argv[1:]), ''), 'what was finished is kept')}")
        raise SystemExit(ended.code) from None
    except Exception as error:
        if debug:
            raise
        _say(f"error: {_explain(error)}{_about_here()}")
        raise SystemExit(_FAILED) from None


def _open_closed() -> None:
    """Lead the standard streams that were closed (`>&-`, a service) to nowhere; files would take their places."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(os.open(os.devnull, os.O_RDWR), mode, encoding="utf-8"))


class _EndedBy:
    """The signal that ended a command; one that asks it to end is met as Ctrl-C is: what is finished is kept."""

    def __init__(self) -> None:
        self.code = _INTERRUPTED

    @contextmanager
    def watching(self) -> Iterator[None]:
        for one in (getattr(signal, name) for name in _SIGNALS if hasattr(signal, name)):
            if signal.getsignal(one) is signal.SIG_DFL:  # nohup has it ignored
                signal.signal(one, self._end)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, signal.SIG_DFL)  # a second Ctrl-C, while threads end, is no traceback

    def _end(self, number: int, _: FrameType | None) -> None:
        self.code = 128 + number
        raise KeyboardInterrupt


def _explain(error: Exception) -> str:
    if isinstance(error, HolotypeError):
        return str(error)
    if isinstance(error, MemoryError):
        return "there is not enough memory; close other programs, or give fewer images at once"
    if isinstance(error, OSError) and error.errno is not None:
        return files.reason(error)
    if isinstance(error, RuntimeError) and "can't start new thread" in str(error):
        return files.NO_THREADS
    what = f"{type(error).__name__}: {error}".splitlines()[0]
    return f"this should not have happened ({what}); {_keep(error)}"


def _about_here() -> str:
    """What to do where the current folder was deleted: nothing can be found in it, or written there."""
    try:
        Path.cwd()
    except OSError:
        return "; the current folder is not there any more: go to another one (cd), and give the command again"
    return ""


def _keep(error: Exception) -> str:
    """Keep the traceback of an error that is no one's fault but ours: hours of work may have led to it."""
    try:
        path = files.cache_folder() / "traceback.txt"
        files.write(path, "".join(traceback.format_exception(error)).encode("utf-8", "backslashreplace"))
    except (HolotypeError, OSError):
        return "give the same command with --debug, and report what it prints"
    return f"please report it with {path}"


class _Warnings:
    """What a command warns of: each once, however many of its parts come upon it."""

    def __init__(self) -> None:
        self._said = set[str]()

    def show(
        self,
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        file: TextIO | None = None,  # noqa: ARG002
        line: str | None = None,
    ) -> None:
        if issubclass(category, HolotypeWarning):
            text = f"warning: {message}"
        else:
            text = warnings.formatwarning(message, category, filename, lineno, line).rstrip()
        if text not in self._said:
            self._said.add(text)
            _say(text)


def _say(line: str) -> None:
    with suppress(OSError):  # nobody hears it
        print(printable(named(" ".join(line.splitlines()))), file=sys.stderr, flush=True)  # noqa: T201


@contextmanager
def standard_output() -> Iterator[TextIO]:
    """Yield stdout; raise `OutputError` where it cannot be written, and end without a word where nobody reads it."""
    try:
        yield sys.stdout
        sys.stdout.flush()
    except OSError as error:
        if error.filename is not None:
            raise
        with suppress(OSError):  # what is left in the buffer would be an error again when Python ends
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if isinstance(error, BrokenPipeError):
            raise SystemExit(128 + signal.SIGPIPE) from None
        raise OutputError(f"cannot write to standard output: {error.strerror}; write to another place") from error
