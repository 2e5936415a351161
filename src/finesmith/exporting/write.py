"""`export`: a finished run as one folder that other tools take, proved against the trained model before it is there."""

from __future__ import annotations

import gc
import importlib.metadata
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from finesmith import predictor, registry
from finesmith import recipe as recipes
from finesmith.data.sources import digest
from finesmith.errors import ExportError, ModelError, RecipeError, RunError, nearest
from finesmith.evidence import plain
from finesmith.exporting import parity, proof
from finesmith.methods.base import Method
from finesmith.models import licences, place
from finesmith.models import load as models
from finesmith.models.device import choose_device, is_out_of_memory
from finesmith.models.load import Loaded
from finesmith.recipe import Recipe
from finesmith.report import card as cards
from finesmith.runfolder import ABSTAIN, CARD, RunFolder
from finesmith.tasks import _answers
from finesmith.tasks.base import Task
from finesmith.tasks.classification import Classification
from finesmith.version import VERSION
from finesmith.watch import Watcher

REPORT = "export.json"
"""In the exported folder: what was compared, what came of it, and the hash of every file."""
DTYPES = ("auto", "float32", "bfloat16", "float16")
INT8 = 0.1
"""Largest relative difference that taking an int8 base back to float32 may make: it rounds the activations no more."""


@dataclass(frozen=True)
class Exported:
    """A folder that was written and proved. `dequantised` is how the run held its base (none, nf4, int8)."""

    path: Path
    dtype: str
    merged: bool
    dequantised: str
    scale: float
    bytes: int
    proof: proof.Proof


def export(
    path: Path,
    to: str | Path,
    prepare: Callable[[Recipe], Any],
    *,
    dtype: str = "auto",
    rows: int = 16,
    device: str = "auto",
    trust_remote_code: bool = False,
    watcher: Watcher,
) -> Exported:
    """Writes a finished run's model into a new folder, or nothing.

    Args:
        path: a finished run; at another scale than 1 the scaled model is exported.
        to: the folder to make; it may be there if it is empty.
        prepare: reads and splits the data of a recipe, as `run.prepare` does.
        dtype: of the weights: float32, bfloat16, float16; auto keeps that of the base.
        rows: how many test rows both models are asked; where the data is gone, shipped passages.
        device: where it is computed.
        trust_remote_code: run Python code that comes with the base.
        watcher: receives notes and progress.

    Raises:
        RunError: no finished run; the folder holds something or cannot be written; the base needs code of its own,
            which was not asked for.
        RecipeError: no such dtype.
        ExportError: the folder does not answer as the trained model does, or memory does not suffice.
    """
    if dtype not in DTYPES:
        raise RecipeError(f"There is no dtype '{dtype}'. {nearest(dtype, DTYPES)}")
    if rows < 1:
        raise RecipeError(f"rows must be 1 at least, not {rows}: without rows nothing is proved.")
    folder, target = RunFolder(path), _target(to)
    folder.require("evidence.json")
    recipe = recipes.of_run(folder, trust_remote_code=trust_remote_code)
    done: list[Exported] = []

    def write(part: Path) -> None:
        asked = proof.rows_of(folder, prepare, rows)
        with _memory_told(folder, device):
            done.append(_write(folder, recipe, part, target, asked, dtype, device, watcher))

    RunFolder(target.parent).write_with(target.name, write)
    return done[0]


@contextmanager
def _memory_told(folder: RunFolder, device: str) -> Iterator[None]:
    """What to do where memory does not suffice: also a base that was trained in 4 bits is merged in float32.

    Raises:
        ExportError: that was it.
    """
    try:
        yield
    except (RuntimeError, MemoryError, ModelError) as error:
        if not any(isinstance(each, Exception) and is_out_of_memory(each) for each in (error, error.__cause__)):
            raise
        weights = folder.read_json("evidence.json")["costs"]["total_parameters"]
        where = choose_device(device)
        raise ExportError(
            f"The memory of '{where}' does not suffice: for an export the model is held in float32, "
            f"{weights:,} weights in {4 * weights / 1e9:.1f} GB and some more to compute with.",
            hint="Use a machine with more memory."
            if where.type == "cpu"
            else "Add --device cpu: it is slower, and takes the machine's memory.",
        ) from error


def _target(to: str | Path) -> Path:
    target = Path(to).expanduser().resolve()
    if target.is_file() or (target.is_dir() and any(target.iterdir())):
        held = "is a file" if target.is_file() else "holds files already"
        raise RunError(f"'{to}' {held}.", hint="Name a folder that is not there yet.")
    return target


def _write(
    folder: RunFolder,
    recipe: recipes.Recipe,
    part: Path,
    target: Path,
    asked: proof.Asked,
    dtype: str,
    device: str,
    watcher: Watcher,
) -> Exported:
    """Merges, writes and proves, so that one model at a time is in memory."""
    method = registry.resolve("methods", recipe.method)(recipe.section(recipe.method))
    own_code = recipe.model.trust_remote_code
    tuned = predictor.load(folder.path, device=device, dtype="float32", trust_remote_code=own_code)
    task, loaded = tuned.task, tuned.loaded
    narrow = loaded.stored if dtype == "auto" else getattr(torch, dtype)
    trained, asked = proof.listen(task, loaded, asked, watcher)
    model, merging = _merged(method, loaded, trained, recipe.model.quantize, watcher)
    parity.round_to(model, narrow)
    rounded = proof.logits("the rounded model", model, trained.rows, watcher)
    named = str(narrow).removeprefix("torch.")
    fits = np.isfinite(parity.apart(trained.logits, rounded))
    proof.refuse(bool(fits), f"some of its values do not fit {named}; give another --dtype")
    _save(part, model, replace(loaded, model=model, stored=narrow), task)
    where = loaded.device
    del tuned, loaded, model
    gc.collect()
    whole = models.plainly(part, task.kind, where, dtype=torch.float32, own_code=own_code)
    writing = proof.relative(rounded, proof.logits("the folder in float32", whole.model, trained.rows, watcher))
    proof.refuse(writing <= parity.TOLERANCE, f"read again, its logits differ by {writing:.2g} of the largest")
    if narrow != torch.float32:
        del whole
        whole = models.plainly(part, task.kind, where, dtype=None, own_code=own_code)
    proved = proof.prove(task, whole, trained, asked, merging, writing, watcher)
    scale = float(folder.read_json("manifest.json").get("scale", {}).get("scale", 1.0))
    held = recipe.model.quantize
    size = sum(file.stat().st_size for file in part.glob("*.safetensors"))
    found = Exported(target, named, method.adapter, held, scale, size, proved)
    _tell(folder, part, recipe, task, found, whole)
    return found


def _merged(method: Method, loaded: Loaded, trained: proof.Trained, held: str, watcher: Watcher) -> tuple[Any, float]:
    """The plain model in float32, and how far its logits are from the trained one's."""
    if not method.adapter:
        return loaded.model, 0.0
    if held != "none":
        watcher.note(f"the base was held in {held}: the folder gets the values that it had so, in full width")
    with models.quiet():
        model: Any = method.merge(loaded.model)
    if hasattr(loaded.model, "generation_config"):
        model.generation_config = loaded.model.generation_config  # with the tokens at which an answer ends
    model.eval()
    merging = proof.relative(trained.logits, proof.logits("the merged model", model, trained.rows, watcher))
    limit = INT8 if held == "int8" else parity.TOLERANCE
    proof.refuse(merging <= limit, f"with its adapters merged, its logits differ by {merging:.2g} of the largest")
    return model, merging


def _save(part: Path, model: Any, loaded: Loaded, task: Task) -> None:
    """Weights, configuration, tokenizer with its template, generation settings."""
    predictor.save_weights(part, model, loaded, adapter=False)
    if isinstance(task, Classification):
        loaded.tokenizer.init_kwargs[models.READS] = loaded.tokenizer.model_max_length  # for who trains it further
        loaded.tokenizer.model_max_length = task.max_length  # where a pipeline cuts a text, as the run does
    loaded.tokenizer.save_pretrained(part)


def _tell(run: RunFolder, part: Path, recipe: Recipe, task: Any, found: Exported, whole: Loaded) -> None:
    """The card, the licences, what Finesmith needs to load the folder, the report."""
    told = cards.About(path=found.path.name, multi_label=isinstance(task, Classification) and task.multi_label)
    told["asking"] = asking = _answers.asking(task.learnt, whole.tokenizer) if proof.writes(task) else {}
    for file in licences.files(recipe.model):
        if file.name != "README.md":
            shutil.copyfile(file, part / file.name)
        else:
            told["license"] = cards.licence_of(_card(RunFolder(file.parent)))
    folder = RunFolder(part)
    folder.write_text("README.md", cards.exported(_card(run), recipe.task, told))
    card = run.read_json(f"model/{CARD}")
    base = recipe.model.name if place.on_a_hub(recipe.model.name) else Path(recipe.model.name).name
    settings = {**card["model"], "name": base, "quantize": "none", "attention": "auto"}
    folder.write_json(CARD, {**card, "adapter": False, "model": settings})
    if run.file(f"model/{ABSTAIN}").exists():
        shutil.copyfile(run.file(f"model/{ABSTAIN}"), part / ABSTAIN)
    stop = list(task.learnt.stop) if asking else []
    values = {
        **plain.values_of(found),
        "path": found.path.name,
        "stop_tokens": whole.tokenizer.convert_ids_to_tokens(stop),
        **asking,
    }
    packages = {name: importlib.metadata.version(name) for name in ("torch", "transformers", "peft")}
    facts = {"run": run.path.name, "base": base, "revision": recipe.model.revision, "method": recipe.method}
    hashes = {file.name: digest(file) for file in sorted(part.iterdir()) if file.is_file()}
    folder.write_json(REPORT, {**facts, **values, "finesmith": VERSION, "packages": packages, "files": hashes})


def _card(folder: RunFolder) -> str:
    return folder.read_text("README.md")
