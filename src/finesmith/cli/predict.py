"""Answer new rows with a run's tuned model."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import Any

from finesmith.errors import DataError


class Predict:
    """`finesmith predict RUN [INPUT] [--out FILE]`."""

    def options(self, parser: argparse.ArgumentParser) -> None:
        """The run, the rows, the output."""
        parser.add_argument("run", help="the run folder, or its model folder")
        parser.add_argument(
            "input", help="rows to answer (JSONL, CSV, ...; labels are not needed), or - for lines on stdin"
        )
        parser.add_argument("--out", help="JSONL file for the answers (default: stdout)")
        parser.add_argument("--column", help="the column with the text, where it cannot be detected")
        parser.add_argument("--device", default="auto", help="auto, cuda, mps or cpu")
        parser.add_argument("--json", action="store_true", help="one JSON object with all answers on stdout")

    def main(self, options: argparse.Namespace) -> None:
        """Answers every row, in order."""
        from finesmith import predictor
        from finesmith.cli._show import Terminal, print_json

        rows = _rows(options)
        loaded = predictor.load(options.run, device=options.device)
        if loaded.task.kind == "causal-lm" and not hasattr(loaded.task, "prompt"):
            raise DataError("This run trained on plain documents; it has no answers to give.")
        with Terminal(quiet=options.json) as watcher, watcher.progress("answering", len(rows)) as progress:
            answers = loaded.predict([value for _, value in rows], progress=progress)
        lines = [
            {"id": name, "output": answer.output, **({"scores": dict(answer.scores)} if answer.scores else {})}
            for (name, _), answer in zip(rows, answers, strict=True)
        ]
        _write(lines, options, print_json)


def _rows(options: argparse.Namespace) -> Sequence[tuple[str, Any]]:
    if options.input == "-":
        return [(str(number), line.rstrip("\n")) for number, line in enumerate(sys.stdin, 1) if line.strip()]
    from finesmith.data import inputs

    return inputs.read(options.input, column=options.column)


def _write(lines: Sequence[dict[str, Any]], options: argparse.Namespace, print_json: Any) -> None:
    import json

    if options.json:
        print_json({"answers": list(lines)})
    text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
    if options.out:
        from finesmith.runfolder import write_file

        write_file(options.out, text)
    elif not options.json:
        sys.stdout.write(text)


PLUGIN = Predict()
