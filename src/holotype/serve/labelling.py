"""The labelling configuration of a project in Label Studio: which control of it names the classes of a model."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from xml.etree import ElementTree

from fastapi import HTTPException

from holotype.answers.label_studio import CHOICE, labelling_config
from holotype.model.predictions import NONE

_LONGEST = 1 << 20  # characters of a configuration
_DECLARED = re.compile(r"<!(?!--|\[CDATA\[)")  # of a document type, and with it of entities


@dataclass(frozen=True)
class Labelling:
    """Where a project wants its labels.

    control   the name of the choices; `image`: that of the image that they are about
    key       what the data of a task has the image under
    none      whether "none" is one of the choices
    """

    control: str
    image: str
    key: str
    none: bool

    def result(self, label: str) -> list[dict[str, object]]:
        """Return the result of a task whose image shows `label`; an empty one where no choice says so."""
        if label == NONE and not self.none:
            return []
        value = {"choices": [label]}
        return [{"from_name": self.control, "to_name": self.image, "type": "choices", "value": value}]


@lru_cache(16)
def read_labelling(config: str, classes: tuple[str, ...]) -> Labelling:
    """Return the control of `config` whose choices cover `classes`: of several the one called "class", else the first.

    Raises `HTTPException`, 422, where there is none; it says which configuration has one.
    """
    found = list(_fitting(_parsed(config), classes))
    if not found:
        _refuse(f"choices of an image, one for each of {', '.join(classes)}", classes)
    return next((one for one in found if one.control == CHOICE), found[0])


def _refuse(expected: str, classes: Sequence[str]) -> None:
    raise HTTPException(
        422,
        f"the labelling configuration does not fit the model: expected {expected}. This one does:\n"
        f"{labelling_config(classes)}",
    )


def _parsed(config: str) -> list[ElementTree.Element]:
    if len(config) > _LONGEST or _DECLARED.search(config):
        raise HTTPException(422, "expected a labelling configuration without a document type, of at most 1 MB")
    try:
        return list(ElementTree.fromstring(config).iter())  # noqa: S314 - nothing is declared in it
    except ElementTree.ParseError as error:
        raise HTTPException(422, f"the labelling configuration is not XML: {error}") from None


def _fitting(elements: Sequence[ElementTree.Element], classes: Sequence[str]) -> Iterator[Labelling]:
    images = {
        one.get("name"): value[1:]
        for one in elements
        if one.tag.lower() == "image" and (value := one.get("value", "")).startswith("$")
    }
    for one in elements:
        name, image = one.get("name"), one.get("toName")
        if one.tag.lower() != "choices" or not name or image not in images:
            continue
        # an alias takes the place of the value in what Label Studio keeps
        choices = {choice.get("alias") or choice.get("value") for choice in _choices(one)}
        if {*classes} <= choices:
            yield Labelling(name, str(image), images[image], NONE in choices)


def _choices(control: ElementTree.Element) -> Iterator[ElementTree.Element]:
    """Yield the choices of a control, at any depth; what lies in another control is that one's."""
    waiting = [*control]
    while waiting:
        one = waiting.pop()
        if one.tag.lower() == "choice":
            yield one
        if one.tag.lower() != "choices":
            waiting += one
