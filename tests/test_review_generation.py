"""A run that is done anew, moved or deleted while a review of it is open: no answer is acknowledged and lost."""

import json
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from uuid import uuid4

import pytest
from browser import RED, answered, look, press, verdict
from client import Client
from playwright.sync_api import Page, expect

from holotype import Settings, run
from holotype.answers.records import NewAnswer
from holotype.errors import AnswersError, HolotypeError, OutputError
from holotype.review.review import Review


def run_anew(review: Review, **changes: object) -> None:
    """Do the run again as another process would: `holotype run --force`."""
    given = Settings.load(review.folder.settings).model_dump() | changes
    run(Settings.parse(given), review.out, force=True)


def other_classes(review: Review) -> None:
    run_anew(review, exemplars={"square": ["1"], "round": ["2"]})


def other_exemplars(review: Review) -> None:
    run_anew(review, exemplars={name: [str(k + 10)] for k, name in enumerate(review.classes)})


def another_pool(review: Review) -> None:
    shutil.copy(review.settings.images, review.out.with_name("other.tar"))
    run_anew(review, images=str(review.out.with_name("other.tar")))


def applied(client: Client) -> dict[str, str]:
    """Start Apply, and return how it ended."""
    assert client.post("/api/apply", {}).status == 202
    while (now := json.loads(client.get("/api/apply").text))["state"] == "running":
        time.sleep(0.02)
    return dict(now)


@pytest.mark.parametrize("happens", [other_classes, other_exemplars, another_pool])
def test_a_run_that_became_another_takes_no_answer(
    client: Client, review: Review, happens: Callable[[Review], None], tmp_path: Path
) -> None:
    client.show(3)
    act = str(uuid4())
    assert client.answer(3, act=act).status == 200
    happens(review)
    now = Settings.load(review.folder.settings)
    for refused in (
        client.answer(3, "no"),
        client.post("/api/undo", {"act": act}),
        client.get("/api/version"),
        client.get("/api/state?label=red"),
    ):
        assert (refused.status, "start the review again" in refused.text) == (409, True), refused.text
    (tmp_path / "a.csv").write_text("id,class,answer\n4,red,yes\n")
    for write in (
        lambda: review.record([NewAnswer("4", RED, "yes")]),
        lambda: review.answers.add("4", RED, "yes"),
        lambda: review.load(tmp_path / "a.csv"),
        review.apply,
    ):
        with pytest.raises(AnswersError, match="was done anew"):
            write()
    assert "was done anew" in applied(client)["message"]
    assert Settings.load(review.folder.settings) == now
    assert [one.id for one in review.answers.current()] == ["3"]
    with Review.open(review.out) as again:
        again.record([NewAnswer("5", again.classes[0], "yes")])


def test_the_same_run_done_anew_goes_on(client: Client, review: Review) -> None:
    client.show(3)
    run_anew(review, thresholds=[0.9])
    assert client.answer(3).status == 200
    assert applied(client)["state"] == "done"
    assert client.answer(3, "no").status == 200
    assert Settings.load(review.folder.settings).thresholds == [0.9]


def test_a_folder_that_is_gone_is_not_made_again(client: Client, review: Review) -> None:
    client.show(3)
    elsewhere = review.out.with_name("elsewhere")
    review.out.rename(elsewhere)
    for refused in (client.answer(3), client.get("/api/version"), client.get("/api/state?label=red")):
        assert (refused.status, "deleted or moved" in refused.text) == (503, True)
    with pytest.raises(OutputError, match="deleted or moved"):
        review.apply()
    assert applied(client)["state"] == "failed"
    assert not review.out.exists()
    elsewhere.rename(review.out)
    assert client.answer(3).status == 200
    shutil.rmtree(review.out)
    assert client.answer(3, "no").status == 503
    assert not review.out.exists()


def test_answers_that_are_gone_are_not_applied(client: Client, review: Review) -> None:
    client.show(3)
    assert client.answer(3).status == 200
    before = review.folder.report.stat().st_mtime_ns
    review.folder.answers.unlink()
    refused = client.answer(3, "no")
    assert (refused.status, "was deleted, moved or replaced" in refused.text) == (503, True)
    with pytest.raises(HolotypeError, match="was deleted, moved or replaced"):
        review.apply()
    assert applied(client)["state"] == "failed"
    assert review.folder.report.stat().st_mtime_ns == before


@pytest.mark.browser
def test_the_page_keeps_what_waits_until_the_file_is_back(page: Page, review: Review) -> None:
    first = press(page, "y")
    answered(page, 1)  # on the disk: the next question is there before
    elsewhere = review.out.with_name("elsewhere.db")
    review.folder.answers.rename(elsewhere)
    second = press(page, "n")
    expect(page.locator("#unsaved")).to_contain_text("1 answer is not saved yet")
    expect(page.locator("#unsaved")).to_contain_text("deleted, moved or replaced")
    elsewhere.rename(review.folder.answers)
    look(page)
    expect(page.locator("#unsaved")).to_be_hidden(timeout=10_000)
    assert verdict(review) == {(first, RED): "yes", (second, RED): "no"}


@pytest.mark.browser
def test_the_page_says_that_the_run_is_another(page: Page, review: Review) -> None:
    press(page, "y")
    answered(page, 1)
    other_exemplars(review)
    look(page)
    expect(page.locator("#unsaved")).to_contain_text("start the review again")
    press(page, "n")
    expect(page.locator("#notices")).to_contain_text("Not saved")
    assert len(review.answers.current()) == 1
