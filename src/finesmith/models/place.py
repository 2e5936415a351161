"""Where a model's name leads (the embedded base, a local folder, a hub), and what is said of one that leads nowhere."""

from __future__ import annotations

from pathlib import Path

from finesmith.errors import ModelError, RunError, nearest
from finesmith.models.embedded import EMBEDDED
from finesmith.models.settings import ModelSettings

_ADAPTER = "adapter_model.safetensors"
_HUB = "A hub model is owner/name, such as openai-community/gpt2; see: finesmith list models"


def of(settings: ModelSettings) -> str:
    """The folder or hub id behind a model's name, with `~` written out where it is a folder there."""
    if settings.name != "embedded":
        folder = Path(settings.name).expanduser() if settings.name.startswith("~") else None
        return str(folder) if folder is not None and folder.is_dir() else settings.name
    if not (EMBEDDED / "model.safetensors").exists():
        raise ModelError(
            "This copy of Finesmith carries no embedded model.", hint="Name one: --model FOLDER or owner/name."
        )
    return str(EMBEDDED)


def check(settings: ModelSettings) -> str:
    """The same, where a local folder is there and holds a model; a hub is not asked.

    Raises:
        ModelError: it is not.
    """
    place = of(settings)
    path = Path(place).expanduser()
    if path.is_dir():
        if not (path / "config.json").exists():
            raise _no_model(place, path)
        if (path / "adapter_config.json").exists() and not (path / _ADAPTER).exists():
            raise ModelError(f"The model folder '{place}' holds an adapter without {_ADAPTER}; a pickle is not read.")
    elif path.exists():
        raise ModelError(f"'{place}' is a file; a model is a folder with config.json and model.safetensors.")
    elif not on_a_hub(place):
        near = path.parent.iterdir() if path.parent.is_dir() else ()
        siblings = [item.name for item in near if (item / "config.json").exists()]
        raise ModelError(
            f"There is no model folder '{place}'. {nearest(path.name, ['embedded', *siblings])}", hint=_HUB
        )
    return place


def _no_model(place: str, path: Path) -> ModelError:
    """What is said of a folder without a config.json; of a finished run how to go on from it."""
    run = path.parent if path.name == "model" and not (path / "model").is_dir() else path
    model = next((folder for folder in (path / "model", path) if folder.is_dir()), path)
    if (model / "config.json").exists():
        return ModelError(f"'{place}' is a run; its model is the folder in it.", hint=f"Give that: --model {model}")
    if not (model / "adapter_config.json").exists():
        return ModelError(f"'{place}' is not a model: the folder has no config.json.", hint=hint(place))
    said = f"'{place}' holds an adapter, which is no model without its base."
    if not (model / "finesmith.json").exists():
        return ModelError(said, hint="Merge them with PEFT (merge_and_unload), and give the folder that you save.")
    return ModelError(said, hint=f"Make one folder of both: finesmith export {run} DIR; then give --model DIR.")


def settled(name: str) -> str:
    """A model's name as it holds from every folder: of a local folder its absolute path."""
    path = Path(name).expanduser()
    return str(path.absolute()) if name != "embedded" and path.is_dir() else name


def check_base(settings: ModelSettings, run: Path) -> None:
    """Whether the base of a finished run is where it was, where it is a local folder.

    Raises:
        ModelError: it is not; says where another place is written.
    """
    if not (settings.name == "embedded" or on_a_hub(settings.name) or Path(settings.name).expanduser().is_dir()):
        files = f"{run / 'model' / 'finesmith.json'} and {run / 'recipe.yaml'}"
        raise ModelError(
            f"The base of this run, the folder '{settings.name}', is not there.",
            hint=f"Put it back; or, if it has moved, write its new folder as the model's name into {files}.",
        )


def require_adapter(folder: Path) -> None:
    """Whether a model folder's adapter is there as safetensors: PEFT would take it from a pickle, or ask a hub for it.

    Raises:
        RunError: it is not.
    """
    if not (folder / _ADAPTER).exists():
        raise RunError(f"The model folder '{folder}' has no {_ADAPTER}, and adapters are not read from other files.")


def require_trust(settings: ModelSettings, path: str | Path, trusted: bool) -> None:
    """Whether the code that a run's or a model folder's base brings with it may be run: a folder may have come from
    anybody, so what it says of itself is not enough.

    Raises:
        RunError: it brings some, and that was not asked for.
    """
    if settings.trust_remote_code and not trusted:
        raise RunError(
            f"'{path}' needs Python code that comes with its base '{settings.name}'.",
            hint="If you trust where both come from, add --trust-remote-code (in Python trust_remote_code=True).",
        )


def on_a_hub(name: str) -> bool:
    """Whether a name has the form that models have on a hub, `owner/name`."""
    return not name.startswith((".", "/", "~")) and name.count("/") == 1


def hint(place: str) -> str:
    """What to do where a model cannot be loaded."""
    if Path(place).is_dir():
        return (
            "A model folder holds config.json, model.safetensors and tokenizer.json, as `save_pretrained` writes them."
        )
    return "Is the name right, the hub reachable, and the model open to you (hf auth login)? A local folder works too."


def first_line(error: BaseException) -> str:
    """What a library said, without its advice; with the kind of error where the words alone say little."""
    text = [line.strip() for line in str(error).strip().splitlines()]
    said = " ".join(text[:2] if text and text[0].endswith(":") else text[:1])
    short = isinstance(error, LookupError | TypeError | AttributeError | ArithmeticError | AssertionError)
    return f"{type(error).__name__}: {said}".removesuffix(": ") if short or not said else said
