"""The ML backend of Label Studio: pre-labels for its tasks, asked for as it asks (1.23.2)."""

import base64
import logging
from collections.abc import Iterator
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np
import pytest
from classifiers import png
from conftest import Jpeg, Picture
from labelling import CONFIG, keeping, sent, tasks
from serving import Client, noise, served

from holotype import Classifier, open_pool
from holotype.answers.label_studio import labelling_config
from holotype.errors import HolotypeError
from holotype.runs.folder import RunFolder
from holotype.serve.fetching import LabelStudioFiles
from holotype.serve.scores import certainty
from holotype.settings import Settings

CLASSES = ["red", "green", "blue"]
KEY = "0123456789abcdef"
REMOTE = "http://169.254.169.254/latest/photo.jpg"


@pytest.fixture(scope="module")
def client(finished: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOLOTYPE_CACHE", str(tmp_path_factory.mktemp("cache")))
        with served(f"pets={finished}", f"other={finished}") as client:
            yield client


def inline(content: bytes) -> dict[str, Any]:
    return {"image": f"data:image/jpeg;base64,{base64.b64encode(content).decode()}"}


def chosen(one: dict[str, Any]) -> str:
    return str(one["result"][0]["value"]["choices"][0])


@pytest.mark.parametrize("start", ["", "/label-studio/other"])
def test_a_project_connects_and_gets_its_pre_labels(client: Client, finished: Path, start: str) -> None:
    version = client.get("/models/pets").json["version"]
    assert client.get(f"{start}/health").json == {"status": "UP"}
    assert client.post(f"{start}/setup", sent("setup")).json == {"model_version": version}
    assert client.get(f"{start}/versions").json == {"versions": [version]}
    reply = client.post(f"{start}/predict", sent("predict")).json
    assert reply["model_version"] == version
    pool, model = open_pool(Settings.load(finished / "holotype.toml").images), Classifier.load(finished)
    for name, found in zip(["10", "13"], reply["results"], strict=True):  # the first by its id, the other by its file
        expected = model.predict_one(pool.read(pool.rows[name]))
        label, thresholds = str(expected.labels[0]), model.calibration_.thresholds
        value = {"choices": [label]}
        assert found["result"] == [
            {"from_name": "class", "to_name": "image", "type": "choices", "value": value},
        ]
        assert found["score"] == pytest.approx(certainty(expected.probabilities[0, :-1], thresholds), abs=1e-4)
        assert found["model_version"] == version
    assert [chosen(one) for one in reply["results"]] == ["red", "none"]


def test_a_model_that_is_not_there(client: Client) -> None:
    assert client.get("/label-studio/none/health").status == 404
    assert client.post("/label-studio/none/predict", sent("predict")).status == 404


def test_an_order_by_score_begins_with_what_is_least_sure() -> None:
    cuts = np.array([0.5, 0.2])
    at, sure, none, both = ([0.5, 0.1], [1.0, 0.0], [0.0, 0.0], [0.75, 0.6])
    assert [certainty(np.array(one), cuts) for one in (at, sure, none, both)] == [0, 1, 1, 0]
    rising = [certainty(np.array([p, 0.0]), cuts) for p in (0.55, 0.7, 0.95)]
    falling = [certainty(np.array([p, 0.0]), cuts) for p in (0.45, 0.3, 0.05)]
    assert rising == sorted(rising) == pytest.approx([0.1, 0.4, 0.9])
    assert falling == sorted(falling) == pytest.approx([0.1, 0.4, 0.9])
    assert certainty(np.array([0.6]), np.array([0.5])) == pytest.approx(0.2)


def choices(
    *names: str, tag: str = 'name="kind" toName="photo"', image: str = '<Image name="photo" value="$url"/>'
) -> str:
    return f"<View>{image}<Choices {tag}>{''.join(names)}</Choices></View>"


def choice(name: str) -> str:
    return f'<Choice value="{name}"/>'


FOUR = [choice(name) for name in [*CLASSES, "none"]]


@pytest.mark.parametrize(
    ("config", "names", "labels"),
    [
        (labelling_config(CLASSES), ("class", "image"), ["red", "none"]),
        (f"<!-- a comment -->{choices(*FOUR)}", ("kind", "photo"), ["red", "none"]),
        (choices(*FOUR[:3]), ("kind", "photo"), ["red", None]),  # without a choice for it, none is no choice
        (choices('<Choice value="Rot" alias="red"/>', *FOUR[1:]), ("kind", "photo"), ["red", "none"]),
        (choices(*FOUR, choice("broken"), tag='choice="multiple" name="kind" toName="photo"'), None, ["red", "none"]),
        (choices(f"<View>{''.join(FOUR)}</View>"), ("kind", "photo"), ["red", "none"]),
    ],
)
def test_the_configuration_says_which_control_is_meant(
    client: Client, config: str, names: tuple[str, str] | None, labels: list[str | None]
) -> None:
    key = "image" if 'value="$image"' in config else "url"
    both = [{key: "/data/local-files/?d=photos/10.jpg"}, {key: "/data/local-files/?d=photos/13.jpg"}]
    results = client.post("/predict", tasks(*both, config=config)).json["results"]
    assert [chosen(one) if one["result"] else None for one in results] == labels
    assert (results[0]["result"][0]["from_name"], results[0]["result"][0]["to_name"]) == (names or ("kind", "photo"))
    assert all(one["score"] is not None for one in results)


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        (choices(*FOUR[:2], choice("none")), "one for each of red, green, blue"),
        (choices(*FOUR, tag='name="kind" toName="text"'), "one for each of red, green, blue"),
        (choices(*FOUR, image='<Image name="photo" value="http://x/y.jpg"/>'), "one for each of red, green, blue"),
        ("<View></View>", 'Choices name="class" toName="image"'),  # the one that fits is in the message
        ("<View>", "is not XML"),
        ('<!DOCTYPE x [<!ENTITY a "b">]><View>&a;</View>', "without a document type"),
        (f"<View>{' ' * (1 << 20)}</View>", "at most 1 MB"),
    ],
)
def test_a_configuration_that_does_not_fit_is_refused(
    client: Client, config: str, expected: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, "holotype.serve"):
        for path, body in (("/setup", sent("setup") | {"schema": config}), ("/predict", tasks({}, config=config))):
            reply = client.post(path, body)
            assert (reply.status, expected in reply.json["error"]) == (422, True)
    assert [expected in vars(one)["why"] for one in caplog.records if one.msg.startswith("labelling")] == [True, True]


def test_each_image_is_found_by_what_its_task_says(client: Client, finished: Path, jpeg: Jpeg) -> None:
    pool = open_pool(Settings.load(finished / "holotype.toml").images)
    blue = pool.digest(12)
    results = client.post(
        "/predict",
        tasks(
            {"image": REMOTE, "image_id": "10"},
            {"image": REMOTE, "digest": blue},
            {"image": REMOTE, "image_id": "no longer called so", "digest": blue},
            {"image": "/data/upload/1/79644590-11.jpg"},
            inline(jpeg((200, 30, 40))),
        ),
    ).json["results"]
    assert [chosen(one) for one in results] == ["red", "blue", "blue", "green", "red"]


def test_an_image_that_cannot_be_had_is_told_and_the_others_are_answered(client: Client, jpeg: Jpeg) -> None:
    """Addresses are not fetched: where a request could choose one, it could read what this machine alone can reach."""
    with keeping(KEY) as elsewhere:
        elsewhere.files["/data/upload/1/new.jpg"] = jpeg((200, 30, 40))
        missing: list[tuple[dict[str, Any], str]] = [
            ({"image": f"{elsewhere.address}/data/upload/1/new.jpg"}, "no --label-studio was named"),
            ({"image": "/etc/passwd"}, "no image of"),
            ({"image": "file:///etc/passwd"}, "no image of"),
            ({"image_id": "10", "digest": "0" * 64}, "another picture"),
            ({"image_id": [10]}, "expected the id of an image"),
            ({"image": "data:image/png;base64,%%"}, "base64"),
            (inline(b"no image"), "not an image"),
            ({}, "no image of"),
        ]
        reply = client.post("/predict", tasks(*(data for data, _ in missing), {"image_id": "10"}))
        assert elsewhere.asked == []
    *faults, good = reply.json["results"]
    assert (reply.status, chosen(good)) == (200, "red")
    for one, (_, expected) in zip(faults, missing, strict=True):
        assert (one["result"], one["score"]) == ([], None)
        assert expected in one["error"]
        assert one["model_version"] == f"{good['model_version']}-failed"  # it is asked about again


def test_a_model_alone_has_no_pool(finished: Path, tmp_path: Path, jpeg: Jpeg) -> None:
    Classifier.load(finished).save(tmp_path / "alone")
    with served(str(tmp_path / "alone")) as client:
        found = client.post("/predict", tasks({"image_id": "10"}, inline(jpeg((200, 30, 40))))).json["results"]
        assert "the pool of the run is not at hand" in found[0]["error"]
        assert chosen(found[1]) == "red"


def test_more_tasks_than_images_that_may_wait(finished: Path, picture: Picture) -> None:
    """Label Studio asks once, about many: what finds no room waits for it, however many ask."""
    data = [inline(png(picture(row))) for row in range(20)]

    def ask() -> None:
        replies.append(client.post("/predict", tasks(*data)).json["results"])

    with served(str(finished), queue=3, images=2) as client:
        replies: list[Any] = []
        threads = [Thread(target=ask) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert client.post("/predict", tasks()).json["results"] == []
    assert [[chosen(one) for one in results][10:13] for results in replies] == [CLASSES] * 3
    assert [len(results) for results in replies] == [20] * 3


@pytest.mark.parametrize("key", [KEY, "a.b.c"])
def test_pictures_come_from_the_label_studio_that_was_named(
    finished: Path, jpeg: Jpeg, key: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A personal access token, which is a JWT, is exchanged first."""
    monkeypatch.setenv("LABEL_STUDIO_API_KEY", key)
    with keeping(key) as kept, keeping("other") as other, caplog.at_level(logging.INFO):
        upload, local = "/data/upload/1/79644590-new.jpg", "/data/local-files/?d=a%20folder/new.jpg"
        kept.files = {upload: jpeg((200, 30, 40)), local: jpeg((30, 180, 60)), "/data/upload/long": noise(0, 700)}
        kept.moved = {"/data/upload/a": f"{other.address}{upload}", "/data/upload/b": upload}
        with served(str(finished), label_studio=f"{kept.address}/", megabytes=1) as client:
            addresses = [upload, "/data/local-files/?d=a folder/new.jpg", f"{kept.address}{upload}", "/data/upload/b"]
            good = client.post("/predict", tasks(*({"image": one} for one in addresses))).json["results"]
            asked = [path for path, _ in kept.asked]
            refused = [
                ("/data/upload/a", "leads to another server"),
                ("/data/upload/long", "more than 1,024 kB"),
                ("/data/upload/gone.jpg", "404"),
                (f"{other.address}{upload}", "none that the Label Studio keeps"),
                (f"{kept.address}@example.org{upload}", "none that the Label Studio keeps"),
                ("/data/upload/../../api/users", "none that the Label Studio keeps"),
                ("/data/upload/%2e%2e/%2e%2e/api/users", "none that the Label Studio keeps"),
                ("/api/users?/data/upload/", "none that the Label Studio keeps"),
            ]
            faults = client.post("/predict", tasks(*({"image": one} for one, _ in refused))).json["results"]
    assert [chosen(one) for one in good] == ["red", "green", "red", "red"]
    assert {upload, local} <= {*asked}
    for one, (_, expected) in zip(faults, refused, strict=True):
        assert expected in one["error"]
    assert other.asked == []
    assert not any("/api/users" in path for path, _ in kept.asked)
    assert not any(key in str(vars(one)) for one in caplog.records)


def test_another_key_is_told(finished: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LABEL_STUDIO_API_KEY", "wrong")
    with keeping(KEY) as kept, served(str(finished), label_studio=kept.address) as client:
        [found] = client.post("/predict", tasks({"image": "/data/upload/x.jpg"})).json["results"]
        assert "LABEL_STUDIO_API_KEY" in found["error"]
        assert "wrong" not in found["error"]


@pytest.mark.parametrize(
    "address", ["localhost:8080", "ftp://host", "http://", "file:///etc", "http://a@host/", "http://h:x"]
)
def test_what_is_no_address_of_a_label_studio(address: str) -> None:
    with pytest.raises(HolotypeError, match="expected the address of a Label Studio"):
        LabelStudioFiles(address, 1, 1)


def test_label_studio_shows_the_token_as_a_password(finished: Path) -> None:
    """It can send nothing else: any name, and a password."""
    with served(str(finished), token="secret:1") as client:
        for credentials, status in (("any:secret:1", 200), ("any:secret", 401), ("secret:1", 401), ("", 401)):
            basic = f"Basic {base64.b64encode(credentials.encode()).decode()}"
            assert client.post("/setup", sent("setup"), authorization=basic).status == status
        assert client.post("/setup", sent("setup"), authorization="Basic %%").status == 401
        assert client.post("/setup", sent("setup"), authorization="Basic secret:1").status == 401


def test_without_learn_a_webhook_changes_nothing(client: Client, finished: Path) -> None:
    for name in ("created", "deleted", "train", "project"):
        reply = client.post("/webhook", sent(name))
        assert (reply.status, "--learn" in reply.json["ignored"]) == (200, True)
    assert client.post("/train", {}).json == reply.json
    assert client.post("/webhook", {"no": "action"}).status == 422
    assert RunFolder(finished).read_answers() == []


def test_what_is_no_request_of_label_studio_says_why(client: Client) -> None:
    for path, body in (("/predict", {"tasks": 5}), ("/predict", {}), ("/predict", b"{"), ("/setup", [CONFIG])):
        reply = client.post(path, body)
        assert (reply.status, bool(reply.json["error"])) == (422, True)
