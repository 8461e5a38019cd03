"""Promises of the reliability plot: it shows what was measured, and one command draws it again."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from benchmarks.reliability import draw, main
from holotype.errors import HolotypeError

OURS = {"f1": 0.5, "calibration error": 0.1, "reliability": [[0.05, 0.1, 1000], [0.75, 0.5, 4]]}


def measured(rivals: dict[str, Any], pool: str = "small, an_encoder") -> dict[str, Any]:
    return {"pool": pool, "at": {"twos, 30": {"ours, the saved model": OURS, **rivals}}}


def test_one_command_draws_a_picture(tmp_path: Path) -> None:
    given, out = tmp_path / "measured.json", tmp_path / "drawn.png"
    given.write_text(json.dumps([measured({}), measured({}, "another, an_encoder")]))
    assert main([str(given), "--out", str(out)]) == 0
    pixels = np.asarray(Image.open(out).convert("RGB"))
    assert (pixels != 255).any()
    assert out.stat().st_size < 150_000


def test_a_dot_is_a_tenth_with_its_interval() -> None:
    blue = draw([measured({})]).axes[2]  # without answers, after 10, after 30
    dots = [np.asarray(one.get_offsets())[0].tolist() for one in blue.collections]
    assert dots == [[0.05, 0.1], [0.75, 0.5]]
    assert blue.get_title() == "ours\n30 answers, error 0.100"
    diagonal, many, few = (np.asarray(one.get_ydata()) for one in blue.lines)
    assert diagonal.tolist() == [0, 1]
    assert few == pytest.approx([0.1500, 0.8500], abs=1e-4)  # Wilson's for 2 of 4
    assert np.ptp(many) < 0.04


def test_the_better_rival_is_shown_and_what_stated_nothing_is_empty() -> None:
    rivals = {f"balanced logistic, C = {c}": OURS | {"f1": f1} for c, f1 in ((1, 0.2), (10, 0.3))}
    none, *_, rival = draw([measured(rivals)]).axes
    assert rival.get_title().startswith("balanced logistic, C = 10\n")
    assert none.get_title() == "ours\nno answers, nothing stated"
    assert not none.collections


def test_figures_without_probabilities_are_refused() -> None:
    with pytest.raises(HolotypeError, match="expected reliability figures"):
        draw([{"pool": "small", "at": {"twos, 0": {"Rocchio": {"f1": 0.1}}}}])
