"""The examples of a model in one file: they do what `predict` does, with nothing of holotype."""

import base64
import json
import runpy
import shutil
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from importlib.resources import files
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from numpy.typing import NDArray
from pictures import blurred, encoded
from PIL import Image, ImageDraw

from holotype import Classifier
from holotype.export.network import to_onnx
from holotype.pool.images import MARGIN, decode, letterbox

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

ROOT = Path(__file__).parents[1]
EXAMPLES, RUNTIME = ROOT / "examples" / "onnx", ROOT / "build" / "onnxruntime-web"
NEAR = 1e-4
TURNED = Image.Exif()
TURNED[0x0112] = 6  # a quarter to the right


def detailed(row: int, size: tuple[int, int]) -> Image.Image:
    """A picture with edges, and of no symmetry."""
    image = blurred(row, size)
    draw = ImageDraw.Draw(image)
    draw.polygon([(3, 5), (size[0] // 2, 9), (size[0] // 3, size[1] - 4)], fill=(200, 30, 40))
    draw.line((0, size[1], size[0], 0), fill="white", width=3)
    return image


def see_through(row: int, size: tuple[int, int]) -> Image.Image:
    image = detailed(row, size)
    image.putalpha(Image.linear_gradient("L").resize(size))
    return image


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    contents = {
        "small.jpg": encoded(detailed(0, (60, 40)), quality=90),
        "large.jpg": encoded(detailed(1, (1500, 1000)), quality=90),
        "tall.jpg": encoded(detailed(2, (90, 400)), quality=90),
        "turned.jpg": encoded(detailed(3, (300, 200)), quality=90, exif=TURNED),
        "grey.jpg": encoded(detailed(4, (200, 300)).convert("L"), quality=90),
        "whole.png": encoded(detailed(5, (210, 130)), "PNG"),
        "see_through.png": encoded(see_through(6, (150, 210)), "PNG"),
        "palette.png": encoded(detailed(7, (150, 100)).quantize(16), "PNG"),
        "tiny.png": encoded(detailed(8, (5, 7)), "PNG"),
    }
    folder = tmp_path_factory.mktemp("pictures")
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    return {name: folder / name for name in contents}


@pytest.fixture(scope="module")
def model(fitted: Classifier, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model") / "model.onnx"
    path.write_bytes(to_onnx(fitted))
    return path


def named(model: Classifier, path: Path) -> dict[str, float]:
    return dict(zip(model.classes_, model.predict_proba(str(path))[0].tolist(), strict=True))


def test_python_sees_the_same_pixels_and_says_the_same(
    fitted: Classifier,
    model: Path,
    pictures: dict[str, Path],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(sys, "argv", ["classify.py", str(model), *map(str, pictures.values())])
    example = runpy.run_path(str(EXAMPLES / "classify.py"))
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line.pop("path") for line in lines] == [str(path) for path in pictures.values()]
    for path, line in zip(pictures.values(), lines, strict=True):
        assert np.array_equal(example["to_pixels"](str(path)), fitted.encoder_.prepare(str(path))), path.name
        assert line.pop("label") == fitted.predict(str(path))
        assert line == pytest.approx(named(fitted, path), abs=NEAR)


def test_python_needs_nothing_of_holotype(model: Path, pictures: dict[str, Path], fitted: Classifier) -> None:
    code = (
        "import runpy, sys; sys.modules['holotype'] = sys.modules['openvino'] = sys.modules['onnx'] = None;"
        f"sys.argv = ['classify.py', {str(model)!r}, {str(pictures['turned.jpg'])!r}];"
        f"runpy.run_path({str(EXAMPLES / 'classify.py')!r})"
    )
    done = subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout)["label"] == fitted.predict(str(pictures["turned.jpg"]))


class _Site(SimpleHTTPRequestHandler):
    def guess_type(self, path: Any) -> str:
        kinds = {".mjs": "text/javascript", ".wasm": "application/wasm"}
        return kinds.get(Path(path).suffix) or super().guess_type(path)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def site(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The example as somebody would put it onto a web server, with the model and the runtime beside it."""
    assert (RUNTIME / "ort.wasm.min.mjs").is_file(), "expected onnxruntime-web in build/: fetch it with make web"
    folder = tmp_path_factory.mktemp("site")
    for path in (*EXAMPLES.iterdir(), model):
        if path.is_file():
            shutil.copyfile(path, folder / path.name)
    (folder / "onnxruntime-web").symlink_to(RUNTIME)
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(_Site, directory=str(folder))) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/index.html"
        server.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def shown(browser: "Browser", site: str) -> Iterator["Page"]:
    page = browser.new_page()
    page.goto(site)
    yield page
    page.close()


def pixels_in(page: "Page", path: Path, size: tuple[int, int]) -> NDArray[np.int64]:
    text = page.evaluate(
        """async ([content, height, width]) => {
            const { toPixels } = await import("./classify.mjs");
            const blob = await (await fetch("data:;base64," + content)).blob();
            return Array.from(await toPixels(blob, height, width));
        }""",
        [base64.b64encode(path.read_bytes()).decode(), *size],
    )
    return np.array(text).reshape(*size, 3)


@pytest.mark.browser
def test_a_browser_says_the_same(fitted: Classifier, pictures: dict[str, Path], shown: "Page") -> None:
    for path in pictures.values():
        shown.set_input_files("input", path)
        shown.wait_for_function("document.querySelector('pre').textContent.startsWith('{')", timeout=30_000)
        found: dict[str, Any] = json.loads(shown.locator("pre").text_content() or "")
        shown.evaluate("document.querySelector('pre').textContent = ''")
        assert found["probabilities"].keys() == {*fitted.classes_}
        assert found["probabilities"] == pytest.approx(named(fitted, path), abs=NEAR)
        assert found["label"] == fitted.predict(str(path))


@pytest.mark.browser
def test_a_browser_sees_nearly_the_same_pixels(fitted: Classifier, pictures: dict[str, Path], shown: "Page") -> None:
    for path in pictures.values():
        wanted = fitted.encoder_.prepare(str(path)).astype(int)
        apart = np.abs(pixels_in(shown, path, fitted.encoder_.size) - wanted)
        if path.suffix == ".png":  # decoded alike, so nothing is left but how a mean is rounded
            assert apart.max() <= 1, path.name
        else:  # a JPEG that is decoded smaller is a little smoother than means of its pixels
            assert apart.mean() < 0.5, path.name


@pytest.mark.browser
@pytest.mark.parametrize("name", ["china.jpg", "flower.jpg"])
def test_of_a_photograph_it_sees_nearly_the_same_pixels(name: str, shown: "Page") -> None:
    """docs/export.md has these figures."""
    path, size = Path(str(files("sklearn.datasets.images") / name)), (224, 224)
    apart = np.abs(pixels_in(shown, path, size) - letterbox(decode(path, fit=224), size, MARGIN).astype(int))
    assert apart.max() <= 3
    assert apart.mean() < 0.25
