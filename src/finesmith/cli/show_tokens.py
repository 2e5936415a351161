"""Show the tokens of a row in colour: what is context, what is learnt, what ends the answer."""

from __future__ import annotations

import argparse
from typing import Any

from finesmith.cli import _parser
from finesmith.errors import DataError, counted


class ShowTokens:
    """`finesmith show-tokens DATA|RECIPE [key=value ...] --row N`."""

    def options(self, parser: argparse.ArgumentParser) -> None:
        """A recipe's arguments and the row."""
        _parser.recipe_options(parser)
        parser.add_argument("--row", type=int, default=1, help="which row of the data, from 1 (default 1)")
        parser.add_argument("--json", action="store_true", help="tokens and weights as one JSON object")

    def main(self, options: argparse.Namespace) -> None:
        """Encodes one row exactly as training would."""
        from finesmith import run, stages
        from finesmith.cli._show import print_json
        from finesmith.recipe import from_source

        prepared = run.prepare(from_source(options.source, _parser.recipe_values(options)))
        parts = (prepared.splits.train, prepared.splits.validation, prepared.splits.test)
        rows = sorted(
            (example for part in parts for example in part), key=lambda row: (row.origin.file, row.origin.line)
        )
        if not 1 <= options.row <= len(rows):
            raise DataError(f"There is no row {options.row}: the data has {counted(len(rows), 'row')}.")
        example = rows[options.row - 1]
        tokenizer, pieces = stages.encode_one(prepared.recipe, prepared.splits.train, example)
        shown = [
            {
                "tokens": tokenizer.convert_ids_to_tokens(piece.tokens.tolist()),
                "ids": piece.tokens.tolist(),
                "weights": None if piece.weights is None else piece.weights.tolist(),
            }
            for piece in pieces
        ]
        if options.json:
            print_json({"row": str(example.origin), "sequences": shown})
            return
        _print(str(example.origin), tokenizer, pieces)


def _print(origin: str, tokenizer: Any, pieces: Any) -> None:
    from rich.console import Console
    from rich.text import Text

    console = Console(highlight=False)
    for piece in pieces:
        weights = piece.weights if piece.weights is not None else [0.0] * len(piece.tokens)
        line = Text()
        for token, weight in zip(piece.tokens.tolist(), weights, strict=True):
            text = tokenizer.decode([token]).replace("\n", "⏎\n")
            line.append(text, style="black on green" if weight > 0 else "dim")
            line.append("|", style="blue")
        learnt = sum(1 for weight in weights if weight > 0)
        console.print(f"{origin}: {len(piece.tokens)} tokens, {learnt} learnt (green), the rest is context (dim)")
        console.print(line, soft_wrap=True)


PLUGIN = ShowTokens()
