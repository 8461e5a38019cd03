"""Images that are not ordinary are decoded by a process of their own, which has limits and can be ended.

That process is this module: `python -m holotype.pool.isolation`. It loads Pillow and no more, reads one image from
standard input, and writes its pixels to standard output.
"""

import json
import os
import signal
import subprocess
import sys
import warnings
from contextlib import suppress
from dataclasses import fields
from pathlib import Path
from typing import Any, BinaryIO, NoReturn

from PIL import Image

from holotype.errors import HolotypeError, UnreadableHere, UnreadableImage, UnreadableNow
from holotype.pool.decoding import decode_content, passing
from holotype.pool.formats.header import Header
from holotype.pool.limits import Cost, Limits, Room

_CRASHES = (signal.SIGSEGV, signal.SIGABRT, signal.SIGBUS, signal.SIGFPE, signal.SIGILL)  # as bytes may lead to
_room = Room()


class _Killed(UnreadableHere):
    """A process was ended from outside: by a system that lacks memory, as a rule."""


def decode_apart(header: Header, fit: int | None, cost: Cost, allowed: Limits) -> Image.Image:
    """Return what `decode_content` does, from another process.

    All such processes together get `allowed.memory`; others wait. What one does not decode that is ended from outside
    is tried once more, alone. Raises `UnreadableImage` where the image cannot be decoded within its limits,
    `HolotypeError` where no process can be started.
    """
    with suppress(UnreadableNow, _Killed), _room.hold(cost.address_space, allowed.memory):
        return _answer(_run(_request(header, fit, cost, allowed), allowed), allowed)
    with _room.hold(allowed.memory, allowed.memory):
        return _answer(_run(_request(header, fit, cost, allowed), allowed), allowed)


def _request(header: Header, fit: int | None, cost: Cost, allowed: Limits) -> bytes:
    known = {one.name: getattr(header, one.name) for one in fields(header) if one.name != "content"}
    asked = {"header": known, "fit": fit, "memory": cost.address_space, "seconds": allowed.seconds}
    return b"%s\n%s" % (json.dumps(asked).encode(), header.content)


def _run(request: bytes, allowed: Limits) -> bytes:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path or str(Path.cwd()) for path in sys.path)}
    try:
        process = subprocess.Popen(  # noqa: S603 - our own module
            [sys.executable, "-P", "-m", __name__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=environment | {"MALLOC_ARENA_MAX": "2"},
            start_new_session=True,  # Ctrl-C ends us, and not an image that would then be called unreadable
        )
    except OSError as error:
        raise HolotypeError(
            f"a process to decode a large image cannot be started: {error.strerror or error}; free memory and processes"
        ) from None
    with process:
        try:
            reply = process.communicate(request, timeout=allowed.patience)[0]
        except subprocess.TimeoutExpired:
            raise UnreadableHere(f"cannot be decoded in {allowed.patience} seconds; {allowed.advice}") from None
        finally:
            process.kill()
    if process.returncode:
        _refuse(process.returncode, allowed)
    return reply


def _refuse(code: int, allowed: Limits) -> NoReturn:
    """What is wrong with the bytes is said in a reply: a process that ended without one may be tried again."""
    if -code == signal.SIGXCPU:
        raise UnreadableHere(f"cannot be decoded in {allowed.seconds} seconds of CPU time; {allowed.advice}")
    if -code in _CRASHES:
        raise UnreadableHere(f"cannot be decoded: its decoder ended with signal {-code}")
    if code < 0:  # where it is so each time, a few such images would stop every command if that were to pass
        raise _Killed(
            f"cannot be decoded here: its decoder was ended twice, by signal {-code}, as by a system that lacks "
            "memory; free memory and give the command again, or shrink the image"
        )
    raise UnreadableNow(f"cannot be decoded now: its decoder was ended, with code {code}")


def _answer(reply: bytes, allowed: Limits) -> Image.Image:
    head, _, pixels = reply.partition(b"\n")
    said: dict[str, Any] = json.loads(head)
    if "error" in said:
        raise UnreadableImage(f"cannot be decoded: {said['error']}")
    if "here" in said:
        raise UnreadableHere(said["here"])
    if "memory" in said:
        raise UnreadableHere(f"cannot be decoded in {said['memory'] / 1e9:.1f} GB of memory; {allowed.advice}")
    return Image.frombytes(said["mode"], tuple(said["size"]), pixels)


def main(source: BinaryIO, target: BinaryIO) -> None:
    """Decode the image of one request. The limits come first: nothing is loaded or read before they hold."""
    import resource

    asked = json.loads(source.readline())
    memory, seconds = asked["memory"], asked["seconds"]
    # a second later the system would end it as anybody might
    for kind, limits in ((resource.RLIMIT_AS, (memory, memory)), (resource.RLIMIT_CPU, (seconds, seconds + 1))):
        with suppress(ValueError, OSError):  # a lower one holds already
            resource.setrlimit(kind, limits)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    Image.MAX_IMAGE_PIXELS = None  # here ours hold
    warnings.simplefilter("ignore")
    pixels = b""
    try:
        image = decode_content(Header(content=source.read(), **asked["header"]), asked["fit"])
        said, pixels = {"mode": image.mode, "size": image.size}, image.tobytes()
    except UnreadableHere as error:
        said = {"here": str(error)}
    except MemoryError:
        said = {"memory": asked["memory"]}
    except Exception as error:
        why = passing(error)
        said = {"here": f"cannot be decoded now: {why}"} if why else {"error": str(error) or type(error).__name__}
    target.write(json.dumps(said).encode() + b"\n")
    target.write(pixels)
    target.flush()


if __name__ == "__main__":
    main(sys.stdin.buffer, sys.stdout.buffer)
