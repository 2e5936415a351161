"""Which files there are, what part each belongs to, and in what format it is. Rows are read by the formats."""

from __future__ import annotations

import hashlib
import os
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any

from finesmith import registry
from finesmith.data import archives
from finesmith.data.rows import Bad, Row
from finesmith.errors import DataError, nearest

PARTS = {
    "train": "train",
    "training": "train",
    "validation": "validation",
    "valid": "validation",
    "val": "validation",
    "dev": "validation",
    "eval": "validation",
    "test": "test",
    "testing": "test",
}
"""Word in a file's or folder's name to the part it means."""

ORDER = ("train", "validation", "test", "all")
HUB_ID = re.compile(r"[\w.-]+/[\w.-]+(:[\w.-]+)?")


@dataclass(frozen=True)
class Source:
    """One file (or one split of a hub data set).

    `name` is what errors and reports call it, `stem` begins the ids of its rows, `digest()` is a SHA-256 in hex.
    """

    part: str
    name: str
    stem: str
    rows: Callable[[], Iterator[tuple[int, Row | Bad]]]
    digest: Callable[[], str]


def locate(source: str, *, format: str | None = None) -> tuple[list[Source], tuple[str, ...]]:
    """The files that `source` means, in the order train, validation, test; and notes on what was left out.

    Raises:
        DataError: nothing there, an unknown ending, several formats or an unclear part in one folder.
    """
    path = Path(source)
    if path.is_dir():
        return _folder(path, format)
    if path.is_file():
        format = format or format_of(path) or _unknown_ending(path)
        return [_file_source(path, "all", format, str(path), _stem(path))], ()
    raise missing(path)


def looks_like_hub_id(source: str) -> bool:
    """`owner/name` or `owner/name:config`, and no path to something local."""
    if not HUB_ID.fullmatch(source) or Path(source).exists():
        return False
    return not Path(source).parent.is_dir() and format_of(Path(source)) is None


def missing(path: Path) -> DataError:
    """The error for a path that does not exist, with the nearest name beside it."""
    step = path
    while not step.parent.is_dir():
        step = step.parent
    names = [entry.name for entry in step.parent.iterdir() if not entry.name.startswith(".")]
    wrong = f" (no folder '{step}')" if step != path else ""
    return DataError(f"There is no file or folder '{path}'{wrong}. {nearest(step.name, names)}".strip())


def suffixes() -> dict[str, str]:
    """File ending to format name, over all formats there are."""
    names = registry.available("formats")
    return {suffix: name for name in names for suffix in registry.resolve("formats", name).suffixes}


def _endings(path: PurePath) -> list[str]:
    """The endings of a name, lower case, without that of the compression."""
    endings = [suffix.lower() for suffix in path.suffixes]
    return endings[:-1] if endings and endings[-1] in archives.SUFFIXES else endings


def _stem(path: PurePath) -> str:
    """The name without the endings of compression and format."""
    name = path.stem if path.suffix.lower() in archives.SUFFIXES else path.name
    return PurePath(name).stem


def format_of(path: PurePath) -> str | None:
    """The format that the ending of a name means."""
    endings = _endings(path)
    return suffixes().get(endings[-1]) if endings else None


def _unknown_ending(path: Path) -> str:
    ending = (_endings(path) or [""])[-1]
    what = f"its ending '{ending}'" if ending else "its name, which has no ending"
    hint = "Set data.format to " + ", ".join(registry.available("formats")) + ", or rename the file."
    if ending in (".xlsx", ".xls", ".ods"):
        hint = "Save the sheet as CSV (UTF-8)."
    meant = nearest(ending, suffixes(), alike=0.7, title="Read are")
    packed = f"each also with {' or '.join(archives.SUFFIXES)} behind it"
    raise DataError(f"Cannot tell the format of {path} from {what}. {meant[:-1]}; {packed}.", hint=hint)


def _folder(folder: Path, format: str | None) -> tuple[list[Source], tuple[str, ...]]:
    found = sorted(path for path in _files(folder) if not _hidden(path.relative_to(folder)))
    formats = {path: format_of(path) for path in found}
    wanted = {path: name for path, name in formats.items() if name and name == (format or name)}
    if not wanted:
        kind = f"{format} files" if format else "files of a known format"
        ending = ", ".join(sorted(suffixes()))
        raise DataError(f"The folder {folder} has no {kind}.", hint=f"Known endings: {ending}.")
    _check_there(folder, list(wanted))
    _check_once(folder, list(wanted))
    _check_one_format(folder, wanted)
    parts = _parts(folder, list(wanted))
    files = sorted(wanted, key=lambda path: ORDER.index(parts[path]))
    stems = _stems(folder, files)
    sources = [_file_source(path, parts[path], str(wanted[path]), str(path), stems[path]) for path in files]
    ignored = [str(path.relative_to(folder)) for path in found if path not in wanted]
    return sources, (f"Not read, being of another format: {', '.join(ignored)}.",) if ignored else ()


def _files(folder: Path) -> Iterator[Path]:
    """All files below a folder, also through links to other folders; each folder once, as links may go in circles."""
    known: set[str] = set()
    for place, folders, names in os.walk(folder, followlinks=True, onerror=_unreadable):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        if os.path.realpath(place) in known:
            folders.clear()
            continue
        known.add(os.path.realpath(place))
        yield from map(Path(place).joinpath, names)


def _unreadable(error: OSError) -> None:
    raise DataError(f"Cannot list the folder {error.filename}: {error.strerror}.") from error


def _check_there(folder: Path, files: Sequence[Path]) -> None:
    """A link that leads nowhere would take its rows away without a word."""
    gone = [str(path.relative_to(folder)) for path in files if not path.is_file()]
    if gone:
        raise DataError(
            f"The folder {folder} holds what is no file, or a link that leads nowhere: {', '.join(gone)}.",
            hint="Put the file there, or take the name away.",
        )


def _check_once(folder: Path, files: Sequence[Path]) -> None:
    """A file and its compressed copy are the same rows twice."""
    plain: dict[Path, Path] = {}
    for path in files:
        name = path.with_suffix("") if path.suffix.lower() in archives.SUFFIXES else path
        if plain.setdefault(name, path) is not path:
            shown = f"{plain[name].relative_to(folder)} and {path.relative_to(folder)}"
            raise DataError(
                f"The folder {folder} holds {shown}, which differ only in compression.", hint="Move one of them away."
            )


def _hidden(path: PurePath) -> bool:
    return any(name.startswith(".") for name in path.parts)


def _check_one_format(folder: Path, wanted: Mapping[Path, str | None]) -> None:
    """Parts may differ in format from one another only when their names say what they are."""
    example = {name: path.name for path, name in sorted(wanted.items(), reverse=True)}
    if len(example) > 1 and not all(part_of(path.relative_to(folder)) for path in wanted):
        shown = ", ".join(f"{name} ({file})" for name, file in sorted(example.items(), key=str))
        raise DataError(
            f"The folder {folder} holds files of several formats: {shown}.",
            hint="Name one file, or set data.format to the one to read.",
        )


def part_of(path: PurePath) -> str | None:
    """The part that a path inside a data folder names: `train-00001.jsonl`, `my-test-set.csv`, `dev/part-3.csv`.

    Raises:
        DataError: the path names two parts.
    """
    name, known = _stem(path), suffixes()
    while PurePath(name).suffix.lower() in known:  # `test.json.jsonl`, as a cleaned copy may be called
        name = PurePath(name).stem
    named = sorted({part for each in (*path.parent.parts, name) for part in named_in(each)})
    if len(named) > 1:
        raise DataError(f"The name '{path}' means two parts: {' and '.join(named)}.", hint="Rename the file.")
    return named[0] if named else None


def named_in(name: str) -> set[str]:
    """The parts that the words of a name mean, wherever they stand in it: `my-validation-set`, `train_sft`."""
    return {PARTS[word] for word in re.findall(r"[a-z]+", name.lower()) if word in PARTS}


def _parts(folder: Path, files: Sequence[Path]) -> dict[Path, str]:
    parts = {path: part_of(path.relative_to(folder)) for path in files}
    unnamed = [path.name for path, part in parts.items() if part is None]
    if unnamed and len(unnamed) < len(files):
        raise DataError(
            f"In the folder {folder} some files name a part (train, validation, test) and some do not: "
            f"{', '.join(unnamed)}.",
            hint="Move the other files away, or give them a part in their name.",
        )
    if not unnamed and "train" not in parts.values():
        given = ", ".join(path.name for path in files)
        raise DataError(
            f"The folder {folder} has no training file, only: {given}.",
            hint="Name the file of the training rows, or rename the files where the words in their names mean no part.",
        )
    return {path: part or "all" for path, part in parts.items()}


def _stems(folder: Path, files: Sequence[Path]) -> dict[Path, str]:
    """The name that begins the ids of a file's rows: its stem, or its path in the folder where stems collide."""
    counts = Counter(_stem(path) for path in files)
    return {path: _stem(path) if counts[_stem(path)] == 1 else path.relative_to(folder).as_posix() for path in files}


def _file_source(path: Path, part: str, format: str, name: str, stem: str) -> Source:
    plugin = registry.resolve("formats", format)
    return Source(part, name, stem, lambda: _rows(path, plugin, name), lambda: digest(path))


def _rows(path: Path, plugin: Any, name: str) -> Iterator[tuple[int, Row | Bad]]:
    empty = True
    with archives.open_data(path, name) as stream:
        for line, row in plugin.rows(stream, name):
            empty = False
            yield line, row
    if empty:
        raise DataError(f"{name} is empty." if path.stat().st_size == 0 else f"{name} holds no rows.")


def digest(path: Path) -> str:
    """SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
