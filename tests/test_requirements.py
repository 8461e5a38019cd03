"""What is installed is pinned: `constraints.txt` by version, `requirements-dev.txt`, made from it, by digests too."""

import re
import tomllib
from importlib.metadata import PackageNotFoundError, requires
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
HASHED, TORCH = "requirements-dev.txt", "torch"  # the build of torch depends on the index, so it has no one digest


def pins(name: str) -> dict[str, str]:
    """Return the packages of a file, each with its version."""
    lines = [line.rstrip("\\").strip() for line in (ROOT / name).read_text().splitlines() if line[:1].strip()]
    return {canonicalize_name(package): version for package, version in (line.split("==") for line in lines)}


def asked_for() -> list[Requirement]:
    """Return what the project asks for itself: to run, with its extras, and to be built."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    extras = project["project"]["optional-dependencies"].values()
    lines = [
        *project["project"]["dependencies"],
        *project["build-system"]["requires"],
        *(one for e in extras for one in e),
    ]
    found = [Requirement(line) for line in lines]
    return [one for one in found if one.name != project["project"]["name"]]  # extras that are made of others


def test_the_two_files_agree() -> None:
    """`constraints.txt` has no digests: with one, pip would ask those who install holotype for all."""
    assert "--hash" not in (ROOT / "constraints.txt").read_text()
    versions = pins("constraints.txt")
    assert versions.pop(TORCH)
    assert pins(HASHED) == versions


def test_each_package_has_the_digests_of_its_files() -> None:
    blocks = re.split(r"\n(?=\S)", (ROOT / HASHED).read_text().strip())
    assert all(re.fullmatch(r"\S+==\S+( \\\n    --hash=sha256:[0-9a-f]{64})+", block) for block in blocks)


def needs(one: Requirement) -> list[Requirement]:
    """Return what a package that is installed asks for, with the extras that are asked of it, on this machine."""
    try:
        lines = requires(one.name) or []
    except PackageNotFoundError:  # what builds the project, where it was built elsewhere
        return []
    found = [Requirement(line) for line in lines]
    extras = {"", *one.extras}
    return [need for need in found if need.marker is None or any(need.marker.evaluate({"extra": e}) for e in extras)]


def test_all_that_is_needed_is_pinned() -> None:
    versions, seen = pins("constraints.txt"), set[str]()
    ahead = asked_for()
    while ahead:
        one = ahead.pop()
        if str(one) in seen:
            continue
        seen.add(str(one))
        pinned = versions.get(canonicalize_name(one.name))
        assert pinned, f"{one.name} is in no constraint"
        assert one.specifier.contains(pinned, prereleases=True), f"{one} is not met by {pinned}"
        ahead += needs(one)
