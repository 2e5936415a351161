"""Fine-tune a model on examples, and measure what it gained."""

from __future__ import annotations

import argparse
from collections.abc import Callable

from finesmith.cli import _evidence, _parser
from finesmith.errors import RecipeError


class Tune:
    """`finesmith tune DATA|RECIPE [key=value ...]`."""

    def options(self, parser: argparse.ArgumentParser) -> None:
        """A recipe's arguments, and where the run goes."""
        _parser.recipe_options(parser)
        parser.add_argument("--out", help="the run folder (default: runs/NAME)")
        parser.add_argument(
            "--from-scratch", action="store_true", help="random initial weights of the same architecture"
        )
        parser.add_argument(
            "--evidence",
            nargs="?",
            const="quick",
            choices=_evidence.EFFORTS,
            metavar="EFFORT",
            help="afterwards measure the rest, as finesmith compare does: quick (without a word), standard or full",
        )
        parser.add_argument("--json", action="store_true", help="the evidence as one JSON object on stdout")
        _evidence.options(parser.add_argument_group("with --evidence"))

    def main(self, options: argparse.Namespace) -> int:
        """Runs the recipe, compares if that was asked for, and shows the evidence."""
        from finesmith.recipe import from_source

        if not options.evidence and (idle := _evidence.asked(options)):
            raise RecipeError(f"{idle[0]} has no effect without --evidence.", hint="Add --evidence, or leave it out.")
        given = _evidence.given(options)  # a file that is not there must not be found out after the training
        recipe = from_source(options.source, _parser.recipe_values(options))
        given["trust_remote_code"] = recipe.model.trust_remote_code
        return run_and_show(
            lambda run, watcher: run.tune(recipe, watcher=watcher),
            as_json=options.json,
            then=(lambda path: _compared(path, options.evidence, given)) if options.evidence else None,
        )


def run_and_show(start: object, *, as_json: bool, then: Callable[[str], int] | None = None) -> int:
    """Runs `start(run_module, watcher)` and `then` on its folder with progress on stderr; shows the evidence on stdout.

    The exit code is that of `then`, whatever comes of it: the run is finished before.
    """
    from finesmith import run
    from finesmith.cli._show import Terminal, say_stopped
    from finesmith.cli.show import show
    from finesmith.watch import Interrupted

    assert callable(start)
    try:
        with Terminal() as watcher:
            result = start(run, watcher)
    except Interrupted as stopped:
        return say_stopped(stopped, as_json=as_json)
    code = then(str(result.path)) if then else 0
    show(result.path, as_json=as_json)
    return code


def _compared(path: str, effort: str, given: dict[str, object]) -> int:
    """Compares with progress on stderr, and says there why that could not be done; 0 where it could."""
    from finesmith import comparing
    from finesmith.cli._show import Terminal, say_not_compared

    try:
        with Terminal() as watcher:
            why = comparing.attempt(path, effort=effort, watcher=watcher, **given)
    except KeyboardInterrupt:
        return say_not_compared(path, "stopped", 130)
    return say_not_compared(path, why, 2) if why else 0


PLUGIN = Tune()
