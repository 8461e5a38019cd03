"""Promises that outlast the model which they were made by: they are about images, and these are known by content."""

import csv
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Self

from holotype.answers.images import RowImages
from holotype.answers.scored import still_holding
from holotype.filestate import regular
from holotype.model.classifier import Classifier
from holotype.model.promises import Promise, certified, read_promises
from holotype.model.saved import DESCRIPTION_FILE, digest_of_model
from holotype.names import command
from holotype.pool.pool import Pool
from holotype.runs.certify import write_promises
from holotype.runs.folder import RunFolder


@dataclass(frozen=True)
class LastingPromises:
    """What was promised of the run in `folder`, read before a new model takes the place of its own.

    chances   the digest of each image that is promised -> the probability that its class had
    """

    folder: RunFolder
    promises: Sequence[Promise]
    chances: Mapping[str, str]

    @classmethod
    def of(cls, folder: RunFolder, images: RowImages | None) -> Self:
        """Read what is promised of a run with these `images`; nothing where that cannot be read."""
        promises, chances = read_promises(folder.model), dict[str, str]()
        with suppress(OSError, KeyError, csv.Error):
            if promises and images is not None:
                digests = dict(zip(images.ids, images.digests, strict=True))
                with regular(folder.certified).open(encoding="utf-8", newline="") as file:
                    chances = {digests[row["id"]]: row["probability"] for row in csv.DictReader(file)}
        return cls(folder, promises, chances)

    def carry(self, renamed: Mapping[str, str], new: RunFolder, classifier: Classifier, pool: Pool) -> Iterator[str]:
        """Write those that hold still into `new`, beside the new model `classifier`; yield which do not, and why.

        One holds where its class is the same, by whatever name, where all images that it is about are in `pool`, and
        where the answers that it rests on are as they were.
        """
        if not self.promises:
            return
        classes, names = classifier.classes_[:-1], Counter(renamed.values())
        digests, kept = pool.digests(), list[Promise]()
        for one in self.promises:
            label = renamed.get(one.label, one.label)
            now = one.model_copy(update={"label": label, "earlier": True})
            if label not in classes or names[label] > 1:
                why = "it is no class of its own any more"
            elif not one.lies_in(digests):
                why = "images that it is about are not there any more"
            elif not still_holding([now], self.folder.read_answers()):
                why = "answers that it rests on were changed, or are gone"
            else:
                kept.append(now)
                yield f"still promised: {now}"
                continue
            again = command("certify", self.folder.path, "--class", label)
            then = f"; {again} says what can be promised now" if label in classes else ""
            yield f"what was promised of {one.label} does not hold any more, as {why}{then}"
        if kept:
            classifier.promises_ = kept
            self._write(new, classifier, pool, digests)

    def _write(self, new: RunFolder, classifier: Classifier, pool: Pool, digests: Sequence[str]) -> None:
        kept, model = classifier.promises_, digest_of_model((new.model / DESCRIPTION_FILE).read_bytes())
        labels = certified(kept, digests)
        rows = [row for row, label in enumerate(labels) if label]
        lines = [(pool.ids[row], labels[row], self.chances.get(digests[row], ""), pool.path(row)) for row in rows]
        write_promises(new, classifier, model, [("id", "class", "probability", "path"), *lines])
