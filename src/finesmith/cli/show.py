"""Show the result of a run again."""

from __future__ import annotations

import argparse
from pathlib import Path

from finesmith.cli import _evidence


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
    """The evidence of a run on stdout, and of a comparison if there is one: tables and claims, or one JSON object."""
    from rich.console import Console

    from finesmith.cli._show import print_json
    from finesmith.evidence import plain
    from finesmith.report import table
    from finesmith.runfolder import RunFolder

    folder = RunFolder(path)
    value = folder.read_json("evidence.json")
    set_to = folder.read_json("manifest.json").get("scale") if folder.file("manifest.json").exists() else None
    compared = folder.read_json("comparison.json") if folder.file("comparison.json").exists() else {}
    if as_json:
        told = {name: each for name, each in compared.items() if name != "evidence"}  # that stands beside it
        more = {**({"scale": set_to} if set_to else {}), **({"comparison": told} if told else {})}
        print_json({"run": str(path), **value, **more})
        return
    console = Console(highlight=False)
    for line in [*_evidence.lines(compared), ""] if compared else []:
        console.print(line, soft_wrap=True, markup=False)
    console.print(table.render(plain.from_json(value)))
    if set_to:
        console.print(f"model/ is at scale {set_to['scale']:g}; what is shown here was measured at scale 1.")
    if compared:
        console.print(f"page: {folder.file('report.html')}", soft_wrap=True, markup=False)
    console.print(f"run: {path}", soft_wrap=True, markup=False)


PLUGIN = Show()
