"""Where the inputs of a run are: as they were given, moved together with its folder, or where somebody says."""

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from holotype.encoders.registry import load_encoder
from holotype.encoders.views import join_views, split_views
from holotype.errors import AnswersError, EncoderError, HolotypeError
from holotype.evaluation.test_set import read_test_set
from holotype.names import OWN_RUN, command
from holotype.pool.pool import Pool, open_pool
from holotype.pool.sources import is_there
from holotype.progress import Progress
from holotype.runs.folder import RunFolder
from holotype.runs.images import ranked_images
from holotype.runs.inputs import absolute
from holotype.settings import Addition, Settings, as_option
from holotype.stores.copies import here
from holotype.stores.urls import is_url
from holotype.vectors.supplied import import_embeddings

# inputs that lie somewhere, and what each is called
_INPUTS = {
    "images": "the images",
    "embeddings": "the embeddings",
    "embeddings_encoder": "the encoder of the embeddings",
    "test_set": "the test set",
    "encoders": "the encoder",
    "more": "what was added to the images",
}


def find_inputs(folder: RunFolder, *, stopped: bool = False, needed: Iterable[str] = tuple(_INPUTS)) -> Settings:
    """Return the settings of the run in `folder` with its inputs where they are now.

    What is not where it was is looked for where it would be if it had been moved together with the folder. Raises
    `HolotypeError` for one of those `needed` that is in neither place.
    """
    settings = folder.read_settings(stopped=stopped)
    before, now = settings.out, folder.path.absolute()

    def place(path: str) -> str:
        beside = _beside(path, before, now)
        return path if is_there(path) or beside is None or not is_there(beside) else beside

    found = _with_places(settings, place)
    for key, path in _places(found):
        if key in needed and not is_there(path):
            raise HolotypeError(_gone(folder, key, path, _beside(path, before, now), found))
    return found


def _gone(folder: RunFolder, key: str, path: str, beside: str | None, found: Settings) -> str:
    what, option = _INPUTS[key], as_option(key)
    looked = f", nor at {beside}, which lies to the folder as it did" if beside not in (None, path) else ""
    value = getattr(found, key)
    given = value if isinstance(value, list) else [value]  # the option takes all of them
    places = ",".join(_to_give(one) for one in given if isinstance(one, str))
    how = f"with {option}" if key == "images" else f"with {command('run', folder.path, option, places)}"
    if key == "more":
        how = f"in {folder.settings}, under [[more]]; without its part there, the run is one of the other images"
    return f"{what} of the run in {folder.path} cannot be found: nothing is at {path}{looked}; say where it is {how}"


def _to_give(path: str) -> str:
    views, alone = split_views(path)
    return join_views(views, "PATH") if _is_path(path) and not is_there(alone) else path


def _beside(path: str, before: str | None, now: Path) -> str | None:
    """What lies to the folder of the run where it is `now` as `path` did `before`."""
    return None if before is None or is_url(before) else os.path.normpath(now / os.path.relpath(path, before))


def _places(settings: Settings) -> Iterator[tuple[str, str]]:
    for key in _INPUTS:
        given = getattr(settings, key)
        places = given if isinstance(given, list) else [given]
        if key == "more":
            places = [path for one in settings.more for path in (one.images, one.embeddings)]
        for path in places:
            if path is not None and _is_path(path):
                yield key, split_views(path)[1]


def _is_path(text: str) -> bool:
    """Paths in the settings of a run are absolute; encoders may have names."""
    return Path(split_views(text)[1]).is_absolute()


def _with_places(settings: Settings, place: Callable[[str], str]) -> Settings:
    def moved(given: Any) -> Any:
        if isinstance(given, list):
            return [moved(one) for one in given]
        if isinstance(given, Addition):
            return Addition(images=moved(given.images), embeddings=moved(given.embeddings))
        if given is None or not _is_path(given):
            return given
        views, path = split_views(given)
        return join_views(views, place(path))

    return settings.model_copy(update={key: moved(getattr(settings, key)) for key in _INPUTS})


def repoint(out: Path, given: Mapping[str, Any], progress: Progress | None = None) -> None:
    """Note in the run in `out` where its inputs are now: the `given` ones, by the names of their settings.

    Raises `HolotypeError` where other things are there than the run was done with.
    """
    places = {key: value for key, value in given.items() if value}
    if not places:
        return
    folder = RunFolder(out)
    before = folder.read_settings()
    found = absolute(before.model_copy(update=places))
    with folder.lock("holotype"):
        there = "images" in places or all(map(is_there, found.sources))  # what was given and is not there is said
        truncated = found.allow_truncated
        pool = open_pool(found.sources, allow_truncated=truncated, progress=progress) if there else None
        _check(folder, found, places, pool)
        for path in (folder.settings, folder.unfinished):
            if path.exists():
                known = Settings.load(path)  # of a run that was stopped what is elsewhere stays
                noted = {key: getattr(found, key) for key in places if getattr(known, key) == getattr(before, key)}
                moved = known.model_copy(update=noted)
                if path == folder.settings:
                    folder.change_settings(moved)
                else:
                    folder.claim(moved)


def _check(folder: RunFolder, found: Settings, places: Mapping[str, Any], pool: Pool | None) -> None:
    if pool is not None and "images" in places:
        _check_images(folder, pool)
    if pool is not None and "test_set" in places and found.test_set:
        read_test_set(here(found.test_set), list(found.exemplars), pool)
    if pool is not None and "embeddings" in places and found.embeddings:
        import_embeddings([here(one) for one in found.supplied], pool)
    if "encoders" in places and folder.model.exists():
        _check_encoders(folder, found)


def _check_images(folder: RunFolder, pool: Pool) -> None:
    """Refuse images of which most were not in the run, or only a few of those that were: that would be another run."""
    if not folder.baseline.exists():
        return
    baseline, pool = folder.load_baseline(), ranked_images(folder, pool)
    known, before = len(pool) - baseline.following(pool).unknown, len(baseline.vectors)
    if known * 2 < len(pool):
        raise AnswersError(
            f"only {known:,} of the {len(pool):,} images of {pool.source} were in the run in {folder.path}: for other "
            f"images do a run of their own ({OWN_RUN})"
        )
    if known * 2 < before:
        raise AnswersError(
            f"only {known:,} of the {before:,} images of the run in {folder.path} are in {pool.source}: give the place "
            f"of all of them; for fewer do a run of their own ({OWN_RUN})"
        )


def _check_encoders(folder: RunFolder, found: Settings) -> None:
    made = folder.load_model().encoder_
    given = [load_encoder(name, found.fit.runtime) for name in found.encoders]
    if made.precision == "f32" and made.fingerprint not in [one.fingerprint for one in given]:
        raise EncoderError(
            f"the run in {folder.path} was done with another encoder than {', '.join(found.encoders)}: for that one do "
            f"a run of its own ({OWN_RUN})"
        )
