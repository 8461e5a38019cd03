"""A real S3 server on this machine, for the benchmark of stores and for tests: moto's, which `make store` installs."""

import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

MOTO = Path(__file__).parents[1] / "build" / "moto" / "bin" / "moto_server"
_START = 60.0  # seconds


@contextmanager
def s3_server() -> Iterator[int]:
    """Run moto's server; yield its port."""
    assert MOTO.is_file(), "expected an S3 server in build/moto: install it with make store"
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = int(free.getsockname()[1])
    command = [str(MOTO), "--host", "127.0.0.1", "--port", str(port)]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        _wait(port)
        yield port
    finally:
        server.terminate()
        server.wait()


def _wait(port: int) -> None:
    ends = time.monotonic() + _START
    while True:
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        assert time.monotonic() < ends, "the S3 server does not start"
        time.sleep(0.05)
