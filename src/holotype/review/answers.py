"""The answers of a run under review: which of them apply, whom they make exemplars, and how they travel as files."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from threading import Lock
from typing import Literal

from holotype import files
from holotype.answers.exchange import read_answers
from holotype.answers.followed import FollowedAnswers
from holotype.answers.forms import write_csv
from holotype.answers.index import MatchedAnswers, current_exemplars
from holotype.answers.label_studio import label_studio_tasks
from holotype.answers.log import AnswerLog
from holotype.answers.records import Answer, Imported
from holotype.answers.rules import AnswerRules
from holotype.pool.exemplars import Exemplar

AnswerLayout = Literal["csv", "tasks"]


class ReviewAnswers:
    """What is in `log`, as `rules` have it; several threads may use one."""

    def __init__(self, log: AnswerLog, rules: AnswerRules) -> None:
        self.log = log
        self._turn = Lock()
        self.follow(rules)

    def follow(self, rules: AnswerRules) -> None:
        """Keep to `rules` from now on: a run that is done again may have another test set."""
        with self._turn:
            self.rules = self.log.rules = rules
            self._followed = FollowedAnswers(rules.classes, rules.pool, rules.held_out)
            self._matched = self._followed.follow([])
            self._exemplars: tuple[AnswerRules, Sequence[Answer], list[Exemplar]] | None = None

    def matched(self) -> MatchedAnswers:
        """Return the answers that hold and apply; only what was recorded since the last time is read."""
        with self._turn:
            new, drawn = self.log.since(self._followed.seen), self.log.drawn_since(self._followed.seen_drawn)
            if new or drawn:
                self._matched = self._followed.follow(new, drawn)
            return self._matched

    @property
    def undone(self) -> int:
        """The number of the last record that took something back, as far as was read."""
        return self._followed.undone

    def current(self) -> Sequence[Answer]:
        """Return those that apply."""
        return self.matched().answers

    def exemplars(self, current: Sequence[Answer] | None = None) -> list[Exemplar]:
        """Return the exemplars that stand by the answers so far, or by `current`."""
        rules, known = self.rules, self._exemplars
        about = [one for one in (self.current() if current is None else current) if one.prototype]
        if known is None or known[0] is not rules or known[1] != about:
            found = current_exemplars(rules.given, about, rules.classes, rules.pool, rules.described)
            self._exemplars = known = rules, about, found
        return known[2]

    def load(self, path: Path, who: str) -> Imported:
        """Take the answers of a file; those without a name are of `who`."""
        new = read_answers(path, self.rules.classes)
        return self.log.take([one if one.who else replace(one, who=who) for one in new])

    def export(self, path: Path) -> None:
        """Write all that hold to `path`: a CSV, or the tasks of Label Studio (.json)."""
        files.write(path, self.written("tasks" if path.suffix.lower() == ".json" else "csv"))

    def written(self, layout: AnswerLayout) -> str:
        """Return all that hold as a CSV, or as the tasks of Label Studio; images by the ids that they have now."""
        current = [replace(one, id=self.rules.current_id(one.id, one.digest)) for one in self.log.current()]
        if layout == "csv":
            return write_csv(current)
        return json.dumps(label_studio_tasks(current, self.rules.classes), indent=1)
