"""What is wrong with a setting is said in plain words, with the name that may have been meant."""

import re
from pathlib import Path

import pytest
from conftest import Holotype

from holotype.errors import HolotypeError
from holotype.settings import FitSettings, Settings, as_option

GIVEN = {"images": "pool", "exemplars": {"a": ["0"]}}


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"thresholds": [1.5]}, "--threshold: expected at most 1 or 'auto', got 1.5"),
        ({"thresholds": ["some"]}, "--threshold: expected a number or 'auto', got 'some'"),
        ({"thresholds": []}, "--threshold: expected at least 1 of them, got []"),
        ({"heads": ["tree"]}, "--head: expected 'linear' or 'mlp', got 'tree'"),
        ({"trials": -1}, "--tune: expected at least 0, got -1"),
        ({"fit": {"seed": 1.5}}, "--set seed: expected a whole number, got 1.5"),
        ({"fit": {"seed": "x"}}, "--set seed: expected a whole number, got 'x'"),
        ({"fit": {"validation": 1}}, "--set validation: expected less than 1, got 1"),
        ({"fit": {"rank": 3}}, "--set rank: expected a table of names, got 3"),
        ({"fit": {"rank": {"diffusion": "maybe"}}}, "--set rank.diffusion: expected true or false, got 'maybe'"),
        ({"fit": {"negative": 3}}, "--set negative: there is no such setting; did you mean --set negatives?"),
        ({"fit": {"fit": {"negatives": 3}}}, "--set fit: there is no such setting; did you mean --set negatives?"),
        ({"fit": {"units": 3}}, "--set units: there is no such setting; did you mean --set head_settings.units?"),
        ({"fit": {"head_settings": {"unit": 3}}}, "did you mean --set head_settings.units?"),
        ({"imagse": "x"}, "did you mean --images?"),
        ({"fit": {"near_duplicate": float("nan")}}, "--set near_duplicate: expected at most 1, got nan"),
        ({"fit": {"seed": "x" * 10**6}}, "--set seed: expected a whole number, got 'xxxxxx"),
        ({"fit": {"x" * 10**6: 3}}, "xxxx…: there is no such setting"),
        ({"thresholds": [2] * 3000}, "expected at most 1 or 'auto', got 2"),
        ({"fit": {"zzz": 3}}, "--set zzz: there is no such setting; there are runtime, precision, "),
        ({"exemplars": {"none": ["1"]}}, '"none" is the name of the rejected class; call the class something else'),
        ({"heads": ["tree"], "trials": -1}, "got 'tree'; --tune: expected"),
    ],
    ids=str,
)
def test_a_fault_is_a_plain_sentence(given: dict[str, object], said: str) -> None:
    with pytest.raises(HolotypeError, match=re.escape(said)) as raised:
        Settings.parse(GIVEN | given, as_option)
    assert "\n" not in str(raised.value)
    assert len(str(raised.value)) < 1000
    assert "Input" not in str(raised.value)
    assert "permitted" not in str(raised.value)


def test_a_setting_that_is_missing_is_named() -> None:
    with pytest.raises(HolotypeError, match="--images: it is missing"):
        Settings.parse({"exemplars": {"a": ["0"]}}, as_option)


def test_settings_of_a_file_are_called_as_there() -> None:
    with pytest.raises(HolotypeError, match=r"did you mean head_settings\.units\?"):
        FitSettings.parse({"units": 3})
    with pytest.raises(HolotypeError, match=r"used: thresholds\.0: expected a number or 'auto', got 'abc'$"):
        Settings.parse(GIVEN | {"thresholds": ["abc"]})


@pytest.mark.parametrize("text", ["[" * 5000, "9" * 5000], ids=["deep", "long"])
def test_what_no_reader_of_toml_can_take_is_said(text: str, tmp_path: Path, holotype: Holotype) -> None:
    code, _, told = holotype(
        "run", "--images", "x", "--exemplar", "a=1", "--out", tmp_path / "o", "--set", f"seed={text}"
    )
    assert (code, "this should not have happened" in told) in [(1, False), (2, False)]
    (tmp_path / "holotype.toml").write_text(f"seed = {text}")
    with pytest.raises(HolotypeError, match="is not valid TOML"):
        Settings.load(tmp_path / "holotype.toml")
