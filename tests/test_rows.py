"""Which rows are learnt from: never a test row, never a doubtful one, and none that is shifted or silently gone."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from conftest import Picture
from numpy.typing import NDArray
from training import BROKEN, DOUBTFUL, SETTINGS, A, B, N, exemplars, find, groups_at, supplied, train, write

from holotype.encoders.encode import l2_normalize
from holotype.encoders.runtimes import OnnxEncoder
from holotype.errors import GroupError
from holotype.grouping.search import Search, search
from holotype.grouping.space import Space
from holotype.model.crossfit import cross_fit
from holotype.model.rows import PoolLabels, agreed, build, plan
from holotype.pool.exemplars import Exemplar
from holotype.pool.pool import Pool
from holotype.progress import Silent
from holotype.settings import Balance, FitSettings, HeadName, HeadSettings
from holotype.vectors.embeddings import Embeddings
from holotype.vectors.store import EmbeddingStore

ROWS = np.arange(N)


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory, picture: Picture) -> Pool:
    return write(tmp_path_factory.mktemp("pool"), picture)


@pytest.fixture(scope="module")
def store(pool: Pool, encoder: OnnxEncoder, tmp_path_factory: pytest.TempPathFactory) -> EmbeddingStore:
    return EmbeddingStore(tmp_path_factory.mktemp("vectors") / "v", encoder, pool)


def numbers(ids: Sequence[str]) -> set[int]:
    return {int(name) for name in ids}


def test_rows_carry_their_own_vector_and_label(pool: Pool, store: EmbeddingStore, encoder: OnnxEncoder) -> None:
    training = train(pool, store)
    count = len(training.ids)
    assert {len(each) for each in (training.X, training.targets, training.told, training.fold)} == {count}
    pixels = np.stack([encoder.prepare(pool.read(pool.row(name))) for name in training.ids])
    assert np.allclose(training.X, encoder.encode(pixels), atol=1e-2)
    assert training.y.tolist() == [0 if int(name) in A else 1 if int(name) in B else 2 for name in training.ids]
    assert training.folds == [0, 1, 2, 3, 4]
    exemplar = np.isin(training.ids, ["000", "030"])
    assert np.array_equal(training.fold == -1, exemplar)  # all else is held out once
    assert np.array_equal(training.told, exemplar)
    assert len(set(training.ids)) == count


def test_each_fold_holds_out_a_share_of_each_class(pool: Pool, store: EmbeddingStore) -> None:
    training = train(pool, store)
    for fold in range(5):
        held, learnt = training.held_out(fold), training.without(fold)
        assert np.all(np.abs(np.bincount(held.y) - [29 / 5, 14 / 5, 50 / 5]) <= 3)
        assert len(held.y) + len(learnt.y) == len(training.ids)
        assert not {row.tobytes() for row in held.X} & {row.tobytes() for row in learnt.X}
        per_class = np.bincount(held.y, held.weights)
        assert np.allclose(per_class, per_class[0])
    halves = train(pool, store, settings=SETTINGS.model_copy(update={"validation": 0.5}))
    assert halves.folds == [0, 1]


@pytest.mark.parametrize("seed", range(4))
def test_test_rows_and_their_like_are_in_no_part(pool: Pool, store: EmbeddingStore, seed: int) -> None:
    random = np.random.default_rng(seed)
    vectors = supplied()
    held_out = random.permutation(np.setdiff1d(np.arange(N), [0, 30]))[:40]
    twin = int(np.setdiff1d(range(70, 120), held_out)[0])
    vectors[twin] = l2_normalize(vectors[held_out[:1]] + 0.001)
    training = train(pool, store, find(pool, vectors), held_out.tolist(), FitSettings(negatives=50, seed=seed))
    learnt = numbers(training.ids)
    assert not learnt & {*held_out.tolist(), twin}
    assert all(training.dropped[pool.ids[row]] == "a test row" for row in held_out if row in (*A, *B))
    assert training.dropped.get(pool.ids[twin], "not sampled") in ("nearly the same as a test row", "not sampled")


def test_doubtful_rows_are_in_no_part(pool: Pool, store: EmbeddingStore) -> None:
    everything = FitSettings(negatives=1000)
    training = train(pool, store, settings=everything)
    learnt = numbers(training.ids)
    assert not learnt & set(DOUBTFUL)
    assert learnt == set(range(N)) - set(DOUBTFUL) - set(BROKEN)  # all else is


def test_unreadable_rows_are_reported_and_shift_nothing(pool: Pool, store: EmbeddingStore) -> None:
    training = train(pool, store, settings=FitSettings(negatives=1000))
    assert numbers(list(training.unreadable)) == set(BROKEN)
    assert all(why.startswith("not an image") for why in training.unreadable.values())
    assert training.counts["a"] == len(A) - 1


def test_the_sample_of_none_is_limited_and_the_counts_say_what_was_taken(pool: Pool, store: EmbeddingStore) -> None:
    training = train(pool, store, settings=FitSettings(negatives=20))
    broken = len(set(training.unreadable) - {"005"})
    assert training.counts["none"] == 20 - broken
    assert training.counts == dict(zip(["a", "b", "none"], np.bincount(training.y).tolist(), strict=True)) | {
        "augmented views": 0
    }


def test_each_row_stands_for_as_many_images_as_it_was_sampled_from(pool: Pool, store: EmbeddingStore) -> None:
    outside = Exemplar("mario.png", 0, None, pool.read(80))
    searched = find(pool)
    with_it = replace(searched, exemplars=[*searched.exemplars, outside])
    for negatives in (10, 30, 1000):
        training = train(pool, store, with_it, settings=FitSettings(negatives=negatives))
        none = training.y == 2
        inside = np.array([name != outside.key for name in training.ids])
        assert np.array_equal(training.stands[~none], inside[~none].astype(float))
        assert len(set(training.stands[none])) == 1
        there = N - len(DOUBTFUL) - 1  # nobody can tell what the doubtful show, and a member cannot be read
        assert training.stands.sum() == pytest.approx(there)


def test_the_same_seed_learns_from_the_same_rows(pool: Pool, store: EmbeddingStore) -> None:
    first, again = (train(pool, store, settings=FitSettings(negatives=20, seed=1)) for _ in range(2))
    other = train(pool, store, settings=FitSettings(negatives=20, seed=2))
    assert first.ids == again.ids
    assert np.array_equal(first.fold, again.fold)
    assert set(first.ids) != set(other.ids)


def test_test_rows_do_not_use_up_the_sample_of_none(pool: Pool, store: EmbeddingStore) -> None:
    training = train(pool, store, held_out=list(range(70, 110)), settings=FitSettings(negatives=10))
    assert training.counts["none"] >= 10 - 2


def test_the_sample_of_none_stays_when_an_image_leaves_the_background(pool: Pool) -> None:
    searched, settings = find(pool), SETTINGS.model_copy(update={"negatives": 40})
    groups = groups_at(searched)
    decision = groups.decision.copy()
    decision[np.flatnonzero(decision == "background")[0]] = "doubtful"
    one, other = (
        plan(searched, [PoolLabels(each)], (), settings) for each in (groups, replace(groups, decision=decision))
    )
    rows, again = (set(part.rows.tolist()) for part in (one, other))
    assert len(rows - again) <= 1


def test_each_grouping_labels_the_common_rows_in_its_own_way(pool: Pool, store: EmbeddingStore) -> None:
    searched = find(pool)
    strict, loose = PoolLabels(groups_at(searched, 0.8)), PoolLabels(groups_at(searched, 0.65, 0.6))
    settings = FitSettings(negatives=1000)
    parts = plan(searched, [strict, loose], [], settings)
    one, two = (build(parts, labels, searched, pool, store, settings, Silent()) for labels in (strict, loose))
    assert numbers(two.ids) - numbers(one.ids) == set(DOUBTFUL)
    folds = dict(zip(two.ids, two.fold, strict=True))
    assert one.fold.tolist() == [folds[name] for name in one.ids]
    common = {pool.ids[row] for row in agreed([strict, loose], ROWS)}
    assert not numbers(list(common)) & set(DOUBTFUL)
    (fit, judged), (_, judged_too) = one.judged_by(common), two.judged_by(common)
    assert np.array_equal(fit.X, one.without(0).X)
    assert np.array_equal(judged.y, judged_too.y)
    assert np.array_equal(judged.X, judged_too.X)
    assert np.allclose(judged.weights, judged_too.weights)


def test_rows_agreed_on_are_those_that_each_labels_alike(pool: Pool) -> None:
    searched = find(pool)
    one, strict = groups_at(searched, 0.8), groups_at(searched, 0.8)
    label, decision = strict.label.copy(), strict.decision.copy()
    label[3], decision[4], decision[100] = 1, "doubtful", "member"
    other = replace(strict, label=label, decision=decision)
    assert agreed([PoolLabels(one)], ROWS) == set(PoolLabels(one).of(ROWS)) == set(range(N)) - set(DOUBTFUL)
    assert agreed([PoolLabels(one), PoolLabels(other)], ROWS) == agreed([PoolLabels(one)], ROWS) - {3, 4, 100}
    assert agreed([PoolLabels(other), PoolLabels(one)], ROWS) == agreed([PoolLabels(one), PoolLabels(other)], ROWS)


def test_rows_agreed_on_have_the_label_that_they_are_learnt_as(pool: Pool, store: EmbeddingStore) -> None:
    """A member is none where that is likelier by the estimate, and there two groupings differ."""
    searched = find(pool)
    cosine = groups_at(searched)
    scores = cosine.scores.copy()
    scores[10:20, 0], scores[20:30, 0] = 0.4, 0.9
    labellings = [PoolLabels(cosine), PoolLabels(replace(cosine, scores=scores, score_kind="estimate"))]
    common = agreed(labellings, ROWS)
    assert not common & set(range(10, 20))
    assert set(range(20, 30)) <= common
    parts = plan(searched, labellings, [], SETTINGS)
    one, two = (build(parts, labels, searched, pool, store, SETTINGS, Silent()) for labels in labellings)
    ids = {pool.ids[row] for row in common}
    assert one.judged_by(ids)[1].y.tolist() == two.judged_by(ids)[1].y.tolist()


def test_judged_rows_weigh_alike_for_each_class(pool: Pool, store: EmbeddingStore) -> None:
    training = train(pool, store)
    own = [training.ids[place] for place in training.places(0)]
    learnt, judged = training.judged_by(set(own[1:]) | {"000"})
    assert len(judged.y) == len(own) - 1
    per_class = np.bincount(judged.y, judged.weights)
    assert np.allclose(per_class, per_class[0])
    assert not {row.tobytes() for row in judged.X} & {row.tobytes() for row in learnt.X}
    for nothing in (set(), {"000"}):
        with pytest.raises(GroupError, match="no validation row"):
            training.judged_by(nothing)


def answered_at(searched: Search, decision: dict[int, str], estimates: dict[int, list[float]]) -> PoolLabels:
    """Groups by estimate, in which people decided some rows."""
    cosine = groups_at(searched)
    decisions, scores = cosine.decision.copy(), np.zeros((N, 2), np.float32)
    scores[A, 0], scores[B, 1] = 0.9, 0.9
    for row, one in estimates.items():
        scores[row] = one
    for row, what in decision.items():
        decisions[row] = what
    denied = np.array([row for row, what in decision.items() if what == "background"], np.int64)
    groups = replace(cosine, decision=decisions, scores=scores, score_kind="estimate")
    return PoolLabels(groups, np.array(list(decision), np.int64), [denied, denied])


def test_all_that_people_said_is_learnt_from_and_what_may_show_a_class_is_no_sample_of_none(
    pool: Pool, store: EmbeddingStore
) -> None:
    """Also answers about images that nothing else brings in, and images below the cut."""
    searched, settings = find(pool), FitSettings(negatives=10)
    said = {45: "member", 46: "background", 100: "background", 3: "background"}
    labels = answered_at(searched, said, {47: [0.3, 0.0], 101: [0.1, 0.0], 102: [0.015, 0.0]})
    parts = plan(searched, [labels], [], settings)
    training = build(parts, labels, searched, pool, store, settings, Silent())
    place = {int(name): number for number, name in enumerate(training.ids)}
    for row, what in said.items():
        wanted = [1, 0, 0] if what == "member" else [0, 0, 1]
        assert training.targets[place[row]].tolist() == wanted
        assert training.told[place[row]]
    assert np.allclose(training.targets[[place[47], place[101]]], [[0.3, 0, 0.7], [0.1, 0, 0.9]])
    assert not training.told[place[47]]
    alone = [row for row in place if training.stands[place[row]] != 1]  # the sample
    assert len(alone) == 10
    assert not set(alone) & {*said, 47, 101, *A, *B}


def test_nothing_left_for_none(pool: Pool, store: EmbeddingStore) -> None:
    tested = "nothing is learnt of 'none', so it is never predicted: the 65 images outside the classes are rows of the"
    (why,) = train(pool, store, held_out=list(range(55, N))).warnings
    assert why.startswith(tested)
    (why,) = train(pool, store, held_out=[row for row in range(55, N) if row not in BROKEN]).warnings
    assert why.startswith(tested)
    assert why.endswith("leave some of them out of the test set")
    vectors = supplied()
    vectors[55:] = vectors[70] + np.random.default_rng(0).normal(0, 1e-3, (N - 55, 256))
    training = train(pool, store, find(pool, vectors), held_out=[70])
    assert len(training.warnings) == 1
    assert not training.counts["none"]
    fitted = cross_fit("linear", HeadSettings(), training, 0)
    assert fitted.probabilities[:, 2].max() < 1e-6
    assert fitted.calibration.probabilities(fitted.head.scores(training.X))[:, 2].max() < 1e-6


@pytest.mark.parametrize("head", ["linear", "mlp"])
@pytest.mark.parametrize("others", [[60, 70], [60, 61, 70], [70, 71, 72]])
def test_what_is_all_that_can_be_read_of_none_is_not_held_out(
    pool: Pool, store: EmbeddingStore, others: list[int], head: HeadName
) -> None:
    """Of 60 and 61 there is a vector, and no image that can be read; 71 is nearly the same as a test row, 72 is one."""
    vectors = supplied()
    vectors[71] = vectors[72]
    rows = np.array([*A, *B, *others])
    searched = search(Embeddings([vectors[rows]], rows, N), ["a", "b"], exemplars(pool), None)
    labels = PoolLabels(groups_at(searched))
    parts = plan(searched, [labels], [72], SETTINGS)
    training = build(parts, labels, searched, pool, store, SETTINGS, Silent())
    assert training.counts["none"] == 1
    assert training.fold[training.y == 2].tolist() == [-1]
    settings = HeadSettings(epochs=3)
    fitted = cross_fit(head, settings, training, 0)
    assert set(training.y[fitted.rows]) == {0, 1}
    new = fitted.calibration.probabilities(fitted.head.scores(training.X))
    assert np.isfinite(new).all()
    if head == "linear":
        assert new[training.y == 2, 2] > 0.3


def test_an_exemplar_whose_vector_was_not_supplied_is_learnt_from_all_the_same(
    pool: Pool, store: EmbeddingStore, encoder: OnnxEncoder
) -> None:
    pixels = np.stack([encoder.prepare(pool.read(row)) for row in range(N) if row not in BROKEN])
    there = np.array([row for row in range(N) if row not in BROKEN])
    whole = Embeddings([encoder.encode(pixels)], there, N)
    part = Embeddings([whole.shards[0][1:]], there[1:], N)
    chosen = exemplars(pool, (0, 1))  # red and green
    found = []
    for embeddings in (whole, part):
        searched = search(embeddings, ["a", "b"], chosen, encoder)
        labels = PoolLabels(groups_at(searched, 0.95, 0.9))
        settings = FitSettings(near_duplicate=1.0)
        parts = plan(searched, [labels], [], settings)
        training = build(parts, labels, searched, pool, store, settings, Silent())
        found.append(training)
        assert training.y.tolist().count(0) == training.counts["a"] > 1
        assert training.fold[training.ids.index(chosen[0].key if embeddings is part else "000")] == -1
    assert chosen[0].key in found[1].ids
    assert found[0].counts["a"] == found[1].counts["a"]


def test_an_exemplar_from_outside_is_learnt_from(pool: Pool, store: EmbeddingStore, encoder: OnnxEncoder) -> None:
    searched = find(pool)
    outside = Exemplar("mario.png", 0, None, pool.read(80))
    training = train(pool, store, replace(searched, exemplars=[*searched.exemplars, outside]))
    place = training.ids.index(outside.key)
    assert training.targets[place].tolist() == [1, 0, 0]
    assert np.allclose(training.X[place], encoder.encode(encoder.prepare(pool.read(80))[None])[0], atol=1e-2)
    assert training.told[place]
    assert training.fold[place] == -1


def test_what_people_say_is_learnt_in_the_wide_space(pool: Pool, store: EmbeddingStore, encoder: OnnxEncoder) -> None:
    """And what the ranking says, in the ranking's: a "no" alone says nothing of what shows a class."""
    ranking = Space.plain(256)
    unknown = find(pool)
    known = replace(unknown, encoder=encoder)
    groups = replace(groups_at(unknown), space=ranking)
    no, yes = np.array([80]), np.array([20, 80])

    def space(searched: Search, answered: NDArray[np.int64], **more: object) -> Space | None:
        labels = PoolLabels(groups, answered)
        settings = FitSettings.parse({"negatives": 50} | more)
        parts = plan(searched, [labels], [], settings)
        return build(parts, labels, searched, pool, store, settings, Silent()).space

    assert space(known, np.empty(0, np.int64)) is ranking
    assert space(known, no) is ranking
    assert space(known, yes) is known.wide
    assert space(known, yes, rank={"space": "raw"}) is None
    of_features = space(unknown, yes)  # what made the vectors is not known, so new images cannot be taken there
    assert of_features is not None
    assert len(of_features.mean) == encoder.dim


@pytest.mark.parametrize("balance", ["weights", "effective", "none"])
def test_a_head_is_held_back_less_the_more_is_known(pool: Pool, store: EmbeddingStore, balance: Balance) -> None:
    """All rows count more against the penalty, and as much more of each class."""
    searched = find(pool)
    settings = FitSettings(negatives=50, balance=balance)
    groups = groups_at(searched)
    summed = []
    for answered in (np.empty(0, np.int64), np.array([*range(1, 30), *range(31, 45)])):
        labels = PoolLabels(groups, answered)
        parts = plan(searched, [labels], [], settings)
        rows = build(parts, labels, searched, pool, store, settings, Silent()).without(0)
        summed.append(np.bincount(rows.y, rows.weights))
    few, many = summed
    known = (len(A) - 1 + len(B)) / 2  # one of A cannot be read
    firm = 1 + (known / 12) ** 2
    assert many.sum() > 2 * few.sum()
    if balance == "none":
        assert many[2] / few[2] == pytest.approx(firm / (1 + 1 / 144), rel=0.01)
    if balance == "weights":
        assert many[0] == pytest.approx(many[1])
        assert many[0] == pytest.approx(many[2])
