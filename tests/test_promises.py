"""Promises about the code itself: which way imports point, what a name means, what is never used."""

import ast
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from importlib import import_module
from pathlib import Path

import pytest

import holotype

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "holotype"
FILES = sorted(SOURCE.rglob("*.py"))
# in the order of the flow: the first ones and the last are modules, the others packages
PACKAGES = [
    "names",
    "errors",
    "filestate",
    "pointers",
    "tables",
    "files",
    "stale",
    "checksums",
    "forks",
    "patience",
    "locks",
    "progress",
    "faults",
    "settings",
    "stores",
    "pool",
    "encoders",
    "vectors",
    "grouping",
    "model",
    "evaluation",
    "answers",
    "runs",
    "web",
    "review",
    "export",
    "serve",
    "exits",
    "cli",
    "__main__",
]
LONGEST = 400
# what the code called things before it used the words of the field; classes with or without an underscore before them
PRIVATE = {
    *("Desk", "Standing", "Moved", "Told", "Taught", "Lesson", "Learnt", "Said", "Start", "Tally", "Ask", "Spread"),
    *("Top", "Uncertain", "Job", "Trial", "teach", "teaching", "gather", "lots", "chances", "guess", "calm", "desk"),
}
# aliases of types that more than one module may write down, as each is the same everywhere: name -> what it must be
ALIASES = {
    "Rows": "NDArray[np.int64]",  # rows of the pool
    "Matrix": "NDArray[np.float32]",  # vectors, one a row
    "Logits": "NDArray[np.float64]",  # per row, or per row and class
}


def name_of(path: Path) -> str:
    """Return the dotted name of a module, or of the package whose __init__ it is."""
    parts = path.relative_to(SOURCE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def home_of(path: Path) -> str:
    """Return the name right below `holotype` that a file is in."""
    return path.relative_to(SOURCE).parts[0].removesuffix(".py")


MODULES = {name_of(path): path for path in FILES}


def imported(path: Path) -> Iterator[str]:
    """Yield each module that a file imports: at its head, at the point of use, or for its types alone."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path.relative_to(SOURCE)} imports relatively; expected `from holotype.`"
            module = node.module or ""
            homes = holotype._HOME if module == "holotype" else {}
            modules = [f"{module}.{homes.get(alias.name, alias.name)}" for alias in node.names]
            yield from (full if full in MODULES else module for full in modules)


def a_circle(edges: Mapping[str, set[str]]) -> list[str]:
    """Return the modules of a circle of imports, the first again at the end; nothing where there is none."""
    finished: set[str] = set()

    def follow(name: str, path: list[str]) -> list[str]:
        if name in path:
            return [*path[path.index(name) :], name]
        if name not in finished:
            for other in sorted(edges[name]):
                if found := follow(other, [*path, name]):
                    return found
            finished.add(name)
        return []

    return next((found for name in sorted(edges) if (found := follow(name, []))), [])


def test_the_public_names() -> None:
    assert sorted(holotype.__all__) == [
        "Addition",
        "Classifier",
        "Embeddings",
        "Encoder",
        "Evaluation",
        "HolotypeError",
        "Pool",
        "Predictions",
        "Review",
        "RunChanges",
        "Settings",
        "evaluate",
        "export_run",
        "load_encoder",
        "open_pool",
        "run",
        "update_run",
    ]
    assert all(getattr(holotype, name).__doc__ for name in holotype.__all__)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        holotype.nothing  # noqa: B018


def test_each_public_name_is_at_home_where_it_is_said_to_be() -> None:
    assert sorted(holotype._HOME) == sorted(holotype.__all__)
    for name, home in holotype._HOME.items():
        module = import_module(f"holotype.{home}")
        assert getattr(module, name).__module__ == module.__name__, f"{name} is not defined in holotype.{home}"


def test_all_that_is_in_the_package_is_on_the_list() -> None:
    assert {home_of(path) for path in FILES} - {"__init__"} == set(PACKAGES)
    assert len(PACKAGES) == len(set(PACKAGES))


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_imports_point_one_way_in_the_order_of_the_flow(path: Path) -> None:
    ours = {module.split(".")[1] for module in imported(path) if module.startswith("holotype.")}
    home = home_of(path)
    if path == SOURCE / "__init__.py":  # it names homes as text; what it imports, it imports for their types
        return
    above = {*PACKAGES[: PACKAGES.index(home)]} | ({home} if path.parent != SOURCE else set())
    assert ours <= above, f"{path.relative_to(SOURCE)} imports {sorted(ours - above)}, which stands below it"


def test_there_is_no_circle_of_imports() -> None:
    edges = {name: set(imported(path)) & MODULES.keys() for name, path in MODULES.items() if name != "holotype"}
    edges = {name: others - {"holotype"} for name, others in edges.items()}
    assert sum(map(len, edges.values())) > 2 * len(edges)  # it sees them
    circle = a_circle(edges)
    assert not circle, f"a circle of imports: {' -> '.join(circle)}"


def test_a_circle_is_found_and_named() -> None:
    assert a_circle({"a": {"b", "d"}, "b": {"c"}, "c": {"b"}, "d": set()}) == ["b", "c", "b"]
    assert a_circle({"a": {"a"}}) == ["a", "a"]
    assert a_circle({"a": {"b", "c"}, "b": {"d"}, "c": {"d"}, "d": set()}) == []


def test_no_file_is_long() -> None:
    paths = [path for folder in (SOURCE, ROOT / "tests", ROOT / "benchmarks") for path in folder.rglob("*.py")]
    long = {str(path.relative_to(ROOT)): len(path.read_text().splitlines()) for path in paths}
    assert {name: count for name, count in long.items() if count > LONGEST} == {}


def test_a_package_says_what_it_is_and_no_more() -> None:
    for path in FILES:
        if path.name == "__init__.py" and path.parent != SOURCE:
            tree = ast.parse(path.read_text())
            assert ast.get_docstring(tree), f"{path.relative_to(SOURCE)} has no docstring"
            assert len(tree.body) == 1, f"{path.relative_to(SOURCE)} holds more than a docstring"


def test_its_types_are_for_others_too() -> None:
    assert (SOURCE / "py.typed").is_file()


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_names_are_words_of_the_field(path: Path) -> None:
    nodes = [*ast.walk(ast.parse(path.read_text()))]
    defined = {one.name for one in nodes if isinstance(one, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)}
    own = {name.lstrip("_") for name in defined} | set(name_of(path).split("."))
    old = own & PRIVATE
    assert not old


def constants(tree: ast.Module) -> Iterator[tuple[str, str]]:
    """Yield (name, value) of each public constant and type alias at the head of a module."""
    for node in tree.body:
        if isinstance(node, ast.Assign):
            targets: list[ast.expr] = node.targets
        elif isinstance(node, ast.AnnAssign):
            targets = [node.target]
        else:
            continue
        names = {one.id for target in targets for one in ast.walk(target) if isinstance(one, ast.Name)}
        yield from ((name, ast.unparse(node.value) if node.value else "") for name in names if name[:1].isupper())


def test_one_name_is_one_thing() -> None:
    homes: dict[str, list[tuple[str, str]]] = defaultdict(list)
    for module, path in MODULES.items():
        tree = ast.parse(path.read_text())
        classes = [(node.name, "a class") for node in ast.walk(tree) if isinstance(node, ast.ClassDef)]
        for name, what in [*classes, *constants(tree)]:
            if not name.startswith("_"):
                homes[name].append((module, what))
    twice = {name: where for name, where in homes.items() if len(where) > 1}
    same = {name for name, where in twice.items() if {what for _, what in where} == {ALIASES.get(name)}}
    assert {name: where for name, where in twice.items() if name not in same} == {}


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


def test_the_documented_order_is_the_order() -> None:
    table = (ROOT / "docs" / "architecture.md").read_text()
    rows = re.findall(r"^\| \**`(\w+)(?:\.py|/)`\** \|", table, re.MULTILINE)
    assert [name for name in dict.fromkeys(rows) if name in PACKAGES] == PACKAGES
