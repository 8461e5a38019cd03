"""The main job: the stages in order, for every combination that is asked for; the best is kept."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from holotype.answers.baseline import make_baseline
from holotype.answers.index import MatchedAnswers, match_answers
from holotype.errors import GroupError
from holotype.files import write
from holotype.grouping.assign import loose_classes, poor_vectors
from holotype.grouping.groups import Groups
from holotype.grouping.search import Search, search
from holotype.grouping.ways import ClassWays, compare_ways
from holotype.model.classifier import Classifier
from holotype.model.duplicates import near_rows
from holotype.model.promises import read_promises
from holotype.model.rows import agreed, plan
from holotype.model.splits import ALWAYS, Split
from holotype.model.tuning import tune
from holotype.names import command, counted
from holotype.pool.exemplars import Exemplar
from holotype.pool.kept import keep_pool
from holotype.pool.pool import Pool, digest_of
from holotype.progress import Progress, Silent, in_steps
from holotype.runs.comparison import SearchComparison, compare_searches
from holotype.runs.folder import RunFolder
from holotype.runs.groupings import Grouping, Key, group_each, open_stores, search_in, search_sources
from holotype.runs.images import exemplars_of_run
from holotype.runs.inputs import RunInputs, open_inputs
from holotype.runs.judgement import agreement_with_groups, judge, uncounted_rows
from holotype.runs.narrowing import narrowed
from holotype.runs.places import find_inputs
from holotype.runs.remarks import say_exemplars, say_left_out, say_unreadable
from holotype.runs.report.content import report_content
from holotype.runs.report.page import write_report
from holotype.runs.results import Candidate, RunResult, write_tables
from holotype.runs.state import RunState, take_back_unfinished
from holotype.settings import HeadName, HeadSettings, Settings
from holotype.stores.copies import address
from holotype.vectors.embeddings import Embeddings
from holotype.vectors.store import EmbeddingStore

_TOLD = 20  # classes up to which each one's exemplars are named


def run(
    settings: Settings,
    out: Path,
    *,
    force: bool = False,
    resume: bool = False,
    answers_of: Path | None = None,
    progress: Progress | None = None,
    called: Callable[[str], str] = str,
) -> RunResult:
    """Do the whole job of `settings` and write the report, the model and the predictions to `out`.

    Every combination of thresholds, heads and encoders is trained on the same rows; the best is chosen, and tuned
    if asked. The answers of another run, `answers_of`, are taken over where there are none in `out`. Raises
    `HolotypeError` with what was expected, what came and what to do, each setting as it is `called` where it was given;
    `OutputError` where another process writes into `out`.
    """
    inputs, folder = open_inputs(settings, progress=progress), RunFolder(out)
    folder.check(inputs.settings, force=force, resume=resume, called=called)
    with folder.lock("holotype run"):
        folder.check(inputs.settings, force=force, resume=resume, called=called)  # another run may have just finished
        if answers_of is not None and (copied := folder.copy_answers(RunFolder(answers_of))):
            (progress or Silent()).say(copied)
        return _do_anew(inputs, folder, progress or Silent())


def repeat(
    out: Path,
    change: Callable[[Settings], Settings] = lambda settings: settings,
    *,
    doing: str = "holotype run",
    stopped: bool = False,
    progress: Progress | None = None,
) -> RunResult:
    """Do the run in `out` again, with its settings as `change` leaves them.

    They are read when nobody else writes there any more, so that no run that was done meanwhile is undone.

    doing     who holds the folder, for others to read
    stopped   with the settings of a run that was stopped before it replaced the finished one, where there is one
    """
    folder = RunFolder(out)
    folder.read_settings(stopped=stopped)  # where there is no run, no folder is made
    with folder.lock(doing):
        settings, progress = change(find_inputs(folder, stopped=stopped)), progress or Silent()

        def known(pool: Pool) -> list[Exemplar]:
            return known_exemplars(exemplars_of_run(folder, settings, pool, stopped=stopped), pool, progress)

        inputs = open_inputs(settings, known, progress)
        return _do_anew(inputs, folder, progress)


def known_exemplars(exemplars: Sequence[Exemplar], pool: Pool, progress: Progress) -> list[Exemplar]:
    """Return `exemplars`, with the pictures that an earlier run kept of them, as they are now."""
    return list(_as_they_are(exemplars, pool, progress))


def _as_they_are(exemplars: Sequence[Exemplar], pool: Pool, progress: Progress) -> Iterator[Exemplar]:
    """Yield exemplars of an earlier run as they are now; of one that is not there any more the picture was kept."""
    for one in exemplars:
        if one.row is not None:
            yield one
            continue
        path, row = Path(one.name), pool.find(one.name, longer=False)
        if row is not None and pool.digest(row) == digest_of(one.data):  # it was gone for a while
            yield replace(one, name=pool.ids[row], row=row)
        elif not path.is_file():
            progress.say(f"exemplar {one.name} is not there any more: the picture that the run kept of it is used")
            yield one
        elif (data := path.read_bytes()) != one.data:
            progress.say(f"exemplar {one.name} is another picture than in the run before: it is used as it is now")
            yield replace(one, data=data)
        else:
            yield one


def do_run(
    inputs: RunInputs,
    folder: RunFolder,
    progress: Progress,
    add: Callable[[RunFolder, Classifier, Pool], None] | None = None,
) -> RunResult:
    """Do the stages, and let what they lead to take the place of what was in `folder`, of which the lock is held.

    add   writes what else belongs to the new results, given their folder, the model, and the images that are ranked
    """
    take_back_unfinished(folder, inputs.classes)
    settings = inputs.settings.model_copy(update={"out": address(folder.path)})
    state = RunState.of(folder, settings, inputs.pool)
    folder.claim(settings)
    progress.say(f"pool: {counted(len(inputs.pool), 'image')} in {inputs.pool.source}")
    inputs = narrowed(inputs, folder, progress)
    result = _sweep(inputs, folder, progress)
    if inputs.unchanged is not None:
        inputs.unchanged.check()
    with folder.replacing() as new, in_steps(progress, "write the results"):
        write_tables(new, inputs.pool, result)
        if (whole := inputs.whole) is not None:
            keep_pool(inputs.pool, whole.drawn, new.pool)
            if whole.others is not None:
                whole.others.write(new.others, inputs.classes)
        write_report(new, report_content(settings, inputs.pool, result))
        if add is not None:
            add(new, result.classifier, inputs.pool)
        write(new.state, state.model_dump_json(indent=1))
        write(new.settings, settings.to_toml())
    folder.finish()
    return result


def _do_anew(inputs: RunInputs, folder: RunFolder, progress: Progress) -> RunResult:
    """Do the run, and say what was promised of the model before, which falls with it."""
    falls = read_promises(folder.model)
    result = do_run(inputs, folder, progress)
    if falls:
        names, again = ", ".join(one.label for one in falls), command("certify", folder.path)
        progress.say(f"the model is another now, so what was promised of {names} does not hold any more; new: {again}")
    return result


def _sweep(inputs: RunInputs, folder: RunFolder, progress: Progress) -> RunResult:
    say_left_out(inputs.pool, progress)
    if len(inputs.classes) <= _TOLD:
        say_exemplars(inputs.exemplars, inputs.descriptions, inputs.classes, progress)
    stores = dict(open_stores(inputs, folder, progress))
    sources = search_sources(inputs, stores, progress)
    near = next(iter(sources.values())).embeddings  # near-duplicates are those of its vectors
    say_unreadable(inputs.pool, near.unreadable, progress)
    held_out = near_rows(near, inputs.test_rows, inputs.settings.fit.near_duplicate)
    matched = match_answers(folder.read_answers(), inputs.classes, inputs.pool, held_out)
    _tell_answers(matched, folder, progress)
    inputs = replace(inputs.following(matched.answers), before=folder.read_before())
    with in_steps(progress, "search"):
        searches = search_in(sources, inputs, held_out)
    first = next(iter(searches.values()))
    groupings, failed = group_each(inputs, searches, matched.answers, held_out, progress)
    labellings = [one.labels for one in groupings.values()]
    with in_steps(progress, "choose rows to learn from"):
        parts = plan(first, labellings, inputs.test_rows, inputs.settings.fit)
    judged = {inputs.pool.ids[row] for row in agreed(labellings, parts.rows[parts.fold != ALWAYS])}
    not_counted = uncounted_rows(inputs, first.embeddings, np.concatenate(first.queries), inputs.test_rows)
    trainer = _Trainer(inputs, searches, stores, parts, judged, not_counted, progress)
    candidates = [trainer.train(key, one, head) for key, one in groupings.items() for head in inputs.settings.heads]
    chosen = max(candidates, key=lambda one: one.agreement)
    if inputs.settings.trials:
        chosen = _tune(trainer, chosen, candidates, groupings, folder.study)
        candidates += [chosen] if chosen.tuned else []
    encoded = _encoded(inputs, chosen, progress)
    comparison = _compare(inputs, chosen, encoded)
    grouping = groupings[chosen.encoder, chosen.threshold]
    with in_steps(progress, "keep what a review starts from"):
        same = not inputs.searches_supplied
        baseline = grouping.baseline or make_baseline(
            chosen.search, grouping.groups, inputs.pool, held_out, inputs.before, same_vectors=same
        )
    ways = _ways(inputs, chosen, grouping.groups, held_out, progress)
    weak = grouping.lonely if grouping.refined else [*grouping.lonely, *loose_classes(grouping.groups)]
    warnings = [*poor_vectors(chosen.search, grouping.groups), *weak, *chosen.classifier.training_.warnings]
    warnings += [
        f"the words for {name!r} hardly describe its exemplars, so they do not count: use others, or look "
        "at the exemplars"
        for name, way in zip(inputs.classes, ways, strict=True)
        if way is not None and way.disagree
    ]
    for why in warnings:
        progress.say(f"warning: {why}")
    return RunResult(candidates, chosen, encoded, failed, comparison, not_counted, baseline, matched, warnings, ways)


def _ways(
    inputs: RunInputs, chosen: Candidate, groups: Groups, held_out: Sequence[int], progress: Progress
) -> list[ClassWays | None]:
    settings = inputs.fit_settings(chosen.encoder, threshold=chosen.threshold)
    if not inputs.descriptions:
        return [None] * len(inputs.classes)
    with in_steps(progress, "compare words and pictures"):
        return compare_ways(chosen.search, groups, settings, held_out)


def _tell_answers(matched: MatchedAnswers, folder: RunFolder, progress: Progress) -> None:
    if matched.count:
        progress.say(f"answers: {matched} ({folder.answers})")


@dataclass(frozen=True)
class _Trainer:
    """What all candidates of a sweep share.

    parts         rows to fit and to validate
    judged        ids on which they can be compared: labels come from the groups, so only where all agree
    not_counted   test rows that do not count: id -> why
    """

    inputs: RunInputs
    searches: Mapping[str, Search]
    stores: Mapping[str, EmbeddingStore]
    parts: Split
    judged: set[str]
    not_counted: Mapping[str, str]
    progress: Progress

    def train(
        self, key: Key, grouping: Grouping, head: HeadName, head_settings: HeadSettings | None = None
    ) -> Candidate:
        """Train and judge one combination."""
        (encoder, threshold), inputs = key, self.inputs
        search_, store = self.searches[encoder], self.stores[encoder]
        self.progress.say(f"train: {store.encoder.name}, {head}, threshold {threshold}")
        started = time.perf_counter()
        more = {} if head_settings is None else {"head_settings": head_settings}
        classifier = Classifier(**dict(inputs.fit_settings(encoder, threshold=threshold, head=head, **more)))
        classifier.learn(search_, grouping.labels, self.parts, inputs.pool, store, self.progress)
        score, seconds = agreement_with_groups(classifier, self.judged, inputs.pool), time.perf_counter() - started
        found = Candidate(encoder, head, threshold, classifier, search_, store, grouping.refined, score, seconds)
        if inputs.test_set is None:
            return found
        predictions, evaluation, unreadable = judge(
            classifier, inputs.pool, inputs.test_set, store, self.not_counted, self.progress
        )
        return replace(found, predictions=predictions, evaluation=evaluation, unreadable=unreadable)


def _tune(
    trainer: _Trainer,
    chosen: Candidate,
    candidates: Sequence[Candidate],
    groupings: Mapping[Key, Grouping],
    study: Path,
) -> Candidate:
    """Tune the chosen head on its own training rows, and over the thresholds of the sweep if asked."""
    settings, rivals = trainer.inputs.settings, [chosen]
    if settings.tune_threshold:
        rivals += [
            one
            for one in candidates
            if (one.encoder, one.head) == (chosen.encoder, chosen.head) and one.threshold != chosen.threshold
        ]
    try:
        parts = {one.threshold: one.classifier.training_.judged_by(trainer.judged) for one in rivals}
    except GroupError:  # of a pool of few images the fold that judges may hold none on which all agree
        trainer.progress.say("warning: nothing is tuned, as no row validates: more exemplars or a larger pool help")
        return chosen
    tuned = tune(
        chosen.head,
        settings.fit.head_settings,
        parts,
        len(trainer.inputs.classes) + 1,
        trials=settings.trials,
        study=study,
        seed=settings.fit.seed,
        progress=trainer.progress,
    )
    key = chosen.encoder, tuned.threshold
    return replace(trainer.train(key, groupings[key], chosen.head, tuned.settings), tuned=tuned)


def _encoded(inputs: RunInputs, chosen: Candidate, progress: Progress) -> Embeddings:
    """Return the vectors of the images that `chosen` needs, and of no others that its store has of other runs."""
    if not inputs.searches_supplied:
        return chosen.search.embeddings
    if inputs.encodes_all:
        return inputs.known_by(chosen.store.embed(progress))
    tested = inputs.test_set.ids if inputs.test_set else []
    return chosen.store.open([*chosen.classifier.training_.ids, *tested])


def _compare(inputs: RunInputs, chosen: Candidate, encoded: Embeddings) -> SearchComparison | None:
    """Way 1 (the encoder's features) against way 2 (the supplied vectors), over the images that both have."""
    if inputs.supplied is None or inputs.descriptions:  # words may be known to one of the two alone
        return None
    classes, exemplars = inputs.classes, inputs.exemplars
    if inputs.settings.search == "encoder":
        other = search(inputs.supplied, classes, exemplars, inputs.maker)
        return compare_searches(chosen.search, other)
    return compare_searches(search(encoded, classes, exemplars, chosen.store.encoder), chosen.search)
