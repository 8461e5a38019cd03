"""What is said while work goes on: of a pool, and of what people answered about it."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from holotype.errors import HolotypeError
from holotype.filestate import regular
from holotype.model.crossfit import Answered
from holotype.names import command, counted
from holotype.pool.descriptions import Description, texts_of
from holotype.pool.exemplars import Exemplar, names_of
from holotype.pool.pool import Pool
from holotype.progress import Progress
from holotype.vectors.embeddings import Embeddings

_NAMED = 5  # exemplars of a class


def say_exemplars(
    exemplars: Sequence[Exemplar], descriptions: Sequence[Description], classes: Sequence[str], progress: Progress
) -> None:
    """Say what each class was given by: images of the pool, files that are not in it, and words."""
    for name, texts in zip(classes, texts_of(descriptions, len(classes)), strict=True):
        for text in texts[:_NAMED]:
            progress.say(f'words for {name}: "{text}"')
    for name, codes in zip(classes, names_of(exemplars, len(classes)), strict=True):
        if not codes:
            continue
        outside = {one.name for one in exemplars if one.row is None}
        named = [f"{code} (not in the pool)" if code in outside else code for code in codes[:_NAMED]]
        more = f", and {len(codes) - _NAMED:,} more" if len(codes) > _NAMED else ""
        progress.say(f"exemplar of {name}: {', '.join(named)}{more}")


def say_left_out(pool: Pool, progress: Progress) -> None:
    """Say what is odd about the source, and what of it is no image."""
    for note in pool.notes:
        progress.say(f"note: {note}")
    if left := pool.left_out():
        progress.say(f"left out of {pool.source}, as no images: {left}")


def say_unreadable(pool: Pool, unreadable: Mapping[str, str], progress: Progress) -> None:
    """Say how many images cannot be read, and why most cannot. Raises `HolotypeError` where none can."""
    if not unreadable:
        return
    why, count = Counter(unreadable.values()).most_common(1)[0]
    name = next(name for name, reason in unreadable.items() if reason == why)
    example = f"{count:,} of them: {why}" if count > 1 else f"{name}: {why}"
    if len(unreadable) == len(pool):
        raise HolotypeError(
            f"none of the {len(pool):,} images of {pool.source} can be read; {example}. Give images that other "
            "programs show, or copy these again"
        )
    progress.say(f"unreadable: {len(unreadable):,} of {len(pool):,} images; {example}")


def said_of_answered(one: Answered) -> str:
    """Say how the answered images of a class are predicted by what was learnt without them."""
    return f"{one.found} of {one.shown} found, {one.taken - one.found} others taken for it"


def say_answered(metrics: Path, progress: Progress) -> None:
    """Say the same of each class that people answered about, as the run noted it in `metrics`."""
    with suppress(OSError, ValueError, TypeError, AttributeError):  # of an earlier version, or not there
        found = [
            Answered(**one) for one in json.loads(regular(metrics).read_text(encoding="utf-8")).get("answered", [])
        ]
        for one in found:
            if one.shown or one.taken:
                progress.say(f"answered images of {one.name}, each held out: {said_of_answered(one)}")


def say_missing(supplied: Embeddings, vectors: Path | str | None, images: str, progress: Progress) -> None:
    """Say how many images the `vectors` that somebody gave have nothing of, and what computes it."""
    if missing := supplied.size - len(supplied.rows) - len(supplied.unreadable):
        progress.say(
            f"embeddings: without a vector in {vectors}, and left out: {counted(missing, 'image')}; "
            f"{command('embed', images, '--out', vectors, '--encoder', supplied.encoder)} computes what is missing; "
            "then give the same command again, of a run that is done holotype update"
        )
