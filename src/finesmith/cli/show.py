"""Show the result of a run again."""

from __future__ import annotations

import argparse
from pathlib import Path


class Show:
    """`finesmith show RUN`."""

    def options(self, parser: argparse.ArgumentParser) -> None:
        """The run."""
        parser.add_argument("run", help="the run folder")
        parser.add_argument("--json", action="store_true", help="the evidence as one JSON object")

    def main(self, options: argparse.Namespace) -> None:
        """Prints the evidence."""
        show(options.run, as_json=options.json)


def show(path: str | Path, *, as_json: bool) -> None:
    """The evidence of a run on stdout: a table, or one JSON object."""
    from rich.console import Console

    from finesmith.cli._show import print_json
    from finesmith.evidence import plain
    from finesmith.report import table
    from finesmith.runfolder import RunFolder

    value = RunFolder(path).read_json("evidence.json")
    if as_json:
        print_json({"run": str(path), **value})
        return
    console = Console(highlight=False)
    console.print(table.render(plain.from_json(value)))
    console.print(f"run: {path}", soft_wrap=True)


PLUGIN = Show()
