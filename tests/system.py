"""What tests ask of the system: GNU tar, a user without rights, disks and users that nobody else sees."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
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
