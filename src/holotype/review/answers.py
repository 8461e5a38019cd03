"""The answers of a run under review: which of them apply, whom they make exemplars, and how they travel as files."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

from holotype import files
from holotype.answers.exchange import read_answers
from holotype.answers.forms import write_csv
from holotype.answers.index import MatchedAnswers, current_exemplars, match_answers
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
        self._read: tuple[int, AnswerRules, MatchedAnswers] | None = None
        self.follow(rules)

    def follow(self, rules: AnswerRules) -> None:
        """Keep to `rules` from now on: a run that is done again may have another test set."""
        self.rules = self.log.rules = rules

    def matched(self) -> MatchedAnswers:
        """Return the answers that hold and apply, read again only when there are new ones or other rules."""
        version, rules, read = self.log.version, self.rules, self._read
        if read is None or read[0] != version or read[1] is not rules:
            found = match_answers(self.log.current(), rules.classes, rules.pool, rules.held_out)
            self._read = read = version, rules, found
        return read[2]

    def current(self) -> Sequence[Answer]:
        """Return those that apply."""
        return self.matched().answers

    def exemplars(self, current: Sequence[Answer] | None = None) -> list[Exemplar]:
        """Return the exemplars that stand by the answers so far, or by `current`."""
        answers = self.current() if current is None else current
        return current_exemplars(self.rules.given, answers, self.rules.classes, self.rules.pool)

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
