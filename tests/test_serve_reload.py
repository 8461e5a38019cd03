"""A model that is trained anew while it is served."""

import shutil
import signal
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event

import numpy as np
import pyarrow.parquet as pq
import pytest
from browser import N
from classifiers import MODEL
from serving import PREDICT, Client, form, noise, served

from holotype import Classifier
from holotype.errors import ModelError
from holotype.evaluation.drift import stability_index
from holotype.pool.pool import open_pool
from holotype.serve import metrics, models
from holotype.serve.batching import Outcome
from holotype.serve.metrics import LATELY, pool_scores
from holotype.serve.models import ServedModels
from holotype.settings import Settings


@pytest.fixture
def saved(fitted: Classifier, tmp_path: Path) -> Path:
    path = tmp_path / MODEL
    fitted.save(path)
    return path


@pytest.fixture
def other(fitted: Classifier, tmp_path: Path) -> Path:
    """The same model, whose thresholds nothing reaches."""
    path = tmp_path / "other"
    fitted.save(path)
    changed = Classifier.load(path)
    changed.calibration_.thresholds[:] = 1.0
    changed.save(path)
    return path


def version(client: Client) -> str:
    return str(client.get(f"/models/{MODEL}").json["version"])


def wait_for(client: Client, condition: str) -> None:
    until = time.monotonic() + 30
    while not eval_condition(client, condition) and time.monotonic() < until:
        time.sleep(0.02)
    assert eval_condition(client, condition)


def drift_after(client: Client, model: str, images: Sequence[bytes]) -> float:
    for start in range(0, len(images), 40):
        content, kind = form(*((str(n), one) for n, one in enumerate(images[start : start + 40])))
        assert client.post(f"/models/{model}/predict", content, content_type=kind).status == 200
    lines = client.get("/metrics").body.decode().splitlines()
    return float(next(line for line in lines if line.startswith("holotype_score_drift{")).rpartition(" ")[2])


def eval_condition(client: Client, condition: str) -> bool:
    about = client.get(f"/models/{MODEL}").json
    return bool(about["fault"]) if condition == "refused" else about["version"] == condition and not about["fault"]


def test_the_newer_one_takes_over_and_no_request_fails(
    saved: Path, other: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(models, "EVERY", 0.05)
    newer = next(iter(ServedModels([str(other)]))).version
    with served(str(saved)) as client, ThreadPoolExecutor(4) as clients:
        before, ended = version(client), Event()

        def ask(seed: int) -> set[tuple[int, str]]:
            found = set()
            while not ended.is_set():
                reply = client.post(PREDICT, noise(seed))
                found.add((reply.status, reply.json["version"]))
            return found

        asking = [clients.submit(ask, seed) for seed in range(4)]
        try:
            assert before != newer
            for path in sorted(other.iterdir()):
                shutil.copy(path, saved / path.name)
            wait_for(client, newer)
        finally:
            ended.set()
        assert set().union(*(one.result() for one in asking)) == {(200, before), (200, newer)}


def test_a_broken_one_is_refused_and_the_old_one_stays(
    saved: Path, other: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(models, "EVERY", 0.05)
    with served(str(saved)) as client:
        before = version(client)
        whole = (saved / "head.onnx").read_bytes()
        (saved / "head.onnx").write_bytes(whole[:-1])
        wait_for(client, "refused")
        assert version(client) == before
        assert client.post(PREDICT, noise(1)).status == 200
        assert f'holotype_model_refused{{model="{MODEL}"}} 1.0' in client.get("/metrics").body.decode()
        (saved / "head.onnx").write_bytes(whole)
        wait_for(client, before)
        shutil.rmtree(saved)
        wait_for(client, "refused")
        assert client.post(PREDICT, noise(1)).status == 200
        shutil.copytree(other, saved)
        wait_for(client, next(iter(ServedModels([str(other)]))).version)


def test_a_copy_that_ends_while_it_is_refused_is_taken(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    served_models, arrays, load = ServedModels([str(saved)]), saved / "arrays.safetensors", models._load
    whole = arrays.read_bytes()
    arrays.write_bytes(whole[:-8])

    def too_early(name: str, path: Path) -> models.ServedModel:
        try:
            return load(name, path)
        finally:
            arrays.write_bytes(whole)

    monkeypatch.setattr(models, "_load", too_early)
    served_models.refresh()
    assert served_models.first.fault
    monkeypatch.setattr(models, "_load", load)
    served_models.refresh()
    assert not served_models.first.fault


def test_a_model_that_is_not_there_is_an_error_at_once(saved: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="expected"):
        ServedModels([str(tmp_path / "nothing")])
    with pytest.raises(ModelError, match="two models"):
        ServedModels([str(saved), f"{MODEL}={saved}"])
    assert [one.name for one in ServedModels([f"a={saved}", str(saved)])] == ["a", MODEL]


def test_a_run_is_served_by_its_folder_and_compared_with_its_pool(out: Path) -> None:
    [model] = ServedModels([str(out)])
    scores = pool_scores(model)
    assert scores is not None
    assert len(scores) == N
    assert stability_index(scores, scores) == pytest.approx(0, abs=1e-9)
    assert stability_index(scores, np.full(LATELY, 0.999)) > 1
    pool = open_pool(Settings.load(out / "holotype.toml").images)
    own = [pool.read(row) for row in range(N)] * -(-200 // N)
    with served(str(out)) as client:
        assert drift_after(client, model.name, own) < 0.05
        assert drift_after(client, model.name, [noise(seed) for seed in range(200)]) > 0.25  # none is of that pool


def test_a_run_whose_groups_say_less_is_not_compared(out: Path, tmp_path: Path) -> None:
    run = tmp_path / "older"
    shutil.copytree(out, run)
    table = pq.read_table(run / "groups.parquet")
    pq.write_table(table.drop_columns("highest_probability"), run / "groups.parquet")
    assert pool_scores(next(iter(ServedModels([str(run)])))) is None


def test_what_an_older_version_said_is_not_compared(saved: Path, other: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics, "pool_scores", lambda _: np.linspace(0, 1, 200))
    older, newer = (next(iter(ServedModels([f"m={path}"]))) for path in (saved, other))
    figures = metrics.Metrics(lambda: 0)
    said = [Outcome(older.classifier.predict_one(noise(1)))] * 200

    def told(model: models.ServedModel) -> set[str]:
        lines = figures.render([model]).decode().splitlines()
        return {line.partition("{")[0] for line in lines} & {"holotype_none_share", "holotype_score_drift"}

    figures.answered(older, said)
    assert told(older) == {"holotype_none_share", "holotype_score_drift"}
    assert not told(newer)
    figures.answered(newer, said[:199])
    assert told(newer) == {"holotype_none_share"}  # too few


def test_a_model_alone_has_no_pool_to_compare_with(saved: Path) -> None:
    assert pool_scores(next(iter(ServedModels([str(saved)])))) is None


def test_signals_are_heard_after_a_network_was_let_go(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    heard: list[int] = []
    before = signal.signal(signal.SIGUSR1, lambda number, _: heard.append(number))
    try:
        models_ = ServedModels([str(saved), f"b={saved}"])
        shutil.rmtree(saved / "nothing", ignore_errors=True)
        (saved / "model.json").touch()
        models_.refresh()
        signal.raise_signal(signal.SIGUSR1)
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert heard == [signal.SIGUSR1]
