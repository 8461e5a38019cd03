"""From a tar and one exemplar per class to a saved model, on real JPEGs and a small real network."""

import csv
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper
from PIL import Image

from holotype import Classifier, Settings, load_encoder, open_pool, run
from holotype.embeddings import EmbeddingStore, embed, import_embeddings
from holotype.errors import EmbeddingsError, ExemplarError, GroupError, OutputError
from holotype.pipeline import search_pool, tune_run

COLOURS = {"red": (200, 30, 40), "green": (30, 180, 60), "blue": (40, 50, 210)}
N = 240


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> str:
    """An ONNX network of our own: average pooling to 4 x 4 cells of colour, 48-d."""
    folder = tmp_path_factory.mktemp("network")
    nodes = [
        helper.make_node("AveragePool", ["image"], ["cells"], kernel_shape=[8, 8], strides=[8, 8]),
        helper.make_node("Flatten", ["cells"], ["flat"], axis=1),
    ]
    graph = helper.make_graph(
        nodes,
        "cells",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["n", 3, 32, 32])],
        [helper.make_tensor_value_info("flat", TensorProto.FLOAT, ["n", 48])],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), folder / "c.onnx")
    (folder / "c.json").write_text(json.dumps({"size": 32, "image_mean": [0.5] * 3, "image_std": [0.5] * 3}))
    return str(folder / "c.onnx")


def picture(row: int) -> NDArray[np.uint8]:
    """Rows 0, 10, 20, ... red; 1, 11, ... green; 2, 12, ... blue; the rest noise of many colours."""
    random = np.random.default_rng(row)
    colour = list(COLOURS.values())[row % 10] if row % 10 < 3 else random.integers(0, 255, 3)
    base = np.full((48, 40 + row % 7, 3), colour, float)
    if row % 10 >= 3:
        base[: 24 + row % 11] = random.integers(0, 255, 3)
    return np.clip(base + random.normal(0, 12, base.shape), 0, 255).astype(np.uint8)


@pytest.fixture
def data(tmp_path: Path, make_tar: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> Path:
    import io

    monkeypatch.setenv("HOLOTYPE_CACHE", str(tmp_path / "cache"))
    members = {}
    for row in range(N):
        buffer = io.BytesIO()
        Image.fromarray(picture(row)).save(buffer, "JPEG", quality=95)
        members[f"{row}.jpg"] = buffer.getvalue()
    members["7.jpg"] = members["7.jpg"][:200]
    make_tar(list(members.items()), "images.tar")
    with (tmp_path / "test.csv").open("w") as file:
        table = csv.writer(file)
        table.writerow(["index", *COLOURS])
        for row in [30, 31, 32, 40, 41, 33, 34, 35, 36, 37]:
            table.writerow([row, *(int(row % 10 == k) for k in range(3))])
    return tmp_path


def settings(data: Path, network: str, **more: object) -> Settings:
    values = {
        "images": str(data / "images.tar"),
        "exemplars": {"red": ["0"], "green": ["1"], "blue": ["2"]},
        "test_set": str(data / "test.csv"),
        "thresholds": [0.9],
        "encoders": [network],
        "fit": {"near_duplicate": 0.99999, "doubtful_band": 0.25},
    }
    return Settings.parse(values | more)


def test_the_whole_job(data: Path, network: str) -> None:
    chosen = run(settings(data, network, heads=["linear", "mlp"]), data / "out")
    assert chosen.evaluation is not None
    assert chosen.evaluation.macro["f1"].value >= 0.9
    out = data / "out"
    for name in ("holotype.toml", "groups.parquet", "predictions.csv", "metrics.json", "report.html", "sweep.csv"):
        assert (out / name).exists(), name
    assert "7," in (out / "unreadable.csv").read_text()
    model = Classifier.load(out)
    stripes = np.zeros((40, 40, 3), np.uint8)
    stripes[::8] = 255
    images = [picture(500), picture(501), picture(502), stripes]
    answers = [model.explain(image).vectors[0].tolist() for image in images]
    assert answers == [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0], [0.0, 0.0, 0.0]]
    assert model.predict(picture(100)) == chosen.classifier.predict(picture(100)) == "red"


def test_the_saved_model_predicts_without_torch(data: Path, network: str) -> None:
    run(settings(data, network), data / "out")
    Image.fromarray(picture(100)).save(data / "new.png")
    code = (
        "import sys\nfor n in ('torch', 'sklearn', 'kornia', 'transformers'): sys.modules[n] = None\n"
        "from holotype import Classifier\n"
        f"print(Classifier.load({str(data / 'out')!r}).predict({str(data / 'new.png')!r}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["red"]


def test_importing_loads_nothing_heavy() -> None:
    code = "import sys, holotype; print([n for n in ('torch','openvino','matplotlib','fastapi') if n in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_an_interrupted_embed_resumes_to_the_same_vectors(
    data: Path, network: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("holotype.embeddings.SHARD", 20)
    pool, encoder = open_pool(data / "images.tar"), load_encoder(network)
    whole = embed(pool, encoder, data / "whole")
    seen = []

    def load(name: str) -> bytes:
        seen.append(name)
        if len(seen) == 50:
            raise KeyboardInterrupt
        return pool.read(pool.rows[name])

    with pytest.raises(KeyboardInterrupt):
        EmbeddingStore(data / "part", encoder, pool.fingerprint).ensure(pool.ids, load)
    resumed = embed(pool, encoder, data / "part")
    assert [path.name for path in sorted((data / "part" / "img_emb").iterdir())] == [
        path.name for path in sorted((data / "whole" / "img_emb").iterdir())
    ]
    for a, b in zip(whole.shards, resumed.shards, strict=True):
        assert np.array_equal(a, b)
    assert list(resumed.unreadable) == ["7"]


def test_an_out_folder_that_holds_a_run_is_refused(data: Path, network: str) -> None:
    run(settings(data, network), data / "out")
    with pytest.raises(OutputError, match="already holds a run"):
        run(settings(data, network), data / "out")


@pytest.mark.parametrize(
    ("exemplars", "message"),
    [
        ({"red": ["0"], "green": ["nothing"]}, "nothing"),
        ({"red": ["0"], "green": ["0"]}, "one class only"),
        ({"red": ["7"]}, "unreadable"),
    ],
)
def test_bad_exemplars(data: Path, network: str, exemplars: dict[str, list[str]], message: str) -> None:
    pool = open_pool(data / "images.tar")
    with pytest.raises(ExemplarError, match=message):
        Classifier(encoder=network).fit(pool, exemplars)


def test_an_empty_group_says_what_would_fill_it(data: Path, network: str) -> None:
    with pytest.raises(GroupError, match="most similar image has a cosine of"):
        Classifier(encoder=network, threshold=0.999999).fit(open_pool(data / "images.tar"), {"red": ["0"]})


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.ones((N - 1, 4), np.float32), f"{N - 1} rows"),
        (np.ones(N, np.float32), "shape"),
        (np.ones((N, 4), np.int64), "float array"),
        (np.where(np.arange(N)[:, None] == 5, np.nan, np.ones((N, 4))), "NaN"),
        (np.where(np.arange(N)[:, None] == 5, 0, np.ones((N, 4))), "only zeros in row 5"),
        (np.array([{}] * N, dtype=object), "plain array"),
    ],
)
def test_embeddings_that_do_not_fit(data: Path, array: NDArray[np.generic], message: str) -> None:
    np.save(data / "e.npy", array, allow_pickle=True)
    with pytest.raises(EmbeddingsError, match=message):
        import_embeddings(data / "e.npy", open_pool(data / "images.tar"))


def test_tuning_a_run_writes_its_settings_and_predictions_anew(data: Path, network: str) -> None:
    run(settings(data, network), data / "out")
    tuned = tune_run(data / "out", trials=3, thresholds=[0.9, 0.95]).tuned
    assert tuned is not None
    assert tuned.trials == 3
    again = Settings.load(data / "out" / "holotype.toml")
    assert (again.trials, again.thresholds, again.tune_threshold) == (3, [0.9, 0.95], True)
    model = json.loads((data / "out" / "model" / "model.json").read_text())
    assert model["settings"]["head_settings"] == tuned.settings.model_dump()
    assert model["settings"]["threshold"] == tuned.threshold


def test_search_finds_the_exemplars_colour(data: Path, network: str) -> None:
    found = search_pool(str(data / "images.tar"), ["0"], network, vectors=data / "vectors")
    assert all(int(name) % 10 == 0 for name, _ in found.best(10))
    found.sheet(10, data / "sheet.png")
    with Image.open(data / "sheet.png") as sheet:
        assert sheet.size == (1120, 112)
