"""The stages of a run up to the delivered model: build, train, deliver. `run.py` puts them in order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from accelerate.tracking import get_available_trackers

from finesmith import predictor, registry, resolve
from finesmith.errors import DataError, MissingExtraError, RecipeError
from finesmith.methods.base import Method, spared, unreached
from finesmith.models import causal, fast
from finesmith.models import device as devices
from finesmith.models import load as models
from finesmith.models.load import Loaded
from finesmith.recipe import Recipe
from finesmith.runfolder import RunFolder
from finesmith.tasks import _calls, _evaluation, _head_first
from finesmith.tasks.base import Encoded, Task
from finesmith.tasks.classification import Classification
from finesmith.train import encode, loop, parallel, ways
from finesmith.train import fill as filling
from finesmith.train import fit as fitting
from finesmith.train.batches import EncodedSet
from finesmith.train.costs import Costs, earlier
from finesmith.train.encode import Long
from finesmith.train.proof import prove
from finesmith.train.state import saved_facts, saved_step
from finesmith.types import Example, Splits
from finesmith.watch import Watcher


@dataclass(frozen=True)
class Ready:
    """Everything that step 1 needs. `recipe` has every automatic value filled in."""

    recipe: Recipe
    task: Task
    method: Method
    loaded: Loaded
    model: Any
    splits: Splits
    data: EncodedSet
    long: Long
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Trained:
    """What training cost."""

    steps: int
    peak_memory: int
    seconds: dict[str, float] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    earlier: float = 0.0
    """Of these seconds, those before a resume, in other processes."""


def build(recipe: Recipe, splits: Splits, watcher: Watcher) -> Ready:
    """From the split rows to a model with exactly the named weights open, and the proof that the tokens are right."""
    _check_trackers(recipe)
    task, method = _plugins(recipe)
    if recipe.train.packing and task.kind == "sequence-classification":
        raise RecipeError("train.packing has no effect: a classifier reads one text in each row.")
    task = task.fit(splits.train)
    config = models.load_config(recipe.model)
    arguments = {**task.load_arguments(), "seed": recipe.seed, "moving": not method.adapter}
    loaded = models.load(recipe.model, task.kind, **arguments)
    unsure = causal.check(loaded.model, recipe.model.name) if task.kind == "causal-lm" else ()
    task, notes = task.prepare(loaded)
    recipe = resolve.training(recipe.with_section(recipe.task, task.settings), method, loaded, config)
    task = _with_length(task, int(recipe.train.max_length))
    max_length = int(recipe.train.max_length)
    encoded, splits, long = _encode(task, loaded, splits, recipe, watcher)
    if task.kind == "sequence-classification" and len(encoded):
        fast.check_reads(loaded.model, encoded[0].tokens.tolist(), recipe.model.name)
    recipe = resolve.epochs(recipe, task, len(encoded))
    splits = _calls.written(task, loaded.tokenizer, splits)
    cut = set(long.cut)
    whole = [row for row in splits.train if str(row.origin) not in cut] if cut else splits.train
    proof = prove(task, loaded.tokenizer, whole, max_length)
    notes = _say(watcher, *long.notes(), *loaded.notes, *unsure, *notes, proof)
    if isinstance(task, Classification) and task.settings.head_first:
        with watcher.progress(
            "fitting the head, training + validation", len(encoded) + len(splits.validation)
        ) as progress:
            held_out = pieces(task, loaded, splits.validation, max_length)
            fitted = _head_first.fit_head(task, loaded, encoded, held_out, progress=progress)
        notes += _say(watcher, fitted)
    shared = max_length if recipe.train.packing else 0
    blocked, chosen = ways.prepare(recipe.speed, task.kind, loaded, recipe.model.attention, shared=shared)
    recipe, notes = recipe.replace(speed={"block_attention": blocked}), notes + _say(watcher, *chosen)
    head = task.head(loaded.model)
    fresh = tuple(name for name in ("pooler",) if any("pooler" in note for note in loaded.notes))
    model = _precision(method.apply(loaded.model, head=(*head, *fresh), seed=recipe.seed), loaded, method)
    ways.take(recipe.speed, model, loaded)
    recipe, fitted_to = resolve.passes(recipe, model, task, loaded, encoded)
    notes += _say(watcher, *fitted_to)
    ways.compile_blocks(recipe.speed, model)
    trainable, total = models.parameter_counts(model)
    if method.adapter and (names := spared(loaded.model)):
        notes += _say(
            watcher, f"PEFT puts no adapters on {names[0]} of this architecture: its kernels read that matrix directly"
        )
    if method.adapter and (share := unreached(loaded.model)):
        notes += _say(watcher, f"adapters do not reach the experts, {share:.0%} of the weights in the model's blocks")
    notes += _say(watcher, f"{trainable:,} of {total:,} weights move ({trainable / total:.2%})")
    return Ready(recipe, task, method, loaded, model, splits, encoded, long, notes)


def train(ready: Ready, folder: RunFolder, watcher: Watcher, *, resume: bool) -> Trained:
    """Trains and leaves the kept weights in the model; every step goes to steps.jsonl."""
    recipe, splits = ready.recipe, ready.splits
    accelerator = fitting.accelerator_for(
        ready.loaded.device,
        log_with=recipe.track or None,
        project_dir=str(folder.path) if recipe.track else None,
    )
    if recipe.track:
        accelerator.init_trackers("finesmith", config={"recipe": recipe.to_yaml()})
    checkpoints = _checkpoints(folder)
    checkpoints.folder.mkdir(exist_ok=True)
    facts = saved_facts(checkpoints.state) if resume else {}
    before = folder.cut_steps(facts.get("step", 0)) if resume else []
    devices.reset_peak_memory(ready.loaded.device)
    processes, room = parallel.Processes(int(recipe.speed.processes)), loop.room_for(recipe.train, watcher.note)
    costs = Costs(ready.loaded.device, processes, **earlier(facts, before))
    total = fitting.total_steps(recipe.train, len(ready.data))
    steps = before[-1]["step"] if before else 0
    cache, notes = filling.fill(
        ready.task,
        replace(ready.loaded, model=ready.model),
        ready.data,
        recipe.train,
        gigabytes=recipe.speed.cache_gigabytes,
        folder=checkpoints.folder,
        seed=recipe.seed,
        total=total if fitting.steps_are_left(facts, recipe.train, total) else 0,
        watcher=watcher,
    )
    events = fitting.fit(
        ready.model,
        ready.task,
        ready.loaded,
        ready.data,
        splits.validation,
        recipe.train,
        seed=recipe.seed,
        checkpoints=checkpoints,
        accelerator=accelerator,
        cache=cache,
        processes=processes,
        room=room,
        costs=costs.so_far,
        resume=resume,
        track=lambda values, step: accelerator.log(values, step=step) if recipe.track else None,
        name_of=lambda row: str(splits.train[row].origin),
        should_stop=watcher.should_stop,
    )
    with closing(cache), closing(processes), watcher.training(total):
        for event in events:
            steps = _record(event, total, folder, watcher)
    if recipe.track:
        accelerator.end_training()
    told = (*processes.notes, *_evaluation.notes(ready.model))
    ways.leave(ready.model)
    spent = costs.so_far()
    seconds = {"training": spent["seconds"]}
    return Trained(steps, int(spent["memory"]), seconds, notes + _say(watcher, *told) + room.notes, costs.seconds)


def _record(event: fitting.Event, total: int, folder: RunFolder, watcher: Watcher) -> int:
    """Logs and shows a step; its number."""
    folder.append("steps.jsonl", {**event.row(), "of": total})
    watcher.step(event.step, total, event.scores, event.best)
    return event.step.index


def _checkpoints(folder: RunFolder) -> fitting.Checkpoints:
    return fitting.Checkpoints(
        folder.file("checkpoint"), lambda name, writer: folder.write_with(f"checkpoint/{name}", writer)
    )


def lost(folder: RunFolder) -> str:
    """What a run loses that is ended between two saved states, in words; empty where that is nothing."""
    saved = saved_step(_checkpoints(folder).state)
    if folder.last_step <= saved:
        return ""
    return f"steps after {saved} are lost" if saved else "no step was saved, so the training begins again"


def deliver(ready: Ready, folder: RunFolder, *, columns: Mapping[str, str]) -> None:
    """Writes the model folder: adapter or full weights, tokenizer, template, settings, what the columns meant."""
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
            columns=columns,
        ),
    )


def _say(watcher: Watcher, *notes: str) -> tuple[str, ...]:
    """The notes, each shown as soon as it is known."""
    for note in notes:
        watcher.note(note)
    return notes


def _check_trackers(recipe: Recipe) -> None:
    """A tracker that is not installed is an error: Accelerate would leave it out in silence."""
    installed = {str(tracker) for tracker in get_available_trackers()}
    for tracker in recipe.track:
        if tracker not in installed:
            raise MissingExtraError(tracker, tracker, f"track: {tracker}")


def _plugins(recipe: Recipe) -> tuple[Task, Method]:
    task = registry.resolve("tasks", recipe.task)(recipe.section(recipe.task))
    return task, registry.resolve("methods", recipe.method)(recipe.section(recipe.method))


def _with_length(task: Task, max_length: int) -> Task:
    """Tasks that cut or window their input remember the length, for inference."""
    state = task.state()
    return task.restore({**state, "max_length": max_length}) if "max_length" in state else task


def _encode(
    task: Task, loaded: Loaded, splits: Splits, recipe: Recipe, watcher: Watcher
) -> tuple[EncodedSet, Splits, Long]:
    """The training sequences, the splits without rows that are left out, and all rows that are too long."""
    limit, policy = int(recipe.train.max_length), recipe.data.over_length
    with watcher.progress("encoding", len(splits.train)) as progress:
        data, train_rows, long = encode.training_set(
            task,
            loaded.tokenizer,
            splits.train,
            limit=limit,
            policy=policy,
            progress=progress,
            packing=recipe.train.packing,
        )
    validation, more = encode.held_out(task, loaded.tokenizer, splits.validation, limit=limit, policy=policy)
    test, most = encode.held_out(task, loaded.tokenizer, splits.test, limit=limit, policy=policy)
    splits, long = replace(splits, train=train_rows, validation=validation, test=test), long + more + most
    if policy == "error":
        encode.refuse(long)
    if not splits.validation or not splits.test:
        raise DataError(f"No validation or test row fits into {limit} tokens.", hint=f"{encode.LONGER}.")
    return data, splits, long


def pieces(task: Task, loaded: Loaded, examples: Sequence[Example], max_length: int) -> list[Encoded]:
    """All training sequences of some examples, in order."""
    tokenizer = loaded.tokenizer
    return [piece for row, each in enumerate(examples) for piece in task.encode(each, row, tokenizer, max_length)]


def _precision(model: Any, loaded: Loaded, method: Method) -> Any:
    """Weights that move stay in float32; the frozen ones of an adapter run are narrowed to the compute precision."""
    if method.adapter and loaded.dtype != torch.float32:
        for parameter in model.parameters():
            if not parameter.requires_grad and parameter.is_floating_point():  # quantised ones are bytes
                parameter.data = parameter.data.to(loaded.dtype)
    return model


def encode_one(recipe: Recipe, train_rows: Sequence[Example], example: Example) -> tuple[Any, list[Encoded], int]:
    """Tokenizer and training sequences of one example, as `build` would make them where they are not too long, which
    they are above so many tokens."""
    task, method = _plugins(recipe)
    task = task.fit(train_rows)
    loaded = models.load(recipe.model, task.kind, **task.load_arguments(), seed=recipe.seed)
    task, _ = task.prepare(loaded)
    recipe = resolve.training(recipe, method, loaded, loaded.model.config)
    limit = int(recipe.train.max_length)
    whole = encode.WIDEST if task.spare else limit  # documents are read in windows, all of them
    return loaded.tokenizer, _with_length(task, limit).encode(example, 0, loaded.tokenizer, whole), limit
