"""Promises about the code itself: what importing loads, which way imports point, what is never used."""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import holotype

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "holotype"
FILES = sorted(SOURCE.rglob("*.py"))
HEAVY = ("torch", "openvino", "onnxruntime", "matplotlib", "fastapi", "sklearn", "pandas", "optuna")


def imported(path: Path) -> Iterator[str]:
    """Yield each module that a file imports, at its head or at the point of use."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module == "holotype":
            yield from (f"holotype.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module or ""


def python(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()


def test_importing_loads_nothing_heavy() -> None:
    assert python(f"import sys, holotype; print([n for n in {HEAVY} if n in sys.modules])") == "[]"


def test_help_loads_nothing_heavy() -> None:
    heavy = (*HEAVY, "numpy", "PIL", "pydantic")
    assert python(f"import sys, holotype.cli; print([n for n in {heavy} if n in sys.modules])") == "[]"


def test_the_public_names() -> None:
    assert sorted(holotype.__all__) == [
        "Classifier",
        "Embeddings",
        "Encoder",
        "Evaluation",
        "HolotypeError",
        "Pool",
        "Predictions",
        "Review",
        "Settings",
        "evaluate",
        "load_encoder",
        "open_pool",
        "run",
    ]
    assert all(getattr(holotype, name).__doc__ for name in holotype.__all__)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        holotype.nothing  # noqa: B018


def test_imports_point_one_way_in_the_order_of_the_flow() -> None:
    table = (ROOT / "docs" / "architecture.md").read_text().partition("## What a run leaves")[0]
    order = re.findall(r"^\| `(\w+)(?:\.py|/)` \|", table, re.MULTILINE)
    names = {path.relative_to(SOURCE).parts[0].removesuffix(".py") for path in FILES} - {"__init__"}
    assert sorted(order) == sorted(names)
    for path in FILES:
        name = path.relative_to(SOURCE).parts[0].removesuffix(".py")
        if name == "__init__":
            continue
        ours = {module.split(".")[1] for module in imported(path) if module.startswith("holotype.")}
        above = set(order[: order.index(name)]) | ({name} if path.parent != SOURCE else set())
        assert ours <= above, f"{path.relative_to(SOURCE)} imports {ours - above}, which stands below it"


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_no_pickle_no_eval_no_torchvision(path: Path) -> None:
    assert not {"pickle", "cloudpickle", "joblib", "dill", "torchvision", "timm"} & {
        module.split(".")[0] for module in imported(path)
    }
    for node in ast.walk(ast.parse(path.read_text())):
        if not isinstance(node, ast.Call):
            continue
        called = ast.unparse(node.func)
        given = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
        assert called not in {"eval", "exec", "compile"}
        if called == "np.load":
            assert given.get("allow_pickle") == "False"
        if called == "torch.load":
            assert given.get("weights_only") == "True"
