"""Answer new rows with a run's tuned model."""

from __future__ import annotations

import argparse
import io
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from finesmith.cli import _outputs, _parser
from finesmith.errors import DataError, RecipeError, counted, nearest

Line = dict[str, Any]
Lines = Sequence[Line]


class Predict:
    """`finesmith predict RUN INPUT [--out FILE] [--abstain]`."""

    def options(self, parser: argparse.ArgumentParser) -> None:
        """The run, the rows, the output."""
        parser.add_argument("run", help="the run folder, or its model folder")
        parser.add_argument(
            "input",
            help="rows to answer (JSONL, CSV, ...; labels are not needed), or - for stdin: a text or JSON row a line",
        )
        parser.add_argument("--out", help=".jsonl or .csv file for the answers (default: JSONL on stdout)")
        parser.add_argument(
            "--force", action="store_true", help="write over what is at --out, unfinished answers to other rows too"
        )
        parser.add_argument("--column", help="the column with the input (default: as in training)")
        parser.add_argument("--format", help="the format of the rows (default: by the file's ending; stdin: lines)")
        parser.add_argument(
            "--skip-bad-rows", action="store_true", help="answer the others where rows cannot be; those say why (error)"
        )
        parser.add_argument(
            "--abstain", action="store_true", help="no answer (null) where the model is too unsure, as compare measured"
        )
        parser.add_argument("--device", default="auto", help="auto, cuda, mps or cpu")
        _parser.trust_option(parser)
        parser.add_argument("--json", action="store_true", help="one JSON object with all answers on stdout")

    def main(self, options: argparse.Namespace) -> None:
        """Answers every row, in order."""
        write = _writer(options.out, force=options.force) if options.out else None
        from finesmith import answering, predictor
        from finesmith.cli._show import Terminal, print_json
        from finesmith.tasks import _cut

        own = {"trust_remote_code": options.trust_remote_code}
        asked = _asked(options, predictor.answering(options.run, **own))
        kept = _kept(options, asked) if options.out else None
        loaded = predictor.load(options.run, device=options.device, **own)
        with Terminal(quiet=options.json) as watcher:
            if asked.note:
                watcher.note(asked.note)
            rows = answering.begin(loaded, asked, abstain=options.abstain, skip=options.skip_bad_rows)
            shown = _shown if not (write or options.json) else None
            lines = _answered(rows, kept, watcher, shown)
            _note_failed(lines, watcher)
            if cut := sum("cut" in line for line in lines):
                watcher.note(_cut.ended(loaded.task, cut, len(lines)))
            if options.abstain and loaded.abstention:
                watcher.note(_left_out(loaded.abstention, [_is_unsure(line) for line in lines]))
        if options.json:
            left_out = {"left_out": sum(map(_is_unsure, lines))} if options.abstain else {}
            print_json({"answers": lines, **left_out})
        if write and kept:
            write(lines)
            kept.remove()


def _kept(options: argparse.Namespace, asked: Any) -> Any:
    """Where answers are kept until all are there."""
    from finesmith import answering

    return answering.keep(Path(options.out), options.run, asked, force=options.force, abstain=options.abstain)


def _answered(rows: Any, kept: Any, watcher: Any, show: Callable[[Line], None] | None) -> Lines:
    """A line for each row, each shown as soon as it is there; however this ends, it is said what is kept."""
    if kept and kept.lines:
        watcher.note(f"going on from {counted(len(kept.lines), 'answer')} in {kept.path}")
    lines: list[Line] = []
    try:
        with watcher.progress("answering", len(rows.asked.ids)) as progress:
            for line in rows.lines(kept, progress):
                lines.append(line)
                if show:
                    show(line)
    except BaseException:
        if kept and kept.lines:
            done = counted(len(kept.lines), "answer")
            watcher.note(f"{done} of {len(rows.asked.ids):,} kept in {kept.path}; the same command goes on from there")
        raise
    return lines


def _shown(line: Line) -> None:
    """An answer on stdout, at once: whoever stops the command keeps it."""
    sys.stdout.write(_jsonl([line]))
    sys.stdout.flush()


def _note_failed(lines: Lines, watcher: Any) -> None:
    """How many rows have no answer, which is to be seen in their lines."""
    if failed := [line for line in lines if "error" in line]:
        first = f"{failed[0]['id']}: {failed[0]['error']}"
        watcher.note(f"{len(failed):,} of {counted(len(lines), 'row')} without an answer (error), the first is {first}")


def _is_unsure(line: Line) -> bool:
    """Whether an answer was left out as too unsure."""
    return line["output"] is None and "error" not in line


def _left_out(abstention: Any, gone: Sequence[bool]) -> str:
    """How many answers are left to a person, and what holds for the others."""
    start = f"{sum(gone)} of {counted(len(gone), 'answer')} left out (null): less sure than {abstention.threshold:.3f}"
    wanted, rows = f"at most {100 * abstention.risk:g} %", f"{abstention.rows} validation rows"
    if abstention.shown:
        return f"{start}; of the others {wanted} are wrong (shown on {rows})"
    if abstention.bound is None:
        return f"{start}; that of the others {wanted} are wrong was not shown: {rows} are too few"
    return (
        f"{start}; of the others {100 * abstention.seen:.3g} % were wrong on the {rows} that set this, too few to show "
        f"{wanted}: up to {100 * abstention.bound:.3g} % may be"
    )


def _asked(options: argparse.Namespace, card: Any) -> Any:
    """The rows; what is wrong with them is said with ways out that this command has."""
    from finesmith.answering import SKIP

    try:
        return _read(options, card)
    except DataError as error:
        hint = error.hint or (SKIP if error.problems else "")
        hint = hint.replace("Set data.format to", "Give --format").replace("set data.format to", "give --format")
        raise DataError(error.message, problems=error.problems, hint=hint) from error


def _read(options: argparse.Namespace, card: Any) -> Any:
    from finesmith import registry
    from finesmith.data import inputs, stdin

    known = {"columns": card.columns, "column": options.column, "skip": options.skip_bad_rows}
    if options.format and options.format not in registry.available("formats"):
        raise RecipeError(
            f"unknown format '{options.format}'. {nearest(options.format, registry.available('formats'))}"
        )
    if options.input != "-":
        return inputs.read(options.input, format=options.format, **known)
    if options.format:
        stream = getattr(sys.stdin, "buffer", None) or io.BytesIO(sys.stdin.read().encode())
        return inputs.read("stdin", format=options.format, stream=stream, **known)
    return stdin.lines(stdin.decoded(sys.stdin), spoken=hasattr(card.task, "prompt"), **known)


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
    """One column for each label's score; several labels in one cell as a JSON list; `cut` and `error` last."""
    from finesmith.data import tables

    labels = list(dict.fromkeys(label for line in lines for label in line.get("scores", {})))
    more = [name for name in ("cut", "error") if any(name in line for line in lines)]
    rows = (
        [
            line["id"],
            _cell(line["output"]),
            *(line.get("scores", {}).get(label) for label in labels),
            *("true" if (told := line.get(name)) is True else told for name in more),
        ]
        for line in lines
    )
    text = io.StringIO()
    tables.write(text, ["id", "output", *(f"score {label}" for label in labels), *more], rows)
    return text.getvalue()


def _cell(output: Any) -> str | None:
    """An answer that was left out is an empty cell."""
    return output if output is None or isinstance(output, str) else json.dumps(output, ensure_ascii=False)


WRITERS: dict[str, Callable[[Lines], str]] = {".jsonl": _jsonl, ".csv": _csv}
PLUGIN = Predict()
