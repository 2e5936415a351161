"""The stages of a run that need torch: build, train, deliver, measure. `run.py` puts them in order."""

from __future__ import annotations

import importlib.metadata
import platform
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator

from finesmith import predictor, registry
from finesmith import recipe as recipes
from finesmith.baselines.base import as_text
from finesmith.errors import DataError, RecipeError
from finesmith.evidence import compare as evidences
from finesmith.methods.base import Method
from finesmith.metrics._confusion import confusions, per_class
from finesmith.models import device as devices
from finesmith.models import load as models
from finesmith.models.load import Loaded
from finesmith.recipe import Recipe
from finesmith.report import card as cards
from finesmith.runfolder import RunFolder
from finesmith.tasks import _head_first, _zero_shot
from finesmith.tasks.base import Encoded, Task, predict
from finesmith.tasks.classification import Classification
from finesmith.train import fit as fitting
from finesmith.train.batches import EncodedSet
from finesmith.train.proof import prove
from finesmith.train.state import saved_step
from finesmith.types import Evidence, Example, Message, Prediction, Splits
from finesmith.watch import Watcher

ZERO_SHOT_SEQUENCES = 20_000
"""Most label sequences that the zero-shot opponent reads; above, it answers only so many test rows (n says so)."""
SAMPLES = 5


@dataclass(frozen=True)
class Ready:
    """Everything that step 1 needs. `recipe` has every automatic value filled in."""

    recipe: Recipe
    task: Task
    method: Method
    loaded: Loaded
    model: Any
    data: EncodedSet
    over_length: tuple[str, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Trained:
    """What training cost."""

    steps: int
    peak_memory: int
    seconds: dict[str, float] = field(default_factory=dict)


def build(recipe: Recipe, splits: Splits, watcher: Watcher) -> Ready:
    """From the split rows to a model with exactly the named weights open, and the proof that the tokens are right."""
    task, method = _plugins(recipe)
    task = task.fit(splits.train)
    config = models.load_config(recipe.model)
    loaded = models.load(recipe.model, task.kind, **task.load_arguments(), seed=recipe.seed)
    task, notes = task.prepare(loaded)
    recipe = _resolve(recipe, task, method, loaded, config, len(splits.train))
    task = _with_length(task, int(recipe.train.max_length))
    max_length = int(recipe.train.max_length)
    with watcher.progress("encoding", len(splits.train)) as progress:
        encoded, over_length = _encode(task, loaded.tokenizer, splits.train, recipe, progress)
    kept = [example for example in splits.train if str(example.origin) not in over_length]
    proof = prove(task, loaded.tokenizer, kept, max_length)
    notes = (*loaded.notes, *notes, proof)
    if isinstance(task, Classification) and task.settings.head_first:
        with watcher.progress(
            "fitting the head on frozen features", len(splits.train) + len(splits.validation)
        ) as progress:
            notes = (
                *notes,
                _head_first.fit_head(
                    task, loaded, encoded, _pieces(task, loaded, splits.validation, max_length), progress=progress
                ),
            )
    head = task.head(loaded.model)
    fresh = tuple(name for name in ("pooler",) if any("pooler" in note for note in loaded.notes))
    model = _precision(method.apply(loaded.model, head=(*head, *fresh), seed=recipe.seed), loaded, method)
    trainable, total = models.parameter_counts(model)
    notes = (*notes, f"{trainable:,} of {total:,} weights move ({trainable / total:.2%})")
    for note in notes:
        watcher.note(note)
    return Ready(recipe, task, method, loaded, model, encoded, tuple(over_length), notes)


def train(ready: Ready, splits: Splits, folder: RunFolder, watcher: Watcher, *, resume: bool) -> Trained:
    """Trains and leaves the kept weights in the model; every step goes to steps.jsonl."""
    recipe = ready.recipe
    accelerator = Accelerator(
        cpu=ready.loaded.device.type == "cpu",
        log_with=recipe.track or None,
        project_dir=str(folder.path) if recipe.track else None,
    )
    if recipe.track:
        accelerator.init_trackers("finesmith", config={"recipe": recipe.to_yaml()})
    checkpoints = fitting.Checkpoints(folder.file("checkpoint"))
    checkpoints.folder.mkdir(exist_ok=True)
    if resume:
        folder.cut_steps(saved_step(checkpoints.state))
    devices.reset_peak_memory(ready.loaded.device)
    total, began, steps = fitting.total_steps(recipe.train, len(ready.data)), time.time(), 0
    for event in fitting.fit(
        ready.model,
        ready.task,
        ready.loaded,
        ready.data,
        splits.validation,
        recipe.train,
        seed=recipe.seed,
        checkpoints=checkpoints,
        accelerator=accelerator,
        resume=resume,
        track=lambda values, step: accelerator.log(values, step=step) if recipe.track else None,
        name_of=lambda row: str(splits.train[row].origin),
        should_stop=watcher.should_stop,
    ):
        step = event.step
        folder.append(
            "steps.jsonl",
            {
                "step": step.index,
                "epoch": step.epoch,
                "loss": step.loss,
                "learning_rate": step.learning_rate,
                "gradient_norm": step.gradient_norm,
                "supervised": step.supervised,
                "tokens": step.tokens,
                "seconds": step.seconds,
                **({"validation": event.scores, "best": event.best} if event.scores else {}),
            },
        )
        watcher.step(step, total, event.scores, event.best)
        steps = step.index
    if recipe.track:
        accelerator.end_training()
    return Trained(steps, devices.peak_memory(ready.loaded.device), {"training": time.time() - began})


def deliver(ready: Ready, folder: RunFolder) -> None:
    """Writes the model folder: adapter or full weights, tokenizer, template, generation settings."""
    folder.write_with(
        "model",
        lambda path: predictor.save(
            path,
            ready.model,
            ready.loaded,
            ready.task,
            task_name=ready.recipe.task,
            base=ready.recipe.model,
            adapter=ready.method.adapter,
        ),
    )


def measure(
    ready: Ready, splits: Splits, folder: RunFolder, trained: Trained, watcher: Watcher
) -> tuple[Evidence, dict[str, list[Prediction]]]:
    """Opens the test rows: the delivered model, reloaded from disk, against the base and the cheap baselines."""
    trainable, total = models.parameter_counts(ready.model)
    test, missing = splits.test, {}
    predictions: dict[str, list[Prediction]] = {}
    delivered = predictor.load(folder.path, device=ready.recipe.model.device, dtype=ready.recipe.model.dtype)
    with watcher.progress("testing the tuned model", len(test)) as progress:
        predictions["tuned"] = predict(delivered.task, delivered.loaded, test, progress=progress)
    del delivered
    with watcher.progress("testing the base model", len(test)) as progress:
        for name, found in _base(ready, splits, progress).items():
            if isinstance(found, str):
                missing[name] = found
            else:
                predictions[name] = found
    for name in ready.task.baselines:
        with watcher.progress(f"testing the baseline {name}", len(test)):
            inputs = [(example.id, as_text(example.input)) for example in test]
            predictions[name] = registry.resolve("baselines", name)(splits.train, inputs, seed=ready.recipe.seed)
    saved = sum(path.stat().st_size for path in folder.file("model").iterdir() if path.suffix == ".safetensors")
    evidence = evidences.compare(
        task=ready.recipe.task,
        primary=ready.task.primary,
        metrics={name: registry.resolve("metrics", name) for name in ready.task.metrics},
        targets={example.id: example.target for example in test},
        predictions=predictions,
        opponents=[name for name in predictions if name != "tuned"],
        not_measured=missing,
        costs={
            "seconds": trained.seconds["training"],
            "peak_memory_bytes": trained.peak_memory,
            "steps": trained.steps,
            "trainable_parameters": trainable,
            "total_parameters": total,
            "saved_bytes": saved,
        },
        details=_details(ready.task, test, predictions["tuned"]),
        seed=ready.recipe.seed,
    )
    return evidence, predictions


def manifest(ready: Ready, trained: Trained) -> dict[str, Any]:
    """What a reader needs to make the run again: versions, machine, seed, model, counts."""
    packages = ("torch", "transformers", "peft", "accelerate", "tokenizers", "numpy", "scikit-learn")
    return {
        "finesmith": importlib.metadata.version("finesmith"),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": {name: importlib.metadata.version(name) for name in packages},
        "device": devices.describe(ready.loaded.device),
        "dtype": str(ready.loaded.dtype).removeprefix("torch."),
        "seed": ready.recipe.seed,
        "model": ready.recipe.model.name,
        "method": ready.recipe.method,
        "task": ready.recipe.task,
        "steps": trained.steps,
        "created": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }


def card(ready: Ready, evidence: Evidence, facts: Mapping[str, Any]) -> str:
    """The model card. The base is named as on a hub only where it is from there."""
    recipe = ready.recipe
    about: cards.About = {
        "name": Path(recipe.out).name,
        "model": recipe.model.name,
        "method": recipe.method,
        "adapter": ready.method.adapter,
        "path": recipe.out,
        "data": recipe.data.path,
        "rows": facts["data"]["rows"],
        "split_hash": facts["data"]["split"],
        "notes": facts["notes"],
        "seed": recipe.seed,
        "recipe": recipe.to_yaml(),
        "versions": facts["packages"],
        "machine": facts["device"],
        "labels": getattr(ready.task, "labels", ()),
    }
    if "/" in recipe.model.name and not Path(recipe.model.name).exists():
        about["base_model"] = recipe.model.name
    return cards.render(evidence, about)


def _details(task: Task, test: Sequence[Example], tuned: Sequence[Prediction]) -> dict[str, Any]:
    """Per-class scores and confusions of a classifier; the first answers of a generator beside their references."""
    targets, outputs = [example.target for example in test], [row.output for row in tuned]
    if isinstance(task, Classification):
        return {"per_class": per_class(targets, outputs), "confusions": confusions(targets, outputs)}
    return {
        "samples": [
            {"id": row.id, "answer": row.output, "reference": example.target.content}
            for row, example in zip(tuned[:SAMPLES], test, strict=False)
            if isinstance(example.target, Message)
        ]
    }


def _plugins(recipe: Recipe) -> tuple[Task, Method]:
    task = registry.resolve("tasks", recipe.task)(recipe.section(recipe.task))
    return task, registry.resolve("methods", recipe.method)(recipe.section(recipe.method))


def _resolve(recipe: Recipe, task: Task, method: Method, loaded: Loaded, config: Any, rows: int) -> Recipe:
    """Fills in every `auto` of the training settings."""
    settings, values = recipe.train, {}
    if settings.learning_rate == "auto":
        values["learning_rate"] = method.learning_rate(models.parameter_counts(loaded.model)[1])
    if settings.epochs == "auto" and settings.max_steps is None:
        values["epochs"] = float(task.default_epochs(-(-rows // settings.batch_size)))
    if settings.micro_batch_tokens == "auto":
        values["micro_batch_tokens"] = 2048 if loaded.device.type == "cpu" else 16384
    context = models.context_length(config, loaded.tokenizer)
    if settings.max_length == "auto":
        values["max_length"] = min(context, 1 << 20)
    elif settings.max_length > context:
        raise RecipeError(f"train.max_length is {settings.max_length}, but the model's context is {context} tokens.")
    return recipe.replace(train=values) if values else recipe


def _with_length(task: Task, max_length: int) -> Task:
    """Tasks that cut or window their input remember the length, for inference."""
    state = task.state()
    return task.restore({**state, "max_length": max_length}) if "max_length" in state else task


def _encode(
    task: Task, tokenizer: Any, examples: Sequence[Example], recipe: Recipe, progress: Any
) -> tuple[EncodedSet, list[str]]:
    """All training sequences, and the rows that are longer than max_length (none are, unless the recipe allows it)."""
    limit, over = int(recipe.train.max_length), []

    def pieces() -> Any:
        for row, example in enumerate(examples):
            found = task.encode(example, row, tokenizer, limit + task.spare)
            progress(1)
            if any(len(piece.tokens) > limit for piece in found):
                over.append(str(example.origin))
                if recipe.data.over_length != "truncate":
                    continue
                found = task.encode(example, row, tokenizer, limit)
            yield from (piece for piece in found if piece.supervised)

    encoded = EncodedSet(pieces())
    if over and recipe.data.over_length == "error":
        raise DataError(
            f"{len(over)} rows are longer than {limit} tokens (the model's context, or train.max_length):",
            problems=over,
            hint="Set data.over_length to drop or truncate; every such row is then counted.",
        )
    if not len(encoded):
        raise DataError("No training row is left.")
    return encoded, over


def _pieces(task: Task, loaded: Loaded, examples: Sequence[Example], max_length: int) -> list[Encoded]:
    return list(
        chain.from_iterable(
            task.encode(example, row, loaded.tokenizer, max_length) for row, example in enumerate(examples)
        )
    )


def _precision(model: Any, loaded: Loaded, method: Method) -> Any:
    """Weights that move stay in float32; the frozen ones of an adapter run are narrowed to the compute precision."""
    if method.adapter and loaded.dtype != torch.float32:
        for parameter in model.parameters():
            if not parameter.requires_grad:
                parameter.data = parameter.data.to(loaded.dtype)
    return model


def _base(ready: Ready, splits: Splits, progress: Any) -> dict[str, list[Prediction] | str]:
    """The base before training, on the test rows; for a classifier also its frozen features under a linear head."""
    task, recipe = ready.task, ready.recipe
    loaded = models.load(recipe.model, task.kind, **task.load_arguments(), seed=recipe.seed)
    if not isinstance(task, Classification):
        task.prepare(loaded)
        return {"base": predict(task, loaded, splits.test, progress=progress)}
    max_length = int(recipe.train.max_length)
    parts = [_pieces(task, loaded, part, max_length) for part in (splits.train, splits.validation)]
    _head_first.fit_head(task, loaded, *parts)
    frozen = predict(task, loaded, splits.test)
    if task.multi_label or not models.is_decoder(loaded.model.config):
        why = (
            "the base is an encoder, which cannot answer without training"
            if not task.multi_label
            else "label scoring gives one label, and here several may hold"
        )
        return {"base": frozen, "zero-shot": f"{why}; 'base' is a linear head on its frozen features"}
    asked = models.load(recipe.model, "causal-lm", seed=recipe.seed)
    rows = splits.test[: max(1, ZERO_SHOT_SEQUENCES // len(task.labels))]
    answers = _zero_shot.score_labels(
        asked, [str(row.input) for row in rows], task.labels, max_length, progress=progress
    )
    return {
        "base": [Prediction(row.id, answer.output, answer.scores) for row, answer in zip(rows, answers, strict=True)],
        "frozen": frozen,
    }


def encode_one(recipe: Recipe, train_rows: Sequence[Example], example: Example) -> tuple[Any, list[Encoded]]:
    """Tokenizer and training sequences of one example, exactly as `build` would make them."""
    task, method = _plugins(recipe)
    task = task.fit(train_rows)
    loaded = models.load(recipe.model, task.kind, **task.load_arguments(), seed=recipe.seed)
    task, _ = task.prepare(loaded)
    recipe = _resolve(recipe, task, method, loaded, loaded.model.config, len(train_rows))
    max_length = int(recipe.train.max_length)
    return loaded.tokenizer, _with_length(task, max_length).encode(example, 0, loaded.tokenizer, max_length)


def base_of(run: str, tuned: predictor.Predictor, device: str) -> predictor.Predictor:
    """The base model of a finished run under the run's template, to stand beside the tuned one."""
    settings = recipes.load(RunFolder(run).require("recipe.yaml")).model.model_copy(update={"device": device})
    loaded = models.load(settings, tuned.task.kind, **tuned.task.load_arguments())
    task, _ = tuned.task.prepare(loaded)
    return predictor.Predictor(task, loaded)
