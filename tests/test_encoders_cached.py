"""Networks in the cache are those that were written there; what was damaged or altered is made anew, or named."""

import hashlib
from pathlib import Path

import numpy as np
import pytest
from networks import convolution, images

from holotype.encoders.cached import kept
from holotype.encoders.registry import load_encoder
from holotype.errors import EncoderError

pytestmark = pytest.mark.usefixtures("offline")


def altered(content: bytes) -> bytes:
    """The same length, a fifth of the bytes others."""
    changed = np.frombuffer(content, np.uint8).copy()
    changed[:: len(changed) // 2000 or 5] ^= 1
    return changed.tobytes()


@pytest.mark.parametrize("damage", [altered, lambda content: content[: len(content) // 2], lambda _content: b""])
def test_a_damaged_encoder_is_made_anew(damage: object, tmp_path: Path) -> None:
    assert callable(damage)
    source = str(convolution(tmp_path))
    before = load_encoder(source)
    vectors, whole = before.encode(images(before)), before.path.read_bytes()
    before.path.write_bytes(damage(whole))
    after = load_encoder(source)
    assert after.path.read_bytes() == whole
    assert after.fingerprint == before.fingerprint
    assert np.array_equal(after.encode(images(after)), vectors)


def test_what_cannot_be_made_again_is_named(tmp_path: Path) -> None:
    def make(path: Path) -> None:
        path.write_bytes(b"the network")

    def fail(_path: Path) -> None:
        raise ImportError(name="torch")

    path = kept(tmp_path / "net.onnx", make)
    assert kept(path, fail) == path
    note = f"{hashlib.sha256(b'the network').hexdigest()}  net.onnx\n"  # as sha256sum --check reads it
    assert (tmp_path / "net.onnx.sha256").read_text() == note
    path.write_bytes(b"the natwork")
    with pytest.raises(EncoderError, match=r"net\.onnx is not the file .*cannot be made again: that needs torch"):
        kept(path, fail)
    path.unlink()
    with pytest.raises(ImportError):  # there was none: the caller says what is needed
        kept(path, fail)


def test_a_file_of_a_version_that_kept_no_digests_is_taken_and_noted(tmp_path: Path) -> None:
    (tmp_path / "net.onnx").write_bytes(b"the network")
    kept(tmp_path / "net.onnx", lambda _path: pytest.fail("it is there"))
    (tmp_path / "net.onnx").write_bytes(b"the natwork")
    made: list[Path] = []
    kept(tmp_path / "net.onnx", made.append)
    assert made == [tmp_path / "net.onnx"]
