"""The words that describe the classes of a run that is there: added and taken away; they hold when it is done again."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress

from holotype import locks
from holotype.encoders.registry import load_text_encoder
from holotype.encoders.text import TextEncoder
from holotype.errors import ExemplarError, HolotypeError
from holotype.grouping.words import hear
from holotype.model.saved import read_description
from holotype.pool.descriptions import Description, describe, texts_of
from holotype.runs.folder import RunFolder
from holotype.runs.inputs import searched_encoders
from holotype.runs.places import find_inputs
from holotype.settings import Settings

LONGEST_TEXT = 1000  # characters of a description; text towers take fewer

Texts = dict[str, list[str]]  # class -> words that describe it
LoadTower = Callable[[str, str], TextEncoder]


def describe_run(folder: RunFolder, label: str, text: str, load: LoadTower = load_text_encoder) -> Texts:
    """Let `text` describe the class `label` of the run in `folder` too; return the words that describe its classes.

    load   gives the text tower of an encoder, by its name and runtime

    Raises `HolotypeError`, and changes nothing, where there is no such class, the text is empty, too long, or there
    already, and where the vectors that the run searches in are not of an encoder that knows words.
    """
    settings = find_inputs(folder, needed=())
    _with(settings, label, text)
    if len(text) > LONGEST_TEXT:
        raise ExemplarError(f"expected words of at most {LONGEST_TEXT:,} characters, got {len(text):,}")
    for name in searched_encoders(settings):
        if name is None:
            hear([Description(text, 0)], None)  # says why that cannot be
        else:
            load(name, settings.fit.runtime).encode([text])
    return _change(folder, lambda one: _with(one, label, text))


def undescribe_run(folder: RunFolder, label: str, text: str) -> Texts:
    """Let `text` not describe the class `label` any more; return the words that describe the classes of the run.

    Raises `HolotypeError`, and changes nothing, where it does not, and where the class has nothing else that defines
    it.
    """
    return _change(folder, lambda one: _without(one, label, text))


def descriptions_of(settings: Settings, texts: Mapping[str, Sequence[str]] | None = None) -> Texts:
    """Return per class of `settings` the words that describe it, as a run reads them: those given, else its own."""
    classes, found = describe(settings.exemplars, settings.descriptions if texts is None else texts)
    return dict(zip(classes, texts_of(found, len(classes)), strict=True))


def applied_descriptions(folder: RunFolder) -> Texts:
    """Return the words that the results in `folder` rest on, as its model keeps them. Raises `ModelError`."""
    with folder.reading():
        about = read_description(folder.model)
    found = [Description(one.text, one.label) for one in about.descriptions]
    return dict(zip(about.classes, texts_of(found, len(about.classes)), strict=True))


def _change(folder: RunFolder, change: Callable[[Settings], Settings]) -> Texts:
    """Write the settings of the run as `change` leaves them, and those of one that was stopped, where they fit."""
    folder.read_settings()  # where there is no run, no folder is made
    with folder.lock("holotype review (descriptions)"):
        settings = change(folder.read_settings())
        stopped = None
        if folder.settings.exists() and folder.unfinished.exists():
            with suppress(HolotypeError):  # it may be of other classes, or have these words already
                stopped = change(Settings.load(folder.unfinished))
        with locks.changing(folder.path):  # whoever reads them sees that they are as holotype wrote them
            if stopped is not None:
                folder.claim(stopped)
            if folder.settings.exists():
                folder.change_settings(settings)
            else:
                folder.claim(settings)
    return descriptions_of(settings)


def _with(settings: Settings, label: str, text: str) -> Settings:
    texts = _texts(settings, label)
    found = descriptions_of(settings, texts | {label: [*texts[label], text]})[label]  # refuses what is no description
    if len(found) == len(texts[label]) or found[-1].casefold() in (one.casefold() for one in texts[label]):
        raise ExemplarError(f"{label!r} is described by {found[-1]!r} already")
    return _changed(settings, texts | {label: found})


def _without(settings: Settings, label: str, text: str) -> Settings:
    texts = _texts(settings, label)
    own, wanted = texts[label], " ".join(text.split())
    if wanted not in own:
        raise ExemplarError(f"{label!r} is not described by {text!r}")
    if own == [wanted] and not settings.exemplars[label]:
        raise ExemplarError(
            f"these words are all that defines {label!r}: describe it in other words first, and then take these away"
        )
    return _changed(settings, texts | {label: [one for one in own if one != wanted]})


def _texts(settings: Settings, label: str) -> Texts:
    if label not in settings.exemplars:
        raise ExemplarError(f"expected one of the classes {', '.join(settings.exemplars)}, got {label!r}")
    return descriptions_of(settings)


def _changed(settings: Settings, texts: Texts) -> Settings:
    return settings.model_copy(update={"descriptions": {name: own for name, own in texts.items() if own}})
