"""Tiny finished runs for the tests of what a finished run is asked."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from finesmith import comparing, recipe, run
from finesmith.data import passages
from finesmith.measurements.base import Study
from finesmith.watch import Watcher
from tests.conftest import clause_rows, ticket_rows, write_csv, write_jsonl


def tuned(data: Path, model: str, out: Path, /, *, method: str = "lora", **settings) -> Path:
    """A run of a few steps at a rate that moves the weights."""
    train = {"max_steps": 6, "batch_size": 8, "learning_rate": 3e-2 if method == "lora" else 3e-3, "evaluations": 1}
    more = {"train": {**train, **settings.pop("train", {})}, **settings}
    asked = {"data": {"path": str(data)}, "model": {"name": model, "dtype": "float32", "device": "cpu"}}
    return run.tune(recipe.make({**asked, "method": method, "out": str(out), **more})).path


def runs(models: Callable[..., str], folders: pytest.TempPathFactory) -> Callable[[str, str, str], Path]:
    """`get("llama", "lora", "tickets")`: a run of a family, a method and a kind of rows, each made once."""
    made: dict[tuple[str, str, str], Path] = {}

    def get(family: str, method: str, data: str) -> Path:
        key = family, method, data
        if key not in made:
            folder = folders.mktemp("-".join(key))
            rows = (
                write_csv(folder / "rows.csv", ticket_rows(60))
                if data == "tickets"
                else write_jsonl(folder / "rows.jsonl", clause_rows(40))
            )
            more = {"generation": {"max_new_tokens": 4}} if data == "clauses" else {}
            made[key] = tuned(rows, models(family), folder / "run", method=method, **more)
        return made[key]

    return get


def study(path: Path, **options) -> Study:
    """The run, opened to ask more of it."""
    return comparing.open_study(path, effort="full", options=options, watcher=Watcher())


@contextmanager
def few_passages(count: int = 8, length: int = 120) -> Iterator[None]:
    """Some passages of each kind, and only their beginnings: tiny models know no words, so every byte is a token."""
    whole = passages.by_kind()
    some = {kind: tuple(text[:length] for text in texts[:count]) for kind, texts in whole.items()}
    before, passages.by_kind = passages.by_kind, lambda: some
    try:
        yield
    finally:
        passages.by_kind = before
