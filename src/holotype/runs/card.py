"""The card of a saved model: what it is, how it was learnt, what it was measured to be worth, and what is promised."""

import json
import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from holotype.encoders.registry import REGISTRY
from holotype.encoders.views import split_views
from holotype.filestate import regular
from holotype.model.classifier import Classifier
from holotype.model.predictions import NONE
from holotype.names import counted, shown

CARD = "README.md"  # beside the files of the model
_MARKUP = re.compile(r"([\\`*_{}\[\]<>()#+!|&~$-])")


def model_card(classifier: Classifier, metrics: Path | dict[str, Any]) -> str:
    """Return the card in Markdown; `metrics` are those of the run, or the file that has them."""
    figures = metrics if isinstance(metrics, dict) else _read(metrics)
    return (
        "\n".join([*_about(classifier), *_learnt(classifier, figures), *_measured(figures), *_promised(classifier)])
        + "\n"
    )


def _read(metrics: Path) -> dict[str, Any]:
    with suppress(OSError, ValueError):
        found = json.loads(regular(metrics).read_text(encoding="utf-8"))
        return found if isinstance(found, dict) else {}
    return {}


def _about(classifier: Classifier) -> Iterator[str]:
    encoder, classes = classifier.encoder_, [_plain(name) for name in classifier.classes_[:-1]]
    views, name = split_views(encoder.name)
    origin = REGISTRY.get(name)
    yield f"# {', '.join(classes)}, or {NONE}"
    yield ""
    yield "A classifier of images, made with holotype: `holotype predict MODEL IMAGES` says which class each shows."
    yield ""
    yield f"- Classes: {', '.join(classes)}, and {NONE} for all else"
    looks = f", {views} views of an image" if views > 1 else ""
    yield f"- Encoder: {_plain(origin.about if origin else name)}{looks}, in {encoder.precision}"
    if origin is not None:
        yield f"- Its weights: {_plain(origin.where)}; their licence is the one given there"
    elif encoder.source is not None:
        made = f"hub, {encoder.source.repository} at {encoder.source.commit}"
        yield f"- Its weights: {_plain(made)}; their licence is the one given there"
    else:
        yield "- Its weights: a file of whoever made this model, who knows their licence"


def _learnt(classifier: Classifier, figures: dict[str, Any]) -> Iterator[str]:
    yield ""
    yield "## How it was learnt"
    yield ""
    answers = (figures.get("answers") or {}).get("applying", 0)
    told = f", and from what people answered about these ({counted(answers, 'answer')})" if answers else ""
    yield f"From what defines each class, and a pool of images without labels{told}."
    yield f"Head: {classifier.head}. Rows that were learnt from:"
    yield ""
    yield from (f"- {_plain(name)}: {count:,}" for name, count in classifier.counts_.items())
    yield ""
    names = classifier.exemplar_names_
    pictures = names[: len(names) - len(classifier.descriptions_)]
    if pictures:
        yield "Exemplars: " + ", ".join(map(_plain, pictures))
    for one in classifier.descriptions_:
        yield f"{_plain(classifier.classes_[one.label])} in words: {_plain(one.text)}"


def _measured(figures: dict[str, Any]) -> Iterator[str]:
    yield ""
    yield "## What it was measured to be worth"
    yield ""
    rows = (figures.get("evaluation") or {}).get("classes") or []
    if not rows:
        yield "No labelled test set was given, so nothing was measured."
        return
    yield "On the test set of its run:"
    yield ""
    yield "| class | precision | recall | F1 |"
    yield "|---|---|---|---|"
    for row in rows:
        cells = [_number(row.get(key)) for key in ("precision", "recall", "f1")]
        yield f"| {_plain(str(row.get('name')))} | {' | '.join(cells)} |"


def _number(value: Any) -> str:
    value = value.get("value") if isinstance(value, dict) else value
    return f"{value:.3f}" if isinstance(value, int | float) else "undefined"


def _promised(classifier: Classifier) -> Iterator[str]:
    yield ""
    yield "## What is promised"
    yield ""
    if not classifier.promises_:
        yield "Nothing: no precision was certified (`holotype certify`)."
        return
    for one in classifier.promises_:
        yield f"- {_plain(str(one))}"
        if one.recall is not None:
            yield f"  {_plain(str(one.recall))}"
    yield ""
    yield "A promise is about the pool that its sample was drawn from, and rests on what was answered about it."
    yield "Of other images it says nothing. It is about this model: one that is trained anew has none."


def _plain(text: str) -> str:
    """Return `text` as Markdown shows it."""
    return _MARKUP.sub(r"\\\1", shown(text).replace("\n", " "))
