"""The guide to serving is followed: its commands and its client, at a server of the run that it speaks of."""

import json
import os
import re
import subprocess
from pathlib import Path

import pytest
from classifiers import png
from conftest import Holotype, Picture
from documented import DOCS, blocks
from serving import served

from holotype import Classifier
from holotype.settings import ServeSettings

GUIDE = DOCS / "guides" / "serving.md"


def test_what_the_guide_asks_is_answered(
    fitted: Classifier, picture: Picture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fitted.save(tmp_path / "pets")
    for name, row in (("cat.jpg", 0), ("dog.jpg", 1)):
        (tmp_path / name).write_bytes(png(picture(row)))
    monkeypatch.chdir(tmp_path)
    asked, with_token = [block.text for block in blocks(GUIDE) if block.text.startswith("curl")]
    [client] = [block.text for block in blocks(GUIDE) if "InferenceClient" in block.text]
    with served("pets") as server:
        said = []
        for line in asked.replace("8000", str(server.port)).splitlines():
            done = subprocess.run(["bash", "-c", f"{line} --silent --fail"], capture_output=True, check=True)
            said.append(json.loads(done.stdout))
        assert [one["name"] for one in said[0]["models"]] == ["pets"]
        assert [[one["id"] for one in reply["predictions"]] for reply in said[1:]] == [["0"], ["cat.jpg", "dog.jpg"]]
        assert said[2]["predictions"][0]["label"]
        exec(compile(client.replace("8000", str(server.port)), GUIDE, "exec"), {})
    with served("pets", token="0123") as server:
        line = with_token.strip().replace("8000", str(server.port)) + " --silent --fail"
        for token, code in (("0123", 0), ("4567", 22)):
            environment = {**os.environ, "HOLOTYPE_TOKEN": token}
            assert subprocess.run(["bash", "-c", line], env=environment, check=False).returncode == code


def test_its_help_names_the_defaults(holotype: Holotype) -> None:
    _, said, _ = holotype("serve", "--help")
    said = " ".join(said.replace("│", " ").split())
    for name in ("port", "queue", "images", "megabytes", "memory", "seconds"):
        found = re.search(rf"--{name} .*?[Ee]lse ([0-9]+)", said)
        assert found, name
        assert float(found[1]) == getattr(ServeSettings(), name)
