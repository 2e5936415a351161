"""Progress and notes on stderr, results on stdout."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, Self, TextIO

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.text import Text

from finesmith.errors import counted
from finesmith.types import Step
from finesmith.watch import Interrupted, Watcher


class _Notes(Console):
    """Notes on stderr. Where nobody reads them any more (`2>&1 | head`) they stop, and the work goes on."""

    def print(self, *objects: Any, **options: Any) -> None:
        """As rich prints."""
        try:
            super().print(*objects, **options)
        except BrokenPipeError:  # rich before 13.8 asks nobody
            self.on_broken_pipe()

    def on_broken_pipe(self) -> None:
        """Falls silent; what others write there goes nowhere."""
        self.quiet = True
        to_nowhere(sys.stderr)


ERRORS = _Notes(stderr=True, highlight=False)


class Terminal(Watcher):
    """Draws notes and bars on stderr.

    Ctrl-C ends a training after the step at hand, so that its state can be saved, and everything else at once.
    """

    def __init__(self, *, quiet: bool = False) -> None:
        self.quiet = quiet
        self._stop = self._between_steps = False
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
            ERRORS.print(Text.assemble(("· ", "dim"), text), soft_wrap=True)

    @contextmanager
    def progress(self, title: str, total: int, unit: str = "row") -> Iterator[Callable[[int], None]]:
        """A bar, or a line where stderr is not a terminal."""
        if not ERRORS.is_terminal:
            self.note(f"{title} ({counted(total, unit)})")
        bar = self._bar.add_task(title, total=total, info="")
        try:
            yield lambda done: self._bar.advance(bar, done)
        finally:
            self._bar.remove_task(bar)

    @contextmanager
    def training(self, total: int) -> Iterator[None]:
        """The bar of the steps, and the time in which Ctrl-C waits for the step at hand."""
        self._training = self._bar.add_task("training", total=total, info="")
        self._between_steps = True
        try:
            yield
        finally:
            self._between_steps = False
            self._bar.remove_task(self._training)
        if self._stop:  # pressed after the last step
            raise KeyboardInterrupt

    def step(self, step: Step, total: int, scores: dict[str, float], best: bool) -> None:
        """Moves the training bar; an evaluation also leaves a line."""
        self._bar.update(self._training, completed=step.index, info=f"loss {step.loss:.3f}")
        if scores:
            shown = ", ".join(f"{name.replace('_', ' ')} {value:.4f}" for name, value in scores.items())
            self.note(
                f"step {step.index} of {total}: loss {step.loss:.4f}; validation {shown}{' (best)' if best else ''}"
            )

    def should_stop(self) -> bool:
        """Whether Ctrl-C was pressed."""
        return self._stop

    def _interrupted(self, _signal: int, _frame: FrameType | None) -> None:
        if self._stop or not self._between_steps:
            raise KeyboardInterrupt
        self._stop = True
        ERRORS.print("stopping after this step; once more stops at once")


def to_nowhere(stream: TextIO) -> None:
    """What is left of a stream that nobody reads, and what processes of ours write there, goes nowhere."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def say_stopped(stopped: Interrupted, *, as_json: bool) -> int:
    """How to go on with a run that was stopped; the exit code."""
    if as_json:
        problems = [stopped.lost] if stopped.lost else []
        hint = f"Go on with: finesmith resume {stopped.args[0]}"
        print_json({"error": "stopped", "problems": problems, "hint": hint})
    ERRORS.print(Text(str(stopped)), soft_wrap=True)
    return 130


def say_not_compared(path: str, why: str, code: int) -> int:
    """That the run is finished and only the comparison is not, and how to make it; the exit code."""
    said = f"the comparison could not be made: {why}\nThe run is finished. Compare it with: finesmith compare {path}"
    ERRORS.print(Text(said), soft_wrap=True)
    return code


def print_json(value: Any) -> None:
    """One JSON object on stdout."""
    sys.stdout.write(json.dumps(value, ensure_ascii=False, indent=2) + "\n")
