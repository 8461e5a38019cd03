"""Words in a review: what they find, what describes a class from the next *Apply* on, and what cannot be."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from threading import Event, Thread
from types import SimpleNamespace
from typing import Any
from urllib.parse import urlencode

import numpy as np
import pytest
from browser import QUOTE, RED, TAG, served
from client import Client
from conftest import Picture
from worded import worded_run

from holotype import Settings
from holotype.answers.records import NewAnswer
from holotype.encoders.registry import load_text_encoder
from holotype.encoders.text import TextEncoder
from holotype.errors import EmbeddingsError, EncoderError, ExemplarError
from holotype.grouping.words import compare_texts
from holotype.review import words
from holotype.review.review import Review
from holotype.review.session import Session
from holotype.runs.describing import describe_run, undescribe_run
from holotype.runs.folder import RunFolder
from holotype.vectors.supplied import import_embeddings

pytest.importorskip("transformers")
WORDS = "a red cat"
NAMES = "clip-vit-b32, siglip-b16, siglip2-b16"


@pytest.fixture(scope="module")
def reviewed_run(tmp_path_factory: pytest.TempPathFactory, picture: Picture) -> Iterator[Path]:
    yield from worded_run(tmp_path_factory, picture)


def find(client: Client, text: str, n: int = 24, start: int = 0, label: str = RED) -> SimpleNamespace:
    query = urlencode({"label": label, "text": text, "n": n, "start": start})
    return client.get(f"/api/words/images?{query}")


def describe(client: Client, text: str, label: str = RED, path: str = "/api/describe") -> SimpleNamespace:
    return client.post(path, {"label": label, "text": text})


def state(client: Client, label: str = RED) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(client.get(f"/api/state?{urlencode({'label': label})}").text)
    return found


def described(client: Client, label: str = RED) -> list[tuple[str, str]]:
    return [(one["text"], one["state"]) for one in state(client, label)["descriptions"]]


def ended(client: Client, path: str) -> dict[str, Any]:
    while True:
        found: dict[str, Any] = json.loads(client.get(path).text)
        if found["state"] != "running":
            return found


def test_words_find_what_stands_out_most(client: Client, review: Review) -> None:
    settings, store = review.settings, next(iter(review.folder.stores))
    review.record([NewAnswer("3", RED, "no", "ann")])
    vectors = load_text_encoder(settings.encoders[0]).encode([WORDS])
    scores = compare_texts(import_embeddings(store, review.pool), vectors)[0][:, 0]
    groups = review.state.baseline.groups
    scores[groups.missing | ~groups.distinct] = -np.inf
    best = np.argsort(-scores, kind="stable")
    pages = [json.loads(find(client, WORDS, 100, start).text)["images"] for start in (0, 100, 200)]
    images = [one for page in pages for one in page]
    assert [one["row"] for one in images] == best[: len(images)].tolist()
    assert len(images) == int(np.isfinite(scores).sum())
    assert images[0]["score"] == pytest.approx(float(scores[best[0]]))
    verdicts = {one["id"]: one["verdict"] for one in images if one["verdict"]}
    assert verdicts == {"3": "no", "0": "exemplar"}
    assert review.version == 1


def test_a_description_holds_from_the_next_apply_on(client: Client, review: Review) -> None:
    path = review.folder.settings
    before, first = Settings.load(path), json.loads(client.get("/api/version").text)["version"]
    assert described(client) == []
    answer = describe(client, "  a  red\tcat ")
    assert answer.status == 200
    assert json.loads(client.get("/api/version").text)["version"] == json.loads(answer.text)["version"] != first
    assert described(client) == [(WORDS, "added")]
    assert described(client, TAG) == []
    assert state(client, TAG)["described"] == [RED]
    assert Settings.load(path) == before.model_copy(update={"descriptions": {RED: [WORDS]}})
    review.folder.read_settings()  # warns where they are not as holotype wrote them
    assert (json.loads(client.get("/api/apply").text)["state"], review.version) == ("never", 0)
    client.post("/api/apply", {})
    done = ended(client, "/api/apply")
    assert (done["state"], done["described"], done["later"]) == ("done", [], False)
    assert Settings.load(path).descriptions == {RED: [WORDS]}
    model = review.folder.load_model()
    assert [(one.text, model.classes_[one.label]) for one in model.descriptions_] == [(WORDS, RED)]
    assert described(client) == [(WORDS, "")]
    assert describe(client, WORDS, path="/api/undescribe").status == 200
    assert described(client) == [(WORDS, "removed")]
    assert Settings.load(path).descriptions == {}
    again = json.loads(client.get("/api/apply").text)
    assert (again["state"], again["described"], again["later"]) == ("done", [RED], True)
    assert describe(client, WORDS).status == 200  # put back
    assert described(client) == [(WORDS, "")]
    with served(review) as address:  # what holds is known after another start
        assert describe(client, "a cat").status == 200
        assert described(Client(address)) == [(WORDS, ""), ("a cat", "added")]


@pytest.mark.parametrize(
    ("label", "text", "status", "why"),
    [
        (RED, "", 422, "at least 1 character"),
        (RED, " \n ", 409, "expected words that say what"),
        (RED, "x" * 1001, 422, "at most 1000 characters"),
        (RED, "x" * 200, 409, "say it in fewer words"),
        (RED, WORDS.upper(), 409, "is described by"),
        (TAG, "A red CAT", 409, "they can stand for one class only"),
        ("blue", "a cat", 404, "no such class"),
        (RED, 3, 422, "string"),
    ],
)
def test_what_is_no_description_is_refused_and_changes_nothing(
    client: Client, review: Review, label: str, text: Any, status: int, why: str
) -> None:
    assert describe(client, WORDS).status == 200
    before = {path: path.read_bytes() for path in (review.folder.settings, review.folder.checksums)}
    answer = describe(client, text, label)
    assert (answer.status, why in answer.text) == (status, True), answer.text
    more = {"label": RED, "text": "a cat", "path": "/etc/passwd"}
    assert client.post("/api/describe", more).status == 422
    assert describe(client, "a dog", path="/api/undescribe").status == 409
    assert {path: path.read_bytes() for path in before} == before
    assert describe(client, text, label, "/api/undescribe").status >= 400 or text == WORDS.upper()


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ({"label": RED, "text": ""}, 422),
        ({"label": RED, "text": " "}, 409),
        ({"label": RED, "text": "x" * 1001}, 422),
        ({"label": RED, "text": "x" * 200}, 409),
        ({"label": "blue", "text": "a"}, 404),
        ({"label": RED, "text": "a", "n": 201}, 422),
        ({"label": RED, "text": "a", "start": -1}, 422),
        ({"label": RED}, 422),
    ],
)
def test_a_search_that_cannot_be(client: Client, query: dict[str, Any], status: int) -> None:
    answer = client.get(f"/api/words/images?{urlencode({'n': 4} | query)}")
    assert (answer.status, set(json.loads(answer.text))) == (status, {"error"})


def test_others_can_neither_search_nor_describe(client: Client, review: Review) -> None:
    before = review.folder.settings.read_bytes()
    body = {"label": RED, "text": WORDS}
    for path in ("/api/describe", "/api/undescribe", "/api/words"):
        for sent in (None, "null", "http://evil.example"):
            assert client.post(path, body, {"Origin": sent}).status == 403
        assert client.post(path, body, {"Host": "evil.example"}).status == 421
        assert client.post(path, body, {"Cookie": None}).status == 401
        assert client.post(path, body, {"Content-Type": "text/plain"}).status == 415
        assert client.post(path, b" " * 300_000).status == 413
    for path in ("/api/words", f"/api/words/images?{urlencode(body | {'n': 4})}"):
        assert client.get(path, Cookie=None).status == 401
        assert client.get(path, **{"Sec-Fetch-Site": "cross-site"}).status == 403
    assert client.post("/api/words", body).status == 422
    assert json.loads(client.get("/api/words").text)["state"] == "never"
    assert review.folder.settings.read_bytes() == before


def test_words_are_loaded_once_and_a_failure_is_told(
    client: Client, review: Review, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded: list[str] = []

    def fail(name: str, *_: object) -> TextEncoder:
        loaded.append(name)
        raise EncoderError("the hub cannot be reached")

    monkeypatch.setattr(words, "load_text_encoder", fail)
    assert (json.loads(client.get("/api/words").text)["why"], loaded) == ("", [])
    client.post("/api/words", {})
    found = ended(client, "/api/words")
    assert (found["state"], found["message"]) == ("failed", "the hub cannot be reached")
    refused = find(client, WORDS)
    assert (refused.status, "the hub cannot be reached" in refused.text) == (409, True)
    assert (describe(client, WORDS).status, Settings.load(review.folder.settings).descriptions) == (409, {})
    loaded.clear()

    def load(name: str, *more: Any) -> TextEncoder:
        loaded.append(name)
        return load_text_encoder(name, *more)

    monkeypatch.setattr(words, "load_text_encoder", load)
    client.post("/api/words", {})
    assert ended(client, "/api/words")["state"] == "done"
    assert [find(client, text).status for text in (WORDS, "a cat", WORDS)] == [200] * 3
    assert describe(client, WORDS).status == 200
    assert loaded == review.settings.encoders


def test_a_search_that_waits_keeps_no_answer_waiting(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    reached, free = Event(), Event()

    def wait(*_: object) -> TextEncoder:
        reached.set()
        free.wait(20)
        raise EncoderError("it was let go")

    monkeypatch.setattr(words, "load_text_encoder", wait)
    client.show(3)
    searches = [Thread(target=find, args=(client, f"cat {k}")) for k in range(6)]
    for one in searches:
        one.start()
    assert reached.wait(20)
    try:
        assert client.answer(3).status == 200
        assert state(client)["status"]["answered"] == 1
        assert client.get(f"/api/around?{urlencode({'label': RED, 'row': 3, 'n': 4})}").status == 200
        assert all(one.is_alive() for one in searches)
    finally:
        free.set()
        for one in searches:
            one.join()


def test_an_encoder_without_words_is_named_with_those_that_have_some(made_run: Path, tmp_path: Path) -> None:
    out = Path(shutil.copytree(made_run, tmp_path / "out"))
    with Review.open(out) as review, served(review) as address, pytest.MonkeyPatch.context() as patch:
        patch.setattr(words, "load_text_encoder", None)
        client, before = Client(address), review.folder.settings.read_bytes()
        why = json.loads(client.get("/api/words").text)["why"]
        assert review.settings.encoders[0] in why
        assert NAMES in why
        assert find(client, WORDS).text == json.dumps({"error": why}, separators=(",", ":"))
        patch.undo()
        refused = describe(client, WORDS)
        assert (refused.status, "knows no words" in refused.text, NAMES in refused.text) == (409, True, True)
        assert review.folder.settings.read_bytes() == before


def with_settings(run: Path, folder: Path, **more: Any) -> Path:
    out = RunFolder(shutil.copytree(run, folder / "out"))
    out.change_settings(out.read_settings().model_copy(update=more))
    return out.path


def test_supplied_vectors_are_searched_where_their_encoder_is_known(reviewed_run: Path, tmp_path: Path) -> None:
    folder = RunFolder(reviewed_run)
    pool = Review.open(reviewed_run).pool
    found = import_embeddings(next(iter(folder.stores)), pool)
    np.save(tmp_path / "turned.npy", found.take(np.arange(len(pool)))[:, ::-1])
    supplied = {"embeddings": str(tmp_path / "turned.npy")}
    with Review.open(with_settings(reviewed_run, tmp_path / "unknown", **supplied)) as review:
        session = Session(review, "ann")
        why = session.words.why_not()
        assert "not known what made the vectors" in why
        assert NAMES in why
        with pytest.raises(EncoderError, match="not known"):
            describe_run(review.folder, RED, WORDS)
    known = supplied | {"embeddings_encoder": folder.read_settings().encoders[0]}
    with Review.open(with_settings(reviewed_run, tmp_path / "known", **known)) as review:
        session = Session(review, "ann")
        assert session.words.why_not() == ""
        turned = [one.row for one in session.words.find(WORDS, RED, 10)]
        vectors = load_text_encoder(known["embeddings_encoder"]).encode([WORDS])
        scores = compare_texts(import_embeddings(tmp_path / "turned.npy", pool), vectors)[0][:, 0]
        scores[~review.state.baseline.groups.distinct] = -np.inf
        assert turned == np.argsort(-scores, kind="stable")[:10].tolist()


def test_of_several_encoders_the_one_of_the_results_is_searched(
    reviewed_run: Path, network: str, tmp_path: Path
) -> None:
    own = RunFolder(reviewed_run).read_settings().encoders
    with Review.open(with_settings(reviewed_run, tmp_path, encoders=[network, *own])) as review:
        search = Session(review, "ann").words
        assert search.why_not() == ""
        assert len(search.find(WORDS, RED, 10)) == 10
        with pytest.raises(EncoderError, match="knows no words"):  # a run would search with each
            describe_run(review.folder, RED, WORDS)
        shutil.rmtree(review.folder.vectors)
        with pytest.raises(EmbeddingsError, match=r"are not in .* any more: holotype run"):
            Session(review, "ann").words.find(WORDS, RED, 10)


def test_what_defines_a_class_alone_stays(reviewed_run: Path, tmp_path: Path) -> None:
    exemplars = {RED: ["0"], TAG: [], QUOTE: ["2"]}
    out = RunFolder(with_settings(reviewed_run, tmp_path, exemplars=exemplars, descriptions={TAG: ["a cat"]}))
    with pytest.raises(ExemplarError, match="all that defines"):
        undescribe_run(out, TAG, "a cat")
    assert describe_run(out, TAG, "a dog")[TAG] == ["a cat", "a dog"]
    assert undescribe_run(out, TAG, "a cat") == {RED: [], TAG: ["a dog"], QUOTE: []}
    with pytest.raises(ExemplarError, match="expected one of the classes"):
        describe_run(out, "blue", "a cat")
    with pytest.raises(ExemplarError, match="at most 1,000 characters"):
        describe_run(out, RED, "x " * 600)


def test_a_run_that_was_stopped_is_described_too(reviewed_run: Path, tmp_path: Path) -> None:
    out = RunFolder(shutil.copytree(reviewed_run, tmp_path / "out"))
    settings = out.read_settings()
    out.claim(settings.model_copy(update={"trials": 7}))
    describe_run(out, RED, WORDS)
    assert [Settings.load(path).trials for path in (out.settings, out.unfinished)] == [settings.trials, 7]
    assert {str(Settings.load(path).descriptions) for path in (out.settings, out.unfinished)} == {
        f"{{'red': ['{WORDS}']}}"
    }
