"""What the server of the review page gives its page, what it records, and how it starts and ends."""

import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from uuid import uuid4

import pytest
from browser import QUOTE, RED, TAG, served
from client import Client, answers

from holotype.errors import OutputError
from holotype.review.guard import HEADERS
from holotype.review.review import Review
from holotype.review.server import serve


@pytest.mark.parametrize("row", ["240", "-1", "99999999999999999999", "1e3", "x", "0x1", ""])
def test_an_image_that_is_not_there(refusing: Client, row: str) -> None:
    answer = refusing.get(f"/image/{row}/large?v={refusing.nonce}")
    assert answer.status in (404, 422)
    assert set(json.loads(answer.text)) == {"error"}
    sent = int(row) if row.lstrip("-").isdecimal() else row
    assert refusing.post("/api/answers", answers(row=sent)).status in (404, 422)


def test_only_an_image_that_was_served_since_the_start_is_answered(client: Client, review: Review) -> None:
    assert client.get("/image/3/large?v=another").status == 409
    refused = client.answer(3)
    assert (refused.status, "was not shown" in refused.text) == (409, True)
    client.show(3)
    assert client.answer(3).status == 200
    assert client.answer(4).status == 409
    together = [{"row": 3, "label": RED, "verdict": "no"}, {"row": 4, "label": RED, "verdict": "no"}]
    assert client.post("/api/answers", {"act": str(uuid4()), "answers": together}).status == 409
    assert [(one.id, one.verdict, one.who) for one in review.answers.current()] == [("3", "yes", "tester")]
    with served(review) as address:
        assert Client(address).answer(3).status == 409


def test_what_was_found_is_a_table_that_names_the_files(refusing: Client, shared_review: tuple[Review, Client]) -> None:
    """The table of the run is given as it is, and whatever is asked for besides is not looked at."""
    review, _ = shared_review
    table = refusing.get("/found.csv?path=/etc/passwd&name=../holotype.toml")
    assert table.headers["content-disposition"] == 'attachment; filename="found.csv"'
    assert table.headers["content-type"].startswith("text/csv")
    assert table.text.encode() == review.folder.found.read_bytes()
    path = json.loads(refusing.get("/api/path?row=3").text)["path"]
    assert path == review.pool.path(3)
    assert path.endswith("images.tar/3.jpg")
    assert refusing.ask("GET", "/found.csv", {"Cookie": None}).status == 401
    assert refusing.ask("GET", "/api/path?row=3", {"Cookie": None}).status == 401


def test_a_table_that_is_not_there_is_said_so(client: Client, review: Review) -> None:
    review.folder.found.unlink()
    answer = client.get("/found.csv")
    assert (answer.status, json.loads(answer.text)) == (
        404,
        {"error": "there is no table of what was found yet; apply the answers first"},
    )


def test_html_in_a_name_stays_text(client: Client, review: Review) -> None:
    page = client.get("/").text
    assert TAG not in page
    assert QUOTE not in page
    assert page.count("&lt;img src=x onerror=alert(1)&gt;") == 2
    assert "<script>" not in page
    assert " style=" not in page
    client.show(3)
    assert client.answer(3, label=TAG).status == 200
    assert [one.label for one in review.answers.current()] == [TAG]
    missing = client.get("/api/state?label=%3Cscript%3Ealert(1)%3C/script%3E")
    assert (missing.status, "script" in missing.text) == (404, False)
    assert missing.headers["content-type"] == "application/json"


def test_an_act_that_is_sent_again_is_recorded_once(client: Client, review: Review) -> None:
    client.show(3)
    body = answers()
    assert [client.post("/api/answers", body).status for _ in range(3)] == [200] * 3
    assert len(review.answers.history()) == 1
    other = answers(act=body["act"], verdict="no")
    assert client.post("/api/answers", other).status == 409
    undo = {"act": body["act"]}
    assert [json.loads(client.post("/api/undo", undo).text)["undone"] for _ in range(2)] == [True, False]
    assert review.answers.current() == []
    assert client.post("/api/undo", {"act": str(uuid4())}).status == 409


def test_what_is_audited_is_known_to_the_server_alone(client: Client, review: Review) -> None:
    for row in range(30, 45):
        client.show(row)
        client.answer(row, "yes" if row % 10 == 0 else "no")
    client.post("/api/refit", {})
    asked = json.loads(client.get("/api/questions?label=red&n=40").text)["questions"]
    audits = {one.row for one in review.next(40, RED) if one.audit}
    assert audits
    assert all(set(one) == {"row", "id", "score", "why"} for one in asked)
    before = {one.id for one in review.answers.current() if one.audit}
    for one in asked:
        client.show(one["row"])
        client.answer(one["row"], "no")
    recorded = {int(one.id) for one in review.answers.current() if one.audit} - set(map(int, before))
    assert recorded == audits
    row = audits.pop()
    client.answer(row, "yes")
    assert next(one for one in review.answers.current() if one.id == str(row)).audit


def test_it_is_another_class_is_one_act(client: Client, review: Review) -> None:
    client.show(1)
    client.show(11)
    answers = [{"row": 11, "label": RED, "verdict": "no"}, {"row": 11, "label": TAG, "verdict": "yes"}]
    act = str(uuid4())
    assert client.post("/api/answers", {"act": act, "answers": answers}).status == 200
    assert {one.act for one in review.answers.current()} == {act}
    assert json.loads(client.get("/api/state?label=red").text)["status"]["no"] == 1


def test_exemplars_come_and_go_but_the_last_stays(client: Client, review: Review) -> None:
    last = client.post("/api/withdraw", {"act": str(uuid4()), "label": RED, "name": "0"})
    assert (last.status, "no other exemplar" in last.text) == (409, True)
    client.show(10)
    assert client.answer(10, "exemplar").status == 200
    body = {"act": str(uuid4()), "label": RED, "name": "0"}
    assert [client.post("/api/withdraw", body).status for _ in range(2)] == [200, 200]
    assert [one.name for one in review.exemplars(RED)] == ["10"]
    assert client.post("/api/withdraw", body | {"act": str(uuid4())}).status == 404
    assert client.get(f"/exemplar/0/large?v={client.nonce}&name=0").status == 404
    assert client.get(f"/exemplar/-1/large?v={client.nonce}&name=10").status == 422
    [shown] = review.exemplars(RED)
    assert client.get(f"/exemplar/{shown.number}/thumb?v={client.nonce}&name=10").status == 200


def test_answers_leave_as_csv_and_for_label_studio(client: Client) -> None:
    client.show(3)
    client.answer(3)
    table = client.get("/answers.csv")
    assert table.text.splitlines()[1].startswith("3,red,yes,")
    assert table.headers["content-disposition"] == 'attachment; filename="answers.csv"'
    [task] = json.loads(client.get("/label-studio.json").text)
    assert task["data"]["id"] == "3"


@pytest.mark.parametrize(
    "query",
    ["label=red&n=0", "label=red&n=10000", "label=red", "n=5", "label=none&n=5", "label=red&n=5&exclude=x"],
)
def test_questions_that_cannot_be_asked_for(refusing: Client, query: str) -> None:
    assert refusing.get(f"/api/questions?{query}").status in (404, 422)


def test_rows_that_are_not_there_can_be_left_out(client: Client) -> None:
    assert client.get("/api/questions?label=red&n=5&exclude=3,4,9999999999").status == 200
    for query in ("part=all", "part=found&start=-1", "part=found&count=9999", "part=found&sort=x", "part=x"):
        assert client.get(f"/api/gallery?label=red&{query}").status == 422
    found = json.loads(client.get("/api/gallery?label=red&part=found&text=3").text)
    assert all("3" in item["id"] for item in found["items"])


def test_an_error_of_ours_is_no_traceback(client: Client, review: Review, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("secret of the inside")

    monkeypatch.setattr(review, "standing", broken)
    answer = client.get("/api/state?label=red")
    assert answer.status == 500
    assert "secret" not in answer.text
    assert answer.headers.items() >= HEADERS.items()


def test_serve_says_where_it_is_and_ctrl_c_ends_it(reviewed_run: Path) -> None:
    code = (
        "from pathlib import Path\nfrom functools import partial\nfrom holotype.review.server import serve\n"
        "from holotype.review.review import Review\n"
        f"with Review.open(Path({str(reviewed_run)!r})) as review: serve(review, say=partial(print, flush=True))\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as child:
        assert child.stdout is not None
        line = child.stdout.readline()
        assert line.startswith("review at http://127.0.0.1:")
        client = Client(line.split()[2])
        assert client.get("/").status == 200
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.2", client.port), timeout=5)
        os.kill(child.pid, signal.SIGINT)
        _, stderr = child.communicate(timeout=20)
    assert (child.returncode, stderr) == (0, "")


def test_a_port_that_is_taken(shared_review: tuple[Review, Client]) -> None:
    review, client = shared_review
    with pytest.raises(OutputError, match="choose another --port"):
        serve(review, port=client.port)
