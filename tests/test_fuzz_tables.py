"""Spoilt tables and settings: test sets, answers, exports of Label Studio, holotype.toml: taken, or one sentence."""

import json
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from mutations import altered, budget, mutated, one_sentence, table
from pictures import blurred, encoded

from holotype import Pool, Settings, open_pool
from holotype.answers.forms import read_csv, write_csv
from holotype.answers.label_studio import read_label_studio
from holotype.errors import AnswersError, HolotypeError, TestSetError
from holotype.evaluation.test_set import read_test_set

CLASSES = ("cat", "dog")
TEST_ROWS = [["0", "1", "0"], ["1", "0", "1"], ["2", "0", "0"]]
ANSWERS = [["0", "cat", "yes", "2026-05-01T12:00:00Z", "ann", "0"], ["1", "dog", "no", "", "", "1"]]
SETTINGS = Settings.parse(
    {"images": "pool.tar", "exemplars": {"cat": ["0"], "dog": ["1"]}, "thresholds": ["auto", 0.7]}
)
TASKS = [
    {
        "id": 1,
        "data": {"image": "a/0.jpg", "image_id": "0"},
        "annotations": [
            {
                "result": [
                    {"from_name": "class", "to_name": "image", "type": "choices", "value": {"choices": ["cat"]}},
                ],
                "was_cancelled": False,
                "completed_by": {"email": "ann@example.org"},
                "created_at": "2026-05-01T12:00:00Z",
            },
        ],
        "meta": {"answers": []},
    },
    {
        "id": 2,
        "image": "a/1.jpg",
        "image_id": "1",
        "class": "dog",
        "annotator": 1,
        "created_at": "2026-05-01T12:00:00Z",
    },
]


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Pool:
    folder = tmp_path_factory.mktemp("pool")
    for row in range(3):
        (folder / f"{row}.jpg").write_bytes(encoded(blurred(row, (16, 12))))
    return open_pool(folder)


def written(folder: str, name: str, content: bytes | str) -> Path:
    path = Path(folder, name)
    path.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8", "surrogatepass"))
    return path


def test_spoilt_test_sets(pool: Pool) -> None:
    whole = "\n".join(",".join(row) for row in [["index", *CLASSES], *TEST_ROWS]).encode()

    @budget(400)
    @given(table(["index", *CLASSES], TEST_ROWS) | mutated([whole]))
    def spoilt(content: bytes | str) -> None:
        with tempfile.TemporaryDirectory() as folder, one_sentence(TestSetError):
            found = read_test_set(written(folder, "test.csv", content), CLASSES, pool)
            assert found.truth.shape == (len(found.rows), len(CLASSES))
            assert set(found.truth.sum(axis=1).tolist()) <= {0, 1}
            assert [pool.ids[row] for row in found.rows] == found.ids
            assert len(set(found.rows)) == len(found.rows)

    spoilt()


@budget(400)
@given(
    table(["id", "class", "answer", "when", "who", "audit"], ANSWERS)
    | mutated(
        ["\n".join(",".join(row) for row in [["id", "class", "answer", "when", "who", "audit"], *ANSWERS]).encode()]
    )
)
def test_spoilt_answers(content: bytes | str) -> None:
    with tempfile.TemporaryDirectory() as folder, one_sentence(AnswersError):
        found = read_csv(written(folder, "answers.csv", content))
        assert read_csv(written(folder, "again.csv", write_csv(found))) == found


@budget(400)
@example(json.dumps([TASKS[1] | {"class": "[" * 3000}]).encode())
@given(altered(TASKS).map(lambda value: json.dumps(value).encode()) | mutated([json.dumps(TASKS).encode()]))
def test_spoilt_exports_of_label_studio(content: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder, one_sentence(AnswersError):
        found = read_label_studio(written(folder, "export.json", content), CLASSES)
        again = written(folder, "again.csv", write_csv(found))
        assert read_csv(again) == found


def toml(value: Any) -> bytes:
    """TOML has no null and no top level but a table; what cannot be written is JSON, which is none either."""
    import tomli_w

    try:
        return tomli_w.dumps(value).encode("utf-8", "surrogatepass")
    except (AttributeError, TypeError, ValueError, RecursionError):
        return json.dumps(value).encode()


@budget(400)
@given(altered(SETTINGS.model_dump(exclude_none=True)).map(toml) | mutated([SETTINGS.to_toml().encode()]))
def test_spoilt_settings(content: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder, one_sentence(HolotypeError):
        found = Settings.load(written(folder, "holotype.toml", content))
        assert Settings.load(written(folder, "again.toml", found.to_toml())) == found


@budget(100)
@given(st.binary(max_size=100))
def test_rubbish_is_no_settings(content: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder, pytest.raises(HolotypeError):
        Settings.load(written(folder, "holotype.toml", content))
