"""Groups after answers: each answered image is as it was said to be, and nothing is learnt from what was audited."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from reviewer import SETTINGS, THREADS, Known, Reviewer, learn_from, plant, say, started, tell

from holotype.answers import refine as module
from holotype.answers.baseline import ReviewBaseline
from holotype.answers.index import AnswerCounts, index_answers
from holotype.answers.records import Answer
from holotype.answers.refine import Refined, exemplar_logits, refine
from holotype.encoders.encode import l2_normalize
from holotype.errors import AnswersError
from holotype.grouping.groups import estimates

KNOWN = plant()
GROUPS = KNOWN.start.groups


def pick(decision: str, label: int, known: Known = KNOWN) -> int:
    """A row that is so without any answer."""
    groups = known.start.groups
    return int(np.flatnonzero((groups.decision == decision) & (groups.label == label))[0])


def reasons(refined: Refined) -> list[str]:
    """Why each row is what it is."""
    return [refined.reason(row) for row in range(len(refined.groups.label))]


def test_each_answer_decides_on_its_own_image_and_says_so() -> None:
    member, other, doubtful = pick("member", 0), pick("member", 1), pick("doubtful", 0)
    unlike, unlike_too = (int(row) for row in np.flatnonzero(GROUPS.decision == "background")[:2])
    refined = learn_from(
        KNOWN,
        [
            say(1, member, "class 0", "no", who="ann"),
            say(2, other, "class 0", "yes"),
            say(3, doubtful, "class 0", "yes", who="bob"),
            say(4, unlike, "class 1", "yes"),
            say(5, unlike_too, "class 1", "unsure", who="ann"),
        ],
    )
    groups = refined.groups
    rows = [member, other, doubtful, unlike, unlike_too]
    assert groups.decision[rows].tolist() == ["background", "member", "member", "member", "doubtful"]
    assert groups.label[[other, doubtful, unlike, unlike_too]].tolist() == [0, 0, 1, 1]
    assert [refined.reason(row) for row in rows] == [
        "was said not to show class 0 by ann",
        "was said to show class 0",
        "was said to show class 0 by bob",
        "was said to show class 1",
        "nobody could tell whether it shows class 1 by ann",
    ]
    assert set(refined.answered) == set(rows)
    untouched = np.setdiff1d(np.arange(len(KNOWN.truth)), rows)
    assert np.array_equal(groups.decision[untouched], GROUPS.decision[untouched])


def test_what_nobody_could_tell_is_no_member_and_nothing_to_learn_none_from() -> None:
    rows = [pick("member", 0), pick("background", 0), pick("doubtful", 0)]
    groups = tell(KNOWN, *((row, "class 0", "unsure") for row in rows)).groups
    assert groups.decision[rows].tolist() == ["doubtful"] * 3
    assert not np.isin(rows, groups.background).any()
    other = pick("member", 1)
    assert (
        tell(KNOWN, (other, "class 0", "unsure")).groups.decision[other] == "member"
    )  # of the class that is in no doubt


def test_of_two_classes_the_last_that_was_said_counts() -> None:
    row = pick("member", 0)
    for one, other in ((0, 1), (1, 0)):
        refined = tell(KNOWN, (row, f"class {one}", "yes"), (row, f"class {other}", "yes"))
        groups = refined.groups
        assert (groups.label[row], groups.decision[row]) == (other, "member")
        assert refined.reason(row) == f"was said to show class {other}"
    # a "no" to another class, said later, is not why it is here
    refined = tell(KNOWN, (row, "class 0", "yes"), (row, "class 1", "no"))
    groups = refined.groups
    assert (groups.label[row], groups.decision[row]) == (0, "member")
    assert refined.reason(row) == "was said to show class 0"
    refined = tell(KNOWN, (row, "class 0", "no"), (row, "class 1", "no"))
    groups = refined.groups
    assert groups.decision[row] == "background"
    assert refined.reason(row) == "was said not to show class 0; was said not to show class 1"


def between() -> Known:
    """An image in the middle between two exemplars that are alike, above the threshold of both."""
    one, other = l2_normalize(np.array([[1, 0.4, 0], [1, -0.4, 0]], np.float32))
    far = l2_normalize(np.random.default_rng(0).normal(size=(40, 3)) * 0.1 + np.array([-1, 0, 0.3]))
    vectors = np.concatenate([[one, other], l2_normalize((one + other)[None]), far]).astype(np.float32)
    return Known(started(vectors, [0, 1], 0.9, "between"), np.array([0, 1, 1] + [2] * 40))


def test_what_does_not_show_one_class_is_what_it_is_among_the_others() -> None:
    known = between()
    assert known.start.groups.decision[2] == "doubtful"
    groups = tell(known, (2, "class 0", "no")).groups
    assert (groups.label[2], groups.decision[2]) == (1, "member")
    assert tell(known, (2, "class 0", "no"), (2, "class 1", "no")).groups.decision[2] == "background"
    # what was learnt from belongs to the set that is audited
    refined = learn_from(known, [say(1, 2, "class 0", "no")])
    assert refined.sampled[1].tolist() == [2]


@pytest.mark.parametrize("audit", [False, True])
def test_a_no_to_one_class_makes_no_certain_member_of_another(audit: bool) -> None:
    row = pick("member", 1)
    refined = learn_from(KNOWN, [say(1, row, "class 0", "no", audit=audit)])
    assert (refined.groups.decision[row], refined.groups.label[row]) == ("member", 1)
    assert row not in refined.decided
    labels, rows = refined.labels, np.array([row])
    assert not labels.told(rows).any()
    assert labels.said(rows).tolist() == [[True] + [False] * (len(KNOWN.classes) - 1)]


def test_an_answer_to_one_class_does_not_explain_the_other() -> None:
    row = pick("member", 1)
    refined = tell(KNOWN, (row, "class 0", "no"))
    groups = refined.groups
    assert (groups.label[row], groups.decision[row]) == (1, "member")
    assert refined.reason(row) == GROUPS.reason(row)
    assert row not in refined.answered


def test_exemplars_stay_what_they_are() -> None:
    own = list(KNOWN.start.exemplar_rows)
    refined = tell(KNOWN, (own[0], "class 0", "no"), (own[1], "class 0", "yes"))
    groups = refined.groups
    assert groups.decision[own].tolist() == ["exemplar"] * 2
    assert groups.label[own].tolist() == [0, 1]
    assert refined.reason(own[0]) == "given as an exemplar of class 0"


def test_unknown_images_and_classes_are_left_out() -> None:
    answers = [say(1, 3, "class 9", "yes"), replace(say(2, 0, "class 0", "no"), id="not there")]
    said = index_answers(answers, KNOWN.classes, KNOWN.ids)
    assert not said.words
    assert all(not len(rows) for part in (said.positive, said.negative, said.unsure, said.audited) for rows in part)
    assert reasons(learn_from(KNOWN, answers)) == GROUPS.reasons()


def test_answers_about_test_rows_are_left_out_and_the_audit_does_not_wait_for_them() -> None:
    members = [int(row) for row in GROUPS.members(0) if row not in KNOWN.start.exemplar_rows]
    tested = members[::2]
    answers = [say(i, row, "class 0", "no") for i, row in enumerate(tested, 1)]
    refined = learn_from(KNOWN, answers, held_out=tested)
    assert reasons(refined) == GROUPS.reasons()
    assert refined.sampled[0].tolist() == members[1::2]
    audits = [say(i, row, "class 0", "yes", audit=True) for i, row in enumerate(members[1::2], 1)]
    found = learn_from(KNOWN, audits, held_out=tested).audits[0]
    assert found.asked == found.yes == found.among == len(members[1::2])


def test_audits_are_not_learnt_from() -> None:
    reviewer = Reviewer(KNOWN)
    for _ in range(4):
        reviewer.review(0, 10)
    audits = [one for one in reviewer.answers if one.audit]
    without = learn_from(KNOWN, [one for one in reviewer.answers if not one.audit])
    wrong = [
        replace(one, verdict="no" if one.verdict == "yes" else "yes") if one.audit else one for one in reviewer.answers
    ]
    for answers in (reviewer.answers, wrong):
        refined = learn_from(KNOWN, answers)
        assert np.array_equal(refined.logits, without.logits)
        assert np.array_equal(refined.cuts, without.cuts)
        assert np.array_equal(refined.sampled[0], without.sampled[0])
        assert set(refined.audited) == {int(one.id) for one in audits}
        assert not set(refined.audited) & set(refined.answered)
    assert len(audits) >= 5
    assert learn_from(KNOWN, wrong).audits[0].yes < learn_from(KNOWN, reviewer.answers).audits[0].yes


def test_an_audited_image_that_is_made_an_exemplar_is_learnt_from() -> None:
    row = pick("member", 0)
    said = index_answers([say(1, row, "class 0", "exemplar", audit=True)], KNOWN.classes, KNOWN.ids)
    assert not len(said.audited[0])
    assert said.positive[0].tolist() == [row]


def test_a_class_may_lose_all_its_members() -> None:
    everything = [int(row) for row in np.flatnonzero(GROUPS.label == 0) if row not in KNOWN.start.exemplar_rows]
    groups = tell(KNOWN, *((row, "class 0", "no") for row in everything)).groups
    members = set(groups.members(0)) - set(KNOWN.start.exemplar_rows)
    assert not members & set(everything)
    assert not learn_from(KNOWN, [say(i, r, "class 0", "no") for i, r in enumerate(everything, 1)]).audits[0].asked


def test_a_pool_in_which_everything_was_answered_is_as_it_was_said_to_be() -> None:
    known = plant(sizes=(8, 6), others=20)
    answers: list[Answer] = []
    for row, true in enumerate(known.truth.tolist()):
        for k in range(2):
            answers.append(say(len(answers) + 1, row, f"class {k}", "yes" if k == true else "no"))
    groups = learn_from(known, answers).groups
    for k in range(2):
        assert np.array_equal(groups.members(k), np.flatnonzero(known.truth == k))
    assert set(groups.background) == set(np.flatnonzero(known.truth == 2))


def test_images_without_a_vector_stay_missing_unless_somebody_knows_them() -> None:
    known = plant()
    vectors = np.asarray(known.start.vectors, np.float32)
    gone = np.flatnonzero(known.truth == 0)[1:21]
    vectors[gone] = 0
    start = started(vectors, list(known.start.exemplar_rows), 0.4, "gone")
    part = Known(start, known.truth)
    rows = np.flatnonzero(known.truth == 0)[21:].tolist()
    answers = [say(i, row, "class 0", "yes") for i, row in enumerate(rows, 1)]
    answers += [say(90 + i, row, "class 0", "no") for i, row in enumerate(np.flatnonzero(known.truth == 2)[:30], 1)]
    refined = learn_from(part, answers)
    assert (refined.groups.decision[gone] == "missing").all()
    assert np.array_equal(refined.logits[gone], exemplar_logits(start.groups)[0][gone])
    one, two, three = gone[:3].tolist()
    more = [say(200, one, "class 0", "no"), say(201, two, "class 0", "unsure"), say(202, three, "class 0", "yes")]
    again = learn_from(part, answers + more)
    assert again.groups.decision[[one, two, three]].tolist() == ["missing", "missing", "member"]
    assert np.array_equal(again.logits, refined.logits)


def test_groups_of_a_cosine_become_estimates_only_where_answers_are_followed() -> None:
    known = plant(3, sizes=(40, 40))
    start = known.start
    logits, cuts = exemplar_logits(start.groups)
    assert np.array_equal(logits[:, 0] >= cuts[0], start.groups.scores[:, 0] >= np.float32(0.4))
    far = np.flatnonzero((known.truth == 0) & (logits[:, 0] < -0.5)).tolist()
    near = np.flatnonzero((known.truth != 0) & (logits[:, 0] > -3)).tolist()
    assert far
    assert near
    answers = [say(i, row, "class 0", "yes") for i, row in enumerate(far, 1)]
    answers += [say(100 + i, row, "class 0", "no") for i, row in enumerate(near, 1)]
    refined = learn_from(known, answers)
    assert [one.trusted for one in refined.models] == [True, False]
    groups = refined.groups
    assert groups.score_kind == "estimate"
    assert groups.thresholds[0].basis == "provisional: the greatest expected F1, after answers"
    assert groups.thresholds[1].basis == "given; a cosine of 0.400"
    assert not groups.thresholds[1].provisional
    assert refined.counts == [AnswerCounts(len(far), len(near), 0, True), AnswerCounts(0, 0, 0, False)]
    others = np.setdiff1d(start.groups.members(1), [int(one.id) for one in answers])
    assert np.isin(others, np.union1d(groups.members(1), groups.members(0))).all()


def test_no_prior_is_above_a_threshold_that_it_was_below() -> None:
    start = KNOWN.start
    tiny = replace(start.groups.thresholds[0], value=1e-6)
    scores = np.where(np.arange(len(KNOWN.truth))[:, None] % 3, 0, 1e-5).astype(np.float32) * np.ones(
        (1, 2), np.float32
    )
    groups = replace(start.groups, scores=scores, thresholds=[tiny, tiny], score_kind="estimate")
    logits, cuts = exemplar_logits(groups)
    assert np.isfinite(logits).all()
    assert (logits[scores == 0] < cuts[0]).all()


def test_what_is_estimated_counts_what_people_said() -> None:
    members = [int(row) for row in GROUPS.members(0) if row not in KNOWN.start.exemplar_rows]
    known = replace(KNOWN.start, groups=replace(GROUPS, score_kind="estimate"))
    answers = [say(i, row, "class 0", "yes") for i, row in enumerate(members, 1)]
    refined = refine(known, answers, KNOWN.ids, SETTINGS)
    assert not refined.counts[0].trusted  # else the group would hold others, too
    found = estimates(refined.groups, refined.answered)[0]
    assert (found.found, found.estimated_precision) == (len(members), 1.0)
    assert estimates(refined.groups)[0].estimated_precision < 1


def test_a_start_is_read_back_exactly(tmp_path: Path) -> None:
    vectors = np.asarray(KNOWN.start.vectors, np.float32)
    vectors[[5, 70]] = 0
    wide = np.concatenate([vectors, vectors], axis=1).astype(np.float16)
    start = replace(started(vectors, list(KNOWN.start.exemplar_rows), 0.4, "key"), wide=wide)
    start.save(tmp_path / "review")
    again = ReviewBaseline.load(tmp_path / "review")
    assert again.wide is not None
    assert np.array_equal(again.wide, wide)
    assert np.array_equal(again.vectors, start.vectors)
    assert again.vectors.dtype == np.float16
    assert all(np.array_equal(one, other) for one, other in zip(again.exemplars, start.exemplars, strict=True))
    assert (again.names, again.exemplar_rows, again.key) == (start.names, start.exemplar_rows, start.key)
    assert np.array_equal(again.groups.scores, start.groups.scores, equal_nan=True)
    assert np.array_equal(again.groups.label, start.groups.label)
    assert np.array_equal(again.groups.decision, start.groups.decision)
    assert again.groups.decision.dtype == start.groups.decision.dtype
    assert (again.groups.classes, again.groups.thresholds) == (start.groups.classes, start.groups.thresholds)
    assert again.groups.score_kind == start.groups.score_kind
    assert again.groups.reasons() == start.groups.reasons()
    assert list(again.held_out) == list(start.held_out)
    answers = [say(1, 6, "class 0", "yes"), say(2, 99, "class 0", "no")]
    one, other = (refine(each, answers, KNOWN.ids, SETTINGS) for each in (start, again))
    assert np.array_equal(one.logits, other.logits)
    assert reasons(one) == reasons(other)


@pytest.mark.parametrize("name", ["baseline.json", "groups.safetensors", "vectors.npy"])
@pytest.mark.parametrize("content", [None, b"", b"no such format", b"{}"])
def test_a_damaged_start_says_what_to_do(tmp_path: Path, name: str, content: bytes | None) -> None:
    KNOWN.start.save(tmp_path)
    if content is None:
        (tmp_path / name).unlink()
    else:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(AnswersError, match="do the run again"):
        ReviewBaseline.load(tmp_path)


def test_a_start_that_was_cut_off_is_refused(tmp_path: Path) -> None:
    KNOWN.start.save(tmp_path)
    assert ReviewBaseline.load(tmp_path).wide is None, "as an earlier version left it"
    replace(KNOWN.start, wide=KNOWN.start.vectors).save(tmp_path)
    for name in ("baseline.json", "groups.safetensors", "vectors.npy", "wide.npy"):
        whole = (tmp_path / name).read_bytes()
        (tmp_path / name).write_bytes(whole[: len(whole) // 2])
        with pytest.raises(AnswersError, match="do the run again"):
            ReviewBaseline.load(tmp_path)
        (tmp_path / name).write_bytes(whole)
    ReviewBaseline.load(tmp_path)


def test_classes_are_learnt_on_one_core_and_other_work_on_all(monkeypatch: pytest.MonkeyPatch) -> None:
    def cores() -> list[int]:
        return [one["num_threads"] for one in THREADS.info() if one["user_api"] == "blas"]

    before, meanwhile, learn = cores(), list[int](), module._learn_classes

    def looked(*given: Any) -> Any:
        meanwhile.extend(cores())
        return learn(*given)

    monkeypatch.setattr(module, "_learn_classes", looked)
    tell(KNOWN, (pick("member", 0), "class 0", "yes"))
    assert set(meanwhile) == {1}
    assert cores() == before
