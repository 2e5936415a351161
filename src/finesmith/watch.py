"""What a run tells whoever started it: notes, progress and steps. The library itself prints nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from finesmith.types import Step


class Interrupted(Exception):
    """The user asked to stop. Its argument is the run folder to go on with; `lost` says what was not saved."""

    def __init__(self, path: str, lost: str = "") -> None:
        super().__init__(path)
        self.lost = lost

    def __str__(self) -> str:
        return f"stopped; {self.lost or 'nothing is lost'}. Go on with: finesmith resume {self.args[0]}"


class Watcher:
    """Receives what happens in a run; this one ignores it. The command line draws it, a notebook may plot it."""

    def note(self, text: str) -> None:
        """A sentence about what was found or settled."""

    @contextmanager
    def progress(self, title: str, total: int, unit: str = "row") -> Iterator[Callable[[int], None]]:
        """A stage of `total` rows, or whatever one `unit` is called; the value is called with the number of them done
        since its last call."""
        yield lambda done: None

    @contextmanager
    def training(self, total: int) -> Iterator[None]:
        """The stage of `total` optimizer steps: only here `should_stop` is asked and `step` is told."""
        yield

    def step(self, step: Step, total: int, scores: dict[str, float], best: bool) -> None:
        """One optimizer step of `total`, with the validation scores where they were measured."""

    def should_stop(self) -> bool:
        """Asked between two steps; True saves the state and ends the run."""
        return False
