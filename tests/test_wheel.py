"""What is shipped works where nothing else is: the wheel, with the packages that it asks for, and without a network."""

import csv
import json
import os
import re
import shutil
import subprocess
import sys
import urllib.request
import zipfile
from collections.abc import Mapping
from pathlib import Path

import pytest
from conftest import Picture
from installed import closure, new_environment
from pictures import encoded
from PIL import Image
from system import unshared

from holotype import Classifier

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "holotype"
HEAVY = {"torch", "transformers", "huggingface-hub", "kornia", "onnxscript"}  # what extras bring
# docs/guides/shipping.md has the first, examples/serve/Dockerfile the others
TO_PREDICT = ("numpy", "onnx", "onnxruntime", "pillow", "pydantic", "safetensors", "threadpoolctl")
TO_SERVE: tuple[str, ...] = (
    "fastapi-offline",
    "httptools",
    "numkong",
    "numpy",
    "onnx",
    "onnxruntime",
    "pillow",
    "prometheus-client",
)
TO_SERVE += ("pyarrow", "pydantic", "python-multipart", "safetensors", "threadpoolctl", "typer", "uvicorn")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from a copy of what is in the repository."""
    folder = tmp_path_factory.mktemp("build")
    for name in ("src", "README.md", "LICENSE", "pyproject.toml"):
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy2
        copy(ROOT / name, folder / name)
    words = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder / "dist"), str(folder)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    (built,) = (folder / "dist").glob("*.whl")
    return built


def install(wheel: Path, programs: Path) -> None:
    """Unpack the wheel into an environment, with its entry point."""
    (site,) = (programs.parent / "lib").glob("python*/site-packages")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)
    entry = programs / "holotype"
    entry.write_text(f"#!{programs / 'python'}\nfrom holotype.cli.main import main\nmain()\n")
    entry.chmod(0o755)


def alone(tmp_path: Path) -> Mapping[str, str]:
    """An environment without this repository, and a cache of its own."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "VIRTUAL", "HF_"))}
    return kept | {"HOLOTYPE_CACHE": str(tmp_path / "cache"), "HOME": str(tmp_path)}


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory, picture: Picture) -> Path:
    """A folder `photos` of 120 pictures, and `test.csv` with labels of some."""
    folder = tmp_path_factory.mktemp("elsewhere")
    (folder / "photos").mkdir()
    for row in range(120):
        (folder / "photos" / f"{row}.jpg").write_bytes(encoded(Image.fromarray(picture(row))))
    lines = [f"{row}.jpg,{['red', 'green', 'blue'][row % 10] if row % 10 < 3 else 'none'}" for row in range(90, 120)]
    (folder / "test.csv").write_text("\n".join(["filename,label", *lines]))
    return folder


@pytest.fixture(scope="module")
def environment(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The programs of an environment with the wheel and what it asks for, and nothing else."""
    needed = closure(["holotype"])
    del needed["holotype"]
    assert not HEAVY & needed.keys()
    programs = new_environment(tmp_path_factory.mktemp("clean"), needed.values())
    install(wheel, programs)
    return programs


def test_the_wheel_has_every_file_of_the_package(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        (metadata,) = (archive.read(name).decode() for name in names if name.endswith(".dist-info/METADATA"))
        (entries,) = (archive.read(name).decode() for name in names if name.endswith("entry_points.txt"))
    files = {path for path in SOURCE.rglob("*") if path.is_file() and "__pycache__" not in path.parts}
    assert {f"holotype/{path.relative_to(SOURCE).as_posix()}" for path in files} <= names
    assert "holotype/py.typed" in names
    assert "holotype = holotype.cli.main:main" in entries
    assert {*re.findall(r"^Provides-Extra: (\w+)$", metadata, re.MULTILINE)} == {
        "all", "augment", "dev", "docs", "heif", "hub", "mlp", "ray", "stores", "words"
    }  # fmt: skip
    assert not any(name.startswith(("tests/", "benchmarks/")) for name in names)


def test_a_job_of_the_reference_shape_from_another_folder_without_torch_and_without_a_network(
    environment: Path, pictures: Path, tmp_path: Path
) -> None:
    become = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
    offline = unshared(*become, "--net")

    def do(*words: object) -> str:
        given = [*offline, str(environment / "holotype"), *map(str, words)]
        done = subprocess.run(given, cwd=pictures, env=alone(tmp_path), capture_output=True, check=False, timeout=300)
        assert done.returncode == 0, done.stderr.decode()
        return done.stdout.decode()

    out = tmp_path / "out"
    exemplars = [word for k, name in enumerate(("red", "green", "blue")) for word in ("--exemplar", f"{name}={k}")]
    do("run", "--images", "photos", *exemplars, "--test-set", "test.csv", "--out", out)
    assert (out / "report.html").stat().st_size > 10_000
    with (out / "found.csv").open() as file:
        assert {row["class"] for row in csv.DictReader(file)} == {"red", "green", "blue"}
    assert json.loads((out / "metrics.json").read_text())["evaluation"]["rows"] == 30
    (line,) = do("predict", out, "photos/0.jpg").splitlines()
    assert json.loads(line)["vector"] == [1.0, 0.0, 0.0]  # it is the exemplar
    do("embed", "photos", "--out", tmp_path / "vectors")
    do("search", "photos", "--exemplar", "0", "--embeddings", tmp_path / "vectors", "--sheet", tmp_path / "sheet.png")
    do("tune", out, "--trials", "2")
    (tmp_path / "form.csv").write_text(do("suggest", out, "-n", "2").replace(",,", ",yes,"))
    do("answer", out, tmp_path / "form.csv", "--export", tmp_path / "answers.csv")
    find = "from importlib.util import find_spec\nprint(find_spec('torch'))"
    python = subprocess.run([environment / "python", "-c", find], capture_output=True, text=True, check=True)
    assert python.stdout == "None\n"


@pytest.fixture(scope="module")
def finished(environment: Path, pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run that the clean environment did."""
    folder = tmp_path_factory.mktemp("finished")
    words = ["run", "--images", "photos", "--exemplar", "red=0", "--out", str(folder / "out")]
    subprocess.run([environment / "holotype", *words], cwd=pictures, env=alone(folder), check=True, timeout=300)
    return folder / "out"


def test_the_page_of_a_review_is_in_the_wheel(environment: Path, finished: Path, tmp_path: Path) -> None:
    words = [str(environment / "holotype"), "review", str(finished)]
    with subprocess.Popen(words, env=alone(tmp_path), stdout=subprocess.PIPE, text=True) as serving:
        try:
            assert serving.stdout is not None
            address = next(found[0] for line in serving.stdout if (found := re.search(r"http://\S+", line)))
            browser = urllib.request.build_opener(urllib.request.HTTPCookieProcessor())
            with browser.open(address, timeout=60) as page:
                assert "<script" in page.read().decode()
        finally:
            serving.terminate()


def test_what_a_model_needs_to_predict(wheel: Path, pictures: Path, finished: Path, tmp_path: Path) -> None:
    """Seven packages, and what these need: no OpenVINO, no scikit-learn, no pages, no tables."""
    small = closure(TO_PREDICT)
    assert not {"openvino", "scikit-learn", "scipy", "pyarrow", "matplotlib", "typer", "rich"} & small.keys()
    programs = new_environment(tmp_path / "small", small.values())
    install(wheel, programs)
    shutil.copytree(finished / "model", tmp_path / "served" / "model")
    names = ["30.jpg", "35.jpg", "77.jpg"]
    for name in names:
        shutil.copy(pictures / "photos" / name, tmp_path / "served")
    code = f"from holotype import Classifier\nprint(Classifier.load('model').predict({names}).tolist())"
    done = subprocess.run(
        [programs / "python", "-W", "error", "-c", code],
        cwd=tmp_path / "served",
        env=alone(tmp_path),
        capture_output=True,
        text=True,
        check=False,
    )
    same = Classifier.load(finished).predict([pictures / "photos" / name for name in names]).tolist()
    assert done.stdout == f"{same}\n", done.stderr
    assert f"pip install {' '.join(TO_PREDICT)}" in (ROOT / "docs" / "guides" / "shipping.md").read_text()


def test_what_a_server_needs(wheel: Path, pictures: Path, finished: Path, tmp_path: Path) -> None:
    """What is in the image of examples/serve: no scikit-learn, no figures; and nothing is written but to its cache."""
    small = closure(TO_SERVE)
    assert not {"openvino", "scikit-learn", "scipy", "matplotlib", "optuna"} & small.keys()
    programs = new_environment(tmp_path / "small", small.values())
    install(wheel, programs)
    words = [str(programs / "holotype"), "serve", f"colours={finished / 'model'}", "--port", "0"]
    with subprocess.Popen(words, env=alone(tmp_path), stdout=subprocess.PIPE, text=True) as serving:
        try:
            assert serving.stdout is not None
            address = next(found[0] for line in serving.stdout if (found := re.search(r"http://\S+", line)))
            content = (pictures / "photos" / "30.jpg").read_bytes()
            with urllib.request.urlopen(f"{address}/models/colours/predict", content, timeout=60) as reply:
                found = json.loads(reply.read())["predictions"][0]
            for path in ("/metrics", "/docs"):
                assert urllib.request.urlopen(f"{address}{path}", timeout=60).status == 200
        finally:
            serving.terminate()
    assert found["label"] == Classifier.load(finished).predict(content)
    installed = " ".join((ROOT / "examples" / "serve" / "Dockerfile").read_text().replace("\\\n", " ").split())
    assert f"--constraint /tmp/constraints.txt {' '.join(TO_SERVE)} &&" in installed
