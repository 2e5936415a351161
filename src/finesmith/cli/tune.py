"""Fine-tune a model on examples, and measure what it gained."""

from __future__ import annotations

import argparse

from finesmith.cli import _parser


class Tune:
    """`finesmith tune DATA|RECIPE [key=value ...]`."""

    def options(self, parser: argparse.ArgumentParser) -> None:
        """A recipe's arguments, and where the run goes."""
        _parser.recipe_options(parser)
        parser.add_argument("--out", help="the run folder (default: runs/NAME)")
        parser.add_argument(
            "--from-scratch", action="store_true", help="random initial weights of the same architecture"
        )
        parser.add_argument("--json", action="store_true", help="the evidence as one JSON object on stdout")

    def main(self, options: argparse.Namespace) -> int:
        """Runs the recipe and shows the evidence."""
        from finesmith.recipe import from_source

        recipe = from_source(options.source, _parser.recipe_values(options))
        return run_and_show(lambda run, watcher: run.tune(recipe, watcher=watcher), as_json=options.json)


def run_and_show(start: object, *, as_json: bool) -> int:
    """Runs `start(run_module, watcher)` with progress on stderr and shows the evidence on stdout."""
    from finesmith import run
    from finesmith.cli._show import Terminal, say_stopped
    from finesmith.cli.show import show
    from finesmith.watch import Interrupted

    assert callable(start)
    try:
        with Terminal(quiet=as_json) as watcher:
            result = start(run, watcher)
    except Interrupted as stopped:
        return say_stopped(stopped)
    show(result.path, as_json=as_json)
    return 0


PLUGIN = Tune()
