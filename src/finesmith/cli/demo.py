"""The main job on the shipped examples: tickets, then contract clauses, on the embedded base model."""

from __future__ import annotations

import argparse
from pathlib import Path


class Demo:
    """`finesmith demo`."""

    def options(self, parser: argparse.ArgumentParser) -> None:
        """Where the two runs go."""
        parser.add_argument("--out", default="runs", help="folder for the two runs (default: runs)")
        parser.add_argument("--json", action="store_true", help="both results as one JSON object on stdout")

    def main(self, options: argparse.Namespace) -> int:
        """Tunes on the support tickets, then on the contract clauses."""
        from finesmith import run
        from finesmith.cli._show import Terminal, print_json, say_stopped
        from finesmith.cli.show import show
        from finesmith.recipe import load
        from finesmith.runfolder import RunFolder
        from finesmith.watch import Interrupted

        results = {}
        for name in ("support-tickets", "contract-clauses"):
            folder = examples() / name
            data = next(path for path in sorted(folder.iterdir()) if path.suffix in (".csv", ".jsonl"))
            usual = Path(options.out) / f"demo-{name}"
            out = run.free_name(usual)
            recipe = load(folder / "recipe.yaml", {"data": {"path": str(data)}, "out": str(out)})
            try:
                with Terminal(quiet=options.json) as watcher:
                    watcher.note(
                        name if out == usual else f"{name}: '{usual}' exists already; this run goes to '{out}'"
                    )
                    result = run.tune(recipe, watcher=watcher)
            except Interrupted as stopped:
                return say_stopped(stopped, as_json=options.json)
            results[name] = {"run": str(result.path), **RunFolder(result.path).read_json("evidence.json")}
            if not options.json:
                show(result.path, as_json=False)
        if options.json:
            print_json(results)
        return 0


def examples() -> Path:
    """The shipped examples: beside the package when installed, in the repository while developing."""
    inside = Path(__file__).parents[1] / "examples"
    return inside if inside.is_dir() else Path(__file__).parents[3] / "examples"


PLUGIN = Demo()
