"""A finished model, ready to answer: loaded from a run's `model/` folder, however it was tuned."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from transformers import AutoTokenizer

from finesmith import registry
from finesmith.data.asked import as_inputs
from finesmith.errors import DataError, RowError, RunError, TrainingError
from finesmith.evidence import told
from finesmith.models import attention, place
from finesmith.models import load as models
from finesmith.models.load import Loaded
from finesmith.models.settings import ModelSettings
from finesmith.runfolder import ABSTAIN, CARD, RunFolder
from finesmith.tasks import _cut
from finesmith.tasks.base import Progress, Task, silent
from finesmith.types import Conversation, Input, Prediction

LOG = logging.getLogger(__name__)
NO_THRESHOLD = (
    "This model has no abstention threshold: it was not measured, no share of its answers was good enough, or it is at "
    "another scale than 1, where none was measured."
)

NO_MEMORY = "memory is too small to answer even this row alone"


@dataclass(frozen=True)
class Abstention:
    """Answer where the confidence, made true by `temperature`, is at least `threshold`: the largest probability, or
    with `several` labels what all of them together have.

    At most a share `risk` of such answers is wrong, where `shown` says that `rows` validation rows showed it. Else they
    were too few: `seen` is the share that was wrong among them, `bound` what it may be (None: an older version's file).
    """

    temperature: float
    threshold: float
    risk: float
    shown: bool
    rows: int
    several: bool = False
    seen: float | None = None
    bound: float | None = None

    def apply(self, answers: Sequence[Prediction]) -> list[Prediction]:
        """The answers, without the output of those that are too unsure."""
        return [
            answer if self.confidence(answer) >= self.threshold else replace(answer, output=None) for answer in answers
        ]

    def confidence(self, answer: Prediction) -> float:
        """How sure the answer is after the temperature."""
        chances = np.array([list(answer.scores.values())])
        chances = told.tempered(chances, self.temperature, several=self.several)
        return float(told.confidence(chances, several=self.several)[0])


@dataclass(frozen=True)
class Predictor:
    """A tuned model with its task, ready to `predict`. `abstention` says when to give no answer, where it is known."""

    task: Task
    loaded: Loaded
    abstention: Abstention | None = None

    def predict(
        self,
        inputs: Sequence[Input | Sequence[dict[str, Any]]],
        *,
        abstain: bool = False,
        progress: Progress = silent,
    ) -> list[Prediction]:
        """Answers to texts, or (generation) to lists of messages as files have them, also `{"messages", "tools"}`.

        With `abstain` an answer below the threshold of `finesmith compare` has the output None.

        Raises:
            RunError: `abstain`, and no threshold is known; or a model that was trained on plain documents.
            DataError: a text by itself instead of a list, or an input of another kind.
            TrainingError: not even one input fits into memory, with its number.
        """
        self.require_able(abstain=abstain)
        rows = as_inputs(inputs)
        if self._reads_texts and self.refused(rows):
            raise DataError("This run classifies texts, but a row is a conversation.", hint="Give a text for each row.")
        try:
            answers = self.answer(rows, abstain=abstain, progress=progress)
        except RowError as error:
            hint = "Shorten it or leave it out, or answer where there is more memory (device='cpu')."
            raise TrainingError(f"Input {error.row + 1}: {NO_MEMORY}.", hint=hint) from error
        self.warn_of_cuts(rows)
        if said := _cut.answers(self.task, answers):
            LOG.warning("%s", said)
        return answers

    def require_able(self, *, abstain: bool) -> None:
        """Refuses what the model cannot do for any input.

        Raises:
            RunError: `abstain`, and no threshold is known; or a model that was trained on plain documents.
        """
        _require_answers(self.task, "The run")
        if abstain and not self._reads_texts:
            raise RunError("Only classifiers abstain: the confidence of a text that was written is not measured.")
        if abstain and self.abstention is None:
            raise RunError(NO_THRESHOLD, hint="Make one: finesmith compare RUN --only calibration")

    def refused(self, rows: Sequence[Input]) -> dict[int, str]:
        """Positions of the inputs that cannot be answered, each with the reason; all are looked at."""
        if self._reads_texts:
            spoken = "This run classifies texts, but the row is a conversation"
            return {place: spoken for place, row in enumerate(rows) if isinstance(row, Conversation)}
        look = getattr(self.task, "refused", None)
        return look(self.loaded, rows) if look else {}

    def answer(self, rows: Sequence[Input], *, abstain: bool = False, progress: Progress = silent) -> list[Prediction]:
        """What `predict` gives for inputs that were looked at before: nothing is said of those that are cut."""
        answers = self.task.answer(self.loaded, rows, progress=progress)
        return self.abstention.apply(answers) if abstain and self.abstention else answers

    def warn_of_cuts(self, rows: Sequence[Input], names: Sequence[str] = ()) -> None:
        """Says of which texts a classifier reads only the beginning, by their names, else by their numbers."""
        if said := _cut.inputs(self.task, self.loaded.tokenizer, rows, names):
            LOG.warning("%s", said)

    @property
    def _reads_texts(self) -> bool:
        return self.task.kind == "sequence-classification"


def save(
    folder: Path,
    model: Any,
    loaded: Loaded,
    task: Task,
    *,
    task_name: str,
    base: ModelSettings,
    adapter: bool,
    columns: Mapping[str, str] | None = None,
) -> None:
    """Writes adapter files or the full model, tokenizer and template, and what Finesmith needs to load it again.

    `columns` says what the columns of the training data meant, so that files to be answered are read alike.
    """
    folder.mkdir(parents=True)
    if adapter:
        for config in model.peft_config.values():
            config.base_model_name_or_path = base.name
    save_weights(folder, model, loaded, adapter=adapter)
    loaded.tokenizer.save_pretrained(folder)
    generation = getattr(loaded.model, "generation_config", None)
    if generation is not None and task.kind == "causal-lm":
        generation.save_pretrained(folder)
    card = {
        "task": task_name,
        "settings": task.settings.model_dump(mode="json"),
        "state": task.state(),
        "adapter": adapter,
        "model": base.model_dump(mode="json"),
        "columns": dict(columns or {}),
    }
    (folder / CARD).write_text(json.dumps(card, indent=2, ensure_ascii=False), encoding="utf-8")


def save_weights(folder: Path, model: Any, loaded: Loaded, *, adapter: bool) -> None:
    """Writes an adapter with its configuration, or all weights, no wider than the checkpoint was."""
    if adapter:
        model.save_pretrained(folder, save_embedding_layers=False)
        (folder / "README.md").unlink(missing_ok=True)  # PEFT's empty card; the run has a full one
        return
    with models.quiet():
        model.to(loaded.stored).save_pretrained(folder)


def card_of(path: str | Path) -> tuple[Path, dict[str, Any]]:
    """The model folder of a run (or of a copy of it), and what Finesmith wrote about it.

    Raises:
        RunError: no finished model is there, or its card is damaged.
    """
    run = RunFolder(path).exist().path
    folder = run / "model" if (run / "model").is_dir() else run
    if not (folder / CARD).exists():
        raise RunError(
            f"'{path}' holds no finished model.", hint="Give the folder of a run that `finesmith tune` finished."
        )
    return folder, RunFolder(folder).read_json(CARD)


@dataclass(frozen=True)
class Card:
    """What is known of a finished model before it is loaded: its task, and what the columns of its data meant."""

    task: Task
    columns: Mapping[str, str]


def answering(path: str | Path, *, documents: bool = False, trust_remote_code: bool = False) -> Card:
    """The card of a finished model that gives answers, or where `documents` may be, of any.

    Raises:
        RunError: no finished model is there, one that was trained on plain documents, or one whose task is code of its
            own, which was not asked for.
    """
    _, card = card_of(path)
    task = _task(card, path, trust_remote_code)
    if not documents:
        _require_answers(task, f"'{path}'", str(path))
    return Card(task, card.get("columns", {}))


def _require_answers(task: Task, named: str, path: str = "RUN") -> None:
    if task.kind == "causal-lm" and not hasattr(task, "prompt"):
        hint = f"See what it gained with: finesmith show {path}"
        raise RunError(f"{named} was trained on plain documents: it has no answers to give.", hint=hint)


def _task(card: Mapping[str, Any], path: str | Path, trusted: bool) -> Task:
    registry.require_trust({"task": card["task"]}, path, trusted)
    plugin = registry.resolve("tasks", card["task"])
    return plugin(plugin.Settings.model_validate(card["settings"])).restore(card["state"])


def load(
    path: str | Path,
    *,
    device: str = "auto",
    dtype: str = "auto",
    adapter: bool = True,
    trust_remote_code: bool = False,
) -> Predictor:
    """Loads a run's model (or a copy of its `model/` folder).

    Args:
        path: the run, or its model folder.
        device: auto, cuda, mps or cpu.
        dtype: precision of the arithmetic; auto keeps the float32 of a run in it, else chooses for this machine.
        adapter: False gives the base model under the same task and template (LoRA runs only).
        trust_remote_code: run Python code that comes with the model, or that its task is. A folder may have come from
            anybody, so what it says of itself is not enough.

    Raises:
        RunError: no finished model is there, or one that needs code of its own, which was not asked for; or an adapter
            is not there as safetensors.
        ModelError: the base of an adapter cannot be found.
    """
    folder, card = card_of(path)
    task = _task(card, path, trust_remote_code)
    keep = dtype == "auto" and card["model"]["dtype"] == "float32"
    where = {"device": device, "dtype": "float32" if keep else dtype}
    base = attention.to_answer(ModelSettings.model_validate({**card["model"], "from_scratch": False, **where}))
    place.require_trust(base, path, trust_remote_code)
    settings = base if card["adapter"] else base.model_copy(update={"name": str(folder), "revision": None})
    if card["adapter"]:
        place.check_base(base, folder.parent if folder.name == "model" else folder)
        place.require_adapter(folder)
    loaded = models.load(settings, task.kind, **task.load_arguments())
    tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=base.trust_remote_code)
    model = loaded.model
    if card["adapter"] and adapter:
        from peft import PeftModel  # not before models.quantize: see there

        with models.quiet():
            model = PeftModel.from_pretrained(model, str(folder)).to(loaded.device)
    if card["adapter"] and task.kind == "causal-lm":
        model.generation_config = type(model.generation_config).from_pretrained(folder)
    loaded = Loaded(model.eval(), tokenizer, loaded.device, loaded.dtype, loaded.stored, loaded.notes)
    return Predictor(task, loaded, abstention(folder))


def abstention(folder: Path) -> Abstention | None:
    """When a model folder's model gives no answer; None where that was not measured or no threshold is good enough."""
    if not (folder / ABSTAIN).exists():
        return None
    return Abstention(**RunFolder(folder).read_json(ABSTAIN))


def keep_abstention(folder: Path, found: Abstention | None) -> None:
    """Writes into a model folder when its model gives no answer; nothing good enough takes an older one away."""
    place = RunFolder(folder)
    if found is None:
        place.remove(ABSTAIN)
    else:
        place.write_json(ABSTAIN, asdict(found))
