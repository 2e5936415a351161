"""Progress and notes on stderr, results on stdout."""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from finesmith.errors import counted
from finesmith.types import Step
from finesmith.watch import Watcher

ERRORS = Console(stderr=True, highlight=False)


class Terminal(Watcher):
    """Draws notes and bars on stderr; the first Ctrl-C ends the run after the step at hand, the second at once."""

    def __init__(self, *, quiet: bool = False) -> None:
        self.quiet = quiet
        self._stop = False
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[info]}"),
            console=ERRORS,
            transient=True,
            disable=quiet or not ERRORS.is_terminal,
        )
        self._training: Any = None

    def __enter__(self) -> Self:
        self._before = signal.signal(signal.SIGINT, self._interrupted)
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()
        signal.signal(signal.SIGINT, self._before)

    def note(self, text: str) -> None:
        """One line."""
        if not self.quiet:
            ERRORS.print(f"[dim]·[/dim] {text}", soft_wrap=True, markup=True)

    @contextmanager
    def progress(self, title: str, total: int) -> Iterator[Callable[[int], None]]:
        """A bar, or a line where stderr is not a terminal."""
        if not ERRORS.is_terminal:
            self.note(f"{title} ({counted(total, 'row')})")
        bar = self._bar.add_task(title, total=total, info="")
        try:
            yield lambda done: self._advance(bar, done)
        finally:
            self._bar.remove_task(bar)

    def step(self, step: Step, total: int, scores: dict[str, float], best: bool) -> None:
        """Moves the training bar; an evaluation also leaves a line."""
        if self._training is None:
            self._training = self._bar.add_task("training", total=total, info="")
        self._bar.update(self._training, completed=step.index, info=f"loss {step.loss:.3f}")
        if scores:
            shown = ", ".join(f"{name.replace('_', ' ')} {value:.4f}" for name, value in scores.items())
            self.note(
                f"step {step.index} of {total}: loss {step.loss:.4f}; validation {shown}{' (best)' if best else ''}"
            )
        if step.index == total:
            self._bar.remove_task(self._training)
            self._training = None

    def should_stop(self) -> bool:
        """Whether Ctrl-C was pressed."""
        return self._stop

    def _advance(self, bar: Any, done: int) -> None:
        if self._stop:  # between training steps `should_stop` saves first; elsewhere there is nothing to save
            raise KeyboardInterrupt
        self._bar.advance(bar, done)

    def _interrupted(self, _signal: int, _frame: FrameType | None) -> None:
        if self._stop:
            raise KeyboardInterrupt
        self._stop = True
        ERRORS.print("stopping; once more stops at once")


def print_json(value: Any) -> None:
    """One JSON object on stdout."""
    sys.stdout.write(json.dumps(value, ensure_ascii=False, indent=2) + "\n")
