"""The card of a saved model: what it is, how it was learnt, what it was measured to be worth, and what is promised.

On the model hub it says more: how the model is used there, what it was made from, and where it ends.
"""

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

from holotype.encoders.registry import REGISTRY
from holotype.encoders.views import split_views
from holotype.filestate import regular
from holotype.model.classifier import Classifier
from holotype.model.predictions import NONE
from holotype.names import counted, shown

CARD = "README.md"  # beside the files of the model
_MARKUP = re.compile(r"([\\`*_{}\[\]<>()#+!|&~$-])")


TASK, LIBRARY = "image-classification", "holotype"  # what the hub calls them
_TAGS = ("onnx", "few-shot", "open-set")
_OTHER_LICENCE = "other"  # in the hub's list: one that is not in it


@dataclass(frozen=True)
class Publication:
    """What the card of a model on the hub says besides.

    network    the ONNX file that does all of it
    images     in the pool; `found`: of each class
    licence    of the model, by its name in the hub's list; "": nobody said
    pictures   what an exemplar is called -> where its picture lies beside the card
    """

    network: str
    images: int
    found: Mapping[str, int]
    licence: str = ""
    pictures: Mapping[str, str] = field(default_factory=dict)


def model_card(classifier: Classifier, metrics: Path | dict[str, Any], publication: Publication | None = None) -> str:
    """Return the card in Markdown; `metrics` are those of the run, or the file that has them."""
    figures = metrics if isinstance(metrics, dict) else _read(metrics)
    lines = [*_about(classifier), *(_used(publication) if publication else ())]
    lines += [*_learnt(classifier, figures, publication), *_measured(figures), *_promised(classifier)]
    before = [*_front_matter(classifier, publication)] if publication else []
    return "\n".join([*before, *lines, *(_limits() if publication else ())]) + "\n"


def _front_matter(classifier: Classifier, publication: Publication) -> Iterator[str]:
    """What the hub reads: YAML, of which JSON is a part."""
    origin = REGISTRY.get(split_views(classifier.encoder_.name)[1])
    source = classifier.encoder_.source
    base = source.repository if source else origin.repository if origin else ""
    values: dict[str, Any] = {"license": (publication.licence or _OTHER_LICENCE).lower()}
    values |= {} if publication.licence else {"license_name": "not-stated"}
    values |= {"library_name": LIBRARY, "pipeline_tag": TASK, "tags": [LIBRARY, TASK, *_TAGS]}
    values |= {"base_model": base} if base else {}
    yield "---"
    yield from (f"{name}: {json.dumps(value)}" for name, value in values.items())
    yield "---"
    yield ""


def _used(publication: Publication) -> Iterator[str]:
    yield ""
    yield "## How it is used"
    yield ""
    yield "    from holotype import Classifier"
    yield ""
    yield '    classifier = Classifier.load("OWNER/NAME", revision="COMMIT")  # this repository, and its commit'
    yield '    classifier.predict("picture.jpg")'
    yield ""
    yield f"`{publication.network}` does the same with ONNX Runtime alone: it takes pixels, and gives label,"
    yield "probabilities and vector. Its metadata have the classes, the thresholds, and how an image becomes pixels."


def _limits() -> Iterator[str]:
    yield ""
    yield "## Where it ends"
    yield ""
    yield f"It knows the classes that it names. All else is to be {NONE}; how often it is so outside of the pool above,"
    yield "nobody measured, unless it is said here. Probabilities are for images among which the classes are as rare as"
    yield "in that pool. A threshold that no person checked is provisional. Do not let it decide about people."


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
        stated = (
            f"; their licence: {_plain(origin.licence)}" if origin.licence else "; their licence is the one given there"
        )
        yield f"- Its weights: {_plain(origin.where)}{stated}"
    elif encoder.source is not None:
        made = f"hub, {encoder.source.repository} at {encoder.source.commit}"
        yield f"- Its weights: {_plain(made)}; their licence is the one given there"
    else:
        yield "- Its weights: a file of whoever made this model, who knows their licence"


def _learnt(classifier: Classifier, figures: dict[str, Any], publication: Publication | None) -> Iterator[str]:
    yield ""
    yield "## How it was learnt"
    yield ""
    answers = (figures.get("answers") or {}).get("applying", 0)
    told = f", and from what people answered about these ({counted(answers, 'answer')})" if answers else ""
    yield f"From what defines each class, and a pool of images without labels{told}."
    if publication:
        found = ", ".join(f"{_plain(name)} {count:,}" for name, count in publication.found.items())
        yield f"The pool had {counted(publication.images, 'image')}. In it were found: {found}."
    yield f"Head: {classifier.head}. Rows that were learnt from:"
    yield ""
    yield from (f"- {_plain(name)}: {count:,}" for name, count in classifier.counts_.items())
    yield ""
    names = classifier.exemplar_names_
    pictures = names[: len(names) - len(classifier.descriptions_)]
    if pictures:  # where they lay on somebody's disk is nobody's business on the hub
        yield "Exemplars: " + ", ".join(_plain(one.rpartition("/")[2] if publication else one) for one in pictures)
    for one in classifier.descriptions_:
        yield f"{_plain(classifier.classes_[one.label])} in words: {_plain(one.text)}"
    for name, place in (publication.pictures if publication else {}).items():
        yield ""
        yield f"![{_plain(name)}]({quote(place)})"


def _measured(figures: dict[str, Any]) -> Iterator[str]:
    yield ""
    yield "## What it was measured to be worth"
    yield ""
    evaluation = figures.get("evaluation") or {}
    rows = evaluation.get("classes") or []
    if not rows:
        yield "No labelled test set was given, so nothing was measured."
        return
    rows_of_test = counted(evaluation.get("rows", 0), "image")
    yield f"On the test set of its run, {rows_of_test} that nothing was learnt from. Intervals of 95 % stand where a"
    yield "class has enough of them:"
    yield ""
    yield "| class | images | precision | recall | F1 | AUC |"
    yield "|---|---|---|---|---|---|"
    for row in rows:
        cells = [_number(row, key) for key in ("precision", "recall", "f1", "roc_auc")]
        yield f"| {_plain(str(row.get('name')))} | {row.get('support', 0)} | {' | '.join(cells)} |"


def _number(row: Mapping[str, Any], key: str) -> str:
    value, interval = row.get(key), row.get(f"{key}_interval")
    if not isinstance(value, int | float):
        return "undefined"
    return f"{value:.3f} ({interval[0]:.2f} to {interval[1]:.2f})" if isinstance(interval, list) else f"{value:.3f}"


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
