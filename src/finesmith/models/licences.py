"""The licence files that lie beside a base model; what is made from it is passed on with them."""

from __future__ import annotations

from pathlib import Path

from huggingface_hub import hf_hub_download

from finesmith.models import place
from finesmith.models.settings import ModelSettings

_BEGINNINGS = ("license", "licence", "notice", "copying", "use_policy")
_ON_A_HUB = ("LICENSE", "LICENSE.txt", "LICENSE.md", "NOTICE", "NOTICE.txt", "USE_POLICY.md", "README.md")


def files(settings: ModelSettings) -> list[Path]:
    """Licences, notices and the card (README.md, which names the licence) of a base; those that can be had."""
    where = Path(place.of(settings)).expanduser()
    if where.is_dir():
        found = sorted(path for path in where.iterdir() if path.is_file() and _own(path))
        return [path for path in found if path.name == "README.md" or path.name.lower().startswith(_BEGINNINGS)]
    if not place.on_a_hub(settings.name):
        return []
    return [path for name in _ON_A_HUB if (path := _fetched(settings, name)) is not None]


def _own(path: Path) -> bool:
    """Whether a file lies in the model's folder: a link out of it could bring a private file into what is passed on.

    In a hub's cache the files of `snapshots/COMMIT` are links to `blobs` of the same repository.
    """
    folder, target = path.parent.resolve(), path.resolve()
    blobs = folder.parent.parent / "blobs"
    return target.is_relative_to(folder) or (folder.parent.name == "snapshots" and target.parent == blobs)


def _fetched(settings: ModelSettings, name: str) -> Path | None:
    """A file of a hub model, out of the cache where it is there; None where the model has none or no hub is reached."""
    try:
        return Path(hf_hub_download(settings.name, name, revision=settings.revision))
    except (OSError, ValueError):
        return None
