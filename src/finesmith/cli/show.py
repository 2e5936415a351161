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

    folder = RunFolder(path)
    value = folder.read_json("evidence.json")
    set_to = folder.read_json("manifest.json").get("scale") if folder.file("manifest.json").exists() else None
    if as_json:
        print_json({"run": str(path), **value, **({"scale": set_to} if set_to else {})})
        return
    console = Console(highlight=False)
    console.print(table.render(plain.from_json(value)))
    if set_to:
        console.print(f"model/ is at scale {set_to['scale']:g}; what is shown here was measured at scale 1.")
    console.print(f"run: {path}", soft_wrap=True)


PLUGIN = Show()
