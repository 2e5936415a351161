"""Show the tokens of a row: what is context, what is learnt, what ends the answer."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from typing import Any

from finesmith.cli import _parser
from finesmith.errors import DataError, counted

SEPARATORS = ("|", "¦", "⁞", "⦙")
BRACKETS = ("⟦⟧", "⟪⟫", "⦃⦄")
FATES = {
    "error": "tune stops there; name a model with a longer context (--model), or set data.over_length",
    "drop": "tune leaves this row out (data.over_length)",
    "truncate": "tune cuts it there, or leaves it out where nothing to learn is left (data.over_length)",
}
"""What happens to a row that is too long."""
LONGEST = 8
"""Tokens that one character may be split over."""


class ShowTokens:
    """`finesmith show-tokens DATA|RECIPE [key=value ...] --row N`."""

    def options(self, parser: argparse.ArgumentParser) -> None:
        """A recipe's arguments and the row."""
        _parser.recipe_options(parser)
        parser.add_argument(
            "--row", type=int, default=1, help="which row, from 1 (default 1); of a folder the training rows come first"
        )
        parser.add_argument("--json", action="store_true", help="tokens and weights as one JSON object")

    def main(self, options: argparse.Namespace) -> None:
        """Encodes one row as training would, all of it; says where training would stop or cut."""
        from finesmith import run, stages
        from finesmith.cli._show import Terminal, print_json
        from finesmith.models import place
        from finesmith.recipe import from_source
        from finesmith.train import encode

        recipe = from_source(options.source, _parser.recipe_values(options))
        place.check(recipe.model)
        prepared = run.prepare(recipe)
        with Terminal(quiet=options.json) as watcher:
            for note in prepared.notes:
                watcher.note(note)
        example = _row(prepared, options.row)
        tokenizer, pieces, limit = stages.encode_one(prepared.recipe, prepared.splits.train, example)
        label = {"label": example.target} if prepared.recipe.task == "classification" else {}
        if options.json:
            shown = [
                {
                    "tokens": tokenizer.convert_ids_to_tokens(piece.tokens.tolist()),
                    "ids": piece.tokens.tolist(),
                    "weights": None if piece.weights is None else piece.weights.tolist(),
                }
                for piece in pieces
            ]
            print_json({"row": str(example.origin), **label, "limit": limit, "sequences": shown})
            return
        for piece in pieces:
            weights = [0.0] * len(piece.tokens) if piece.weights is None else piece.weights.tolist()
            _print(f"{example.origin}: ", list(readable(tokenizer, piece.tokens.tolist())), weights, **label)
        if encode.too_long(pieces, limit):
            fate = FATES[prepared.recipe.data.over_length]
            print(f"{example.origin}: longer than {limit:,} tokens (the model's context, or train.max_length): {fate}")


def _row(prepared: Any, number: int) -> Any:
    """A row by its number: the files in the order train, validation, test, and their lines."""
    parts = (prepared.splits.train, prepared.splits.validation, prepared.splits.test)
    order = {name: place for place, name in enumerate(prepared.sources)}
    rows = sorted(
        (example for part in parts for example in part), key=lambda row: (order[row.origin.file], row.origin.line)
    )
    if not 1 <= number <= len(rows):
        raise DataError(f"There is no row {number}: the data has {counted(len(rows), 'row')}.")
    return rows[number - 1]


def readable(tokenizer: Any, tokens: Sequence[int]) -> Iterator[str]:
    """The text of each token; a character that is split over several is shown in each, with its place: `é(1/2)`."""
    place = 0
    while place < len(tokens):
        groups = (tokens[place : place + size] for size in range(1, LONGEST + 1))
        whole = next((group for group in groups if "\ufffd" not in tokenizer.decode(group)), None)
        if whole is None:  # no text is made of it: as it stands in the vocabulary
            whole = tokens[place : place + 1]
            text = tokenizer.convert_ids_to_tokens(whole)[0]
        else:
            text = tokenizer.decode(whole)
        split = len(whole)
        yield from (f"{text}({part}/{split})" if split > 1 else text for part in range(1, split + 1))
        place += split


def _print(start: str, texts: Sequence[str], weights: Sequence[float], *, label: Any = None) -> None:
    """A line that says how to read it, then the tokens; brackets around what is learnt where there is no colour."""
    from rich.console import Console
    from rich.text import Text

    console = Console(highlight=False)
    coloured = console.is_terminal and console.color_system is not None and not console.no_color
    between = _unused(SEPARATORS, texts)
    brackets = "" if coloured else _unused(BRACKETS, texts)
    opened, closed = brackets[:1], brackets[1:]
    line = Text()
    before = 0.0
    for text, weight in zip(texts, weights, strict=True):
        line.append(_bracket(before, weight, opened, closed))
        line.append(text.replace("\n", "⏎"), style="black on green" if weight > 0 else "dim")
        line.append(between + "\n" * ("\n" in text), style="blue")
        before = weight
    line.append(_bracket(before, 0.0, opened, closed))
    learnt = sum(1 for weight in weights if weight > 0)
    how = "green" if coloured else f"in {opened}{closed}"
    told = f"{learnt} learnt ({how}), the rest is context"
    if label is not None:
        told = f"the label is learnt: {label if isinstance(label, str) else ', '.join(label) or '(none)'}"
    console.print(Text(f"{start}{counted(len(texts), 'token')}, {told}; {between} ends each token"), soft_wrap=True)
    console.print(line, soft_wrap=True)


def _bracket(before: float, weight: float, opened: str, closed: str) -> str:
    """What stands between two tokens where context turns into what is learnt, or back."""
    if (before > 0) == (weight > 0):
        return ""
    return opened if weight > 0 else closed


def _unused(marks: Sequence[str], texts: Sequence[str]) -> str:
    """The first mark of which no token holds a part."""
    taken = set("".join(texts))
    return next((mark for mark in marks if taken.isdisjoint(mark)), marks[-1])


PLUGIN = ShowTokens()
