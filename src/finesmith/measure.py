"""The end of a run: the test rows are opened, every system answers them, and what was found is written down."""

from __future__ import annotations

import importlib.metadata
import platform
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from finesmith import predictor, registry
from finesmith import recipe as recipes
from finesmith.baselines import _features
from finesmith.baselines.base import NO_MEMORY, as_text
from finesmith.data.split import spread
from finesmith.errors import ModelError
from finesmith.evidence import claims, clusters
from finesmith.evidence import compare as evidences
from finesmith.metrics._confusion import confusions, matrix, per_class
from finesmith.models import attention, quantize
from finesmith.models import device as devices
from finesmith.models import load as models
from finesmith.report import card as cards
from finesmith.runfolder import RunFolder
from finesmith.stages import Ready, Trained, pieces
from finesmith.tasks import _answers, _head_first, _prompting
from finesmith.tasks.base import Task, predict
from finesmith.tasks.classification import Classification
from finesmith.tasks.generation import Generation
from finesmith.types import Evidence, Example, Message, Prediction, Splits
from finesmith.version import VERSION
from finesmith.watch import Watcher

ZERO_SHOT_SEQUENCES = 20_000
"""Most label sequences that the zero-shot opponent reads; above, it answers only so many test rows (n says so)."""
SAMPLES = 5


def measure(
    ready: Ready, folder: RunFolder, trained: Trained, watcher: Watcher, *, leaked: Sequence[str] = ()
) -> tuple[Evidence, dict[str, list[Prediction]]]:
    """Opens the test rows: the delivered model, reloaded from disk, against the base and the cheap baselines.

    `leaked` are ids of test rows that training has seen too: they are answered and not judged; the details have the
    scores with them.
    """
    trainable, total = models.parameter_counts(ready.model)
    devices.make_room(ready.model)
    test, missing = ready.splits.test, {}
    if ready.recipe.data.checks == "off":
        missing[claims.LEAKS] = "data.checks is off, so nobody looked for them"
    predictions: dict[str, list[Prediction]] = {}
    asked = ready.recipe.model
    delivered = predictor.load(
        folder.path, device=asked.device, dtype=asked.dtype, trust_remote_code=asked.trust_remote_code
    )
    with watcher.progress("testing the tuned model", len(test)) as progress:
        predictions["tuned"] = predict(delivered.task, delivered.loaded, test, progress=progress)
    del delivered
    with watcher.progress("testing the base model", len(test)) as progress:
        for name, found in _base(ready, progress).items():
            if isinstance(found, str):
                missing[name] = found
            else:
                predictions[name] = found
    cheap, absent = _cheap(ready, watcher)
    predictions |= cheap
    missing |= absent
    saved = sum(path.stat().st_size for path in folder.file("model").iterdir() if path.suffix == ".safetensors")
    metrics = {name: registry.resolve("metrics", name) for name in ready.task.metrics}
    targets, together, seed = {row.id: row.target for row in test}, clusters.of(test), ready.recipe.seed
    judged = evidences.judged(targets, leaked)
    answers = {name: [row for row in rows if row.id in judged] for name, rows in predictions.items()}
    evidence = evidences.compare(
        task=ready.recipe.task,
        primary=ready.task.primary,
        metrics=metrics,
        targets={name: target for name, target in targets.items() if name in judged},
        predictions=answers,
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
        details={
            **_details(ready.task, [row for row in test if row.id in judged], answers["tuned"]),
            **evidences.without(
                leaked, metrics[ready.task.primary], targets, predictions, clusters=together, seed=seed
            ),
        },
        ways={"frozen": "train it with --method head" if ready.recipe.method != "head" else ""},
        clusters=together,
        seed=seed,
    )
    return evidence, predictions


def manifest(ready: Ready, trained: Trained) -> dict[str, Any]:
    """What a reader needs to make the run again: versions, machine, seed, model, counts."""
    packages = ("torch", "transformers", "peft", "accelerate", "tokenizers", "numpy", "scikit-learn")
    return {
        "finesmith": VERSION,  # not asked of the installer: a checkout on the path is no package
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": {name: importlib.metadata.version(name) for name in packages},
        "device": devices.describe(ready.loaded.device),
        "dtype": str(ready.loaded.dtype).removeprefix("torch."),
        "seed": ready.recipe.seed,
        "model": ready.recipe.model.name,
        "quantize": _held(ready),
        "method": ready.recipe.method,
        "task": ready.recipe.task,
        "steps": trained.steps,
        "sequences": len(ready.data),
        "created": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }


def _held(ready: Ready) -> str:
    """In which few bits the base is held: as the recipe asks, or as its checkpoint is."""
    asked = ready.recipe.model.quantize
    return asked if asked != "none" else quantize.held(ready.loaded.model.config) or asked


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
        "multi_label": isinstance(ready.task, Classification) and ready.task.multi_label,
    }
    if isinstance(ready.task, Generation):
        about["asking"] = _answers.asking(ready.task.learnt, ready.loaded.tokenizer)
    if recipe.model.quantize != "none":
        about["quantize"] = recipe.model.quantize
        about["quantization"] = quantize.keywords(recipe.model.quantize, ready.loaded.model)
    if "/" in recipe.model.name and not Path(recipe.model.name).exists():
        about["base_model"] = recipe.model.name
    if recipe.model.revision:
        about["revision"] = recipe.model.revision
    return cards.render(evidence, about)


def base_of(
    run: str, tuned: predictor.Predictor, device: str, *, trust_remote_code: bool = False
) -> predictor.Predictor:
    """The base model of a finished run under the run's template, to stand beside the tuned one."""
    asked = {"device": device, "trust_remote_code": trust_remote_code}
    recipe = recipes.load(RunFolder(run).require("recipe.yaml"), trusted=trust_remote_code)
    settings = attention.to_answer(recipe.model.model_copy(update=asked))
    loaded = models.load(settings, tuned.task.kind, **tuned.task.load_arguments())
    tuned.task.prepare(loaded)  # not the task that comes of it: that no longer knows what the training rows were like
    return predictor.Predictor(tuned.task.for_base(), loaded)


def opponents(task: str) -> list[str]:
    """The baselines that say they are for this task."""
    return [name for name in registry.available("baselines") if task in registry.resolve("baselines", name).tasks]


def _details(task: Task, test: Sequence[Example], tuned: Sequence[Prediction]) -> dict[str, Any]:
    """Per-class scores and confusions of a classifier; the first answers of a generator beside their references."""
    targets, outputs = [example.target for example in test], [row.output for row in tuned]
    if isinstance(task, Classification):
        found = matrix(targets, outputs)
        return {
            "per_class": per_class(targets, outputs),
            "confusions": confusions(targets, outputs),
            **({"confusion_matrix": found} if found else {}),
        }
    return {
        "samples": [
            {"id": row.id, "answer": row.output, "reference": example.target.text}
            for row, example in zip(tuned[:SAMPLES], test, strict=False)
            if isinstance(example.target, Message)
        ]
    }


def _base(ready: Ready, progress: Any) -> dict[str, list[Prediction] | str]:
    """The base before training, on the test rows; for a classifier also its frozen features under a linear head."""
    task, recipe = ready.task, ready.recipe
    loaded = models.load(recipe.model, task.kind, **task.load_arguments(), seed=recipe.seed)
    if not isinstance(task, Classification):
        task.prepare(loaded)
        return {"base": predict(task.for_base(), loaded, ready.splits.test, progress=progress)}
    answers = frozen(task, loaded, ready.splits, int(recipe.train.max_length))
    if task.multi_label or not models.is_decoder(loaded.model.config):
        why = (
            "the base is an encoder, which cannot answer without training"
            if not task.multi_label
            else "label scoring gives one label, and here several may hold"
        )
        return {"base": answers, "zero-shot": f"{why}; 'base' is a linear head on its frozen features"}
    try:
        asked = models.load(recipe.model, "causal-lm", seed=recipe.seed)
    except ModelError as error:  # a trunk without an output layer
        return {
            "base": answers,
            "zero-shot": f"the base cannot be prompted: {error} 'base' is a linear head on its frozen features",
        }
    rows = spread(ready.splits.test, max(1, ZERO_SHOT_SEQUENCES // len(task.labels)))
    context, day = models.context_length(asked.model.config, asked.tokenizer), time.strftime("%Y-%m-%d", time.gmtime())
    prompts = _prompting.LabelPrompts(asked, task.labels, context, day)  # the day that the manifest says
    said, _ = prompts.ask(rows, prompts.forms[0], [()] * len(rows), progress, reading=_prompting.USUAL)
    return {"base": said[_prompting.USUAL], "frozen": answers}


def _cheap(ready: Ready, watcher: Watcher) -> tuple[dict[str, list[Prediction]], dict[str, str]]:
    """The baselines' answers to the test rows; why one has none, and what none has learnt from."""
    train, test = ready.splits.train, ready.splits.test
    inputs, answers, missing = [(row.id, as_text(row.input)) for row in test], {}, {}
    for name in opponents(ready.recipe.task):
        with watcher.progress(f"testing the baseline {name}", len(test)):
            try:
                answers[name] = registry.resolve("baselines", name)(train, inputs, seed=ready.recipe.seed)
            except MemoryError:
                missing[name] = NO_MEMORY
    if why := _features.left_out([as_text(row.input) for row in train]):
        missing["all training rows"] = why
    return answers, missing


def frozen(task: Classification, loaded: models.Loaded, splits: Splits, max_length: int) -> list[Prediction]:
    """The test rows' answers of a linear head that is fitted on the base's frozen features."""
    parts = [pieces(task, loaded, part, max_length) for part in (splits.train, splits.validation)]
    _head_first.fit_head(task, loaded, *parts, dropout=False)
    return predict(task, loaded, splits.test)
