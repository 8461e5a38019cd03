"""Groups after answers: each answered image is as it was said to be, and what was audited taught nobody."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from reviewer import AMBIGUITY, BAND, Known, Reviewer, learn_from, plant, say, started, tell

from holotype.answers import Answer
from holotype.embeddings import unit
from holotype.errors import AnswersError
from holotype.groups import Told, estimates
from holotype.teaching import Start, gather, prior_of, teach

KNOWN = plant()
GROUPS = KNOWN.start.groups


def pick(decision: str, label: int, known: Known = KNOWN) -> int:
    """A row that is so without any answer."""
    groups = known.start.groups
    return int(np.flatnonzero((groups.decision == decision) & (groups.label == label))[0])


def test_each_answer_decides_on_its_own_image_and_says_so() -> None:
    member, other, doubtful = pick("member", 0), pick("member", 1), pick("doubtful", 0)
    unlike, unlike_too = (int(row) for row in np.flatnonzero(GROUPS.decision == "background")[:2])
    groups = learn_from(
        KNOWN,
        [
            say(1, member, "class 0", "no", who="ann"),
            say(2, other, "class 0", "yes"),
            say(3, doubtful, "class 0", "yes", who="bob"),
            say(4, unlike, "class 1", "yes"),
            say(5, unlike_too, "class 1", "unsure", who="ann"),
        ],
    ).groups
    rows = [member, other, doubtful, unlike, unlike_too]
    assert groups.decision[rows].tolist() == ["background", "member", "member", "member", "doubtful"]
    assert groups.label[[other, doubtful, unlike, unlike_too]].tolist() == [0, 0, 1, 1]
    assert [groups.reasons[row] for row in rows] == [
        "was said not to show class 0 by ann",
        "was said to show class 0",
        "was said to show class 0 by bob",
        "was said to show class 1",
        "nobody could tell whether it shows class 1 by ann",
    ]
    assert set(groups.answered) == set(rows)
    untouched = np.setdiff1d(np.arange(len(KNOWN.truth)), rows)
    assert np.array_equal(groups.decision[untouched], GROUPS.decision[untouched])


def test_what_nobody_could_tell_is_no_member_and_nothing_to_learn_none_from() -> None:
    rows = [pick("member", 0), pick("background", 0), pick("doubtful", 0)]
    groups = tell(KNOWN, *((row, "class 0", "unsure") for row in rows))
    assert groups.decision[rows].tolist() == ["doubtful"] * 3
    assert not np.isin(rows, groups.background).any()
    other = pick("member", 1)
    assert tell(KNOWN, (other, "class 0", "unsure")).decision[other] == "member"  # of the class that is in no doubt


def test_of_two_classes_the_last_that_was_said_counts() -> None:
    row = pick("member", 0)
    for one, other in ((0, 1), (1, 0)):
        groups = tell(KNOWN, (row, f"class {one}", "yes"), (row, f"class {other}", "yes"))
        assert (groups.label[row], groups.decision[row]) == (other, "member")
        assert groups.reasons[row] == f"was said to show class {other}"
    # a "no" to another class, said later, is not why it is here
    groups = tell(KNOWN, (row, "class 0", "yes"), (row, "class 1", "no"))
    assert (groups.label[row], groups.decision[row]) == (0, "member")
    assert groups.reasons[row] == "was said to show class 0"
    groups = tell(KNOWN, (row, "class 0", "no"), (row, "class 1", "no"))
    assert groups.decision[row] == "background"
    assert groups.reasons[row] == "was said not to show class 0; was said not to show class 1"


def between() -> Known:
    """An image in the middle between two exemplars that are alike, above the threshold of both."""
    one, other = unit(np.array([[1, 0.4, 0], [1, -0.4, 0]], np.float32))
    far = unit(np.random.default_rng(0).normal(size=(40, 3)) * 0.1 + np.array([-1, 0, 0.3]))
    vectors = np.concatenate([[one, other], unit((one + other)[None]), far]).astype(np.float32)
    return Known(started(vectors, [0, 1], 0.9, "between"), np.array([0, 1, 1] + [2] * 40))


def test_what_does_not_show_one_class_is_what_it_is_among_the_others() -> None:
    known = between()
    assert known.start.groups.decision[2] == "doubtful"
    groups = tell(known, (2, "class 0", "no"))
    assert (groups.label[2], groups.decision[2]) == (1, "member")
    assert tell(known, (2, "class 0", "no"), (2, "class 1", "no")).decision[2] == "background"
    # what was learnt from belongs to the set that is audited
    taught = learn_from(known, [say(1, 2, "class 0", "no")])
    assert taught.sampled[1].tolist() == [2]


def test_an_answer_to_one_class_does_not_explain_the_other() -> None:
    row = pick("member", 1)
    groups = tell(KNOWN, (row, "class 0", "no"))
    assert (groups.label[row], groups.decision[row]) == (1, "member")
    assert groups.reasons[row] == GROUPS.reasons[row]
    assert row not in groups.answered


def test_exemplars_stay_what_they_are() -> None:
    own = list(KNOWN.start.own)
    groups = tell(KNOWN, (own[0], "class 0", "no"), (own[1], "class 0", "yes"))
    assert groups.decision[own].tolist() == ["exemplar"] * 2
    assert groups.label[own].tolist() == [0, 1]
    assert groups.reasons[own[0]] == "given as an exemplar of class 0"


def test_unknown_images_and_classes_are_left_out() -> None:
    answers = [say(1, 3, "class 9", "yes"), replace(say(2, 0, "class 0", "no"), id="not there")]
    said = gather(answers, KNOWN.classes, KNOWN.ids)
    assert not said.words
    assert all(not len(rows) for part in (said.shown, said.hidden, said.unsure, said.audited) for rows in part)
    assert list(learn_from(KNOWN, answers).groups.reasons) == list(GROUPS.reasons)


def test_answers_about_test_rows_are_left_out_and_the_audit_does_not_wait_for_them() -> None:
    members = [int(row) for row in GROUPS.members(0) if row not in KNOWN.start.own]
    tested = members[::2]
    answers = [say(i, row, "class 0", "no") for i, row in enumerate(tested, 1)]
    taught = learn_from(KNOWN, answers, held_out=tested)
    assert list(taught.groups.reasons) == list(GROUPS.reasons)
    assert taught.sampled[0].tolist() == members[1::2]
    audits = [say(i, row, "class 0", "yes", audit=True) for i, row in enumerate(members[1::2], 1)]
    found = learn_from(KNOWN, audits, held_out=tested).audits[0]
    assert found.asked == found.yes == found.among == len(members[1::2])


def test_audits_are_not_learnt_from() -> None:
    reviewer = Reviewer(KNOWN)
    for _ in range(4):
        reviewer.review(0, 10)
    audits = [one for one in reviewer.answers if one.audit]
    without = learn_from(KNOWN, [one for one in reviewer.answers if not one.audit])
    wrong = [replace(one, said="no" if one.said == "yes" else "yes") if one.audit else one for one in reviewer.answers]
    for answers in (reviewer.answers, wrong):
        taught = learn_from(KNOWN, answers)
        assert np.array_equal(taught.logits, without.logits)
        assert np.array_equal(taught.cuts, without.cuts)
        assert np.array_equal(taught.sampled[0], without.sampled[0])
        assert set(taught.groups.audited) == {int(one.id) for one in audits}
        assert not set(taught.groups.audited) & set(taught.groups.answered)
    assert len(audits) >= 5
    assert learn_from(KNOWN, wrong).audits[0].yes < learn_from(KNOWN, reviewer.answers).audits[0].yes


def test_an_audited_image_that_is_made_an_exemplar_is_learnt_from() -> None:
    row = pick("member", 0)
    said = gather([say(1, row, "class 0", "exemplar", audit=True)], KNOWN.classes, KNOWN.ids)
    assert not len(said.audited[0])
    assert said.shown[0].tolist() == [row]


def test_a_class_may_lose_all_its_members() -> None:
    everything = [int(row) for row in np.flatnonzero(GROUPS.label == 0) if row not in KNOWN.start.own]
    groups = tell(KNOWN, *((row, "class 0", "no") for row in everything))
    members = set(groups.members(0)) - set(KNOWN.start.own)
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
    start = started(vectors, list(known.start.own), 0.4, "gone")
    part = Known(start, known.truth)
    rows = np.flatnonzero(known.truth == 0)[21:].tolist()
    answers = [say(i, row, "class 0", "yes") for i, row in enumerate(rows, 1)]
    answers += [say(90 + i, row, "class 0", "no") for i, row in enumerate(np.flatnonzero(known.truth == 2)[:30], 1)]
    taught = learn_from(part, answers)
    assert (taught.groups.decision[gone] == "missing").all()
    assert np.array_equal(taught.logits[gone], prior_of(start.groups)[0][gone])
    one, two, three = gone[:3].tolist()
    more = [say(200, one, "class 0", "no"), say(201, two, "class 0", "unsure"), say(202, three, "class 0", "yes")]
    again = learn_from(part, answers + more)
    assert again.groups.decision[[one, two, three]].tolist() == ["missing", "missing", "member"]
    assert np.array_equal(again.logits, taught.logits)


def test_groups_of_a_cosine_become_estimates_only_where_answers_are_followed() -> None:
    known = plant(3, sizes=(40, 40))
    start = known.start
    logits, cuts = prior_of(start.groups)
    assert np.array_equal(logits[:, 0] >= cuts[0], start.groups.scores[:, 0] >= np.float32(0.4))
    far = np.flatnonzero((known.truth == 0) & (logits[:, 0] < -0.5)).tolist()
    near = np.flatnonzero((known.truth != 0) & (logits[:, 0] > -3)).tolist()
    assert far
    assert near
    answers = [say(i, row, "class 0", "yes") for i, row in enumerate(far, 1)]
    answers += [say(100 + i, row, "class 0", "no") for i, row in enumerate(near, 1)]
    taught = learn_from(known, answers)
    assert [one.trusted for one in taught.learnt] == [True, False]
    groups = taught.groups
    assert groups.measure == "estimate"
    assert groups.thresholds[0].basis == "provisional: the greatest expected F1, after answers"
    assert groups.thresholds[1].basis == "given; a cosine of 0.400"
    assert not groups.thresholds[1].provisional
    assert groups.told == [Told(len(far), len(near), 0, True), Told(0, 0, 0, False)]
    others = np.setdiff1d(start.groups.members(1), [int(one.id) for one in answers])
    assert np.isin(others, np.union1d(groups.members(1), groups.members(0))).all()


def test_no_prior_is_above_a_threshold_that_it_was_below() -> None:
    start = KNOWN.start
    tiny = replace(start.groups.thresholds[0], value=1e-6)
    scores = np.where(np.arange(len(KNOWN.truth))[:, None] % 3, 0, 1e-5).astype(np.float32) * np.ones(
        (1, 2), np.float32
    )
    groups = replace(start.groups, scores=scores, thresholds=[tiny, tiny], measure="estimate")
    logits, cuts = prior_of(groups)
    assert np.isfinite(logits).all()
    assert (logits[scores == 0] < cuts[0]).all()


def test_what_is_estimated_counts_what_people_said() -> None:
    members = [int(row) for row in GROUPS.members(0) if row not in KNOWN.start.own]
    known = replace(KNOWN.start, groups=replace(GROUPS, measure="estimate"))
    answers = [say(i, row, "class 0", "yes") for i, row in enumerate(members, 1)]
    said = gather(answers, KNOWN.classes, KNOWN.ids)
    groups = replace(teach(known, said, BAND, AMBIGUITY).groups, measure="estimate")
    assert estimates(groups)[0].precision == pytest.approx(1) or groups.told[0].trusted
    assert (
        estimates(replace(groups, answered=np.array(members)))[0].found == (groups.decision[members] == "member").sum()
    )


def test_a_start_is_read_back_exactly(tmp_path: Path) -> None:
    vectors = np.asarray(KNOWN.start.vectors, np.float32)
    vectors[[5, 70]] = 0
    start = started(vectors, list(KNOWN.start.own), 0.4, "key")
    start.save(tmp_path / "review")
    again = Start.load(tmp_path / "review")
    assert np.array_equal(again.vectors, start.vectors)
    assert again.vectors.dtype == np.float16
    assert all(np.array_equal(one, other) for one, other in zip(again.exemplars, start.exemplars, strict=True))
    assert (again.names, again.own, again.key) == (start.names, start.own, start.key)
    assert np.array_equal(again.groups.scores, start.groups.scores, equal_nan=True)
    assert np.array_equal(again.groups.label, start.groups.label)
    assert np.array_equal(again.groups.decision, start.groups.decision)
    assert again.groups.decision.dtype == start.groups.decision.dtype
    assert (again.groups.classes, again.groups.thresholds) == (start.groups.classes, start.groups.thresholds)
    assert again.groups.measure == start.groups.measure
    assert list(again.groups.reasons) == list(start.groups.reasons)
    said = gather([say(1, 6, "class 0", "yes"), say(2, 99, "class 0", "no")], KNOWN.classes, KNOWN.ids)
    one, other = (teach(each, said, BAND, AMBIGUITY) for each in (start, again))
    assert np.array_equal(one.logits, other.logits)
    assert list(one.groups.reasons) == list(other.groups.reasons)


@pytest.mark.parametrize("name", ["start.json", "groups.safetensors", "vectors.npy"])
@pytest.mark.parametrize("content", [None, b"", b"no such format", b"{}"])
def test_a_damaged_start_says_what_to_do(tmp_path: Path, name: str, content: bytes | None) -> None:
    KNOWN.start.save(tmp_path)
    if content is None:
        (tmp_path / name).unlink()
    else:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(AnswersError, match="do the run again"):
        Start.load(tmp_path)


def test_a_start_that_was_cut_off_is_refused(tmp_path: Path) -> None:
    KNOWN.start.save(tmp_path)
    for name in ("start.json", "groups.safetensors", "vectors.npy"):
        whole = (tmp_path / name).read_bytes()
        (tmp_path / name).write_bytes(whole[: len(whole) // 2])
        with pytest.raises(AnswersError, match="do the run again"):
            Start.load(tmp_path)
        (tmp_path / name).write_bytes(whole)
    Start.load(tmp_path)
