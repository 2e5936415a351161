"""One run from top to bottom: the order of the stages and nothing else.

read -> split -> fit the task -> load -> prove -> encode -> open weights -> train -> save -> reload -> evidence
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from finesmith import examine
from finesmith import recipe as recipes
from finesmith.data import asked, read, shapes, split
from finesmith.data.settings import DataSettings
from finesmith.errors import DataError, FinesmithError
from finesmith.evidence import plain
from finesmith.models import place
from finesmith.recipe import Recipe
from finesmith.runfolder import RunFolder
from finesmith.tasks import _cut
from finesmith.types import Evidence, Example, Finding, Message, Prediction, Splits
from finesmith.watch import Interrupted, Watcher

if TYPE_CHECKING:
    from finesmith.exporting.write import Exported
    from finesmith.stages import Ready

DEFAULT = {part: DataSettings.model_fields[part].default for part in ("validation", "test")}


@dataclass(frozen=True)
class Run:
    """What came of a recipe: a folder with the model and the evidence."""

    path: Path

    @property
    def evidence(self) -> Evidence:
        """Every system on the locked test rows, the gains, the verdict."""
        return plain.from_json(RunFolder(self.path).read_json("evidence.json"))

    @property
    def comparison(self) -> dict[str, Any] | None:
        """Decision, claims and measurements of `finesmith compare` as plain values; None where that was not made."""
        folder = RunFolder(self.path)
        return folder.read_json("comparison.json") if folder.file("comparison.json").exists() else None

    @property
    def recipe(self) -> Recipe:
        """What was asked, every value filled in; one that names plug-ins of one's own is read with `recipe.load`."""
        return recipes.load(RunFolder(self.path).require("recipe.yaml"), trusted=False)

    def predict(
        self, inputs: Sequence[Any], *, abstain: bool = False, watcher: Watcher | None = None, **where: Any
    ) -> list[Prediction]:
        """Answers of the tuned model (loaded with `where`, as `predictor.load` takes it) to texts or lists of messages.

        Raises:
            DataError: a text by itself instead of a list, or an input of another kind.
            RunError: `abstain` (None where it is too unsure) without a threshold from `finesmith compare`.
        """
        from finesmith import predictor

        rows = asked.as_inputs(inputs)
        with (watcher or Watcher()).progress("answering", len(rows)) as progress:
            return predictor.load(self.path, **where).predict(rows, abstain=abstain, progress=progress)

    def export(self, to: str | Path, *, watcher: Watcher | None = None, **settings: Any) -> Exported:
        """Writes the tuned model into one folder for other tools and proves it: `finesmith.export` of this run."""
        from finesmith.exporting import write

        return write.export(self.path, to, prepare, watcher=watcher or Watcher(), **settings)


@dataclass(frozen=True)
class Prepared:
    """The data side of a run, before any model is loaded."""

    recipe: Recipe
    splits: Splits
    rejected: tuple[Any, ...]
    sources: Mapping[str, str]
    columns: Mapping[str, str]
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Checkup:
    """What the fast checks said before training: their findings, and the ids of test rows that are in training too."""

    findings: tuple[Finding, ...]
    leaked: tuple[str, ...]
    looked: str = ""

    def notes(self) -> list[str]:
        """Which rows were looked at if not all, and the findings that are more than a note, in a sentence each."""
        found = [finding.what for finding in self.findings if finding.severity != "note"]
        return [self.looked] * bool(self.looked) + found


def prepare(recipe: Recipe) -> Prepared:
    """Reads and splits the data and settles the task. No torch.

    Raises:
        DataError: rows that cannot be used.
        RecipeError: a task that does not fit the shape of the data.
    """
    dataset = read.read(
        recipe.data.path,
        columns=recipe.data.columns or None,
        max_bad_rows=recipe.data.max_bad_rows,
        format=recipe.data.format,
        files=recipe.data.files,
        shape=shapes.task_shape(recipe.task),
    )
    fitting = shapes.settled_task(recipe.task, dataset.shape)
    shares = split.shares(recipe.data, dataset.parts)
    splits = split.split(
        dataset,
        validation=shares["validation"] or DEFAULT["validation"],
        test=shares["test"] or DEFAULT["test"],
        seed=recipe.seed,
    )
    out = recipe.out if recipe.out != "auto" else str(free_name(_usual_out(recipe)))
    cut = {part: share for part, share in shares.items() if part not in recipe.data.files}
    variants = shapes.label_variants(_labels(splits)) if fitting == "classification" else []
    notes = [f"labels that differ only in case or spaces: {' / '.join(map(repr, group))}" for group in variants]
    found, settled = (*dataset.notes, *splits.notes, *notes), recipe.replace(task=fitting, out=out, data=cut)
    return Prepared(settled, splits, dataset.rejected, dataset.sources, dataset.columns, found)


def tune(recipe: Recipe, *, watcher: Watcher | None = None) -> Run:
    """Runs a recipe from the data to the evidence.

    Raises:
        FinesmithError: anything the user can mend; nothing half-written stays behind.
    """
    watcher = watcher or Watcher()
    prepared, checked = begin(recipe, watcher)
    folder = RunFolder.create(prepared.recipe.out)
    if recipe.out == "auto" and folder.path != (usual := _usual_out(recipe)):
        watcher.note(f"'{usual}' exists already: this run goes to '{folder.path}' (--out names another folder)")
    return _held(folder, lambda: _tune(prepared, checked, folder, watcher, resume=False))


def begin(recipe: Recipe, watcher: Watcher) -> tuple[Prepared, Checkup]:
    """The data side of a run: read, parted and checked; nothing is written.

    Raises:
        FinesmithError: a model that is not there, rows that cannot be used, or findings that stop a run.
    """
    place.check(recipe.model)
    prepared = prepare(recipe)
    return prepared, _check(prepared, watcher)


def _check(prepared: Prepared, watcher: Watcher) -> Checkup:
    """The fast checks; blocking findings stop here, others become notes."""
    policy = prepared.recipe.data.checks
    if policy == "off":
        return Checkup((), ())
    findings, leaked, looked = examine.before_training(prepared.recipe, prepared.splits, prepared.recipe.task, watcher)
    if policy == "stop":
        examine.refuse(findings, prepared.recipe.data.path)
    return Checkup(findings, tuple(leaked), looked)


def resume(path: str | Path, *, trust_remote_code: bool = False, watcher: Watcher | None = None) -> Run:
    """Goes on with a run that was stopped or killed, bit for bit as if it had not been.

    Raises:
        RunError: there is nothing to go on with; or its base brings code of its own, which was not to be run.
        DataError: the data is no longer what the run began with.
    """
    folder = RunFolder.reopen(path)

    def go_on() -> Run:
        recipe = recipes.of_run(folder, trust_remote_code=trust_remote_code).replace(out=str(path))
        prepared = prepare(recipe)
        require_unchanged(prepared, folder)
        return _tune(prepared, _check(prepared, watcher or Watcher()), folder, watcher or Watcher(), resume=True)

    return _held(folder, go_on)


def _held(folder: RunFolder, work: Callable[[], Run]) -> Run:
    """Does the work and gives the folder's lock back; Ctrl-C says what there is to go on with, and what is lost."""
    try:
        return work()
    except KeyboardInterrupt:
        if folder.file("recipe.yaml").exists() and not folder.finished:
            from finesmith.stages import lost

            raise Interrupted(str(folder.path), lost(folder)) from None
        raise
    finally:
        folder.release()


def _tune(prepared: Prepared, checked: Checkup, folder: RunFolder, watcher: Watcher, *, resume: bool) -> Run:
    from finesmith import measure, stages  # torch from here on
    from finesmith.models import fetch

    for note in (*folder.notes, *prepared.notes, *checked.notes()):
        watcher.note(note)
    began = time.time()
    try:
        fetch.weights(prepared.recipe.model)
        there = time.time()
        ready = stages.build(prepared.recipe, prepared.splits, watcher)
        preparing = time.time() - there
        _write_beginning(folder, prepared, ready)
        trained = stages.train(ready, folder, watcher, resume=resume)
        stages.deliver(ready, folder, columns=prepared.columns)
    except FinesmithError:
        if not resume and not folder.file("checkpoint").exists():
            for name in ("recipe.yaml", "splits.json", "rejected.jsonl", "steps.jsonl", "manifest.json"):
                folder.remove(name)  # it failed before step 1: leave nothing half-written
        raise
    evidence, predictions = measure.measure(ready, folder, trained, watcher, leaked=checked.leaked)
    for note in (cut := _cut.by_system(ready.task, predictions)):
        watcher.note(note)
    for name, rows in predictions.items():
        folder.write_lines(f"predictions/{name}.jsonl", prediction_rows(rows, ready.splits.test))
    facts = {
        **measure.manifest(ready, trained),
        "data": {
            "sources": dict(prepared.sources),
            "split": prepared.splits.hash,
            "rows": {part: len(ids) for part, ids in _ids(ready.splits).items()},
            "rejected": len(prepared.rejected),
            "over_length": len(ready.long),
        },
        "seconds": {**trained.seconds, "preparing": preparing, "all": trained.earlier + time.time() - began},
        "notes": [*prepared.notes, *checked.notes(), *ready.notes, *trained.notes, *cut],
    }
    folder.write_json("manifest.json", facts)
    folder.write_text("README.md", measure.card(ready, evidence, facts))
    folder.remove("checkpoint")
    folder.write_json("evidence.json", plain.as_json(evidence))
    return Run(folder.path)


def require_unchanged(prepared: Prepared, folder: RunFolder) -> None:
    """Raises DataError where the rows, their parts or what the files held are not what the run began with."""
    begun = folder.read_json("splits.json")
    if (prepared.splits.hash, _digests(prepared)) != (begun["hash"], begun["sources"]):
        hint = "Restore it, or start a new run with --out."
        raise DataError(f"The data at {prepared.recipe.data.path} has changed since the run began.", hint=hint)


def _digests(prepared: Prepared) -> list[str]:
    """What the files held: an edited answer keeps the ids of its row."""
    return sorted(prepared.sources.values())


def _write_beginning(folder: RunFolder, prepared: Prepared, ready: Ready) -> None:
    ids, used = _ids(prepared.splits), _ids(ready.splits)
    lost = {part: sorted(set(names) - set(used[part])) for part, names in ids.items()}
    left_out = {"left_out": lost} if any(lost.values()) else {}
    asked = {"processes": prepared.recipe.speed.processes}  # not as settled: another machine may not have as many
    folder.write_text("recipe.yaml", ready.recipe.replace(speed=asked).to_yaml())
    folder.write_json("splits.json", {"hash": prepared.splits.hash, "sources": _digests(prepared), **used, **left_out})
    rejected = [{"origin": str(row.origin), "reason": row.reason, "row": row.text} for row in prepared.rejected]
    rejected += [{"origin": origin, "reason": reason} for origin, reason in sorted(ready.long.reasons().items())]
    if rejected:
        folder.write_lines("rejected.jsonl", rejected)


def prediction_rows(rows: Iterable[Prediction], examples: Sequence[Example]) -> list[dict[str, Any]]:
    """Answers as they stand in `predictions/*.jsonl`, each beside its target."""
    targets = {row.id: row.target.text if isinstance(row.target, Message) else row.target for row in examples}
    return [
        {"id": row.id, "output": row.output, "target": targets[row.id], "scores": dict(row.scores)}
        | ({"cut": True} if row.cut else {})
        for row in rows
    ]


def _ids(splits: Splits) -> dict[str, list[str]]:
    return {part: [example.id for example in getattr(splits, part)] for part in split.PARTS}


def _labels(splits: Splits) -> Iterable[str]:
    for example in splits.train:
        yield from example.target if isinstance(example.target, tuple) else [str(example.target)]


def free_name(wanted: Path) -> Path:
    """`wanted`, or `wanted-2`, `wanted-3`, ... where that is taken."""
    names = (wanted if number == 1 else wanted.with_name(f"{wanted.name}-{number}") for number in range(1, 100_000))
    return next(path for path in names if not path.exists())


def _usual_out(recipe: Recipe) -> Path:
    """Where a run goes that names no folder: after its data."""
    return Path("runs") / (Path(recipe.data.path.replace(":", "-")).name.split(".")[0] or "run")
