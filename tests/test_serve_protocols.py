"""What clients already speak: that of Hugging Face, by its own client, and the Open Inference Protocol."""

import base64
import json
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from classifiers import MODEL, png
from conftest import Picture
from huggingface_hub import InferenceClient
from serving import Client, served

from holotype import Classifier

INFER = f"/v2/models/{MODEL}/infer"
CLASSIFY = f"/models/{MODEL}"


@pytest.fixture(scope="module")
def client(saved: Path) -> Iterator[Client]:
    with served(str(saved), token="secret") as client:
        yield client


@pytest.fixture(scope="module")
def pictures(picture: Picture) -> list[bytes]:
    return [png(picture(row)) for row in range(4)]


def test_their_own_client_classifies(client: Client, fitted: Classifier, pictures: list[bytes], tmp_path: Path) -> None:
    theirs = InferenceClient(model=f"http://127.0.0.1:{client.port}{CLASSIFY}", token="secret")
    for content in pictures:
        path = tmp_path / "one.png"
        path.write_bytes(content)
        prediction = fitted.predict_one(content)
        found = theirs.image_classification(path)
        likeliest = fitted.classes_[int(prediction.probabilities[0].argmax())]
        assert found[0].label == likeliest
        assert {one.label for one in found} == {*fitted.classes_}
        assert sum(one.score for one in found) == pytest.approx(1)
        [best] = theirs.image_classification(content, top_k=1)
        assert best.label == found[0].label
        assert best.score == pytest.approx(found[0].score, abs=1e-6)


@pytest.mark.parametrize("apply", ["softmax", "sigmoid", "none"])
def test_scores_are_what_the_parameter_makes_of_the_same_logits(
    client: Client, fitted: Classifier, pictures: list[bytes], apply: str
) -> None:
    body = {"inputs": base64.b64encode(pictures[3]).decode(), "parameters": {"function_to_apply": apply}}
    found = {one["label"]: one["score"] for one in client.post(CLASSIFY, body).json}
    probabilities = fitted.predict_proba(pictures[3])[0]
    logits = np.log(np.maximum(probabilities, 1e-12)) - np.log(max(probabilities[-1], 1e-12))
    expected = {"softmax": probabilities, "sigmoid": 1 / (1 + np.exp(-logits)), "none": logits}[apply]
    assert [found[name] for name in fitted.classes_] == pytest.approx(expected, rel=1e-3, abs=1e-3)


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({"inputs": "http://127.0.0.1/one.jpg"}, "base64"),
        ({"inputs": 5}, "inputs"),
        ({}, "inputs"),
        ({"inputs": "aGk=", "parameters": {"top_k": 0}}, "top_k"),
        ({"inputs": "aGk=", "parameters": {"function_to_apply": "tanh"}}, "function_to_apply"),
        (b"no image", "not an image"),
    ],
)
def test_what_cannot_be_classified(client: Client, body: Any, expected: str) -> None:
    reply = client.post(CLASSIFY, body)
    assert reply.status == 422
    assert expected in reply.json["error"]


def tensor(*images: bytes, shape: list[int] | None = None, **more: Any) -> dict[str, Any]:
    """Return a request for `images` in JSON."""
    data = [base64.b64encode(one).decode() for one in images]
    one = {"name": "image", "datatype": "BYTES", "shape": shape or [len(images)], "data": data}
    return {"inputs": [one]} | more


def binary(*images: bytes, size: int | None = None, **more: Any) -> tuple[bytes, int]:
    """Return a request for `images` in a binary tensor, and the bytes of its JSON."""
    rest = b"".join(struct.pack("<I", len(one)) + one for one in images)
    parameters = {"binary_data_size": len(rest) if size is None else size}
    one = {"name": "image", "datatype": "BYTES", "shape": [len(images)], "parameters": parameters}
    head = json.dumps({"inputs": [one]} | more).encode()
    return head + rest, len(head)


def outputs(body: Any) -> dict[str, Any]:
    """Return the outputs of a reply in JSON by name, each as rows."""
    return {one["name"]: np.array(one["data"]).reshape(one["shape"]).tolist() for one in body["outputs"]}


def test_what_the_server_and_a_model_say_of_themselves(client: Client) -> None:
    assert client.get("/v2").json["name"] == "holotype"
    assert client.get("/v2/health/live", authorization=None).json == {"live": True}
    assert client.get("/v2/health/ready", authorization=None).json == {"ready": True}
    about = client.get(f"/v2/models/{MODEL}").json
    assert about["inputs"] == [{"name": "image", "datatype": "BYTES", "shape": [-1]}]
    assert {one["name"]: one["shape"] for one in about["outputs"]}["probabilities"] == [-1, 3]
    [version] = about["versions"]
    assert client.get(f"/v2/models/{MODEL}/ready").json == {"ready": True}
    assert client.get(f"/v2/models/{MODEL}/versions/{version}/ready").status == 200
    assert client.get(f"/v2/models/{MODEL}/versions/other/ready").status == 404


def test_tensors_of_bytes_are_answered_row_by_row(client: Client, fitted: Classifier, pictures: list[bytes]) -> None:
    reply = client.post(INFER, tensor(*pictures, id="seven")).json
    found = outputs(reply)
    assert (reply["model_name"], reply["id"]) == (MODEL, "seven")
    assert found["label"] == [fitted.predict(one) for one in pictures]
    assert np.array(found["probabilities"]) == pytest.approx(fitted.predict_proba(pictures), abs=1e-5)
    assert found["vector"] == [fitted.predict_one(one).vectors[0].tolist() for one in pictures]
    assert found["error"] == [""] * 4
    column = client.post(INFER, tensor(*pictures, shape=[4, 1])).json
    assert outputs(column)["label"] == found["label"]


def test_binary_tensors_in_and_out(client: Client, fitted: Classifier, pictures: list[bytes]) -> None:
    wanted = [{"name": "probabilities", "parameters": {"binary_data": True}}, {"name": "label"}]
    body, length = binary(*pictures, outputs=wanted)
    reply = client.post(INFER, body, inference_header_content_length=str(length))
    head = int(reply.headers["inference-header-content-length"])
    said = json.loads(reply.body[:head])
    assert [one["name"] for one in said["outputs"]] == ["probabilities", "label"]
    values = np.frombuffer(reply.body[head:], "<f4").reshape(said["outputs"][0]["shape"])
    assert values == pytest.approx(fitted.predict_proba(pictures), abs=1e-5)
    assert said["outputs"][0]["parameters"] == {"binary_data_size": values.nbytes}
    body, length = binary(*pictures, parameters={"binary_data_output": True})
    reply = client.post(INFER, body, inference_header_content_length=str(length))
    head = int(reply.headers["inference-header-content-length"])
    sizes = [one["parameters"]["binary_data_size"] for one in json.loads(reply.body[:head])["outputs"]]
    assert sum(sizes) == len(reply.body) - head


def test_a_broken_image_leaves_the_others_their_rows(client: Client, pictures: list[bytes]) -> None:
    found = outputs(client.post(INFER, tensor(b"no image", pictures[0])).json)
    assert found["label"][0] == ""
    assert found["probabilities"][0] == [0, 0, 0]
    assert "not an image" in found["error"][0]
    assert found["label"][1]
    assert client.post(INFER, tensor(b"no image")).status == 400


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({"inputs": []}, "inputs"),
        (b"{", "JSON"),
        ({"inputs": [{"name": "pixels", "datatype": "BYTES", "shape": [1], "data": ["aGk="]}]}, "'image'"),
        ({"inputs": [{"name": "image", "datatype": "FP32", "shape": [1], "data": [1.0]}]}, "BYTES"),
        ({"inputs": [{"name": "image", "datatype": "BYTES", "shape": [2], "data": ["aGk="]}]}, "expected 2 images"),
        ({"inputs": [{"name": "image", "datatype": "BYTES", "shape": [1, 2], "data": ["aGk=", "aGk="]}]}, "shape"),
        ({"inputs": [{"name": "image", "datatype": "BYTES", "shape": [-1], "data": ["aGk="]}]}, "shape"),
        ({"inputs": [{"name": "image", "datatype": "BYTES", "shape": [1], "data": [5]}]}, "base64"),
        ({"inputs": [{"name": "image", "datatype": "BYTES", "shape": [0], "data": []}]}, "images"),
        (tensor(b"x", outputs=[{"name": "other"}]), "expected outputs"),
    ],
)
def test_what_is_no_request_of_the_protocol(client: Client, body: Any, expected: str) -> None:
    reply = client.post(INFER, body)
    assert reply.status == 400
    assert expected in reply.json["error"]


@pytest.mark.parametrize("length", ["", "x", "-1", "999999999", "1" * 5000, "٣"])
def test_a_length_of_the_json_that_cannot_be(client: Client, pictures: list[bytes], length: str) -> None:
    body, _ = binary(pictures[0])
    reply = client.post(INFER, body, inference_header_content_length=length.encode().decode("latin-1"))
    assert reply.status == 400


def test_a_binary_tensor_that_is_cut_off(client: Client, pictures: list[bytes]) -> None:
    body, length = binary(pictures[0])
    for content in (body[:-1], body + b"x", body[: length + 2]):
        assert client.post(INFER, content, inference_header_content_length=str(length)).status == 400
    body, length = binary(pictures[0], size=len(pictures[0]) + 3)
    assert client.post(INFER, body, inference_header_content_length=str(length)).status == 400
