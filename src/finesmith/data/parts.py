"""Files that a recipe names as the validation or the test part, beside the data that is trained on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from finesmith.data.sources import ORDER, Source, format_of, locate, missing
from finesmith.errors import DataError, RecipeError

SHARE = "A share is a number between 0 and 1, such as 0.1."


def beside(sources: Sequence[Source], files: Mapping[str, str], *, format: str | None = None) -> list[Source]:
    """The sources of the data with those files as its parts, in the order train, validation, test.

    Args:
        sources: what `data.path` means; where its names say no part, all of it is training rows then.
        files: part to path.
        format: for files whose endings do not tell.

    Raises:
        DataError: there is no such file.
        RecipeError: the part is there already, or the file is among those of the data.
    """
    if not files:
        return list(sources)
    found = [replace(each, part="train") if each.part == "all" else each for each in sources]
    for part, path in files.items():
        found.append(_source(part, path, found, format))
    return sorted(found, key=lambda each: ORDER.index(each.part))


def _source(part: str, path: str, others: Sequence[Source], format: str | None) -> Source:
    own = [each.name for each in others if each.part == part]
    if own:
        raise RecipeError(
            f"data.{part} names '{path}', but the data comes with its own {part} part: {', '.join(own[:3])}.",
            hint="Leave out one of the two.",
        )
    if not Path(path).exists():
        raise DataError(f"data.{part}: {missing(Path(path)).message}", hint=SHARE)
    if Path(path).is_dir():
        raise RecipeError(f"data.{part} is '{path}', a folder: it should be one file of rows, or a share.", hint=SHARE)
    twice = next((each for each in others if Path(each.name).exists() and Path(each.name).samefile(path)), None)
    if twice:
        raise RecipeError(
            f"data.{part} is '{path}', which is read as {twice.part} rows already.",
            hint="Name another file, or move this one out of the folder of the data.",
        )
    found = locate(path, format=None if format_of(Path(path)) else format)[0][0]
    taken = any(each.stem == found.stem for each in others)
    return replace(found, part=part, stem=f"{part}/{found.stem}" if taken else found.stem)
