"""Networks in the cache are those that were written there; what was damaged or altered is made anew, or named."""

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from networks import convolution, images

from holotype.encoders.cached import kept
from holotype.encoders.registry import load_encoder
from holotype.errors import EncoderError, HolotypeWarning, OutputError

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
    with pytest.warns(HolotypeWarning, match=r"\.onnx is damaged; what it held is made again"):
        after = load_encoder(source)
    assert after.path.read_bytes() == whole
    assert after.fingerprint == before.fingerprint
    assert np.array_equal(after.encode(images(after)), vectors)


@pytest.mark.parametrize("name", ["модель", "two\u2028lines", os.fsdecode(b"r\xe9seau")])
def test_so_is_one_whose_name_is_not_ascii(name: str, tmp_path: Path) -> None:
    made = list[Path]()

    def make(path: Path) -> None:
        path.write_bytes(b"the network")
        made.append(path)

    path = kept(tmp_path / f"{name}.onnx", make)
    path.write_bytes(b"the natwork")
    with pytest.warns(HolotypeWarning, match="is damaged"):
        kept(path, make)
    assert made == [path, path]
    assert path.read_bytes() == b"the network"


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
    with (
        pytest.warns(HolotypeWarning, match="is damaged"),
        pytest.raises(EncoderError, match=r"net\.onnx is not the file .*cannot be made again: that needs torch"),
    ):
        kept(path, fail)
    path.unlink()
    with pytest.raises(ImportError):  # there was none: the caller says what is needed
        kept(path, fail)


def test_a_file_of_a_version_that_kept_no_digests_is_taken_and_noted(tmp_path: Path) -> None:
    (tmp_path / "net.onnx").write_bytes(b"the network")
    kept(tmp_path / "net.onnx", lambda _path: pytest.fail("it is there"))
    (tmp_path / "net.onnx").write_bytes(b"the natwork")
    made: list[Path] = []
    with pytest.warns(HolotypeWarning, match="is damaged"):
        kept(tmp_path / "net.onnx", made.append)
    assert made == [tmp_path / "net.onnx"]


def test_a_cache_that_cannot_be_written_is_named_with_the_way_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "closed").write_bytes(b"")
    monkeypatch.setenv("HOLOTYPE_CACHE", str(tmp_path / "closed" / "cache"))
    source = str(convolution(tmp_path))
    with pytest.raises(OutputError, match="set HOLOTYPE_CACHE to a folder"):
        load_encoder(source)
    monkeypatch.setenv("HOLOTYPE_CACHE", str(tmp_path / "another"))
    load_encoder(source)


def test_onnx_runtime_does_not_report_on_its_user(tmp_path: Path) -> None:
    """It would keep a number of this machine in the home folder, from the moment that it is imported."""
    source, home = str(convolution(tmp_path)), tmp_path / "home"
    home.mkdir()
    script = f"from holotype.encoders.registry import load_encoder; load_encoder({source!r}, runtime='onnxruntime')"
    environment = {**os.environ, "HOME": str(home), "HOLOTYPE_CACHE": str(tmp_path / "cache")}
    environment = {name: value for name, value in environment.items() if not name.startswith(("ORT_", "XDG_"))}
    subprocess.run([sys.executable, "-c", script], env=environment, check=True)
    assert list(home.rglob("*")) == []
