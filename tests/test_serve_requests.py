"""What stands in a request: lists that never end, forms that do too early, and the ways that clients write base64."""

import base64
import json
import resource
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from classifiers import MODEL, png
from conftest import Picture
from serving import PREDICT, Client, form, served

from holotype.serve.labelling import read_labelling

INFER = f"/v2/models/{MODEL}/infer"
HOOK = {"action": "ANNOTATION_CREATED"}
_FLOOD = 500_000
_PEAK = 250  # MB more than before that reading what is no request may take


@pytest.fixture(scope="module")
def client(saved: Path) -> Iterator[Client]:
    with served(str(saved), megabytes=8) as client:
        yield client


@pytest.fixture(scope="module")
def content(picture: Picture) -> bytes:
    return png(picture(3))


def tensor(**values: Any) -> dict[str, Any]:
    return {"inputs": [{"name": "image", "datatype": "BYTES", "shape": [1], "data": ["aGk="]} | values]}


def peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


@pytest.mark.parametrize("count", [90_000, _FLOOD])
@pytest.mark.parametrize("value", [0, "", {}, {"data": 0}])
@pytest.mark.parametrize(
    ("path", "body"),
    [
        (PREDICT, lambda many: {"images": many}),
        (INFER, lambda many: {"inputs": many}),
        (INFER, lambda many: tensor(data=many)),
        (INFER, lambda many: tensor(shape=many)),
        (INFER, lambda many: tensor() | {"outputs": many}),
        ("/predict", lambda many: {"tasks": many}),
        ("/webhook", lambda many: HOOK | {"annotations": many}),
        ("/webhook", lambda many: HOOK | {"task": many}),
    ],
)
def test_a_list_without_an_end_takes_little(client: Client, path: str, body: Any, value: Any, count: int) -> None:
    before = peak()
    reply = client.post(path, body([value] * count))
    learns = path == "/webhook" and count < _FLOOD and isinstance(value, dict)  # it is one, and nobody learns from it
    assert (reply.status == 200) if learns else (reply.status in (400, 413, 422) and len(reply.body) < 1000)
    assert peak() - before < _PEAK
    if count == _FLOOD:
        assert (reply.status, "values" in reply.json["error"]) == (413, True)


def test_more_images_than_one_request_may_have_are_not_looked_at(client: Client) -> None:
    for path, body in (
        (PREDICT, {"images": ["%"] * 65}),
        (INFER, tensor(shape=[65], data=["%"] * 65)),
        ("/predict", {"tasks": [{}] * 10_001}),
    ):
        reply = client.post(path, body)
        assert reply.status in (413, 422)
        assert "at most" in reply.json["error"]


@pytest.mark.parametrize("shape", [[10**30], [1, 10**4000], [2**31]])
def test_a_shape_that_no_tensor_has(client: Client, shape: list[int]) -> None:
    content = f'{{"inputs":[{{"name":"image","datatype":"BYTES","shape":{shape},"data":["aGk="]}}]}}'.encode()
    assert client.post(INFER, content, content_type="application/json").status in (400, 413)


@pytest.mark.parametrize("length", ["0" * 5000, "0" * 5000 + "9", "9" * 5000, "1" * 21, "1_0", "1e3", "+1", " 1 1"])
def test_a_length_that_is_none(client: Client, length: str) -> None:
    assert client.post(INFER, tensor(), inference_header_content_length=length).status == 400


@pytest.mark.parametrize(
    "write",
    [
        lambda content: base64.b64encode(content).decode(),
        lambda content: base64.encodebytes(content).decode(),
        lambda content: base64.encodebytes(content).decode().replace("\n", "\r\n"),
        lambda content: "\n".join(textwrap.wrap(base64.b64encode(content).decode(), 64)),
        lambda content: base64.b64encode(content).decode() + "\n",
        lambda content: "data:image/png;base64," + base64.b64encode(content).decode(),
        lambda content: "data:image/png;name=a.png;base64," + base64.b64encode(content).decode(),
    ],
)
def test_base64_as_clients_write_it(client: Client, content: bytes, write: Any) -> None:
    text, expected = write(content), client.post(PREDICT, content).json["predictions"]
    assert client.post(PREDICT, {"images": [text]}).json["predictions"] == expected
    assert client.post(f"/models/{MODEL}", {"inputs": text}).status == 200
    assert client.post(INFER, tensor(data=[text])).status == 200


@pytest.mark.parametrize("text", ["iVBO Rw0K", "iVBO*Rw0K", "xdata:image/png;base64,iVBO", "data:image/png,iVBORw0K"])
def test_what_is_no_base64(client: Client, text: str) -> None:
    assert "base64" in client.post(PREDICT, {"images": [text]}).json["predictions"][0]["error"]


def test_a_form_that_was_cut_off_is_refused_whole(client: Client, content: bytes) -> None:
    body, kind = form(("one", content), ("two", content))
    second = body.index(b'filename="two"')
    for end in (second - 40, second, second + 40, len(body) - 40, len(body) - 8):
        reply = client.post(PREDICT, body[:end], content_type=kind)
        assert reply.status == 422
        assert "cut off" in reply.json["error"]
    assert client.post(PREDICT, body[:-2], content_type=kind).status == 200  # but for the end of the line


@pytest.mark.parametrize("charset", ["punycode", "utf-7", "idna", "zlib", "nonsense", "rot13", "raw-unicode-escape"])
def test_a_form_in_a_charset_that_takes_long_is_refused(client: Client, charset: str) -> None:
    body = b'--edge\r\ncontent-disposition: form-data; name="a"\r\n\r\n' + b"A" * 900_000 + b"\r\n--edge--\r\n"
    reply = client.post(PREDICT, body, content_type=f"multipart/form-data; boundary=edge; charset={charset}")
    assert (reply.status, "UTF-8" in reply.json["error"]) == (422, True)


def test_a_large_form_is_read_beside(client: Client, content: bytes) -> None:
    body, kind = form(("one", content), ("large", b"x" * 3_000_000))
    found = client.post(PREDICT, body, content_type=kind).json["predictions"]
    assert [("label" in one, "error" in one) for one in found] == [(True, False), (False, True)]
    assert "cut off" in client.post(PREDICT, body[:-20], content_type=kind).json["error"]


def test_a_binary_tensor_of_more_elements_than_its_shape_says(client: Client) -> None:
    rest = bytes(4_000_000)
    tensor = {"name": "image", "datatype": "BYTES", "shape": [1], "parameters": {"binary_data_size": len(rest)}}
    head = json.dumps({"inputs": [tensor]}).encode()
    reply = client.post(INFER, head + rest, inference_header_content_length=str(len(head)))
    assert (reply.status, "got 2" in reply.json["error"]) == (400, True)


def test_choices_within_choices_are_read_once(client: Client) -> None:
    count = 20_000
    config = '<View><Image name="i" value="$image"/>' + '<Choices name="a" toName="i">' * count + "</Choices>" * count
    assert client.post("/setup", {"schema": config + "</View>"}).status == 422  # within the patience of the client
    inner = '<Choices name="b" toName="i"><Choice value="red"/><Choice value="green"/></Choices>'
    outer = f'<View><Image name="i" value="$image"/><Choices name="a" toName="i">{inner}</Choices></View>'
    assert read_labelling(outer, ("red", "green")).control == "b"


def test_a_form_of_too_many_parts_is_too_large(client: Client, content: bytes) -> None:
    body, kind = form(*[("x", content)] * 65)
    reply = client.post(PREDICT, body, content_type=kind)
    assert (reply.status, "64" in reply.json["error"]) == (413, True)


def test_what_curl_does_to_a_file_is_explained(client: Client, content: bytes) -> None:
    def sent(body: bytes) -> Any:
        return client.post(PREDICT, body, content_type="application/x-www-form-urlencoded").json["predictions"][0]

    assert "label" in sent(content)
    reply = client.post(PREDICT, b'{"images": []}', content_type="application/x-www-form-urlencoded")
    assert "application/json" in reply.json["predictions"][0]["error"]
    assert "--data-binary" in sent(content.replace(b"\r", b"").replace(b"\n", b""))["error"]
