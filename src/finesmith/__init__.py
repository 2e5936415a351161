"""Finesmith: fine-tune a pretrained model on your own examples, and see what it gained.

import finesmith
run = finesmith.tune("tickets.csv", model="embedded", method="lora")
print(run.evidence.verdict)
run.predict(["my card was swallowed"])
finesmith.load("runs/tickets").predict(["where is my parcel"])
"""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from finesmith.version import VERSION

if TYPE_CHECKING:
    from finesmith.advising import Advice
    from finesmith.exporting.write import Exported
    from finesmith.measurements.base import Effort
    from finesmith.recipe import Recipe
    from finesmith.run import Run
    from finesmith.types import Examined

__version__ = VERSION
__all__ = ["Recipe", "Run", "__version__", "advise", "check", "export", "load", "tune"]


def tune(
    data: str | Path,
    *,
    evidence: Effort | None = None,
    minutes: float | None = None,
    watcher: Any = None,
    **settings: Any,
) -> Run:
    """Fine-tunes a model and measures what it gained.

    Args:
        data: a file or folder of examples, a hub data set, or a recipe (`.yaml`).
        evidence: quick, standard or full: afterwards measures the rest, as `finesmith compare` does. The run is
            finished before; if the comparison fails, there is a warning and `run.comparison` is None.
        minutes: the budget of that; None is three trainings' time for quick and no end for the others.
        watcher: a `finesmith.watch.Watcher` that receives notes, progress and steps.
        settings: recipe settings, nested as in YAML: `model="embedded"`, `method="lora"`, `train={"epochs": 3}`.

    Raises:
        finesmith.errors.FinesmithError: anything you can mend, with the place and the nearest valid name.
    """
    from finesmith import recipe as recipes
    from finesmith import run
    from finesmith.errors import RecipeError, nearest

    efforts = ("quick", "standard", "full")
    if evidence is not None and evidence not in efforts:
        raise RecipeError(f"There is no evidence '{evidence}'. {nearest(str(evidence), efforts)}")
    if minutes is not None and evidence is None:
        raise RecipeError("minutes has no effect without evidence.", hint='Add evidence="quick", or leave it out.')
    recipe = recipes.from_source(str(data), settings)
    made = run.tune(recipe, watcher=watcher)
    if evidence is not None:
        from finesmith import comparing

        given = {"effort": evidence, "minutes": minutes, "trust_remote_code": recipe.model.trust_remote_code}
        if why := comparing.attempt(made.path, **given, watcher=watcher):
            warnings.warn(f"The run is finished; the comparison could not be made: {why}", stacklevel=2)
    return made


def check(data: str | Path, *, glossary: str | Path | None = None, watcher: Any = None, **settings: Any) -> Examined:
    """Looks for everything in a data set that would spoil the result, before anything is trained.

    Args:
        data: what `tune` takes.
        glossary: a JSON file of preferred and forbidden terms.
        watcher: a `finesmith.watch.Watcher` that receives notes and progress.
        settings: recipe settings, nested as in YAML; `model="owner/name"` also measures the distance to that base.

    Raises:
        finesmith.errors.FinesmithError: nothing can be read, or a setting is wrong.
    """
    from finesmith import examine
    from finesmith import recipe as recipes
    from finesmith.data import glossary as glossaries

    terms = glossaries.read(str(glossary)) if glossary else ()
    found, _ = examine.examine(recipes.from_source(str(data), settings), glossary=terms, watcher=watcher)
    return found


def advise(
    data: str | Path,
    *,
    target: float | None = None,
    minimum_gain: float | None = None,
    watcher: Any = None,
    **settings: Any,
) -> Advice:
    """Should this be fine-tuned at all? Checks, cheap opponents and prompts, on the locked test rows; no training.

    Args:
        data: what `tune` takes.
        target: the value of the primary metric that would be good enough.
        minimum_gain: the smallest gain that is of use; None is one point.
        watcher: a `finesmith.watch.Watcher` that receives notes and progress.
        settings: recipe settings, nested as in YAML; `model="owner/name"` is the base that is prompted.

    Raises:
        finesmith.errors.FinesmithError: anything you can mend, with the place and the nearest valid name.
    """
    from finesmith import advising
    from finesmith import recipe as recipes

    recipe = recipes.from_source(str(data), settings)
    return advising.advise(recipe, target=target, minimum_gain=minimum_gain, watcher=watcher)


def export(
    path: str | Path,
    to: str | Path,
    *,
    dtype: str = "auto",
    rows: int = 16,
    device: str = "auto",
    trust_remote_code: bool = False,
    watcher: Any = None,
) -> Exported:
    """Writes a finished run's model into one folder for transformers, vLLM, llama.cpp and others, and proves it.

    Args:
        path: the run.
        to: the folder to make.
        dtype: of the weights: float32, bfloat16, float16; auto keeps that of the base.
        rows: how many test rows the trained model and the folder both answer.
        device: auto, cuda, mps or cpu.
        trust_remote_code: run Python code that comes with the base; the run may have come from anybody.
        watcher: a `finesmith.watch.Watcher` that receives notes and progress.

    Raises:
        finesmith.errors.ExportError: the folder does not answer as the trained model does; nothing is left of it.
        finesmith.errors.RunError: no finished run; the folder holds something already, or cannot be written.
    """
    own = trust_remote_code
    return load(path).export(to, dtype=dtype, rows=rows, device=device, trust_remote_code=own, watcher=watcher)


def load(path: str | Path) -> Run:
    """A finished run, ready to `predict`.

    Raises:
        finesmith.errors.RunError: there is no finished run; of a run's model folder it names the run.
    """
    from finesmith.run import Run
    from finesmith.runfolder import RunFolder

    RunFolder(path).require("evidence.json")
    return Run(Path(path))


def __getattr__(name: str) -> Any:
    if name == "Recipe":
        from finesmith.recipe import Recipe

        return Recipe
    if name == "Run":
        from finesmith.run import Run

        return Run
    raise AttributeError(f"module 'finesmith' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
