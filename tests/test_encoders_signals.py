"""Signals, in a process that let networks go again."""

import subprocess
import sys

from holotype.encoders.runtimes import OnnxEncoder

LETS_GO = """
import signal, sys, threading
from pathlib import Path
from holotype.encoders.runtimes import OnnxEncoder

signal.signal(signal.SIGTERM, lambda *_: print("heard", flush=True))
kept = [OnnxEncoder("one", Path(sys.argv[1])), OnnxEncoder("two", Path(sys.argv[1]))]
thread = threading.Thread(target=kept.clear)  # as when a newer model takes the place of one
thread.start()
thread.join()
signal.raise_signal(signal.SIGTERM)
"""


def test_a_network_that_another_thread_lets_go_takes_no_signal_with_it(encoder: OnnxEncoder) -> None:
    """OpenVINO gives the thread that starts it a stack for signals, which is gone when its last network is."""
    done = subprocess.run(
        [sys.executable, "-c", LETS_GO, encoder.path], capture_output=True, text=True, check=False, timeout=60
    )
    assert (done.returncode, done.stdout) == (0, "heard\n"), done.stderr
