"""What can go wrong through no fault of ours, as a small tree; every message names the given, the near and the place.

FinesmithError                the user's mistake or the machine's refusal: shown without a traceback, exit code 2
├── RecipeError (ValueError)  a setting: unknown, of the wrong type, impossible, without effect
├── DataError (ValueError)    a file or a row
├── ModelError (ValueError)   a model that does not exist, is not a model, or does not fit the task
├── ProofError (ValueError)   the training tokens are not what inference will send
├── TrainingError (RuntimeError)  the loss became NaN, memory ran out at one row, ...
│   └── RowError                  memory does not suffice to answer one row, which is known
├── ExportError (RuntimeError)    an exported folder does not answer as the trained model does
├── RunError (OSError)        a run folder: taken, locked, incomplete, full disk
└── MissingExtraError (ImportError)  an optional library; the message names the extra

To add one: only when a caller would catch it apart from its siblings.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence


class FinesmithError(Exception):
    """Base of all errors that a user can mend. `problems` lists every fault found, the message is for reading.

    `hint` is one sentence that says what to do next.
    """

    def __init__(self, message: str, *, problems: Sequence[str] = (), hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.problems = tuple(problems)
        self.hint = hint

    def __str__(self) -> str:
        lines = [self.message, *(f"  - {problem}" for problem in self.problems)]
        return "\n".join(lines + ([self.hint] if self.hint else []))


class RecipeError(FinesmithError, ValueError):
    """A setting is unknown, of the wrong type, impossible beside another, or would have no effect."""


class DataError(FinesmithError, ValueError):
    """A file cannot be read, or rows in it cannot be used."""


class ModelError(FinesmithError, ValueError):
    """A model does not exist, is not a model, or does not fit the task."""


class ProofError(FinesmithError, ValueError):
    """The tokens that would be trained are not the tokens that inference will send."""


class TrainingError(FinesmithError, RuntimeError):
    """Training cannot go on: loss or validation score are no number, or one row alone does not fit into memory."""


class RowError(TrainingError):
    """One row alone does not fit into memory while rows are evaluated. `row` is its position among them."""

    def __init__(self, row: int) -> None:
        super().__init__(
            "Memory is too small to evaluate even one row at a time.",
            hint="Use a smaller train.max_length, or a smaller model.",
        )
        self.row = row


class ExportError(FinesmithError, RuntimeError):
    """What was written, loaded as anyone loads it, is not the model that was trained."""


class RunError(FinesmithError, OSError):
    """A run folder is taken, locked, incomplete, or cannot be written; nor can temporary files."""


class MissingExtraError(FinesmithError, ImportError):
    """An optional library is not installed; the hint gives the command that installs it."""

    def __init__(self, library: str, extra: str, purpose: str) -> None:
        super().__init__(
            f"{purpose} needs the library '{library}', which is not installed.",
            hint=f"Install it with: pip install 'finesmith[{extra}]'",
        )


def counted(number: int, noun: str) -> str:
    """A number with its noun, for messages: `1 row`, `2,000 rows`."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def nearest(given: str, known: Iterable[str], *, alike: float = 0.5, title: str = "Known") -> str:
    """The sentence that ends an 'unknown name' message: `Did you mean 'x'? Known: a, b, x.`

    A name is meant where its similarity (0..1, of difflib) is `alike` at least; `title` stands before the list.
    """
    names = sorted(set(known))
    close = difflib.get_close_matches(given.lower(), [name.lower() for name in names], n=1, cutoff=alike)
    by_lower = {name.lower(): name for name in names}
    meant = f"Did you mean '{by_lower[close[0]]}'? " if close else ""
    shown = ", ".join(names[:20]) + (", ..." if len(names) > 20 else "")
    return f"{meant}{title}: {shown}." if names else meant.strip()
