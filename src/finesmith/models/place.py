"""Where a model's name leads (the embedded base, a local folder, a hub), and what is said of one that leads nowhere."""

from __future__ import annotations

from pathlib import Path

from finesmith.errors import ModelError, nearest
from finesmith.models.embedded import EMBEDDED
from finesmith.models.settings import ModelSettings


def of(settings: ModelSettings) -> str:
    """The folder or hub id behind a model's name."""
    if settings.name != "embedded":
        return settings.name
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
            raise ModelError(f"'{place}' is not a model: the folder has no config.json.", hint=hint(place))
    elif path.exists():
        raise ModelError(f"'{place}' is a file; a model is a folder with config.json and model.safetensors.")
    elif not on_a_hub(place):
        siblings = [item.name for item in path.parent.iterdir() if item.is_dir()] if path.parent.is_dir() else []
        raise ModelError(f"There is no model folder '{place}'. {nearest(path.name, ['embedded', *siblings])}")
    return place


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
    """What a library said, without its advice."""
    text = str(error).strip().splitlines()
    return text[0] if text else type(error).__name__
