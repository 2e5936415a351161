"""Measure what tune left open: prompting, scratch, retention, luck and more; was fine-tuning worth it?"""

from __future__ import annotations

import argparse
from typing import Any

GIVEN = ("target", "risk", "unlabelled", "retention_margin")
"""Options that measurements read (`study.options`) as they are given."""


class Compare:
    """`finesmith compare RUN [--effort quick|standard|full] [--minutes M] [--json]`."""

    def options(self, parser: argparse.ArgumentParser) -> None:
        """The run, the effort and the budget."""
        parser.add_argument("run", help="the folder of a finished run")
        parser.add_argument(
            "--effort",
            choices=("quick", "standard", "full"),
            default="quick",
            help="how much is measured; quick costs about three trainings",
        )
        parser.add_argument(
            "--minutes", type=float, metavar="M", help="the budget: the least important is dropped first"
        )
        parser.add_argument("--minimum-gain", type=float, default=0.0, metavar="X", help="the smallest gain of use")
        parser.add_argument(
            "--target", type=float, metavar="X", help="the score wanted: how many labels would reach it?"
        )
        parser.add_argument("--risk", type=float, metavar="R", help="wrong answers allowed beside abstention (0.05)")
        parser.add_argument("--unlabelled", metavar="FILE", help="rows without labels: which to label next?")
        parser.add_argument("--only", action="append", default=[], metavar="NAME", help="just this measurement")
        parser.add_argument("--again", action="store_true", help="also measure again what the run has already")
        parser.add_argument("--glossary", metavar="FILE", help='JSON list of {"preferred": ..., "forbidden": [...]}')
        parser.add_argument("--prompts", metavar="FILE", help="what the model must still do: prompts, perhaps answers")
        parser.add_argument(
            "--retention-margin", type=float, metavar="X", help="share of the knowledge that may be lost (0.01)"
        )
        parser.add_argument("--json", action="store_true", help="everything as one JSON object")

    def main(self, options: argparse.Namespace) -> None:
        """Measures, judges and shows."""
        from rich.console import Console

        from finesmith import comparing
        from finesmith.cli._show import Terminal, print_json

        with Terminal(quiet=options.json) as watcher:
            found = comparing.compare(
                options.run,
                effort=options.effort,
                minutes=options.minutes,
                minimum_gain=options.minimum_gain,
                only=options.only,
                again=options.again,
                options=_given(options),
                watcher=watcher,
            )
        if options.json:
            print_json({"run": options.run, **comparing.as_json(found)})
            return
        console = Console(highlight=False)
        for line in _lines(found):
            console.print(line, soft_wrap=True)


def _given(options: argparse.Namespace) -> dict[str, Any]:
    """What measurements may use besides the run, read from the files that were named."""
    from finesmith.data import glossary, prompts

    found = {
        "glossary": glossary.read(options.glossary) if options.glossary else None,
        "prompts": prompts.read(options.prompts) if options.prompts else None,
        **{name: getattr(options, name) for name in GIVEN},
    }
    return {name: value for name, value in found.items() if value is not None}


def _lines(found: Any) -> list[str]:
    """The decision, a line for each claim, and what was not measured."""
    lines = [found.decision, ""]
    lines += [
        f"{claim.outcome}{f' ({claim.grade})' if claim.grade else ''}: {claim.name}. {claim.sentence}"
        for claim in found.claims
    ]
    lines += [f"not measured: {name}: {why}" for name, why in found.not_measured.items()]
    return [*lines, f"run: {found.path}"]


PLUGIN = Compare()
