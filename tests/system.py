"""What tests ask of the system: GNU tar, a user without rights, disks and users that nobody else sees."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest


def gnu_tar(folder: Path, *options: str) -> None:
    """Run GNU tar in `folder`; what it refuses is a fault of the test."""
    subprocess.run(["tar", *options], cwd=folder, capture_output=True, check=True)


@contextmanager
def nobody() -> Iterator[Path]:
    """A folder in which an ordinary user may write; root may write everywhere."""
    with tempfile.TemporaryDirectory() as name:  # pytest's own folders are closed to other users
        Path(name).chmod(0o777)
        user = os.geteuid()
        try:
            if user == 0:
                os.seteuid(65534)
            yield Path(name)
        finally:
            if user == 0:
                os.seteuid(0)


def plain_environment() -> dict[str, str]:
    """Return the environment without what keeps the tests on one core: for what is about threads and forks."""
    return {name: value for name, value in os.environ.items() if not name.endswith("_NUM_THREADS")}


_COMMANDS = """
import io, json, sys
from holotype.cli.main import main

true, ends = sys.stdout, []
for words in json.load(sys.stdin):
    sys.argv = ["holotype", *words]
    written = [io.BytesIO(), io.BytesIO()]
    sys.stdout, sys.stderr = (
        io.TextIOWrapper(into, one.encoding, one.errors)
        for into, one in zip(written, (sys.__stdout__, sys.__stderr__))
    )
    try:
        code = main()
    except SystemExit as end:
        code = end.code
    sys.stdout.flush(), sys.stderr.flush()
    ends.append([code or 0, *(one.getvalue().hex() for one in written)])
json.dump(ends, true)
"""


def commands(
    *several: Sequence[object], before: Sequence[str] = (), environment: Mapping[str, str] = {}
) -> list[tuple[int, bytes, bytes]]:
    """Do commands of holotype one after another in a new process; return (exit code, stdout, stderr) of each."""
    given = json.dumps([[*map(str, words)] for words in several])
    done = subprocess.run(
        [*before, sys.executable, "-c", _COMMANDS],
        input=given,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, **environment},
    )
    assert done.returncode == 0, done.stderr
    return [(code, bytes.fromhex(out), bytes.fromhex(error)) for code, out, error in json.loads(done.stdout)]


def unshared(*options: str) -> list[str]:
    """Return the words before a command that `unshare` starts with `options`; skip where the system forbids it."""
    words = ["unshare", *options]
    if shutil.which("unshare") is None or subprocess.run([*words, "true"], check=False).returncode:
        pytest.skip("this system lets nobody have namespaces of their own")
    return words


def mounting(folder: Path, script: str) -> list[str]:
    """Return the words before a command that sees what `script` mounts at `folder`, its "$1"."""
    become = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
    return unshared(*become, "--mount", "sh", "-c", f'{script} && shift && exec "$@"', "sh", str(folder))
