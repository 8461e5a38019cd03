"""The review page in a real browser, on a real run: one question after another, and when things go wrong."""

import json

import pytest
from browser import CLASSES, QUOTE, RED, SHOWN, TAG, Held, Open, answered, look, press, question, verdict
from playwright.sync_api import BrowserContext, Page, Request, Route, expect

from holotype.answers.records import NewAnswer
from holotype.names import counted
from holotype.review.outcome import changes, held_images
from holotype.review.review import Review

pytestmark = pytest.mark.browser


def test_one_key_is_one_answer_and_z_takes_it_back(page: Page, review: Review) -> None:
    given = {(press(page, key), RED): word for key, word in (("y", "yes"), ("n", "no"), ("u", "unsure"))}
    answered(page, 3)
    assert verdict(review) == given
    expect(page.locator("#st-verdict")).to_have_text("1 yes, 1 no, 1 unsure")
    undone = list(given)[-1]
    page.keyboard.press("z")
    assert page.wait_for_selector(SHOWN)
    expect(page.locator("#question-name")).to_have_text(undone[0])
    answered(page, 2)
    assert verdict(review) == {pair: word for pair, word in given.items() if pair != undone}
    press(page, "y")
    answered(page, 3)
    assert verdict(review)[undone] == "yes"
    for _ in range(3):
        page.keyboard.press("Backspace")
    answered(page, 0)
    page.keyboard.press("z")
    expect(page.locator("#notices")).to_contain_text("nothing to undo")
    page.get_by_role("region", name="Answer").get_by_role("button", name="Yes").click()
    answered(page, 1)


def test_a_number_says_that_it_is_another_class(page: Page, review: Review) -> None:
    own = press(page, "1")
    other = press(page, "3")
    expect(page.locator("#notices")).to_contain_text("Z takes it back")
    answered(page, 2)
    assert verdict(review) == {(own, RED): "yes", (other, RED): "no", (other, QUOTE): "yes"}
    page.keyboard.press("9")
    page.keyboard.press("z")
    answered(page, 1)
    assert verdict(review) == {(own, RED): "yes"}


def test_answers_are_learnt_while_one_goes_on(page: Page, review: Review) -> None:
    for _ in range(6):
        name = question(page)
        press(page, "y" if name.endswith("0") else "n")
    expect(page.locator("#st-spoken")).to_contain_text("answers.")
    answered(page, 6)
    assert review.standing(RED).answered == 6
    asked = {name for name, _ in verdict(review)}
    assert question(page) not in asked


def test_nothing_is_answered_before_it_is_shown(open_page: Open, context: BrowserContext, review: Review) -> None:
    posts: list[Request] = []
    held = Held(context, "**/image/*/large*")
    page = open_page()
    page.on("request", lambda request: posts.append(request) if request.method == "POST" else None)
    with page.expect_request("**/image/*/large*"):
        pass
    for key in ("y", "n", "3", "e", " ", "y"):
        page.keyboard.press(key)
    page.get_by_role("region", name="Answer").get_by_role("button", name="Yes").click(force=True)
    assert page.locator(SHOWN).count() == 0
    held.let_go()
    name = question(page)
    assert posts == []
    assert review.version == 0
    assert press(page, "y") == name
    answered(page, 1)
    assert verdict(review) == {(name, RED): "yes"}


def test_the_next_questions_are_there_before_the_key(page: Page, context: BrowserContext, review: Review) -> None:
    page.wait_for_load_state("networkidle")
    context.route("**/image/**", lambda _: None)  # from here on no picture comes any more
    context.route("**/api/refit", lambda _: None)
    with page.expect_response("**/api/answers"):
        names = [press(page, "n") for _ in range(5)]
    page.wait_for_timeout(100)
    look(page)
    answered(page, 5)
    assert {name for name, _ in verdict(review)} == set(names)


def test_a_key_that_is_held_answers_once(page: Page, review: Review) -> None:
    name = question(page)
    page.keyboard.down("y")
    expect(page.locator("#question-name")).not_to_have_text(name)
    page.wait_for_selector(SHOWN)
    for _ in range(5):
        page.keyboard.down("y")
    page.keyboard.up("y")
    press(page, "n")
    answered(page, 2)
    page.get_by_role("region", name="Answer").get_by_role("button", name="No").focus()
    shown = question(page)
    page.keyboard.down("Enter")
    expect(page.locator("#question-name")).not_to_have_text(shown)
    for _ in range(5):
        page.keyboard.down("Enter")
    page.keyboard.up("Enter")
    answered(page, 3)
    assert len(verdict(review)) == 3


def test_an_image_that_cannot_be_shown_is_skipped_and_said_so(
    open_page: Open, context: BrowserContext, review: Review
) -> None:
    broken = review.next(8, RED)[0].id  # as many as the page asks for
    refusal = {"status": 422, "content_type": "application/json", "body": '{"error": "the file has 0 bytes"}'}
    context.route(f"**/image/{broken}/large*", lambda route: route.fulfill(**refusal))
    page = open_page()
    assert question(page) != broken
    expect(page.locator("#notices")).to_contain_text(f"{broken} cannot be shown: the file has 0 bytes. It is skipped.")
    assert review.version == 0


def test_what_is_not_saved_is_said_and_sent_again(page: Page, context: BrowserContext, review: Review) -> None:
    acts: list[str] = []

    def lose(route: Route) -> None:
        acts.append(json.loads(route.request.post_data or "")["act"])
        route.abort()

    context.route("**/api/answers", lose)
    first = press(page, "y")
    expect(page.locator("#unsaved")).to_contain_text("1 answer is not saved yet")
    answered(page, 0)
    names = [first, *(press(page, "n") for _ in range(4))]
    expect(page.locator("#unsaved")).to_contain_text("Answering waits")
    leave = "new Event('beforeunload', {cancelable: true})"
    assert not page.evaluate(f"window.dispatchEvent({leave})")  # the browser asks before the page is left
    waiting = question(page)
    page.keyboard.press("y")
    assert question(page) == waiting
    context.unroute("**/api/answers")
    answered(page, 5)
    expect(page.locator("#unsaved")).to_be_hidden()
    history = review.answers.history()
    assert [getattr(one, "id", None) for one in history] == names
    assert set(acts) == {history[0].act}


def test_an_answer_whose_receipt_was_lost_is_recorded_once(page: Page, context: BrowserContext, review: Review) -> None:
    lost: list[Route] = []

    def lose_receipt(route: Route) -> None:
        route.fetch()
        if lost:
            route.continue_()
        else:
            lost.append(route)
            route.abort()

    context.route("**/api/answers", lose_receipt)
    press(page, "y")
    answered(page, 1)
    assert len(review.answers.history()) == 1


def test_keys_alone_reach_everything(page: Page, review: Review) -> None:
    page.keyboard.press("?")
    expect(page.locator("#help")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.locator("#help")).to_be_hidden()
    page.keyboard.press("]")
    expect(page.locator("#question-title")).to_have_text(f"Does this show {TAG}?")
    page.keyboard.press("[")
    expect(page.locator("#question-title")).to_have_text("Does this show red?")
    name = question(page)
    page.keyboard.press("Space")
    page.wait_for_selector("#viewer[data-shown=true]")
    page.keyboard.press("n")
    expect(page.locator("#viewer")).to_be_hidden()
    answered(page, 1)
    assert verdict(review) == {(name, RED): "no"}
    page.keyboard.press("l")
    page.wait_for_selector("#items .cell")
    page.locator("#items .cell").first.focus()
    page.keyboard.press("ArrowRight")
    cell = page.locator("#items .cell").nth(1)
    expect(cell).to_be_focused()
    expect(page.locator("#reason")).to_contain_text(str(cell.get_attribute("data-row")))
    page.keyboard.press("Enter")
    page.wait_for_selector("#viewer[data-shown=true]")
    page.keyboard.press("y")
    expect(cell).to_have_attribute("data-mark", "yes")
    page.keyboard.press("Escape")
    page.keyboard.press("Escape")
    expect(page.locator("#cells .cell").first).to_be_focused()
    page.keyboard.press("q")
    page.wait_for_selector(SHOWN)
    page.keyboard.press("Tab")
    expect(page.locator(":focus")).to_have_css("outline-style", "solid")


def test_a_reload_keeps_the_class_the_view_and_the_answers(page: Page, review: Review) -> None:
    page.keyboard.press("]")
    expect(page.locator("#question-title")).to_contain_text(TAG)
    names = {press(page, "n") for _ in range(2)}
    page.keyboard.press("l")
    answered(page, 2)
    page.reload()
    expect(page.locator("#gallery")).to_be_visible()
    expect(page.locator("#gallery-title")).to_contain_text(TAG)
    answered(page, 2)
    page.keyboard.press("q")
    assert question(page) not in names
    page.keyboard.press("z")
    answered(page, 1)
    assert question(page) in names
    assert len(review.answers.current()) == 1


def test_two_tabs_see_each_other(page: Page, open_page: Open, review: Review) -> None:
    other = open_page()
    press(page, "y")
    press(page, "n")
    answered(page, 2)
    look(other)
    expect(other.locator("#st-answered")).to_have_text("2")
    with other.expect_response("**/api/answers"):
        assert press(other, "u")
    other.close()
    look(page)
    expect(page.locator("#st-answered")).to_have_text(str(len({name for name, _ in verdict(review)})))


def test_apply_writes_the_report(page: Page, review: Review) -> None:
    found = review.pool.rows[review.gallery(RED, "found")[0][0].id]
    press(page, "n")
    review.record([NewAnswer(review.ids[found], RED, "no")])  # of what was found, so that something changes
    look(page)
    answered(page, 2)
    before, held = (review.out / "report.html").stat().st_mtime_ns, held_images(review.folder.groups)
    page.click("#apply-open")
    page.click("#apply-start")
    expect(page.locator("#apply-verdict")).to_have_text("The answers are applied.")
    said = page.locator("#apply-changes .change").all_inner_texts()
    for one, text in zip(changes(held, held_images(review.folder.groups), CLASSES), said, strict=True):
        assert text.startswith(f"{one.label}: {counted(one.now, 'image')} found")
        assert (f"Added +{len(one.added)}" in text) == bool(one.added)
        assert (f"Gone \u2212{len(one.gone)}" in text) == bool(one.gone)
    assert any("Gone" in text or "Added" in text for text in said)
    expect(page.locator("#apply-where")).to_contain_text(str(review.out / "report.html"))
    assert (review.out / "report.html").stat().st_mtime_ns > before
    with page.expect_popup() as popup:
        page.click("#apply-where a")
    popup.value.wait_for_load_state()
    assert popup.value.locator("h1").count() == 1
    assert popup.value.evaluate("[...document.images].every((one) => one.complete && one.naturalWidth)")
    page.click("#apply-more summary")
    expect(page.locator("#apply-summary li").first).to_contain_text(" found, ")
    page.click("#apply-end .close")
    page.click("#apply-open")
    expect(page.locator("#apply-verdict")).to_be_visible()  # nothing was answered since
    page.click("#apply-end .close")
    press(page, "n")
    answered(page, 3)
    page.click("#apply-open")
    expect(page.locator("#apply-start")).to_be_visible()


def test_apply_that_fails_says_why(page: Page, review: Review, monkeypatch: pytest.MonkeyPatch) -> None:
    from holotype.errors import GroupError

    def fail(_: object) -> None:
        raise GroupError("no image is left as background")

    monkeypatch.setattr(review, "apply", fail)
    page.click("#apply-open")
    page.click("#apply-start")
    expect(page.locator("#apply-verdict")).to_have_text("It failed: no image is left as background")
    expect(page.locator("#apply-where")).to_be_hidden()
