"""What is nearly the same is held out together; exemplars never are; test rows and their like are out of reach."""

import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from holotype.encoders.encode import l2_normalize
from holotype.model.duplicates import _Clusters, near_duplicates
from holotype.model.splits import ALWAYS, Split, split

COSINE = 0.97
Ints = NDArray[np.int64]


def apart(count: int, dim: int = 128, seed: int = 0) -> NDArray[np.float32]:
    """Vectors of which no two are near-duplicates."""
    return l2_normalize(np.random.default_rng(seed).normal(size=(count, dim)))


def clusters(sizes: list[int], seed: int = 0) -> NDArray[np.float32]:
    """`sizes[i]` near-duplicates in cluster i."""
    random = np.random.default_rng(seed)
    return l2_normalize(
        np.repeat(apart(len(sizes), seed=seed), sizes, axis=0) + random.normal(0, 0.005, (sum(sizes), 128))
    )


def chain(count: int, degrees: float) -> NDArray[np.float32]:
    """Each is `degrees` away from the one before it."""
    angles = np.radians(degrees) * np.arange(count)
    vectors = np.zeros((count, 128), np.float32)
    vectors[:, 0], vectors[:, 1] = np.cos(angles), np.sin(angles)
    return vectors


def divide(labels: Ints, vectors: NDArray[np.float32], **more: Any) -> Split:
    rows = np.arange(len(labels)) * 3 + 1  # pool rows, not places
    options: dict[str, Any] = {"pinned": [], "held_out": [], "folds": 5, "cosine": COSINE, "seed": 0}
    return split(rows, labels, vectors, **options | more)


def places(rows: Ints) -> Ints:
    return (rows - 1) // 3


def held(parts: Split) -> Ints:
    """Places of the rows that are ever held out."""
    return places(parts.rows[parts.fold != ALWAYS])


def always(parts: Split) -> Ints:
    """Places of the rows that every head learns from."""
    return places(parts.rows[parts.fold == ALWAYS])


def test_a_chain_of_near_duplicates_is_one_cluster_though_its_ends_differ() -> None:
    links = chain(12, 10)  # cos 10 degrees is .985
    assert links[0] @ links[-1] < 0
    assert len(set(near_duplicates(links, COSINE))) == 1
    assert len(set(near_duplicates(chain(12, 20), COSINE))) == 12  # .940


def test_clusters_are_those_of_all_pairs_across_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    vectors = clusters([1, 5, 2, 9, 30, 1, 3])
    order = np.random.default_rng(0).permutation(len(vectors))
    owner = np.repeat(np.arange(7), [1, 5, 2, 9, 30, 1, 3])[order]
    monkeypatch.setattr("holotype.model.duplicates._BLOCK", 4)
    found = near_duplicates(vectors[order], COSINE)
    assert np.array_equal(found[:, None] == found, owner[:, None] == owner)
    assert len(near_duplicates(vectors[:0], COSINE)) == 0


def brute_force(vectors: NDArray[np.float32], cosine: float) -> list[int]:
    """Union-find over all pairs; each row's number is the first row of its cluster."""
    parent = list(range(len(vectors)))

    def root(row: int) -> int:
        while parent[row] != row:
            row = parent[row]
        return row

    for left, right in np.argwhere(vectors @ vectors.T >= cosine):
        a, b = sorted((root(left), root(right)))
        parent[b] = a
    return [root(row) for row in range(len(vectors))]


@pytest.mark.parametrize("seed", range(12))
def test_clusters_are_those_of_a_union_find(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """In few dimensions links form long chains; duplicates, exact and near, are planted among them."""
    random = np.random.default_rng(seed)
    monkeypatch.setattr("holotype.model.duplicates._BLOCK", int(random.integers(3, 90)))
    found = random.normal(size=(300, [3, 4, 8, 64][seed % 4]))
    for _ in range(150):
        to, origin = random.integers(0, 300, 2)
        found[to] = found[origin] + random.choice([0, 0.01]) * random.normal(size=found.shape[1])
    vectors, cosine = l2_normalize(found), random.choice([0.97, 0.99, 0.995])
    expected = brute_force(vectors, cosine)
    assert 1 < len(set(expected)) < 300
    assert near_duplicates(vectors, cosine).tolist() == np.unique(expected, return_inverse=True)[1].tolist()


def heaps(count: int, dim: int, inside: float, shared: float, seed: int) -> NDArray[np.float32]:
    """`count` rows around random centres, of about 15 rows each, all about a direction that they share."""
    random = np.random.default_rng(seed)
    centres = random.normal(size=(count // 15, dim)) + shared * random.normal(size=dim)
    owner = random.integers(0, len(centres), count)
    return l2_normalize(centres[owner] + inside * random.normal(size=(count, dim)))


def all_pairs(vectors: NDArray[np.float32], cosine: float) -> Ints:
    """What `near_duplicates` returned when it looked at every pair."""
    graph = coo_array(vectors @ vectors.T >= cosine)
    numbers: Ints = connected_components(graph, directed=False)[1].astype(np.int64)
    return np.unique(numbers, return_index=True)[1].argsort().argsort()[numbers]  # by their first rows


@pytest.mark.parametrize("cosine", [0.1, 0.3, 0.5, 0.7, 0.9, 0.97])
@pytest.mark.parametrize("dim", [6, 32, 256])
@pytest.mark.parametrize("block", [90, 2048])
def test_clusters_are_those_of_all_pairs_at_any_cosine(
    cosine: float, dim: int, block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From everything in one cluster, over heaps that lie apart or touch, to rows that are all alone."""
    monkeypatch.setattr("holotype.model.duplicates._BLOCK", block)
    for seed, (inside, shared) in enumerate([(0.1, 0), (0.3, 0), (0.6, 0), (2, 0), (0.3, 1), (0.6, 0.5)]):
        vectors = heaps(600, dim, inside, shared, seed)
        assert np.array_equal(near_duplicates(vectors, cosine), all_pairs(vectors, cosine))


def test_links_between_groups_are_found_though_no_leader_has_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Chains whose links are between rows that lead nobody."""
    monkeypatch.setattr("holotype.model.duplicates._BLOCK", 30)
    for seed in range(5):
        vectors = chain(120, 10)[np.random.default_rng(seed).permutation(120)]
        assert not near_duplicates(vectors, COSINE).any()


def test_few_groups_are_multiplied_row_by_row(monkeypatch: pytest.MonkeyPatch) -> None:
    looked, look = [], _Clusters.look

    def counted(self: _Clusters, rows: Ints, columns: Ints) -> NDArray[np.bool_]:
        looked.append(len(rows) * len(columns))
        return look(self, rows, columns)

    monkeypatch.setattr(_Clusters, "look", counted)
    monkeypatch.setattr("holotype.model.duplicates._BLOCK", 128)
    for inside, cosine in [(0.3, 0.3), (0.3, 0.5), (0.3, 0.7), (0.1, 0.97)]:
        looked.clear()
        vectors = heaps(3000, 512, inside, 0, 0)
        assert near_duplicates(vectors, cosine).max() + 1 == 200
        assert sum(looked) < 0.2 * 3000**2 / 2


IDENTICAL = """
import resource, sys
import numpy as np
from holotype.model.duplicates import near_duplicates
if sys.argv[2] == "identical":
    vectors = np.zeros((int(sys.argv[1]), 64), np.float32)
    vectors[:, 0] = 1
else:  # pairs
    vectors = np.random.default_rng(0).normal(size=(int(sys.argv[1]) // 2, 64)).astype(np.float32).repeat(2, axis=0)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
near_duplicates(vectors[:10], 0.97)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
clusters = near_duplicates(vectors, 0.97)
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024, len(set(clusters.tolist())))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="counts kilobytes as Linux does")
@pytest.mark.parametrize(("rows", "kind", "expected"), [(6000, "identical", 1), (16000, "pairs", 8000)])
def test_memory_does_not_grow_with_the_square_of_the_rows(rows: int, kind: str, expected: int) -> None:
    command = [sys.executable, "-c", IDENTICAL, str(rows), kind]
    grown, count = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    assert int(count) == expected
    assert float(grown) < 150  # the cosines of all pairs of 16,000 are 1,000, their links in lists more


@pytest.mark.parametrize("seed", range(12))
def test_no_cluster_is_in_two_folds_and_every_row_is_learnt_from_or_dropped(seed: int) -> None:
    """At any cosine, and where a cluster holds several labels."""
    random = np.random.default_rng(seed)
    cosine, folds = random.choice([0.3, 0.5, 0.7, 0.9, 0.97]), int(random.choice([2, 3, 5, 10]))
    vectors = heaps(600, 64, random.choice([0.1, 0.3, 0.6, 2]), random.choice([0, 0.5]), seed)
    labels = random.choice([0, 1, 2, 5], 600, p=[0.1, 0.2, 0.3, 0.4])  # no row has the labels between
    pinned, held_out = (random.choice(600, 4, replace=False) * 3 + 1 for _ in range(2))
    parts = divide(labels, vectors, pinned=pinned, held_out=held_out, folds=folds, cosine=cosine, seed=seed)
    cluster = all_pairs(vectors, cosine)
    both = np.unique(np.stack([cluster[places(parts.rows)], parts.fold]), axis=1)[0]
    shadowed = set(cluster[places(held_out)]) & set(cluster[places(pinned)])  # of which only the exemplars are left
    assert len(both) == len(set(both))
    assert sorted([*parts.rows.tolist(), *parts.dropped]) == (np.arange(600) * 3 + 1).tolist()
    assert np.array_equal(parts.rows, np.sort(parts.rows))
    assert set(parts.fold) <= {ALWAYS, *range(folds)}
    assert not set(cluster[held(parts)]) & (set(cluster[places(pinned)]) | shadowed | set(cluster[places(held_out)]))
    sizes = np.bincount(labels[places(parts.rows)])
    taken = np.stack([np.bincount(labels[places(parts.rows[parts.fold == one])], minlength=6) for one in range(folds)])
    assert (2 * taken <= sizes).all()
    for one in set(cluster[always(parts)]) - set(cluster[places(pinned)]):  # it would take too much along
        counts = np.bincount(labels[cluster == one], minlength=6)
        assert (2 * (taken + counts) > sizes)[:, counts > 0].any(axis=1).all()


@pytest.mark.parametrize("folds", [2, 5, 10])
def test_each_fold_has_as_many_of_each_label_within_one_cluster(folds: int) -> None:
    random = np.random.default_rng(0)
    sizes = random.integers(1, 5, 300)
    labels = np.repeat(random.choice(3, 300, p=[0.1, 0.2, 0.7]), sizes)
    parts = divide(labels, clusters(sizes.tolist()), folds=folds)
    assert len(always(parts)) <= (3 * sizes.max() if folds == 2 else 0)  # what is left where each fold has half
    for label in range(3):
        counts = np.bincount(parts.fold[(labels == label) & (parts.fold != ALWAYS)], minlength=folds)
        assert counts.max() - counts.min() <= sizes.max()


def test_without_near_duplicates_the_folds_are_even() -> None:
    labels = np.repeat([0, 1, 2], [10, 50, 400])
    parts = divide(labels, apart(460))
    for fold in range(5):
        assert np.bincount(labels[parts.fold == fold]).tolist() == [2, 10, 80]


def test_a_cluster_that_holds_most_of_another_label_does_not_take_it_along() -> None:
    labels = np.array([*[0] * 20, *[1] * 30])
    vectors = apart(50)
    vectors[20:48] = clusters([28], seed=7)
    vectors[0] = vectors[20]  # one row of label 0 links to nearly all of label 1
    for seed in range(10):
        parts = divide(labels, vectors, seed=seed)
        assert always(parts).tolist() == [0, *range(20, 48)]


def test_many_small_clusters_do_not_take_another_label_along() -> None:
    """Each row of label 1 is nearly the same as one of label 0; test rows are none that is left."""
    labels, vectors = np.array([*[0] * 40, *[1] * 5]), apart(45)
    vectors[40:] = vectors[:5]
    for seed in range(20):
        parts = divide(labels, vectors, folds=2, held_out=[1 + 3 * 4], seed=seed)
        for fold in range(2):
            assert (labels[places(parts.rows[parts.fold == fold])] == 1).sum() <= 2


def test_one_large_cluster_is_never_held_out() -> None:
    labels = np.array([*[0] * 40, *[1] * 20])
    parts = divide(labels, np.concatenate([clusters([40]), apart(20, seed=3)]))
    assert always(parts).tolist() == list(range(40))
    assert held(parts).tolist() == list(range(40, 60))


def test_of_two_clusters_the_small_one_is_held_out() -> None:
    labels = np.zeros(30, np.int64)
    for seed in range(5):
        parts = divide(labels, clusters([25, 5]), seed=seed)
        assert held(parts).tolist() == list(range(25, 30))


def test_a_row_that_is_all_there_is_of_its_label_is_never_held_out() -> None:
    assert held(divide(np.array([0, 1, 1]), apart(3))).tolist() == [1, 2]
    tested = divide(np.array([0, 1, 1]), apart(3), held_out=[1 + 3 * 2])
    assert (places(tested.rows).tolist(), held(tested).tolist()) == ([0, 1], [])


def test_pinned_rows_are_never_held_out_nor_what_is_nearly_the_same() -> None:
    labels = np.repeat([0, 1], [30, 60])
    vectors = clusters([4, *[1] * 26, *[1] * 60])
    for seed in range(10):
        parts = divide(labels, vectors, pinned=[1, 1 + 3 * 50], folds=2, seed=seed)
        assert always(parts).tolist() == [0, 1, 2, 3, 50]


def test_test_rows_and_their_like_are_dropped_with_the_reason() -> None:
    labels = np.repeat([0, 1], [30, 60])
    vectors = clusters([3, *[1] * 27, *[1] * 60])
    vectors[40:46] = chain(6, 10)
    parts = divide(labels, vectors, held_out=[1, 1 + 3 * 45])
    assert {places(np.array(row)).item(): why for row, why in parts.dropped.items()} == {
        0: "a test row",
        **dict.fromkeys([1, 2, 40, 41, 42, 43, 44], "nearly the same as a test row"),
        45: "a test row",
    }
    assert not set(parts.dropped) & set(parts.rows.tolist())


def test_an_exemplar_is_learnt_from_even_where_it_is_a_test_row_but_its_like_are_not() -> None:
    labels = np.repeat([0, 1], [30, 60])
    parts = divide(labels, clusters([3, *[1] * 87]), pinned=[1], held_out=[1])
    assert 0 in always(parts)
    assert set(parts.dropped) == {4, 7}


def test_a_test_row_that_is_not_there_changes_nothing() -> None:
    labels, vectors = np.repeat([0, 1], [30, 60]), apart(90)
    with_it, without = divide(labels, vectors, held_out=[2, 5000]), divide(labels, vectors)
    assert np.array_equal(with_it.rows, without.rows)
    assert np.array_equal(with_it.fold, without.fold)
    assert with_it.dropped == {}


def test_the_same_seed_gives_the_same_folds_and_another_gives_others() -> None:
    labels, vectors = np.repeat([0, 1], [30, 60]), apart(90)
    first, again, other = (divide(labels, vectors, seed=seed).fold for seed in (4, 4, 5))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)
    assert np.array_equal(np.bincount(first), np.bincount(other))
