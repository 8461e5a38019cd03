"""A model on the hub: the folder that is pushed, its card, and how it is read back, from a hub on this machine."""

import copy
import json
import warnings
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np
import onnxruntime
import pytest
from conftest import Holotype
from hub import Hub, ask_it, serving
from PIL import Image

from holotype import Classifier, open_pool
from holotype.errors import HolotypeWarning, ModelError
from holotype.export.export import ExportOptions, export_run
from holotype.model.saved import SAVED
from holotype.runs.card import Publication, model_card
from holotype.settings import Settings

FIRST, SECOND, NAME = "a" * 40, "b" * 40, "ada/colours"


@pytest.fixture
def online(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A hub that the client asks, with a cache of its own."""
    with serving() as hub:
        ask_it(hub, tmp_path, monkeypatch)
        yield hub


@pytest.fixture
def pushed(out: Path, tmp_path: Path) -> dict[str, bytes]:
    """What a push of the export sends."""
    export_run(out, "hub", tmp_path / "pushed")
    return {path.name: path.read_bytes() for path in (tmp_path / "pushed").iterdir()}


def front(text: str) -> dict[str, Any]:
    """Return the values at the head of a card."""
    from huggingface_hub import ModelCard

    found: dict[str, Any] = ModelCard(text).data.to_dict()  # type: ignore[no-untyped-call]
    return found


def test_what_is_pushed_is_read_back(out: Path, pushed: dict[str, bytes], online: Hub) -> None:
    online.repositories[NAME] = {FIRST: pushed}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = Classifier.load(NAME, revision=FIRST)
    before, pool = Classifier.load(out), open_pool(Settings.load(out / "holotype.toml").images)
    pixels = np.stack([before.encoder_.prepare(pool.read(row)) for row in range(20)])
    wanted = before.predict_features(pool.ids[:20], before.encoder_.encode(pixels))
    assert np.array_equal(found.predict_features(pool.ids[:20], found.encoder_.encode(pixels)).vectors, wanted.vectors)
    assert found._files() == before._files()
    assert not any(name in path for path in online.asked for name in ("README.md", "model.onnx", "export.json"))
    session = onnxruntime.InferenceSession(pushed["model.onnx"], providers=["CPUExecutionProvider"])
    assert session.run(["label"], {"pixels": pixels})[0].tolist() == wanted.labels


def test_without_a_revision_the_first_is_taken_ever_after(pushed: dict[str, bytes], online: Hub) -> None:
    online.repositories[NAME] = {FIRST: pushed}
    with pytest.warns(HolotypeWarning, match=f"{NAME} is taken from the hub as it is now, at commit {FIRST}"):
        first = Classifier.load(f"hf:{NAME}")
    other = {**pushed, "model.json": pushed["model.json"] + b" "}
    online.repositories[NAME][SECOND] = other  # the newest from now on
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert Classifier.load(NAME)._files() == first._files()
    online.repositories[NAME][FIRST] = {**pushed, "arrays.safetensors": b"another"}
    online.repositories[NAME][SECOND] = pushed
    assert Classifier.load(NAME, revision=SECOND).classes_ == first.classes_


def test_a_file_that_was_changed_is_not_used(pushed: dict[str, bytes], online: Hub, tmp_path: Path) -> None:
    online.repositories[NAME] = {FIRST: pushed}
    Classifier.load(NAME, revision=FIRST)
    for path in (tmp_path / "hub").rglob("blobs/*"):
        if path.read_bytes() == pushed["model.json"]:
            path.write_bytes(pushed["model.json"] + b" ")
    with pytest.raises(ModelError, match=r"model.json of ada/colours .* is not the file that is known"):
        Classifier.load(NAME, revision=FIRST)


@pytest.mark.parametrize(
    ("name", "revision", "why"),
    [
        (NAME, "main", "as its revision the 40 digits of a commit"),
        ("../up", FIRST, "expected owner/name of a model on the hub"),
        (NAME, SECOND, "is no folder with a saved model here, and ada/colours at commit b+ could not be fetched"),
        ("ada/nothing", "", "ada/nothing is no folder with a saved model here, and"),
        ("ada/words", "", "it holds no model of holotype"),
    ],
)
def test_what_cannot_be_fetched_is_one_sentence(
    pushed: dict[str, bytes], online: Hub, name: str, revision: str, why: str
) -> None:
    online.repositories[NAME] = {FIRST: pushed}
    online.repositories["ada/words"] = {FIRST: {"config.json": b"{}"}}
    with pytest.raises(ModelError, match=why):
        Classifier.load(name, revision=revision)


def test_a_folder_is_a_folder(out: Path, online: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(out.parent)
    assert Classifier.load(f"{out.name}/model").classes_[-1] == "none"
    with pytest.raises(ModelError, match="expected a saved model or a run in nothing/here"):
        Classifier.load(Path("nothing/here"))  # a path is no name on the hub
    assert online.asked == []


def test_the_card_is_what_the_hub_takes(out: Path, tmp_path: Path) -> None:
    from huggingface_hub import ModelCard, ModelCardData

    export_run(out, "hub", tmp_path / "pushed", options=ExportOptions(licence="Apache-2.0"))
    text = (tmp_path / "pushed" / "README.md").read_text()
    assert front(text) == {
        "license": "apache-2.0",
        "library_name": "holotype",
        "pipeline_tag": "image-classification",
        "tags": ["holotype", "image-classification", "onnx", "few-shot", "open-set"],
    }
    data = ModelCard(text).data
    assert isinstance(data, ModelCardData)
    assert (data.license, data.library_name, data.pipeline_tag) == ("apache-2.0", "holotype", "image-classification")
    export_run(out, "hub", tmp_path / "other")
    about = front((tmp_path / "other" / "README.md").read_text())
    assert (about["license"], about["license_name"]) == ("other", "not-stated")  # as the hub wants what is in no list


def test_the_hub_s_own_validator_is_sent_the_card(out: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`ModelCard.validate` asks the hub: a server here takes its place, and checks what the hub documents."""
    from huggingface_hub import ModelCard, constants

    seen: list[dict[str, Any]] = []

    class Validator(BaseHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

        def do_POST(self) -> None:
            seen.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            about = front(seen[-1]["content"])
            good = all(isinstance(about.get(one), str) for one in ("license", "library_name", "pipeline_tag"))
            self.send_response(200 if good and all(isinstance(one, str) for one in about["tags"]) else 400)
            self.send_header("Content-Length", "2")
            self.end_headers()
            self.wfile.write(b"{}")

    server = ThreadingHTTPServer(("127.0.0.1", 0), Validator)
    thread = Thread(target=server.serve_forever)
    thread.start()
    try:
        export_run(out, "hub", tmp_path / "pushed")
        text = (tmp_path / "pushed" / "README.md").read_text()
        monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{server.server_port}")
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        ModelCard(text).validate(repo_type="model")
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
    assert [one["repoType"] for one in seen] == ["model"]


def test_the_card_says_what_people_ask_first(out: Path, tmp_path: Path) -> None:
    export_run(out, "hub", tmp_path / "pushed")
    text = " ".join((tmp_path / "pushed" / "README.md").read_text().split())
    found = {name: text.count(f"{name} ") for name in ("red", "green", "blue")}
    assert all(found.values())
    assert "The pool had 240 images. In it were found: red " in text
    assert "Classifier.load(" in text
    assert "Nothing: no precision was certified" in text
    assert "## Where it ends" in text
    assert str(out.parent) not in text  # where things lay on a disk is nobody's business


def test_figures_have_their_intervals_and_what_is_undefined_says_so(fitted: Classifier) -> None:
    row = {"name": "red", "support": 9, "precision": 0.5, "precision_interval": [0.25, 0.75], "recall": 1.0, "f1": None}
    card = model_card(fitted, {"evaluation": {"rows": 30, "classes": [row]}})
    assert "30 images that nothing was learnt from" in card
    assert "| red | 9 | 0.500 (0.25 to 0.75) | 1.000 | undefined | undefined |" in card


def test_exemplars_are_named_and_shown_only_where_that_is_asked_for(
    fitted: Classifier, out: Path, tmp_path: Path
) -> None:
    model = copy.copy(fitted)
    model.exemplar_names_ = ["/home/ada/holidays/cat.jpg", *fitted.exemplar_names_[1:]]
    card = model_card(model, {}, Publication("model.onnx", 9, {"red": 2}))
    assert "Exemplars: cat.jpg, " in card
    assert "/home/ada" not in card
    export_run(out, "hub", tmp_path / "without")
    assert "![" not in (tmp_path / "without" / "README.md").read_text()
    export_run(out, "hub", tmp_path / "shown", options=ExportOptions(pictures=True))
    text = (tmp_path / "shown" / "README.md").read_text()
    pictures = sorted((tmp_path / "shown" / "exemplars").iterdir())
    assert [path.name for path in pictures] == ["blue.jpg", "green.jpg", "red.jpg"]
    for path in pictures:
        assert f"](exemplars/{path.name})" in text
        with Image.open(path) as image:
            assert image.format == "JPEG"


def test_what_is_promised_stands_on_the_card_as_long_as_it_holds(holotype: Holotype, out: Path, tmp_path: Path) -> None:
    from test_certified_run import certify
    from test_export_selection import answer

    from holotype.runs.folder import RunFolder

    certify(holotype, out, "--class", "red")
    export_run(out, "hub", tmp_path / "promised")
    assert "red: at least 95 % of" in (tmp_path / "promised" / "README.md").read_text()
    (promise,) = Classifier.load(tmp_path / "promised").promises_
    assert promise.label == "red"
    sampled = next(one for one in RunFolder(out).read_answers() if one.verdict == "yes" and one.label == "red")
    answer(out, (sampled.id, "red", "no"))
    with pytest.warns(HolotypeWarning, match="what was promised of red does not hold any more"):
        export_run(out, "hub", tmp_path / "fallen")
    assert "Nothing: no precision was certified" in (tmp_path / "fallen" / "README.md").read_text()
    assert {path.name for path in (tmp_path / "fallen").iterdir()} == {
        *SAVED,
        "README.md",
        "model.onnx",
        "export.json",
    }
