"""Answer new rows with a run's tuned model."""

from __future__ import annotations

import argparse
import io
import json
import sys
from collections.abc import Callable, Sequence
from typing import Any

from finesmith.cli import _outputs, _parser
from finesmith.errors import RecipeError, counted

Lines = Sequence[dict[str, Any]]


class Predict:
    """`finesmith predict RUN INPUT [--out FILE] [--abstain]`."""

    def options(self, parser: argparse.ArgumentParser) -> None:
        """The run, the rows, the output."""
        parser.add_argument("run", help="the run folder, or its model folder")
        parser.add_argument(
            "input", help="rows to answer (JSONL, CSV, ...; labels are not needed), or - for lines on stdin"
        )
        parser.add_argument("--out", help=".jsonl or .csv file for the answers (default: JSONL on stdout)")
        parser.add_argument("--force", action="store_true", help="write over the file that --out names")
        parser.add_argument("--column", help="the column with the input (default: as in training)")
        parser.add_argument(
            "--abstain", action="store_true", help="no answer (null) where the model is too unsure, as compare measured"
        )
        parser.add_argument("--device", default="auto", help="auto, cuda, mps or cpu")
        _parser.trust_option(parser)
        parser.add_argument("--json", action="store_true", help="one JSON object with all answers on stdout")

    def main(self, options: argparse.Namespace) -> None:
        """Answers every row, in order."""
        write = _writer(options.out, force=options.force) if options.out else None
        from finesmith import predictor
        from finesmith.cli._show import Terminal, print_json

        own = {"trust_remote_code": options.trust_remote_code}
        asked = _asked(options, predictor.answering(options.run, **own))
        loaded = predictor.load(options.run, device=options.device, **own)
        with Terminal(quiet=options.json) as watcher:
            if asked.note:
                watcher.note(asked.note)
            with watcher.progress("answering", len(asked.inputs)) as progress:
                answers = loaded.predict(asked.inputs, abstain=options.abstain, progress=progress)
            if options.abstain and loaded.abstention:
                watcher.note(_left_out(loaded.abstention, [answer.output is None for answer in answers]))
        lines = [
            {"id": name, "output": answer.output, **({"scores": dict(answer.scores)} if answer.scores else {})}
            | ({"cut": True} if answer.cut else {})
            for name, answer in zip(asked.ids, answers, strict=True)
        ]
        if options.json:
            left_out = {"left_out": sum(answer.output is None for answer in answers)} if options.abstain else {}
            print_json({"answers": lines, **left_out})
        if write:
            write(lines)
        elif not options.json:
            sys.stdout.write(_jsonl(lines))


def _left_out(abstention: Any, gone: Sequence[bool]) -> str:
    """How many answers are left to a person, and what holds for the others."""
    known = f"{'shown' if abstention.shown else 'likely, not shown,'} on {abstention.rows} validation rows"
    return (
        f"{sum(gone)} of {counted(len(gone), 'answer')} left out (null): less sure than {abstention.threshold:.3f}; "
        f"of the others at most {100 * abstention.risk:g} % are wrong ({known})"
    )


def _asked(options: argparse.Namespace, card: Any) -> Any:
    from finesmith.data import inputs

    if options.input != "-":
        return inputs.read(options.input, columns=card.columns, column=options.column)
    if options.column:
        raise RecipeError("--column has no effect: stdin is read as one text a line, without columns.")
    return inputs.lines(inputs.decoded(sys.stdin), spoken=hasattr(card.task, "prompt"))


def _writer(out: str, *, force: bool) -> Callable[[Lines], None]:
    """What writes the answers to `out`, in the format of its ending; everything that can be wrong is said now.

    Raises:
        RecipeError: another ending.
        RunError: the file is there already, or its folder is not.
    """
    path = _outputs.free(out, WRITERS, "Answers", force=force)

    def write(lines: Lines) -> None:
        from finesmith.runfolder import write_file

        write_file(path, WRITERS[path.suffix.lower()](lines))

    return write


def _jsonl(lines: Lines) -> str:
    return "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)


def _csv(lines: Lines) -> str:
    """One column for each label's score; several labels in one cell as a JSON list; `cut` where an answer is."""
    from finesmith.data import tables

    labels = list(dict.fromkeys(label for line in lines for label in line.get("scores", {})))
    cut = ["cut"] if any("cut" in line for line in lines) else []
    rows = (
        [line["id"], _cell(line["output"]), *(line.get("scores", {}).get(label) for label in labels)]
        + ["true" if "cut" in line else None for _ in cut]
        for line in lines
    )
    text = io.StringIO()
    tables.write(text, ["id", "output", *(f"score {label}" for label in labels), *cut], rows)
    return text.getvalue()


def _cell(output: Any) -> str | None:
    """An answer that was left out is an empty cell."""
    return output if output is None or isinstance(output, str) else json.dumps(output, ensure_ascii=False)


WRITERS: dict[str, Callable[[Lines], str]] = {".jsonl": _jsonl, ".csv": _csv}
PLUGIN = Predict()
