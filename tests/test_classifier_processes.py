"""One model in many threads and processes: it works in each, and nothing waits for ever."""

import asyncio
import copy
import json
import multiprocessing
import os
import pickle
import signal
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import Picture
from numpy.typing import NDArray
from system import plain_environment

from holotype import Classifier
from holotype.encoders.registry import load_encoder
from holotype.encoders.runtimes import OnnxEncoder
from holotype.errors import NotFittedError
from holotype.pool.pool import Pool

pytestmark = pytest.mark.usefixtures("fit_cache")

SECONDS = 60  # after which what waits for ever is ended


@pytest.fixture(scope="module")
def folder(fitted: Classifier, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("saved") / "model"
    fitted.save(folder)
    return folder


@pytest.fixture(params=["openvino", "onnxruntime"])
def model(request: pytest.FixtureRequest, fitted: Classifier) -> Classifier:
    """A model whose networks are open: for one image, and for several."""
    model = copy.deepcopy(fitted)
    model.encoder_ = OnnxEncoder("net", Path("net.onnx"), request.param, content=fitted.encoder_.content)
    model.encoder_.encode(np.zeros((9, *model.encoder_.size, 3), np.uint8))
    return model


@pytest.fixture(scope="module")
def pictures(picture: Picture) -> list[NDArray[np.uint8]]:
    return [picture(row) for row in range(300, 312)]


def in_fork(work: Callable[[], Any]) -> Any:
    """What `work` gives in a forked child, which is ended where it waits for ever, and ends as any process does."""
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        signal.alarm(SECONDS)
        try:
            os.write(writer, json.dumps(work()).encode())
        finally:
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as answer:
        text = answer.read()
    assert os.waitpid(child, 0)[1] == 0, "the child did not come back"
    return json.loads(text)


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_after_a_fork_it_predicts_the_same(model: Classifier, pictures: Any, fit_pool: Pool) -> None:
    wanted = model.predict_proba(pictures).tolist()
    pool = [found.probabilities.tolist() for found, _ in model.predict_pool(fit_pool, range(40))]

    def work() -> Any:
        return (
            model.predict_proba(pictures).tolist(),
            [found.probabilities.tolist() for found, _ in model.predict_pool(fit_pool, range(40))],
            in_fork(lambda: model.predict_proba(pictures[:1]).tolist()),  # and once more
        )

    alone, many, again = in_fork(work)
    np.testing.assert_allclose(alone, wanted, atol=1e-6)
    np.testing.assert_allclose(np.concatenate(many), np.concatenate(pool), atol=1e-6)
    np.testing.assert_allclose(again, wanted[:1], atol=1e-6)
    np.testing.assert_allclose(model.predict_proba(pictures), wanted, atol=1e-6)  # the parent goes on


FORK = """
import os, sys
from concurrent.futures import ThreadPoolExecutor
from holotype import Classifier

model, image = Classifier.load(sys.argv[1]), sys.argv[2]
wanted = str(model.predict(image))
threads = ThreadPoolExecutor(4)
stop = []

def go_on():
    while not stop:
        model.predict(image)

running = [threads.submit(go_on) for _ in range(4)]
children = []
for _ in range(5):
    child = os.fork()  # while the others predict
    if not child:
        stop.append(True)
        sys.exit(0 if str(model.predict([image] * 3)[2]) == wanted else 3)  # the end of a whole interpreter
    children.append(child)
ends = [os.waitpid(child, 0)[1] for child in children]
stop.append(True)
for one in running:
    one.result()
print(ends)
"""


def test_many_threads_get_what_one_gets(model: Classifier, pictures: Any) -> None:
    wanted = model.predict_proba(pictures)
    with ThreadPoolExecutor(8) as threads:
        found = list(threads.map(lambda n: (n, model.predict_proba([pictures[n]])), [*range(len(pictures))] * 8))
    for n, one in found:
        np.testing.assert_allclose(one[0], wanted[n], atol=1e-6)


def test_asyncio(model: Classifier, pictures: Any) -> None:
    async def all_at_once() -> list[Any]:
        return await asyncio.gather(*(asyncio.to_thread(model.predict, one) for one in pictures))

    assert asyncio.run(asyncio.wait_for(all_at_once(), SECONDS)) == model.predict(pictures).tolist()


def predict(model: Classifier, picture: Any) -> list[float]:
    found: list[float] = model.predict_proba([picture])[0].tolist()
    return found


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_a_pool_of_processes(method: str, fitted: Classifier, pictures: Any) -> None:
    fitted.predict(pictures[0])
    with ProcessPoolExecutor(2, multiprocessing.get_context(method)) as processes:
        found = list(processes.map(predict, [fitted] * 4, pictures[:4], timeout=SECONDS))
    np.testing.assert_allclose(found, fitted.predict_proba(pictures[:4]), atol=1e-6)


WORKERS = """
import sys
import joblib
from torch.utils.data import DataLoader
from holotype import Classifier

model, image = Classifier.load(sys.argv[1]), sys.argv[2]
wanted = model.predict_proba(image)[0].tolist()

def predict(model, image):
    return model.predict_proba(image)[0].tolist()

class Predicted:
    def __len__(self):
        return 4

    def __getitem__(self, n):
        return predict(model, image)

for found in (
    joblib.Parallel(n_jobs=2, timeout=60)(joblib.delayed(predict)(model, image) for _ in range(4)),
    list(DataLoader(Predicted(), batch_size=None, num_workers=2, timeout=60)),
):
    print(max(abs(a - b) for one in found for a, b in zip(one, wanted)) < 1e-6)
"""


def script(code: str, folder: Path, pool: Pool) -> list[str]:
    """What a script says of a model and an image; it ends well, and complains of nothing."""
    image = Path(pool.source) / "000.png"
    words = [sys.executable, "-W", "ignore", "-c", code, str(folder), str(image)]
    environment = plain_environment()
    found = subprocess.run(words, capture_output=True, text=True, timeout=2 * SECONDS, check=False, env=environment)
    assert (found.returncode, found.stderr) == (0, "")
    return found.stdout.splitlines()


def test_joblib_and_the_workers_of_torch(folder: Path, fit_pool: Pool) -> None:
    assert script(WORKERS, folder, fit_pool) == ["True", "True"]


def test_a_fork_while_others_predict(folder: Path, fit_pool: Pool) -> None:
    assert script(FORK, folder, fit_pool) == [str([0] * 5)]


@pytest.mark.parametrize("way", [copy.deepcopy, copy.copy, lambda model: pickle.loads(pickle.dumps(model))])
def test_a_copy_is_the_same_model(way: Callable[[Any], Any], fitted: Classifier, pictures: Any, tmp_path: Path) -> None:
    other = way(fitted)
    assert np.array_equal(other.predict_proba(pictures), fitted.predict_proba(pictures))
    assert other.get_params() == fitted.get_params()
    other.save(tmp_path / "other")
    fitted.save(tmp_path / "one")
    for path in (tmp_path / "one").iterdir():
        assert path.read_bytes() == (tmp_path / "other" / path.name).read_bytes()
    unfitted = way(Classifier(seed=7))
    assert unfitted.get_params() == Classifier(seed=7).get_params()
    with pytest.raises(NotFittedError):
        unfitted.predict(pictures[0])


def test_a_copied_encoder_needs_no_file(network: str, tmp_path: Path) -> None:
    encoder = load_encoder(network)
    other = pickle.loads(pickle.dumps(encoder))
    pixels = np.random.default_rng(0).integers(0, 256, (5, *encoder.size, 3), np.uint8)
    assert np.array_equal(other.encode(pixels), encoder.encode(pixels))
    assert other.fingerprint == encoder.fingerprint


def resident() -> int:
    """Bytes of memory that this process holds."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="memory is told by Linux")
def test_thousands_of_predictions_take_no_more_memory(model: Classifier, pictures: Any) -> None:
    for _ in range(300):
        model.predict_one(pictures[0])
    before = resident()
    for n in range(2000):
        model.predict_one(pictures[n % len(pictures)])
    assert resident() - before < 4 * 2**20
