"""What is like an image of a review, and like another picture: in Python and at the page's server."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from browser import RED, TAG
from client import Client, Headers, answers, request_head, send
from conftest import Picture
from numpy.typing import NDArray
from pictures import encoded
from PIL import Image

from holotype import Review, Settings, run
from holotype.answers.records import NewAnswer
from holotype.errors import AnswersError, UnreadableImage
from holotype.pool.limits import VARIABLE

Shared = tuple[Review, Client]


def png(pixels: NDArray[np.uint8]) -> bytes:
    return encoded(Image.fromarray(pixels), "PNG")


def test_around_an_image_are_those_of_the_greatest_cosine(made_run: Path, tmp_path: Path) -> None:
    with Review.open(shutil.copytree(made_run, tmp_path / "out")) as review:
        vectors = np.asarray(review.state.baseline.vectors, np.float64)
        cosines = vectors @ vectors[25]
        cosines[25] = -2
        near = review.around(25, RED, 30)
        np.testing.assert_allclose([one.cosine for one in near], np.sort(cosines)[::-1][:30], atol=2e-3)
        assert [one.id for one in near] == [str(one.row) for one in near]
        assert review.around(25, RED, 20, start=10) == near[10:]
        assert len(review.around(25, RED, 1000)) == len(review) - 1
        review.record([NewAnswer("3", RED, "no"), NewAnswer("4", TAG, "yes"), NewAnswer("6", RED, "exemplar")])
        said = {one.row: one.verdict for one in review.around(25, RED, 1000) if one.verdict}
        assert said == {0: "exemplar", 3: "no", 6: "exemplar"}
        with pytest.raises(AnswersError, match="expected the row of an image, 0 to 239, got 240"):
            review.around(240, RED, 5)
        with pytest.raises(AnswersError, match="expected one of the classes"):
            review.around(1, "nobody", 5)


def test_another_picture_is_compared_in_the_same_space(made_run: Path, picture: Picture, tmp_path: Path) -> None:
    with Review.open(shutil.copytree(made_run, tmp_path / "out")) as review:
        found = review.search(review.pool.read(25), RED, 30)
        assert found[0].row == 25
        assert found[0].cosine > 0.999
        near = review.around(25, RED, 29)
        np.testing.assert_allclose([one.cosine for one in found[1:]], [one.cosine for one in near], atol=5e-3)
        (tmp_path / "new.png").write_bytes(png(picture(1000)))  # red, as all of tens
        ids = [one.id for one in review.search(tmp_path / "new.png", RED, 10)]
        assert all(int(name) % 10 == 0 for name in ids)
        with pytest.raises(UnreadableImage):
            review.search(b"no picture", RED, 5)


def test_vectors_that_nobody_knows_the_encoder_of(made_run: Path, tmp_path: Path) -> None:
    """Another picture is then compared by the model's vectors, where there is one of each image; else that is said."""
    settings = Settings.load(made_run / "holotype.toml")
    with Review.open(shutil.copytree(made_run, tmp_path / "before")) as review:
        vectors = np.asarray(review.state.baseline.vectors, np.float32)
    np.save(tmp_path / "vectors.npy", vectors @ np.random.default_rng(0).normal(size=(vectors.shape[1], 24)))
    run(settings.model_copy(update={"embeddings": str(tmp_path / "vectors.npy")}), tmp_path / "out")
    with Review.open(tmp_path / "out") as review:
        assert review.around(25, RED, 5)
        assert review.search(review.pool.read(25), RED, 5)[0].row == 25
    shutil.rmtree(tmp_path / "out" / "vectors")
    with (
        Review.open(tmp_path / "out") as review,
        pytest.raises(AnswersError, match="it is not known what made the vectors of this run: name their encoder"),
    ):
        review.search(review.pool.read(25), RED, 5)


def test_the_server_gives_neighbours_and_refuses_what_is_no_question(shared_review: Shared, picture: Picture) -> None:
    review, client = shared_review
    got = client.get("/api/around?label=red&row=25&n=24&start=3")
    assert [one["row"] for one in json.loads(got.text)["images"]] == [
        one.row for one in review.around(25, RED, 24, start=3)
    ]
    for query, status in (
        ("label=red&row=240&n=5", 404),
        ("label=nobody&row=1&n=5", 404),
        ("label=red&row=-1&n=5", 422),
        ("label=red&row=1&n=201", 422),
        ("label=red&row=/etc/passwd&n=5", 422),
        ("label=red&n=5", 422),
    ):
        assert client.get(f"/api/around?{query}").status == status, query
    bytes_: Headers = {"Content-Type": "application/octet-stream"}
    found = client.post("/api/search?label=red&n=24", png(picture(25)), bytes_)
    assert found.status == 200
    assert json.loads(found.text)["images"][0]["row"] == 25
    assert json.loads(found.text)["picture"].startswith("/9j/")  # a JPEG in base64
    for query, body, headers, status in (
        ("label=red&n=24", b"no picture", bytes_, 422),
        ("label=red&n=24", b"", bytes_, 422),
        ("label=nobody&n=24", png(picture(25)), bytes_, 404),
        ("label=red&n=24", png(picture(25)), {}, 415),
        ("label=red&n=24", png(picture(25)), bytes_ | {"Origin": "http://example.com"}, 403),
        ("label=red&n=24", png(picture(25)), bytes_ | {"Cookie": None}, 401),
    ):
        assert client.post(f"/api/search?{query}", body, headers).status == status
    assert client.post("/api/answers", b"{}", bytes_).status == 415
    assert review.version == 0


def test_a_picture_beyond_the_limit_is_not_read(shared_review: Shared, monkeypatch: pytest.MonkeyPatch) -> None:
    _, client = shared_review
    monkeypatch.setenv(VARIABLE, "1")  # the least that is allowed is 64 MiB
    head = request_head(client, f"Content-Length: {2**26 + 1}").decode()
    head = head.replace("/api/answers", "/api/search?label=red&n=5").replace("/json", "/octet-stream")
    said = send(client, head.encode())
    assert b" 413 " in said
    assert b"expected at most 64 MB" in said


def test_the_rest_of_a_page_overrules_nothing(review: Review, client: Client) -> None:
    review.record([NewAnswer("3", RED, "yes", "ann"), NewAnswer("4", RED, "unsure", "ann")])
    for row in (0, 3, 4, 5):
        client.show(row)
    rest = {"label": RED, "verdict": "no", "rest": True}
    page = answers(rest=True, verdict="no") | {"answers": [{"row": row} | rest for row in (0, 3, 4, 5)]}
    assert client.post("/api/answers", page).status == 200
    found = {one.id: one.verdict for one in review.answers.current()}
    assert found == {"3": "yes", "4": "unsure", "5": "no"}  # 0 is an exemplar
    known = answers() | {"answers": [{"row": 3} | rest]}
    assert client.post("/api/answers", known).status == 200
    assert json.loads(client.post("/api/undo", {"act": known["act"]}).text)["undone"] is False
    assert json.loads(client.post("/api/undo", {"act": page["act"]}).text)["undone"] is True
    assert {one.id: one.verdict for one in review.answers.current()} == {"3": "yes", "4": "unsure"}
