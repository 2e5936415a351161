"""`set-scale`: the delivered model goes to a chosen point between base and tuned model, without training, and back."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from finesmith import predictor, reopening
from finesmith import recipe as recipes
from finesmith.errors import RecipeError, RunError, nearest
from finesmith.evidence import plain
from finesmith.measurements import _line
from finesmith.measurements.base import Study
from finesmith.recipe import Recipe
from finesmith.report import card as cards
from finesmith.runfolder import ABSTAIN, CARD, RunFolder
from finesmith.types import Splits
from finesmith.watch import Watcher

POINTS = ("keep", "knee", "max")
LARGEST = 2.0
_ALLOWED = f"Give keep, knee, max, or a number from 0 (the base) over 1 (as tuned) to {LARGEST:g}."
TUNED = "tuned"
"""In a run whose scale is not 1: the model folder as it was tuned, bit for bit."""


@dataclass(frozen=True)
class Scaled:
    """What the model folder holds now. `point` is the word that was asked for; `measured` what is known of the point
    from test rows and passages, `metric` what its `test` counts in."""

    path: Path
    scale: float
    before: float
    point: str = ""
    measured: Mapping[str, Any] | None = None
    metric: str = ""


def set_scale(
    path: str | Path, wanted: str | float, *, trust_remote_code: bool = False, watcher: Watcher | None = None
) -> Scaled:
    """Writes the model folder of a finished run anew, at another scale; 1 brings back the tuned model's own files.

    Args:
        path: a finished run.
        wanted: keep, knee or max, as `finesmith compare` found them; or a scale from 0 (the base) to 2.
        trust_remote_code: run Python code that comes with the base.

    Raises:
        RunError: no finished run; a point that was not measured; or a base with code of its own that was not asked for.
        RecipeError: no such point or scale; or a run that has no line to its base.
    """
    folder = RunFolder(path)
    folder.require("evidence.json")
    scale, point = _settle(folder, str(wanted))
    recipe = recipes.of_run(folder, trust_remote_code=trust_remote_code)
    if scale != 1 and (why := _line.refusal(folder, recipe)):
        raise RecipeError(f"The model of '{path}' has no other scale than 1: {why}.")
    before = float(folder.read_json("manifest.json").get("scale", {}).get("scale", 1.0))
    watcher = watcher or Watcher()
    with RunFolder.changing(path) as folder:
        for note in folder.notes:
            watcher.note(note)
        if folder.file("README.md").exists():
            folder.read_text("README.md")  # one that cannot be read is found out before anything is changed
        if scale == 1:
            _restore(folder)
        else:
            if not folder.file(TUNED).is_dir():
                folder.copy("model", TUNED)
            _write(folder, recipe, scale, watcher)
        done = Scaled(folder.path, scale, before, point, _measured(folder, scale), _metric(folder))
        _say(folder, done)
    return done


def _settle(folder: RunFolder, wanted: str) -> tuple[float, str]:
    """The scale, and the point's name where one was asked for."""
    if wanted in POINTS:
        if not folder.file("measured/frontier.json").exists():
            raise RunError(
                f"'{folder.path}' has no measured points yet, so '{wanted}' is not known.",
                hint=f"Find them with: finesmith compare {folder.path} --only frontier",
            )
        points = folder.read_json("measured/frontier.json")["numbers"]["operating_points"]
        return float(points[wanted]["scale"]), wanted
    try:
        scale = float(wanted)
    except ValueError:
        raise RecipeError(f"There is no point '{wanted}'. {nearest(wanted, POINTS)}", hint=_ALLOWED) from None
    if not (math.isfinite(scale) and 0 <= scale <= LARGEST):
        raise RecipeError(f"The scale {wanted} is not between 0 and {LARGEST:g}.", hint=_ALLOWED)
    return scale, ""


def _restore(folder: RunFolder) -> None:
    """The tuned model's own files, also where `model/` was lost."""
    if folder.file(TUNED).is_dir():
        folder.copy(TUNED, "model")
        folder.remove(TUNED)
    folder.require("model")


def _write(folder: RunFolder, recipe: Recipe, scale: float, watcher: Watcher) -> None:
    """The model folder from `tuned/`: of an adapter the factor in its configuration and the head, else all weights."""
    tuned = RunFolder(folder.file(TUNED))
    card = tuned.read_json(CARD)
    config = tuned.read_json("adapter_config.json") if card["adapter"] else None
    line = None
    if config is None or config.get("modules_to_save"):
        line = _line.of(_study(folder, recipe, watcher))
        line.between.at(scale)

    def write(part: Path) -> None:
        RunFolder(part.parent).copy(TUNED, part.name)
        RunFolder(part).remove(ABSTAIN)  # the threshold is the tuned model's, which set-scale 1 brings back
        if line is not None:
            loaded = line.predictor.loaded
            predictor.save_weights(part, loaded.model, loaded, adapter=card["adapter"])
        if config is not None:
            RunFolder(part).write_json("adapter_config.json", _scaled(config, scale))
        RunFolder(part).write_json(CARD, {**card, "scale": scale})

    folder.write_with("model", write)


def _study(folder: RunFolder, recipe: Recipe, watcher: Watcher) -> Study:
    """The run, opened; its rows only where the head at scale 0 has yet to be fitted."""
    task = predictor.answering(folder.file(TUNED), documents=True).task
    if task.kind == "sequence-classification" and not folder.file(_line.START).exists():
        own = recipe.model.trust_remote_code
        return reopening.open_study(folder.path, effort="quick", options={}, trust_remote_code=own, watcher=watcher)
    evidence = plain.from_json(folder.read_json("evidence.json"))
    return Study(folder, recipe, Splits((), (), (), ""), task, {}, evidence, {}, 0.0, 0.0)


def _scaled(config: Mapping[str, Any], scale: float) -> dict[str, Any]:
    """An adapter's configuration in which its update counts `scale` times as much; no tensor changes."""
    pattern = {name: alpha * scale for name, alpha in (config.get("alpha_pattern") or {}).items()}
    return {**config, "lora_alpha": config["lora_alpha"] * scale, "alpha_pattern": pattern}


def _measured(folder: RunFolder, scale: float) -> dict[str, Any] | None:
    """What the frontier reported of this scale, if it is one of its points."""
    if not folder.file("measured/frontier.json").exists():
        return None
    numbers = folder.read_json("measured/frontier.json")["numbers"]
    known = [*numbers["operating_points"].values(), *numbers["ends"].values()]
    return next((point for point in known if point["scale"] == scale), None)


def _metric(folder: RunFolder) -> str:
    return str(folder.read_json("evidence.json")["metric"])


def _say(folder: RunFolder, done: Scaled) -> None:
    """In the manifest and on the card; a tuned model's own scale needs no word."""
    facts = folder.read_json("manifest.json")
    facts.pop("scale", None)
    if done.scale != 1:
        facts["scale"] = {"scale": done.scale, **({"point": done.point} if done.point else {})}
    folder.write_json("manifest.json", facts)
    if folder.file("README.md").exists():
        card = cards.with_scale(folder.read_text("README.md"), done.scale, done.point, done.measured, done.metric)
        folder.write_text("README.md", card)
