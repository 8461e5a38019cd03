"""The description of the service says what it does: requests made from it, right and wrong, get what it says."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from classifiers import MODEL
from serving import Client, served

from holotype import Classifier


@pytest.fixture(scope="module")
def client(fitted: Classifier, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    path = tmp_path_factory.mktemp("served") / MODEL
    fitted.save(path)
    with served(str(path), images=4) as client:
        yield client


def test_every_address_answers_as_described(client: Client, tmp_path: Path) -> None:
    """By schemathesis: statuses, types and bodies, of requests that keep to the description and of others."""
    version = client.get(f"/models/{MODEL}").json["version"]
    known = f'"path.name" = "{MODEL}"\n"path.version" = "{version}"\n'
    (tmp_path / "schemathesis.toml").write_text(f"[parameters]\n{known}")
    command = [str(Path(sys.executable).with_name("schemathesis")), "run"]
    command += [f"http://127.0.0.1:{client.port}/openapi.json", "--checks=all", "--max-examples=20"]
    command += [
        "--exclude-checks=positive_data_acceptance",
        "--suppress-health-check=all",
    ]  # no schema says which bytes are an image
    command += ["--generation-deterministic", "--no-color", "--phases=examples,coverage,fuzzing"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path, timeout=300)
    assert done.returncode == 0, done.stdout[-20_000:]


def test_all_that_is_there_is_described(client: Client) -> None:
    described = json.loads(client.get("/openapi.json").body)
    paths = set(described["paths"])
    assert {
        "/models",
        "/models/{name}",
        "/models/{name}/predict",
        "/v2/models/{name}/infer",
        "/health",
        "/metrics",
    } <= paths
    for path, methods in described["paths"].items():
        for method, about in methods.items():
            assert about["summary"], (path, method)
            if method == "post":
                assert about["requestBody"]["content"], path
            for status, said in about["responses"].items():
                assert said["description"], (path, status)
