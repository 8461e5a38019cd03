"""Less precision is taken only where it is asked for, or where a sample of the pool says that it holds."""

import json
from pathlib import Path

import numpy as np
import pytest
from conftest import MakeTar
from networks import convolution
from test_encode import jpeg

from holotype.encoders import quantise as precision
from holotype.encoders.quantise import PrecisionCheck, choose_arithmetic
from holotype.encoders.registry import load_encoder
from holotype.encoders.runtimes import OnnxEncoder, runs_bf16
from holotype.errors import EncoderError
from holotype.pool.pool import Pool, open_pool
from holotype.progress import Silent
from holotype.settings import Arithmetic
from holotype.vectors.folders import fingerprints, in_arithmetic, open_shared
from holotype.vectors.store import embed


class Said(Silent):
    """A progress that remembers what was said."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, text: str) -> None:
        self.lines.append(text)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOLOTYPE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "encoders"


@pytest.fixture
def encoder(tmp_path: Path) -> OnnxEncoder:
    return load_encoder(str(convolution(tmp_path)))


@pytest.fixture
def pool(make_tar: MakeTar) -> Pool:
    return open_pool(make_tar([(f"{n}.jpg", jpeg(str(n)) if n % 9 else b"broken") for n in range(60)]))


@pytest.fixture
def worth(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Any pool is worth a look, and any gain is enough."""
    for name, value in {"_LEAST_IMAGES": 1, "_WORTH": 0.0, "_LEAST_GAIN": 0.0, "_MOST_NOISE": 1.0}.items():
        monkeypatch.setattr(precision, name, value)
    return monkeypatch


def test_a_pool_that_is_soon_done_is_encoded_in_float32(encoder: OnnxEncoder, pool: Pool, cache: Path) -> None:
    assert choose_arithmetic(encoder, pool, "auto", Said()) is encoder
    assert choose_arithmetic(encoder, pool, "f32", Said()) is encoder
    assert not list(cache.glob("*int8*"))


def test_where_only_some_images_are_encoded_auto_is_float32(
    encoder: OnnxEncoder, pool: Pool, worth: pytest.MonkeyPatch
) -> None:
    assert choose_arithmetic(encoder, pool, "auto", Said(), whole=False) is encoder


def test_int8_is_calibrated_once_and_said_with_what_it_is_worth(
    encoder: OnnxEncoder, pool: Pool, cache: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    said = Said()
    faster = choose_arithmetic(encoder, pool, "int8", said)
    assert (faster.name, faster.precision, faster.size, faster.dim) == (encoder.name, "int8", encoder.size, encoder.dim)
    assert faster.fingerprint != encoder.fingerprint
    assert faster.name_on_disk != encoder.name_on_disk
    assert "times as fast as f32, noise" in said.lines[-1]
    assert capfd.readouterr() == ("", "")
    made = next(cache.glob("*-int8.onnx"))
    before = made.stat().st_ino
    assert choose_arithmetic(encoder, pool, "int8", Said()).fingerprint == faster.fingerprint
    assert made.stat().st_ino == before  # its time is that of its last use
    pixels = np.stack([encoder.prepare(jpeg(str(n))) for n in range(1, 9)])
    plain, changed = encoder.encode(pixels), faster.encode(pixels)
    assert 0 < np.abs(plain - changed).max() < 0.1 * np.abs(plain).max()
    elsewhere = OnnxEncoder("", faster.path, "onnxruntime").encode(pixels)
    assert np.abs(plain - elsewhere).max() < 0.1 * np.abs(plain).max()


@pytest.mark.parametrize(("noise", "chosen"), [(1.0, "int8"), (0.0, "f32")])
def test_auto_takes_what_holds_and_says_the_same_the_next_time(
    noise: float, chosen: str, encoder: OnnxEncoder, pool: Pool, cache: Path, worth: pytest.MonkeyPatch
) -> None:
    worth.setattr(precision, "_MOST_NOISE", noise)
    worth.setattr(precision, "runs_bf16", lambda _runtime: False)
    assert choose_arithmetic(encoder, pool, "auto", Said()).precision == chosen
    note = next(cache.glob("*-openvino.json"))
    found = json.loads(note.read_text())
    assert found["chosen"] == chosen
    assert found["trials"][0]["precision"] == "int8"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(precision, "_compare", None)  # nothing is measured again
        assert choose_arithmetic(encoder, pool, "auto", Said()).precision == chosen
    for damaged in ("", "[]", '{"chosen": "fp4"}'):
        note.write_text(damaged)
        assert choose_arithmetic(encoder, pool, "auto", Said()).precision == chosen


@pytest.mark.parametrize("first", ["f32", "int8"])
def test_auto_goes_on_as_the_vectors_in_the_folder_were_made(
    first: Arithmetic, encoder: OnnxEncoder, pool: Pool, tmp_path: Path, worth: pytest.MonkeyPatch
) -> None:
    worth.setattr(precision, "_MOST_NOISE", 1.0 if first == "f32" else 0.0)  # asked anew, it would say the other
    embed(pool, choose_arithmetic(encoder, pool, first, Said()), tmp_path / "vectors")
    again = choose_arithmetic(encoder, pool, "auto", Said(), made=fingerprints([tmp_path / "vectors"], pool))
    assert again.precision == first
    assert len(embed(pool, again, tmp_path / "vectors").unreadable) == 7
    assert (
        choose_arithmetic(
            encoder, pool, "auto", Said(), made=fingerprints([tmp_path / "vectors"], pool), whole=False
        ).precision
        == first
    )


def test_vectors_elsewhere_in_float32_are_not_computed_again_in_less(
    encoder: OnnxEncoder, pool: Pool, make_tar: MakeTar, tmp_path: Path, worth: pytest.MonkeyPatch
) -> None:
    """As after `embed --precision f32` or a search; what is there of other images for the most part says nothing."""
    worth.setattr(precision, "runs_bf16", lambda _runtime: False)
    open_shared(tmp_path / "one", encoder, pool).embed()
    assert in_arithmetic(encoder, pool, "auto", Said(), []) is encoder
    some = [(f"{name}.jpg", pool.read(row)) for row, name in enumerate(pool.ids[:20])]
    grown = open_pool(make_tar([*some, *((f"more{n}.jpg", jpeg(str(100 + n))) for n in range(40))], "grown.tar"))
    assert in_arithmetic(encoder, grown, "auto", Said(), []).precision == "int8"


def test_a_pool_of_which_nothing_can_be_read_stays_in_float32(
    encoder: OnnxEncoder, make_tar: MakeTar, worth: pytest.MonkeyPatch
) -> None:
    broken = open_pool(make_tar([(f"{n}.jpg", b"broken") for n in range(9)]))
    assert choose_arithmetic(encoder, broken, "auto", Said()) is encoder
    with pytest.raises(EncoderError, match="none of 3 sampled images"):
        choose_arithmetic(encoder, broken, "int8", Said())


def test_a_network_that_cannot_be_quantised_stays_as_it_is(
    encoder: OnnxEncoder, pool: Pool, worth: pytest.MonkeyPatch
) -> None:
    worth.setattr(precision, "runs_bf16", lambda _runtime: False)
    encoder.encode(np.zeros((2, *encoder.size, 3), np.uint8))
    encoder.content = b""  # it is loaded already
    said = Said()
    assert choose_arithmetic(encoder, pool, "auto", said) is encoder
    assert any(line.startswith("int8 is left out: ") for line in said.lines)
    with pytest.raises(EncoderError, match="cannot be quantised to int8"):
        choose_arithmetic(encoder, pool, "int8", said)


def test_bfloat16_needs_a_cpu_that_has_it(encoder: OnnxEncoder, pool: Pool) -> None:
    if runs_bf16("openvino"):
        assert choose_arithmetic(encoder, pool, "bf16", Said()).precision == "bf16"
    else:
        with pytest.raises(EncoderError, match="no bf16 on this CPU"):
            choose_arithmetic(encoder, pool, "bf16", Said())


def test_what_holds_is_fast_and_close() -> None:
    assert PrecisionCheck("int8", 2.0, 0.01, (1.0, 0.99)).holds
    assert not PrecisionCheck("int8", 2.0, 0.5, (1.0, 0.99)).holds
    assert not PrecisionCheck("int8", 1.0, 0.01, (1.0, 0.99)).holds


def test_a_cache_that_can_only_be_read_stops_no_choice(
    encoder: OnnxEncoder, pool: Pool, cache: Path, worth: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "file").write_bytes(b"")
    worth.setattr(precision, "_note", lambda *_: tmp_path / "file" / "note.json")
    worth.setattr(precision, "_choose", lambda *_: ("f32", []))
    assert choose_arithmetic(encoder, pool, "auto", Said()) is encoder
