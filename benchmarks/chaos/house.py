"""The house that accidents happen to: a small pool, a finished run with answers, and the commands that write there."""

import csv
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageDraw

from benchmarks.caches import own_cache
from holotype.answers.log import AnswerLog
from holotype.runs.folder import RunFolder

IMAGES, ANSWERED, TESTED = 60, 12, 20
CLASSES = ("Circle", "Square", "Triangle")
EXEMPLARS = ("Circle=0", "Square=1", "Triangle=2")
PATIENCE = 600  # seconds that a command may take
TOLD = 300  # characters of an error that are kept


def picture(number: int, version: int = 0) -> bytes:
    """Return a JPEG: a circle, a square, a triangle or lines; each `version` of a number is another picture."""
    colours = [(number * 37 + version * 91 + c * 53) % 256 for c in range(6)]
    image = Image.new("RGB", (96, 96), (colours[0], colours[1], colours[2]))
    draw, ink = ImageDraw.Draw(image), (colours[3], colours[4], colours[5])
    x, y = 10 + number * 7 % 20, 10 + number * 11 % 20
    if number % 4 == 0:
        draw.ellipse((x, y, x + 60, y + 60), fill=ink, outline="black", width=3)
    elif number % 4 == 1:
        draw.rectangle((x, y, x + 60, y + 60), fill=ink, outline="black", width=3)
    elif number % 4 == 2:
        draw.polygon([(x + 30, y), (x, y + 60), (x + 60, y + 60)], fill=ink, outline="black", width=3)
    else:
        for step in range(6):
            draw.line((step * 16, y, 96 - x, 96 - step * 13), fill=ink, width=3)
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


def write_tar(path: Path, pictures: Mapping[str, bytes]) -> None:
    """Write an uncompressed tar of `pictures` by name."""
    with tarfile.open(path, "w") as archive:
        for name, content in pictures.items():
            member = tarfile.TarInfo(f"{name}.jpg")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))


@dataclass(frozen=True)
class Ended:
    """How a command ended."""

    code: int
    errors: str

    @property
    def wrong(self) -> str:
        """Say what no user should see: a traceback, or a failure without a word; nothing where all is well."""
        if "Traceback" in self.errors:
            return f"traceback: {self.errors[-TOLD:]}"
        if self.code and self.code > 0 and not self.errors.strip():
            return f"exit {self.code} without a word"
        return ""


@dataclass(frozen=True)
class House:
    """A folder with everything that a command needs; it can be copied, and what accidents did to it be seen."""

    root: Path

    @property
    def out(self) -> RunFolder:
        """The finished run."""
        return RunFolder(self.root / "out")

    @property
    def environment(self) -> dict[str, str]:
        """A cache of its own, so that nothing outside of the house is used or touched; the encoder is shared."""
        return os.environ | {"HOLOTYPE_CACHE": str(self.root / "cache")}

    def start(
        self, words: Sequence[str], environment: Mapping[str, str] | None = None, memory: int | None = None
    ) -> "subprocess.Popen[str]":
        """Start a command here, in a process group of its own, with no more than `memory` bytes of addresses."""
        limit = [] if memory is None else ["prlimit", f"--as={memory}"]
        return subprocess.Popen(
            [*limit, str(Path(sys.executable).parent / "holotype"), *words],
            cwd=self.root,
            env=self.environment | dict(environment or {}),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            start_new_session=True,
        )

    def do(self, words: Sequence[str], environment: Mapping[str, str] | None = None) -> Ended:
        """Do a command here to its end."""
        return end(self.start(words, environment))

    def copy(self, root: Path) -> "House":
        """Return a copy at `root`, whatever was there."""
        shutil.rmtree(root, ignore_errors=True)
        shutil.copytree(self.root, root, symlinks=True)
        return House(root)

    def answers(self) -> set[tuple[str, str, str]]:
        """The answers that hold: id, class and verdict."""
        if not self.out.answers.exists():
            return set()
        with AnswerLog(self.out.answers) as log:
            return {(one.id, one.label, one.verdict) for one in log.current()}


def end(process: "subprocess.Popen[str]") -> Ended:
    """Wait for a command; one that does not end is ended."""
    try:
        _, errors = process.communicate(timeout=PATIENCE)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        return Ended(process.wait(), f"Traceback of none: it did not end within {PATIENCE} s")
    return Ended(process.returncode, errors)


def build(root: Path) -> House:
    """Make the house at `root`. The run in a copy still has the first house's pool, which nothing writes to."""
    shutil.rmtree(root, ignore_errors=True)
    own_cache(root / "cache")
    _write_network(root / "cells.onnx")
    write_tar(root / "images.tar", {str(number): picture(number) for number in range(IMAGES)})
    _write_rows(root / "test.csv", ["index", *CLASSES], [_truth(IMAGES - 1 - number) for number in range(TESTED)])
    _write_rows(root / "answers.csv", ["id", "class", "answer"], _answers(range(4, 4 + ANSWERED)))
    _write_rows(root / "more.csv", ["id", "class", "answer"], _answers(range(20, 20 + ANSWERED)))
    house = House(root)
    for words in (COMMANDS["run"], COMMANDS["answer"]):
        ended = house.do(words)
        if ended.code:
            raise SystemExit(f"holotype {' '.join(words)}: {ended.errors}")
    return house


def _write_network(path: Path) -> None:
    """Write an encoder: the mean colours of 8 x 8 cells."""
    import onnx
    from onnx import TensorProto, helper

    nodes = [
        helper.make_node("AveragePool", ["image"], ["cells"], kernel_shape=[8, 8], strides=[8, 8]),
        helper.make_node("Flatten", ["cells"], ["flat"], axis=1),
    ]
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, ["n", 3, 64, 64])
    flat = helper.make_tensor_value_info("flat", TensorProto.FLOAT, ["n", 192])
    graph = helper.make_graph(nodes, "cells", [image], [flat])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), path)
    about = {"size": 64, "image_mean": [0.5] * 3, "image_std": [0.5] * 3}
    path.with_suffix(".json").write_text(json.dumps(about), encoding="utf-8")


def _truth(number: int) -> list[str]:
    return [str(number), *(str(int(number % 4 == k)) for k in range(len(CLASSES)))]


def _answers(numbers: Sequence[int]) -> list[list[str]]:
    return [[str(i), name, "yes" if i % 4 == k else "no"] for i in numbers for k, name in enumerate(CLASSES)]


def _write_rows(path: Path, header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([header, *rows])


_ENCODER = ("--encoder", "cells.onnx")  # a small one: the same is written with it as with a large one
_POOL = ("--images", "images.tar", *_ENCODER, *(word for one in EXEMPLARS for word in ("--exemplar", one)))
COMMANDS: Mapping[str, Sequence[str]] = {
    "run": ("run", *_POOL, "--test-set", "test.csv", "--out", "out", "--force"),
    "run, new": ("run", *_POOL, "--out", "new", "--resume"),
    "repeat": ("run", "out"),
    "tune": ("tune", "out", "--trials", "3"),
    "evaluate": ("evaluate", "out", "--test-set", "test.csv"),
    "answer": ("answer", "out", "answers.csv"),
    "answer, more": ("answer", "out", "more.csv"),
    "apply": ("answer", "out", "--apply"),
    "export": ("answer", "out", "--export", "exported.csv"),
    "suggest": ("suggest", "out", "-n", "5"),
    "embed": ("embed", "images.tar", *_ENCODER, "--out", "vectors"),
    "search": ("search", "images.tar", *_ENCODER, "--exemplar", "0", "--sheet", "sheet.png"),
    "predict": ("predict", "out", "images.tar", "--format", "csv", "--out", "predicted.csv"),
}


def faults(house: House, before: House) -> list[str]:
    """Say what is wrong with the house after an accident, for somebody who does nothing but go on."""
    found = [f"answers lost: {sorted(gone)[:3]}" for gone in [before.answers() - house.answers()] if gone]
    ended = house.do(["predict", "out", "images.tar", "--out", "whole.csv"])
    if ended.code:
        found.append(f"predict fails: {ended.errors.strip()[-TOLD:]}")
    return found
