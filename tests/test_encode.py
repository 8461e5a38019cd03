"""Images become vectors in order, on every core, a bounded number ahead, and nothing is left running."""

import io
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from holotype.encoders.encode import _AHEAD, encode_images
from holotype.encoders.registry import load_encoder
from holotype.encoders.runtimes import BATCH, OnnxEncoder
from holotype.errors import PoolError, UnreadableImage


@pytest.fixture
def encoder(network: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> OnnxEncoder:
    monkeypatch.setenv("HOLOTYPE_CACHE", str(tmp_path))
    return load_encoder(network)


def jpeg(name: str) -> bytes:
    buffer = io.BytesIO()
    seed = np.random.default_rng(int(name)).integers(0, 256, (3, 4, 3), dtype=np.uint8)
    Image.fromarray(seed).resize((64, 48)).save(buffer, "JPEG")
    return buffer.getvalue()


def names(count: int) -> list[str]:
    return [str(number) for number in range(count)]


@pytest.mark.parametrize("workers", [1, 2, 64])
def test_vectors_come_in_order_whatever_the_workers_and_with_gaps_told(encoder: OnnxEncoder, workers: int) -> None:
    gaps = {"0": b"", "5": b"no image", "8": b"", "9": b"", "10": b"", "11": b"", "40": b""}
    encoder.workers = workers
    found = list(encode_images(names(41), lambda name: gaps.get(name, b"") or jpeg(name) * (name not in gaps), encoder))
    ids = [name for one in found for name in one.ids]
    assert ids == [name for name in names(41) if name not in gaps]
    assert {name for one in found for name in one.unreadable} == set(gaps)
    assert [len(one) for one in found] == [BATCH] * (41 // BATCH) + [41 % BATCH]
    alone = [encoder.encode(encoder.prepare(jpeg(name))[None])[0] for name in ids]
    assert np.allclose(np.concatenate([one.vectors for one in found]), alone, atol=1e-3)


def test_nothing_is_nothing(encoder: OnnxEncoder) -> None:
    assert list(encode_images([], jpeg, encoder)) == []


def test_as_many_images_are_read_at_once_as_there_are_workers(encoder: OnnxEncoder) -> None:
    encoder.workers = 3
    together = threading.Barrier(3, timeout=30)

    def load(name: str) -> bytes:
        together.wait()  # goes on when three threads are here
        return jpeg(name)

    assert sum(len(one.ids) for one in encode_images(names(3 * BATCH), load, encoder)) == 3 * BATCH


def test_whoever_takes_slowly_is_not_swamped_and_no_thread_is_left(encoder: OnnxEncoder) -> None:
    read: list[str] = []

    def load(name: str) -> bytes:
        read.append(name)
        return jpeg(name)

    encoder.workers = 2
    stream = encode_images(names(500), load, encoder)
    next(stream)
    time.sleep(0.5)
    assert len(read) <= (_AHEAD * 2 + 1) * BATCH
    stream.close()  # type: ignore[attr-defined]
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("encode")]


def test_an_image_that_cannot_be_read_is_told_and_a_changed_pool_stops_all(encoder: OnnxEncoder) -> None:
    def load(name: str) -> bytes:
        if name == "1":
            raise OSError("input/output error")
        if name == "2":
            raise UnreadableImage("gone")
        if name == "30":
            raise PoolError("the tar was changed")
        return jpeg(name)

    found = next(encode_images(names(4), load, encoder))
    assert found.unreadable == {"1": "cannot be read: input/output error", "2": "gone"}
    with pytest.raises(PoolError, match="was changed"):
        list(encode_images(names(60), load, encoder))
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("encode")]


_FRESH = """
import sys
from concurrent.futures import ThreadPoolExecutor
import numpy as np
from holotype import load_encoder
def work(_):
    encoder = load_encoder(sys.argv[1], sys.argv[2])
    return encoder.encode(np.zeros((2, *encoder.size, 3), np.uint8))
with ThreadPoolExecutor(8) as threads:
    print(sum(len(one) for one in threads.map(work, range(16))))
encoder = load_encoder(sys.argv[1], sys.argv[2])
with ThreadPoolExecutor(8) as threads:
    print(sum(len(one) for one in threads.map(encoder.encode, [np.zeros((2, *encoder.size, 3), np.uint8)] * 16)))
"""


@pytest.mark.parametrize(("runtime", "times"), [("openvino", 3), ("onnxruntime", 1)])
def test_the_first_images_of_a_process_may_come_from_many_threads(
    encoder: OnnxEncoder, network: str, runtime: Any, times: int
) -> None:
    """OpenVINO's binding once waited for itself here, now and then."""
    for _ in range(times):
        done = subprocess.run(
            [sys.executable, "-c", _FRESH, network, runtime], capture_output=True, text=True, timeout=60, check=True
        )
        assert done.stdout.split() == ["32", "32"]
