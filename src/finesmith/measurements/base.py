"""What a measurement is: something asked about a finished run, answered with numbers on the user's own model and data.

To add one: a file that ends with `PLUGIN = ...`, a frozen dataclass below `Measurement`. The governor (`comparing.py`)
plans by `priority`, `effort` and `cost`, and names what was not measured. The measurements and their order are the
plan of `docs/explanation/evidence.md`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

from finesmith.evidence import clusters
from finesmith.evidence import compare as evidences
from finesmith.evidence.clusters import Clusters
from finesmith.metrics.base import Metric
from finesmith.recipe import Recipe
from finesmith.runfolder import RunFolder
from finesmith.tasks.base import Task, predict
from finesmith.types import Estimate, Evidence, Example, Prediction, Splits, Target
from finesmith.watch import Watcher

if TYPE_CHECKING:
    from finesmith.predictor import Predictor

Effort = Literal["quick", "standard", "full"]
EFFORTS: tuple[Effort, ...] = ("quick", "standard", "full")
READ = 0.2
"""What it takes to read an answer, as a share of what it takes to write it."""


@dataclass(frozen=True)
class Measured:
    """What came out. `says` is a sentence for people; `numbers` are plain values, which claims and report read.

    `systems` are further opponents of the tuned model: their answers to test rows (all, or some). `missing` names what
    this measurement left out, and why. `plots` are plain values with `kind`, `title`, `x` and
    for `intervals`: `labels`, `values` [value, low, high] of each, perhaps `mark` (instead of 0);
    for `curves`: `y`, `values` (name -> list of [x, y] or [x, y, low, high]), perhaps `points` (name -> [x, y]) and
    `scale` (of x); for `bars`: `labels`, `values`.
    """

    says: str
    numbers: Mapping[str, Any] = field(default_factory=dict)
    systems: Mapping[str, Sequence[Prediction]] = field(default_factory=dict)
    plots: Sequence[Mapping[str, Any]] = ()
    missing: Mapping[str, str] = field(default_factory=dict)


class Measurement(Protocol):
    """`priority` 1 is dropped last, 4 first. `effort` is the least at which it is made. `needs` are measurements whose
    results it reads (`study.found`). It may have `uses`, names of options (and `minimum_gain`) that change its result,
    `hears`, measurements (also of `needs`) whose results change only what it says, and `retold(study, values)`: what it
    says from what it kept (`measured/NAME.json`) after one of these changed."""

    @property
    def title(self) -> str:
        """What is asked, for tables and progress."""
        ...

    @property
    def priority(self) -> int:
        """1 to 4."""
        ...

    @property
    def effort(self) -> Effort:
        """quick, standard or full."""
        ...

    @property
    def needs(self) -> tuple[str, ...]:
        """Names of measurements that come before."""
        ...

    def skips(self, study: Study) -> str:
        """Why it does not apply to this run; empty where it does."""
        ...

    def cost(self, study: Study) -> float:
        """How long it will take, in seconds, from `study.train_seconds` and `study.answer_seconds`."""
        ...

    def __call__(self, study: Study, watcher: Watcher) -> Measured:
        """Makes the measurement."""
        ...


def hears(measurement: Measurement) -> set[str]:
    """The measurements that it can take in after it was made."""
    return set(getattr(measurement, "hears", ()))


def rests_on(measurement: Measurement) -> set[str]:
    """The measurements after which it must be made again: what it needs, but for what it hears."""
    return set(measurement.needs) - hears(measurement)


def answers(folder: RunFolder, system: str, test: Sequence[Example]) -> list[Prediction]:
    """A system's answers to these test rows, from the run."""
    wanted = {row.id for row in test}
    rows = (row for row in folder.read_lines(f"predictions/{system}.jsonl") if row["id"] in wanted)
    kept = ((row, tuple(row["output"]) if isinstance(row["output"], list) else row["output"]) for row in rows)
    return [Prediction(row["id"], output, row["scores"]) for row, output in kept]


@dataclass
class Study:
    """A finished run, opened to ask more of it.

    `splits` are the rows as they were used, without test rows that training has seen too, and `predictions` the answers
    of the run's systems to the test rows.
    `train_seconds` is what one training of this run takes here, `preparing_seconds` of these before its first step, and
    `answer_seconds` what the tuned model takes for one test row. `found` are the numbers of the measurements made so
    far. `minimum_gain` is the smallest that is of use, `budget` the seconds that all measurements together may take.
    `options` are what the user gave besides (a glossary, prompts, unlabelled rows), by name, and `asked` the same as it
    was asked, in plain values, with the effort and the like.
    `timed` is what else was timed for the plan, with `watcher` looking on; `outputs` are for `_speaker`.
    """

    folder: RunFolder
    recipe: Recipe
    splits: Splits
    task: Task
    metrics: Mapping[str, Metric]
    evidence: Evidence
    predictions: Mapping[str, Sequence[Prediction]]
    train_seconds: float
    answer_seconds: float
    preparing_seconds: float = 0.0
    effort: Effort = "quick"
    minimum_gain: float = 0.0
    budget: float = math.inf
    options: Mapping[str, Any] = field(default_factory=dict)
    asked: Mapping[str, Any] = field(default_factory=dict)
    found: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    timed: dict[str, Any] = field(default_factory=dict)
    watcher: Watcher = field(default_factory=Watcher, repr=False)
    outputs: list[tuple[Any, float] | None] = field(default_factory=list, repr=False)
    _models: dict[str, Predictor] = field(default_factory=dict, repr=False)
    _clusters: Clusters | None = field(default=None, repr=False)

    @property
    def primary(self) -> Metric:
        """The metric that decides."""
        return self.metrics[self.task.primary]

    @property
    def planned_steps(self) -> int:
        """Optimizer steps that the run was to make; `patience` may have ended it sooner."""
        *_, last = self.folder.read_lines("steps.jsonl")
        return int(last["of"])

    @property
    def targets(self) -> dict[str, Target]:
        """The test rows' targets by id, in the order that fixes the resamples."""
        return {row.id: row.target for row in self.splits.test}

    def tuned(self) -> Predictor:
        """The model as it was tuned (`set-scale` keeps it in `tuned/`), loaded once."""
        from finesmith import predictor

        if "tuned" not in self._models:
            where = self.recipe.model
            self._models["tuned"] = predictor.load(
                self.tuned_folder,
                device=where.device,
                dtype=where.dtype,
                trust_remote_code=where.trust_remote_code,
            )
        return self._models["tuned"]

    @property
    def tuned_folder(self) -> Path:
        """Where the model lies as it was tuned."""
        return next(place for name in ("tuned", "model") if (place := self.folder.file(name)).is_dir())

    def base(self) -> Predictor:
        """The base model in the form of the task (a classifier's head is new), loaded once; as the run has asked it."""
        from finesmith.models import load as models
        from finesmith.predictor import Predictor

        if "base" not in self._models:
            kind = self.task.kind
            loaded = models.load(self.recipe.model, kind, **self.task.load_arguments(), seed=self.recipe.seed)
            self.task.prepare(loaded)
            self._models["base"] = Predictor(self.task.for_base(), loaded)
        return self._models["base"]

    def forget(self) -> None:
        """Lets the loaded models go, so that the next measurement has the memory."""
        from finesmith.models import device

        self._models.clear()
        device.give_back()

    @property
    def steps(self) -> int:
        """Optimizer steps that the run made."""
        return int(self.evidence.costs.get("steps", 0))

    @property
    def step_seconds(self) -> float:
        """What one step of the run took, with its share of the looks at the validation rows."""
        return (self.train_seconds - self.preparing_seconds) / max(1, self.steps)

    @property
    def reading_seconds(self) -> float:
        """What the tuned model takes to read a row with its answer; where it writes none that is `answer_seconds`."""
        return self.answer_seconds * (READ if hasattr(self.task, "prompt") else 1.0)

    def score(self, rows: Sequence[Example], answers: Sequence[Prediction]) -> float:
        """The primary metric of answers to rows, in its own unit."""
        return self.primary.value([row.target for row in rows], answers)

    @property
    def clusters(self) -> Clusters:
        """The test rows that belong together; intervals draw these as wholes."""
        if self._clusters is None:
            self._clusters = clusters.of(self.splits.test)
        return self._clusters

    def gain(
        self, answers: Sequence[Prediction], over: Sequence[Prediction] | None = None, *, confidence: float = 0.95
    ) -> Estimate:
        """How much better the tuned model is on the test rows than these answers; or these answers than `over`."""
        ours, theirs = (self.predictions["tuned"], answers) if over is None else (answers, over)
        return evidences.between(
            self.primary,
            self.targets,
            ours,
            theirs,
            clusters=self.clusters,
            confidence=confidence,
            seed=self.recipe.seed,
        )

    @contextmanager
    def retrained(
        self, watcher: Watcher, *, rows: Sequence[Example] | None = None, **settings: Any
    ) -> Iterator[Retrained]:
        """Another training like this run's, in a folder that goes away, with some settings or training rows changed.

        Its model is the only one in memory: those that are loaded are let go before, and its own with the `with`.

        Args:
            rows: training rows instead of the run's.
            settings: as for `Recipe.replace`: `seed=1`, `train={"learning_rate": 1e-3}`.
        """
        from finesmith.models import device

        self.forget()
        splits = replace(self.splits, train=list(self.splits.train if rows is None else rows))
        recipe = self.recipe.with_method(settings.get("method", self.recipe.method)).replace(**settings, track=[])
        with RunFolder.temporary() as folder:
            again = _trained(recipe, splits, folder, watcher)
            try:
                yield again
            finally:
                del again.model  # the name behind `as` stays bound while the next one is trained
                device.give_back()


def _trained(recipe: Recipe, splits: Splits, folder: RunFolder, watcher: Watcher) -> Retrained:
    from finesmith import stages
    from finesmith.models import load as models
    from finesmith.predictor import Predictor

    ready = stages.build(recipe, splits, Watcher())
    trained = stages.train(ready, folder, watcher, resume=False)
    moved, total = models.parameter_counts(ready.model)
    wide = sum(weight.nbytes for weight in ready.model.parameters() if weight.requires_grad)
    costs = {
        "steps": trained.steps,
        "seconds": trained.seconds["training"],
        "peak_memory_bytes": trained.peak_memory,
        "trainable_parameters": moved,
        "total_parameters": total,
        "kept_bytes": wide if ready.method.adapter else total * ready.loaded.stored.itemsize,  # as `save_weights`
    }
    model = Predictor(ready.task, replace(ready.loaded, model=ready.model))
    return Retrained(model, costs, list(folder.read_lines("steps.jsonl")))


@dataclass
class Retrained:
    """A model of another training, while it lasts; what it cost; a line for every step."""

    model: Predictor
    costs: Mapping[str, float]
    steps: Sequence[Mapping[str, Any]]

    def predict(self, rows: Sequence[Example]) -> list[Prediction]:
        """Its answers, with the rows' ids."""
        return predict(self.model.task, self.model.loaded, rows)
