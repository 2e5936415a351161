"""What was asked: one strict, complete value. YAML 1.2 in, `key=value` over it, complete YAML out.

The root owns almost nothing: each component's settings stand under the component's name (`lora: {rank: 8}`).
A setting that is unknown, of the wrong type, impossible beside another, or without effect is an error that names the
key, the nearest valid key and the line; all problems are said at once.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping
from io import StringIO
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError, create_model
from ruamel.yaml import YAML, RoundTripConstructor
from ruamel.yaml.error import YAMLError
from ruamel.yaml.reader import ReaderError

from finesmith import conflicts, registry
from finesmith.data.settings import DataSettings
from finesmith.data.sources import format_of, named_in
from finesmith.errors import RecipeError
from finesmith.models import place as models_at
from finesmith.models.settings import ModelSettings
from finesmith.problems import explain_all, line, meant_by, place
from finesmith.runfolder import RunFolder
from finesmith.settings import Settings
from finesmith.train.settings import TrainSettings
from finesmith.train.speed import SpeedSettings

QUOTES = "A shell splits a value at its spaces: quote the setting, as in 'data.columns={text: body}'."


class Recipe(Settings):
    """What was asked. Make one with `recipe.load`, `recipe.make` or from keyword arguments through `finesmith.tune`."""

    data: DataSettings
    task: str = "auto"
    """What is learnt: classification, generation, text; auto goes by the shape of the data."""
    model: ModelSettings = ModelSettings()
    method: str = "lora"
    """Which weights move: full, last_layers, head, lora."""
    train: TrainSettings = TrainSettings()
    speed: SpeedSettings = SpeedSettings()
    out: str = "auto"
    """The run folder; auto: runs/<name of the data file>."""
    seed: int = Field(default=0, ge=0, lt=2**32)
    """Fixes the split, the order of rows, new weights and dropout."""
    track: list[Literal["tensorboard", "mlflow", "wandb", "trackio"]] = Field(default=[])
    """Experiment trackers that also receive the steps (through Accelerate); each is an extra of its name."""

    def section(self, name: str) -> Settings:
        """The settings of the task or method called `name`."""
        return getattr(self, _section(name))

    def with_section(self, name: str, settings: Settings) -> Recipe:
        """A copy with what the task or method called `name` has settled for itself (a date) in its section."""
        before = self.section(name)
        settled = {key: value for key, value in settings.model_dump().items() if value != getattr(before, key)}
        return self.replace(**{_section(name): settled}) if settled else self

    def replace(self, **changes: Any) -> Recipe:
        """A copy with some values changed; nested values merge: `recipe.replace(train={"epochs": 3.0})`."""
        given = self.model_dump(exclude_unset=True)
        for key, value in changes.items():
            given[key] = {**given.get(key, {}), **value} if isinstance(value, dict) else value
        return make(given)

    def with_method(self, method: str) -> Recipe:
        """A copy for another method, without what would have no effect there: this one's section, ways to be fast."""
        given = {**self.model_dump(exclude_unset=True), "method": method}
        if method != self.method:
            given.pop(_section(self.method), None)
        lost = {key[-1] for key, _ in conflicts.found(given, method) if key[0] == "speed"}
        if lost:
            given["speed"] = {name: value for name, value in given["speed"].items() if name not in lost}
        return make(given)

    def complete(self) -> dict[str, Any]:
        """Every setting that has an effect on this run, defaults included, as plain values."""
        plain = self.model_dump(mode="json")
        unused = [name for kind in ("tasks", "methods") for name in registry.available(kind)]
        used = {_section(self.task), _section(self.method)} | (self.model_fields_set if self.task == "auto" else set())
        return {key: value for key, value in plain.items() if key not in unused or key in used}

    def to_yaml(self) -> str:
        """The complete recipe as YAML, which reads back equal."""
        text = StringIO()
        yaml = YAML()
        yaml.default_flow_style = False
        yaml.dump(self.complete(), text)
        return text.getvalue()


@functools.cache
def recipe_class(outside: tuple[tuple[str, str], ...] = ()) -> type[Recipe]:
    """`Recipe` with one section for each task and method there is. Imports the plug-ins' files, not torch.

    Args:
        outside: kind and dotted name of plug-ins outside Finesmith; their section is called as their file.
    """
    sections: dict[str, Any] = {}
    shipped = [(kind, name) for kind in ("tasks", "methods") for name in registry.available(kind)]
    for kind, name in (*shipped, *outside):
        settings = registry.resolve(kind, name).Settings
        if _section(name) in Recipe.model_fields:
            raise RecipeError(
                f"The {kind[:-1]} '{name}' has the name of a setting, '{_section(name)}': rename its file."
            )
        sections[_section(name)] = (settings, settings())
    return create_model("Recipe", __base__=Recipe, __doc__=Recipe.__doc__, **sections)


def load(path: str | Path, overrides: Mapping[str, Any] | None = None, *, trusted: bool = True) -> Recipe:
    """Reads a recipe from a YAML (or JSON) file.

    Args:
        path: the file.
        overrides: nested values that win over the file, e.g. from `parse_assignments`.
        trusted: whether a task or method outside Finesmith that it names may be imported.

    Raises:
        RecipeError: with every problem at once, each with its line.
        RunError: it names such a task or method, which may not be imported.
    """
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
        document = _reader().load(text)
    except (OSError, UnicodeDecodeError) as error:
        raise RecipeError(f"Cannot read the recipe {path}: {error}.") from error
    except YAMLError as error:
        line, problem = _fault(error, text)
        raise RecipeError(f"{path}:{line}: not valid YAML: {problem}.") from error
    if not isinstance(document, Mapping):
        raise RecipeError(f"{path}:1: a recipe is a mapping of settings, such as 'data: tickets.csv'.")
    values = _merge(_plain(document), overrides or {})
    registry.require_trust(values, path, trusted)
    return make(values, source=str(path), document=document)


def of_run(folder: RunFolder, *, trust_remote_code: bool) -> Recipe:
    """The recipe of a run, of which Python code that comes with its base, or that its plug-ins are, may be run if that
    is asked for.

    Raises:
        RunError: no run is there; or it brings code of its own, which was not asked for.
    """
    recipe = load(folder.require("recipe.yaml"), trusted=trust_remote_code)
    models_at.require_trust(recipe.model, folder.path, trust_remote_code)
    return recipe


def make(values: Mapping[str, Any], *, source: str = "", document: Any = None) -> Recipe:
    """Checks nested plain values and returns the recipe; `source` and `document` give messages their file and line."""
    problems: list[tuple[list[str], str]] = []
    recipe = None
    known = recipe_class(registry.outside(values))
    try:
        recipe = known.model_validate(dict(values))
    except ValidationError as error:
        problems = explain_all(error.errors(), known)
    problems += conflicts.found(values, values.get("method", Recipe.model_fields["method"].default))
    if problems or recipe is None:
        problems.sort(key=lambda problem: line(problem[0], document))
        said = [place(key, source, document) + message for key, message in problems]
        raise RecipeError("The recipe cannot be used:", problems=said)
    return recipe


def parse_assignments(assignments: Iterable[str]) -> dict[str, Any]:
    """`["train.learning_rate=2e-4", "lora.rank=8"]` as nested values; the right side is read as YAML."""
    values: dict[str, Any] = {}
    for assignment in assignments:
        key, equals, text = assignment.partition("=")
        if not equals or not key.strip():
            raise RecipeError(
                f"'{assignment}' is not a setting: write key=value, such as train.epochs=3.", hint=_of_rows(assignment)
            )
        try:
            value = _plain(_reader().load(text)) if text.strip() else None
        except YAMLError as error:
            raise RecipeError(
                f"The value in {assignment!r} is not valid YAML: {_fault(error, text)[1]}.",
                hint=QUOTES if text.lstrip()[0] in "{[" else "",
            ) from error
        values = _merge(values, _nested(key.split("."), value))
    return values


def _of_rows(word: str) -> str:
    """How a file is named that stands where a setting should."""
    if format_of(Path(word)) is None and not Path(word).is_file():
        return ""
    ways = [f"data.{part}={word}" for part in ("validation", "test") if part in named_in(Path(word).name)]
    return f"A further file is named as a part: {' or '.join(ways or [f'data.validation={word}', f'data.test={word}'])}"


class _Constructor(RoundTripConstructor):
    """Dates are text, as YAML 1.2 has it: what a day is, settings say."""


_Constructor.add_constructor("tag:yaml.org,2002:timestamp", lambda reader, node: reader.construct_scalar(node))


def _reader() -> YAML:
    yaml = YAML()
    yaml.Constructor = _Constructor
    return yaml


def _fault(error: YAMLError, text: str) -> tuple[int, str]:
    """The line of a fault in YAML, and what it is."""
    if isinstance(error, ReaderError):
        return text[: error.position].count("\n") + 1, f"it holds the character {chr(error.character)!r}"
    begun = "simple key" in (getattr(error, "context", None) or "")  # the problem is found where the next line begins
    mark = getattr(error, "context_mark" if begun else "problem_mark", None)
    return mark.line + 1 if mark else 1, getattr(error, "problem", None) or str(error).partition("\n")[0]


def schema() -> dict[str, Any]:
    """The JSON Schema of a recipe, from which editors complete."""
    return recipe_class().model_json_schema() | {"$schema": "https://json-schema.org/draft/2020-12/schema"}


def settings_called(name: str) -> list[str]:
    """The dotted keys of settings with this name, with or without their section: `epochs`, `train.epochs`."""
    wanted = name.replace("-", "_").replace(".", "_")
    keys = [(key, key) for key in recipe_class().model_fields]
    for section, field in recipe_class().model_fields.items():
        keys += [(f"{section}.{name}", name) for name in getattr(field.annotation, "model_fields", ())]
    return [key for key, last in keys if wanted in (last, key.replace(".", "_"))]


def setting_meant(name: str) -> tuple[str, str]:
    """The setting that another tool calls by this name or that is nearest to it, and a remark; empty where none is."""
    return meant_by(name.replace(".", "_"), recipe_class())[:2]


def _nested(keys: list[str], value: Any) -> dict[str, Any]:
    return {keys[0]: _nested(keys[1:], value) if len(keys) > 1 else value}


def _plain(value: Any) -> Any:
    """Round-trip YAML values as plain dict, list, str, int, float, bool, None."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if isinstance(value, bool) or value is None:
        return value
    return next((kind(value) for kind in (int, float, str) if isinstance(value, kind)), value)


def _merge(under: Any, over: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(under) if isinstance(under, Mapping) else {}
    for key, value in over.items():
        below = merged.get(key)
        if isinstance(below, str) and isinstance(value, Mapping) and value:  # `model: x` beside `model.dtype=...`
            below = {"path" if key == "data" else "name": below}
        merged[key] = _merge(below, value) if isinstance(value, Mapping) else value
    return merged


def _section(name: str) -> str:
    return name.rpartition(".")[2]


def from_source(source: str, overrides: Mapping[str, Any] | None = None) -> Recipe:
    """A recipe from a recipe file, or from a path to data with everything else by default."""
    if source.endswith((".yaml", ".yml")):
        return load(source, overrides)
    data = (overrides or {}).get("data", {})
    if not isinstance(data, Mapping) or "path" in data:
        other = data.get("path") if isinstance(data, Mapping) else data
        raise RecipeError(f"The data is named twice: '{source}' and data '{other}'.")
    return make(_merge({"data": {"path": source}}, overrides or {}))
