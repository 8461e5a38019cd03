"""serve --learn: annotations of Label Studio are answers of the run, and what is served follows them."""

import base64
import json
import shutil
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from threading import Thread

import pytest
from conftest import Holotype, Jpeg
from labelling import hook, sent, tasks
from serving import Client, served

from holotype import Classifier, Settings, run
from holotype.answers.records import Answer, NewAnswer
from holotype.errors import HolotypeError
from holotype.review.review import Review
from holotype.runs.folder import RunFolder
from holotype.serve.learning import ROUND, Learning
from holotype.serve.models import ServedModels

CLASSES = ["red", "green", "blue"]
Said = list[tuple[str, str, str]]


@pytest.fixture
def client(out: Path) -> Iterator[Client]:
    with served(str(out), learn=True) as client:
        yield client


@pytest.fixture(scope="module")
def refusing(finished: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    """A server whose run keeps no answer, whatever the tests send."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOLOTYPE_CACHE", str(tmp_path_factory.mktemp("cache")))
        out = Path(shutil.copytree(finished, tmp_path_factory.mktemp("refusing") / "out"))
        with served(str(out), learn=True) as client:
            yield client
            assert recorded(out) == []


def learning(client: Client) -> Learning:
    found = client.service.learning
    assert found is not None
    return found


def recorded(out: Path) -> list[Answer]:
    """What holds, as another process reads it from the disk."""
    with closing(RunFolder(out).open_answers()) as log:
        return log.current()


def said(out: Path) -> Said:
    return [(one.id, one.label, one.verdict) for one in recorded(out)]


def no(image: str) -> Said:
    return [(image, label, "no") for label in CLASSES]


def predicted(client: Client, *images: str) -> list[tuple[str, float, str]]:
    """Return label, score and version of images of the pool."""
    found = client.post("/predict", tasks(*({"image_id": one} for one in images))).json["results"]
    return [(one["result"][0]["value"]["choices"][0], one["score"], one["model_version"]) for one in found]


def test_an_annotation_is_an_answer_when_the_hook_is_answered(client: Client, out: Path) -> None:
    for _ in range(2):  # Label Studio may send it twice
        assert client.post("/webhook", sent("created")).json == {"answers": 1, "refused": []}
        [one] = recorded(out)
        assert (one.id, one.label, one.verdict, one.who, one.audit) == ("10", "red", "yes", "1", False)
        assert one.digest == learning(client).review.pool.digest(10)
        assert one.when.isoformat() == "2026-11-28T05:09:01.076368+00:00"


def test_an_annotation_that_is_changed_emptied_or_deleted(client: Client, out: Path) -> None:
    client.post("/webhook", sent("created"))
    client.post("/webhook", sent("updated"))
    assert said(out) == no("10")
    assert client.post("/webhook", sent("deleted")).json == {"taken_back": 2}
    assert said(out) == []
    assert client.post("/webhook", sent("deleted")).json == {"taken_back": 0}
    client.post("/webhook", sent("updated"))  # late, or once more: it is deleted
    assert said(out) == []

    client.post("/webhook", hook("created", "11", "green", number=2, at=1))
    client.post("/webhook", hook("updated", "11", "none", number=2, at=3))
    client.post("/webhook", hook("updated", "11", "red", number=2, at=2))  # it was overtaken on its way
    assert set(said(out)) == {*no("11")}
    client.post("/webhook", hook("updated", "11", number=2, at=4))
    assert said(out) == []


def test_what_another_person_said_stays(client: Client, out: Path) -> None:
    """Of two who agree, one deletes his annotation; of two who do not, the later counts, then the one that is left."""
    client.post("/webhook", hook("created", "10", "red", number=1))
    client.post("/webhook", hook("created", "10", "red", number=2, at=1))
    client.post("/webhook", hook("created", "10", "none", number=11, at=2))
    red: Said = [("10", "red", "yes")]
    for number, expected in ((1, no("10")), (11, red), (2, [])):
        client.post("/webhook", sent("deleted") | {"annotations": [{"id": number}]})
        assert set(said(out)) == {*expected}


def test_a_project_of_the_same_number_in_a_new_label_studio_is_another(client: Client, out: Path) -> None:
    client.post("/webhook", sent("created"))
    other = sent("deleted")
    other["project"]["created_at"] = "2027-01-01T00:00:00.5Z"
    assert client.post("/webhook", other).json == {"taken_back": 0}
    assert said(out) == [("10", "red", "yes")]


def test_a_hook_says_what_an_export_says(client: Client, out: Path, finished: Path, tmp_path: Path) -> None:
    """With digests, audits and who annotated."""
    digest, bodies = learning(client).review.pool.digest(22), [sent("created")]
    bodies.append(hook("created", "22", "blue", number=2))
    bodies[1]["task"]["data"] |= {"digest": digest, "audited": ["red"], "image_id": "renamed since"}
    bodies[1]["annotation"]["completed_by"] = 7
    bodies.append(hook("created", "13", "none", number=3))
    del bodies[2]["task"]["data"]["image_id"]
    for number, body in enumerate(bodies, 1):
        body["annotation"]["task"] = body["task"]["id"] = number
        assert client.post("/webhook", body).status == 200
    export = [one["task"] | {"annotations": [one["annotation"]]} for one in bodies]
    (tmp_path / "export.json").write_text(json.dumps(export))
    with Review.open(Path(shutil.copytree(finished, tmp_path / "fresh"))) as fresh:
        fresh.load(tmp_path / "export.json")
    with Review.open(out) as again:
        assert again.read(tmp_path / "export.json") == 0  # it is known already
    of_export, of_hooks = recorded(tmp_path / "fresh"), recorded(out)
    keys = ("id", "label", "verdict", "who", "audit", "when", "digest", "drawn")
    assert [[getattr(one, key) for key in keys] for one in of_hooks] == [
        [getattr(one, key) for key in keys] for one in of_export
    ]
    assert [(one.label, one.verdict, one.audit) for one in of_hooks if one.id == "22"] == [
        ("red", "no", True),
        ("blue", "yes", False),
    ]


def test_what_is_skipped_says_nothing(refusing: Client) -> None:
    assert refusing.post("/webhook", sent("skipped")).json == {"answers": 0, "refused": []}
    assert learning(refusing).review.version == 0


def test_several_at_once_each_counts_for_itself(client: Client, out: Path) -> None:
    body = sent("many")
    body["task"][0]["data"] = {"image_id": "nowhere"}
    body["task"][1]["data"] = {"image_id": "nowhere"}
    reply = client.post("/webhook", body).json
    assert reply["answers"] == 6  # none, by two annotations of task 30
    assert len(reply["refused"]) == 2
    assert "about an image that is not in the pool" in reply["refused"][0]
    assert set(said(out)) == {*no("39")}


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"task": {"id": 1, "data": {"image_id": "nowhere"}}}, "not in the pool"),
        ({"task": {"id": 1, "data": {"image_id": "10", "digest": "0" * 64}}}, "another picture"),
        ({"task": {"id": 1, "data": {"image": "data:image/jpeg;base64,AAAA"}}}, "not in the pool"),
        ({"task": {"id": 1, "data": {"image_id": {}}}}, "expected the id of an image"),
        ({"task": {"id": 1}}, "expected the data of the task"),
        ({"task": {"id": 2, "data": {"image_id": "10"}}}, "expected the task 1"),
        ({"task": []}, "expected the task 1"),
        ({"annotation": []}, "expected the annotation"),
        ({"annotation": {"task": 1}}, "expected the number of an annotation"),
        ({"annotation": {"id": 1, "task": 1, "result": 5}}, "expected an object with 'result'"),
        ({"annotation": {"id": 1, "task": [1]}}, "expected the task [1]"),
        ({"annotation": 5}, "annotation"),
        ({"project": {"id": 1, "created_at": "yesterday"}}, "expected a time"),
        ({"action": None}, "action"),
    ],
)
def test_a_hook_that_is_no_answer_changes_nothing(
    refusing: Client, change: dict[str, object], expected: str, caplog: pytest.LogCaptureFixture
) -> None:
    reply = refusing.post("/webhook", sent("created") | change)
    assert reply.status in (409, 422)
    assert expected in reply.json["error"]
    logged = [vars(one)["why"] for one in caplog.records if one.msg == "webhook refused"]
    assert logged == ([reply.json["error"]] if reply.status == 409 else [])  # Label Studio shows it nobody
    assert learning(refusing).review.version == 0


@pytest.mark.parametrize("choices", [["pink"], ["red", "blue"], ["red", "none"]])
def test_choices_that_are_no_answer(refusing: Client, choices: list[str]) -> None:
    assert refusing.post("/webhook", hook("created", "10", *choices)).status == 409
    assert refusing.post("/webhook", hook("created", "0", "blue")).status == 409  # it is an exemplar of red
    assert learning(refusing).review.version == 0


def test_pre_labels_follow_the_answers(client: Client) -> None:
    """By what an answer says itself, by what is learnt of all, and under another version now and then."""
    version = client.get("/models/out").json["version"]
    [(label, score, before)] = predicted(client, "10")
    assert (label, before) == ("red", version)
    assert 0 < score < 1
    client.post("/webhook", hook("created", "10", "none"))
    assert predicted(client, "10", "0") == [("none", 1.0, version), ("red", 1.0, version)]
    others = [str(row) for row in range(30, 240) if row % 10 < 3]
    at_first = predicted(client, *others)
    for row in range(13, 29):
        client.post("/webhook", hook("created", str(row), [*CLASSES, *["none"] * 7][row % 10], number=row))
    learnt = predicted(client, *others)
    state = learning(client).review.state
    assert state.version > ROUND
    assert [one[1] for one in learnt] != [one[1] for one in at_first]
    assert {one[2] for one in learnt} == {f"{version}+{state.version // ROUND * ROUND}"}
    assert client.post("/setup", sent("setup")).json["model_version"] == learnt[0][2]
    order = [predicted(client, name)[0][1] for name in others]
    assert order == [one[1] for one in learnt]  # whoever asks later gets the same


def test_what_is_not_of_the_pool_is_answered_by_the_model(client: Client, finished: Path, jpeg: Jpeg) -> None:
    new = jpeg((40, 50, 210), (40, 30))
    address = f"data:image/jpeg;base64,{base64.b64encode(new).decode()}"
    [found] = client.post("/predict", tasks({"image": address})).json["results"]
    assert found["result"][0]["value"]["choices"] == [str(Classifier.load(finished).predict_one(new).labels[0])]


@pytest.mark.parametrize("how", ["/webhook", "/train"])
def test_training_does_the_run_again_and_its_model_is_served(client: Client, out: Path, how: str) -> None:
    version = client.get("/models/out").json["version"]
    for row in (10, 11, 12, 13, 14):
        client.post("/webhook", hook("created", str(row), [*CLASSES, "none", "none"][row % 10], number=row))
    applying = learning(client).applying
    began = [client.post(how, sent("train")).json for _ in range(2)]
    assert began == [{"applying": "running"}] * 2
    assert client.post("/webhook", hook("created", "20", "red", number=20)).status == 200  # it goes on meanwhile
    applying.wait()
    assert (applying.state, applying.message) == ("done", str(out / "report.html"))
    client.service.models.refresh()
    assert client.get("/models/out").json["version"] != version
    assert json.loads((out / "metrics.json").read_text())["answers"]["applying"] >= 9
    assert predicted(client, "13") == [("none", 1.0, learning(client).version(client.service.models.first))]


def test_a_training_that_cannot_be_says_why(client: Client, out: Path) -> None:
    with RunFolder(out).lock("a test"):
        client.post("/train", {})
        learning(client).applying.wait()
    assert learning(client).applying.state == "failed"
    assert "a test" in learning(client).applying.message


def test_a_review_of_the_same_run_goes_on_beside_it(client: Client, out: Path) -> None:
    with Review.open(out) as review:
        review.record([NewAnswer("11", "green", "no"), NewAnswer("11", "red", "yes")])
        assert predicted(client, "11")[0][:2] == ("red", 1.0)
        client.post("/webhook", hook("created", "11", "green"))
        review.refit()
        assert review.known("green")["11"] == "yes"
        assert predicted(client, "11")[0][:2] == ("green", 1.0)


def test_hooks_that_come_at_once_all_count(client: Client, out: Path) -> None:
    def send(row: int) -> None:
        replies.append(client.post("/webhook", hook("created", str(row), "none", number=row)).status)

    replies: list[int] = []
    threads = [Thread(target=send, args=(row,)) for row in range(13, 20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert replies == [200] * 7
    assert {one.id for one in recorded(out)} == {str(row) for row in range(13, 20)}
    assert len(recorded(out)) == 21


def test_a_run_that_was_done_anew_takes_no_more_answers(client: Client, out: Path) -> None:
    settings = Settings.load(out / "holotype.toml")
    run(settings.model_copy(update={"exemplars": {"red": ["0"], "green": ["1"]}}), out, force=True)
    for path, body in (("/webhook", sent("created")), ("/train", {}), ("/predict", tasks({"image_id": "10"}))):
        reply = client.post(path, body)
        assert (reply.status, "was done anew" in reply.json["error"]) == (409, True)
    assert recorded(out) == []


def test_it_is_guarded_as_all_is(out: Path) -> None:
    """It changes the run: no page of another site may, and where there is a token, nobody without it."""
    with served(str(out), learn=True) as client:
        for headers in ({"origin": "https://example.org"}, {"host": "example.org"}, {"sec_fetch_site": "cross-site"}):
            assert client.post("/webhook", sent("created"), **headers).status in (403, 421)
    with served(str(out), learn=True, token="secret") as client:
        assert client.post("/webhook", sent("created"), authorization=None).status == 401
        assert recorded(out) == []
        assert client.post("/webhook", sent("created")).status == 200
    assert said(out) == [("10", "red", "yes")]


def test_it_takes_one_run_whose_images_are_at_hand(out: Path, tmp_path: Path) -> None:
    Classifier.load(out).save(tmp_path / "alone")
    with pytest.raises(HolotypeError, match="expected one MODEL, got 2"):
        Learning.open(list(ServedModels([f"a={out}", f"b={out}"])))
    with pytest.raises(HolotypeError, match="--learn takes the folder of a run whose images are at hand"):
        Learning.open(list(ServedModels([str(tmp_path / "alone")])))
    folder = RunFolder(out)
    folder.change_settings(folder.read_settings().model_copy(update={"images": str(tmp_path / "gone.tar")}))
    with pytest.raises(HolotypeError, match=r"images are at hand: .*gone\.tar"):
        Learning.open(list(ServedModels([str(out / "model")])))


def test_the_command_says_what_it_takes(holotype: Holotype, out: Path) -> None:
    code, _, told = holotype("serve", f"a={out}", f"b={out}", "--learn", "--port", 0)
    assert code != 0
    assert "expected one MODEL, got 2" in told
    code, _, told = holotype("serve", out, "--label-studio", "localhost:8080", "--port", 0)
    assert code != 0
    assert "expected the address of a Label Studio" in told
