"""The models that are served, by name, and a newer one in the place of each."""

import logging
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from threading import Event, Thread
from typing import Generic, TypeVar

import numpy as np

from holotype.encoders.runtimes import Encoder
from holotype.errors import HolotypeError, ModelError
from holotype.filestate import FileState
from holotype.model.classifier import MODEL, Classifier
from holotype.model.promises import PROMISES_FILE
from holotype.model.saved import DESCRIPTION_FILE, SAVED, digest_of_model
from holotype.names import without_folders
from holotype.runs.commands import load_classifier
from holotype.stores.copies import here

EVERY = 2.0  # seconds between two looks at the files of the models
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")  # as it stands in an address
_log = logging.getLogger(__name__)

_Kept = TypeVar("_Kept")
State = Mapping[str, FileState]  # of the files of a model


@dataclass(frozen=True, eq=False)
class ServedModel:
    """A model under a name.

    version   by the content of its files
    loaded    when it was read; `state`: what its files were then
    fault     why what its files are now was refused; nothing where they are served
    """

    name: str
    path: Path
    classifier: Classifier
    version: str
    state: State
    loaded: datetime = field(default_factory=lambda: datetime.now(UTC))
    fault: str = ""

    @property
    def encoder(self) -> Encoder:
        """What its images are encoded with; models that have the same one share it."""
        return self.classifier.encoder_

    @property
    def classes(self) -> list[str]:
        """The classes without "none"."""
        return self.classifier.classes_[:-1]


class ServedModels:
    """Models by name. What is trained anew takes the place of the old one, whole, while that still answers.

    Raises `ModelError` where one cannot be loaded, or two have one name.
    """

    def __init__(self, given: Sequence[str]) -> None:
        self._models: dict[str, ServedModel] = {}
        self._ended = Event()
        self._watching = Thread(target=self._watch, name="models", daemon=True)
        for name, path in named(given).items():
            self._models[name] = self._shared(_load(name, path))

    def __iter__(self) -> Iterator[ServedModel]:
        return iter(list(self._models.values()))

    def get(self, name: str) -> ServedModel | None:
        """Return the model of that name as it is now."""
        return self._models.get(name)

    @property
    def first(self) -> ServedModel:
        """The model that was named first."""
        return next(iter(self))

    def start(self) -> None:
        """Begin to look for newer ones."""
        self._watching.start()

    def stop(self) -> None:
        """End that."""
        self._ended.set()
        if self._watching.is_alive():
            self._watching.join()

    def _watch(self) -> None:
        while not self._ended.wait(EVERY):
            self.refresh()

    def refresh(self) -> None:
        """Take each model whose files are others than when it was read; one that is refused leaves the old one."""
        for model in self:
            state = _state(model.path)  # before it is read: what is whole a moment later is another one
            if state == model.state:
                continue
            try:
                newer = self._shared(_load(model.name, model.path))
                _log.info("model reloaded", extra={"model": model.name, "version": newer.version})
            except Exception as error:
                # what is said of a file that is being copied is said again when it has changed
                why = str(error) if isinstance(error, HolotypeError) else f"{type(error).__name__}: {error}"
                _log.warning("model refused", extra={"model": model.name, "why": why})
                newer = replace(model, state=state, fault=why)
            self._models[model.name] = newer

    def _shared(self, model: ServedModel) -> ServedModel:
        """Return `model` with the encoder of another one, where it is the same: one network, and one batch for both."""
        for other in self:
            ours, theirs = model.encoder, other.encoder
            if (ours.fingerprint, ours.runtime) == (theirs.fingerprint, theirs.runtime):
                model.classifier.encoder_ = theirs
        return model


class OfVersion(Generic[_Kept]):
    """What `make` makes of a model, once, and anew when another version of it is asked about."""

    def __init__(self, make: Callable[[ServedModel], _Kept]) -> None:
        self._make = make
        self._known: dict[str, tuple[str, _Kept]] = {}

    def of(self, model: ServedModel) -> _Kept:
        """Return what was made of this version."""
        known = self._known.get(model.name)
        if known is None or known[0] != model.version:
            known = self._known[model.name] = model.version, self._make(model)
        return known[1]


def named(given: Sequence[str]) -> dict[str, Path]:
    """Return the folder of each model by its name: `NAME=PATH`, or a path whose last part is the name.

    Raises `ModelError` for a name that cannot stand in an address, or that two have.
    """
    found: dict[str, Path] = {}
    for one in given:
        name, equals, where = one.partition("=")
        if not equals or Path(one).exists():
            path = here(one).absolute()
            name, where = path.parent.name if path.name == MODEL else path.name, one
        if not _NAME.fullmatch(name):
            if Path(name).exists() and not Path(where).exists():
                raise ModelError(f"expected NAME=MODEL, got {one}: the name comes first, as in {where}={name}")
            raise ModelError(
                f"expected letters, digits, dots, dashes and underscores as the name of {where}, got {name!r}; "
                f"give it one, as in pets={where}"
            )
        if name in found:
            raise ModelError(f"two models would be called {name}: give one another name, as in {name}-2={where}")
        found[name] = here(where)
    return found


def _folder(path: Path) -> Path:
    inside = path / MODEL
    return inside if (inside / DESCRIPTION_FILE).exists() else path


def _state(path: Path) -> State:
    folder, found = _folder(path), dict[str, FileState]()
    for name in (*SAVED, PROMISES_FILE):
        try:
            found[name] = FileState.of((folder / name).stat())
        except OSError:
            continue
    return found


def _load(name: str, path: Path) -> ServedModel:
    """Load a model. One whose files change meanwhile is loaded with its next change. Raises `ModelError`."""
    state = _state(path)
    classifier = load_classifier(path)
    classifier.exemplar_names_ = without_folders(classifier.exemplar_names_)
    blank = np.zeros((1, *classifier.encoder_.size, 3), np.uint8)
    classifier.encoder_.encode(blank, busy=True)  # its network for many images is opened now, and not by a request
    if _state(path) != state:
        state = {}
    return ServedModel(name, path, classifier, _version(path), state)


def _version(path: Path) -> str:
    try:
        return digest_of_model((_folder(path) / DESCRIPTION_FILE).read_bytes())[:12]
    except OSError as error:
        raise ModelError(f"{path} cannot be read: {error.strerror or error}") from None
