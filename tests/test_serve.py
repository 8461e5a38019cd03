"""Models at an address: what is said of images, in every way that they can be sent."""

import base64
import json
import re
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from classifiers import MODEL, png
from conftest import Picture
from serving import PREDICT, Client, form, large, noise, served

from holotype import Classifier
from holotype.pool.images import is_ordinary


@pytest.fixture(scope="module")
def client(saved: Path) -> Iterator[Client]:
    with served(str(saved), f"same={saved}") as client:
        yield client


@pytest.fixture(scope="module")
def pictures(picture: Picture) -> list[bytes]:
    return [png(picture(row)) for row in range(8)]


def test_what_is_served_is_listed(client: Client, fitted: Classifier) -> None:
    models = client.get("/models").json["models"]
    assert [one["name"] for one in models] == [MODEL, "same"]
    assert models[0]["classes"] == fitted.classes_[:-1]
    assert models[0]["thresholds"]["red"] == fitted.calibration_.thresholds[0]
    assert client.get(f"/models/{MODEL}").json == models[0]
    assert client.get("/health").json == {"status": "UP"}


def test_the_answer_is_that_of_predict(client: Client, fitted: Classifier, pictures: list[bytes]) -> None:
    for content in pictures:
        [found] = client.post(PREDICT, content).json["predictions"]
        expected = next(fitted.predict_one(content).records())
        assert found["label"] == expected["label"]
        assert found["vector"] == expected["vector"]
        assert found["nearest"] == expected["nearest"]
        assert found["probabilities"] == pytest.approx(expected["probabilities"], abs=1e-5)
        assert found["margin"] == pytest.approx(expected["margin"], abs=1e-5)
        about = found["label"] if found["label"] != "none" else max(["red", "green"], key=found["probabilities"].get)
        assert found["threshold"] == pytest.approx(client.get(f"/models/{MODEL}").json["thresholds"][about])
        assert "reaches" in found["reason"] or "stays below" in found["reason"]


def test_one_image_or_many_raw_in_a_form_or_in_json(client: Client, pictures: list[bytes]) -> None:
    alone = [client.post(PREDICT, one).json["predictions"][0] for one in pictures]
    body, kind = form(*((f"{row}.png", one) for row, one in enumerate(pictures)))
    by_form = client.post(PREDICT, body, content_type=kind).json["predictions"]
    encoded = [base64.b64encode(one).decode() for one in pictures]
    by_json = client.post(PREDICT, {"images": encoded}).json["predictions"]
    named = [{"id": f"n{row}", "data": f"data:image/png;base64,{one}"} for row, one in enumerate(encoded)]
    by_name = client.post(PREDICT, {"images": named}).json["predictions"]
    assert [one["id"] for one in by_form] == [f"{row}.png" for row in range(8)]
    assert [one["id"] for one in by_json] == [str(row) for row in range(8)]
    assert [one["id"] for one in by_name] == [f"n{row}" for row in range(8)]
    for several in (by_form, by_json, by_name):
        assert [one["label"] for one in several] == [one["label"] for one in alone]


def test_a_broken_image_has_an_error_of_its_own(client: Client, pictures: list[bytes]) -> None:
    body, kind = form(("good", pictures[0]), ("text", b"no image"), ("cut", pictures[1][:60]), ("empty", b""))
    reply = client.post(PREDICT, body, content_type=kind)
    found = reply.json["predictions"]
    assert reply.status == 200
    assert [("label" in one, "error" in one) for one in found] == [(True, False)] + [(False, True)] * 3
    by_json = client.post(PREDICT, {"images": ["%%%", base64.b64encode(pictures[0]).decode()]})
    assert "base64" in by_json.json["predictions"][0]["error"]
    assert by_json.json["predictions"][1]["label"]


def test_where_no_image_can_be_read_the_status_says_so(client: Client) -> None:
    reply = client.post(PREDICT, b"no image")
    assert reply.status == 422
    assert "not an image" in reply.json["predictions"][0]["error"]


@pytest.mark.parametrize(
    ("body", "kind", "expected"),
    [
        (b"", None, "expected the bytes of an image"),
        (b"{", "application/json", "Invalid JSON"),
        (b"[" * 100_000, "application/json", "recursion|Invalid JSON"),
        (b'{"images": []}', "application/json", "images"),
        (b'{"images": [5]}', "application/json", "images"),
        (b'{"picture": "x"}', "application/json", "images"),
        (b"--x--", "multipart/form-data", "boundary"),
        (b"--x--\r\n", "multipart/form-data; boundary=x", "files of the form"),
        (b"nonsense", "multipart/form-data; boundary=x", "form"),
    ],
)
def test_a_request_that_cannot_be_understood_says_why(
    client: Client, body: bytes, kind: str | None, expected: str
) -> None:
    reply = client.post(PREDICT, body, content_type=kind)
    assert reply.status == 422
    assert re.search(expected, reply.json["error"])


def test_more_images_than_a_request_may_have(saved: Path, pictures: list[bytes]) -> None:
    with served(str(saved), images=2) as client:
        encoded = [base64.b64encode(pictures[0]).decode()] * 3
        reply = client.post(PREDICT, {"images": encoded})
        assert (reply.status, client.post(PREDICT, {"images": encoded[:2]}).status) == (413, 200)
        assert "at most 2 images" in reply.json["error"]
        body, kind = form(*[("x", pictures[0])] * 3)
        assert client.post(PREDICT, body, content_type=kind).status == 413


def test_a_large_image_is_answered_and_others_do_not_wait_behind_it(
    client: Client, fitted: Classifier, pictures: list[bytes], tmp_path: Path
) -> None:
    content = large(tmp_path / "large.jpg")
    assert not is_ordinary(content, fit=max(fitted.encoder_.size))
    body, kind = form(("large", content), ("small", pictures[0]))
    found = client.post(PREDICT, body, content_type=kind).json["predictions"]
    expected = next(fitted.predict_one(content).records())
    assert found[0]["label"] == expected["label"]
    assert found[0]["probabilities"] == pytest.approx(expected["probabilities"], abs=1e-5)
    assert found[1]["label"] == fitted.predict(pictures[0])


def test_two_models_with_one_network_share_it(client: Client, pictures: list[bytes]) -> None:
    first, second = client.service.models
    assert first.encoder is second.encoder
    labels = [
        client.post(f"/models/{name}/predict", pictures[0]).json["predictions"][0]["label"] for name in (MODEL, "same")
    ]
    assert labels[0] == labels[1]


def test_a_name_that_is_not_served(client: Client, pictures: list[bytes]) -> None:
    for path in ("/models/other", "/v2/models/other"):
        assert client.get(path).status == 404
    reply = client.post("/models/other/predict", pictures[0])
    assert (reply.status, reply.json["error"]) == (404, f"there is no model of that name here; there are {MODEL}, same")


def test_what_is_counted(saved: Path, pictures: list[bytes]) -> None:
    with served(str(saved)) as client:
        for content in [*pictures, b"no image"]:
            client.post(PREDICT, content)
        client.ask("FROB", "/nowhere")
        text = client.get("/metrics").body.decode()
    counted = dict(line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
    assert counted[f'holotype_images_total{{label="unreadable",model="{MODEL}"}}'] == "1.0"
    said = {key: float(value) for key, value in counted.items() if key.startswith("holotype_images_total")}
    assert sum(said.values()) == 9
    none = said.get(f'holotype_images_total{{label="none",model="{MODEL}"}}', 0)
    assert float(counted[f'holotype_none_share{{model="{MODEL}"}}']) == none / 8
    assert counted['holotype_requests_total{method="POST",route="/models/{name}/predict",status="200"}'] == "8.0"
    assert counted["holotype_queue_images"] == "0.0"
    assert counted["holotype_batch_images_sum"] == "9.0"
    assert not any("FROB" in line or "nowhere" in line for line in counted)


def test_docs_come_without_any_other_server(client: Client) -> None:
    page = client.get("/docs")
    assert page.status == 200
    assert b"http://" not in page.body
    assert b"https://" not in page.body
    for name in [*re.findall(rb'"(/static/[^"]+)"', page.body), b"/openapi.json"]:
        assert client.get(name.decode()).status == 200
    assert client.get("/static/../models.py").status == 404
    assert client.get("/static/redoc.standalone.js").status == 404


def test_an_answer_is_json_whatever_its_numbers(client: Client) -> None:
    reply = client.post(PREDICT, png(np.zeros((1, 1, 3), np.uint8)))
    assert json.loads(reply.body)["model"] == MODEL
    assert client.post(PREDICT, noise(3)).status == 200


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_where_nothing_computes_any_more_health_says_so(saved: Path) -> None:
    with served(str(saved)) as client:
        assert client.get("/health").json == {"status": "UP"}
        client.service.metrics.batch_images.observe = lambda *_: sys.exit()  # type: ignore[method-assign]
        assert client.post(PREDICT, noise(1)).status == 200
        until = time.monotonic() + 30
        while client.get("/health").status == 200 and time.monotonic() < until:
            time.sleep(0.01)
        assert client.get("/health").status == client.get("/v2/health/ready").status == 503
        assert client.get("/health").json == {"status": "DOWN"}
