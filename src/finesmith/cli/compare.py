"""Measure what tune left open: prompting, scratch, retention, luck and more; was fine-tuning worth it?"""

from __future__ import annotations

import argparse

from finesmith import registry
from finesmith.cli import _evidence, _parser


class Compare:
    """`finesmith compare RUN [--effort quick|standard|full] [--minutes M] [--json]`."""

    def options(self, parser: argparse.ArgumentParser) -> None:
        """The run, the effort and the budget."""
        parser.add_argument("run", help="the folder of a finished run")
        parser.add_argument(
            "--effort",
            choices=_evidence.EFFORTS,
            default="quick",
            help="how much is measured; quick (the default) is planned for three trainings' time",
        )
        parser.add_argument(
            "--only",
            action="append",
            default=[],
            metavar="NAME",
            help="just this measurement (finesmith list measurements)",
        )
        parser.add_argument(
            "--again",
            action="store_true",
            help="also measure again what the run has already: what --only names, else what the effort has",
        )
        _evidence.options(parser)
        _parser.trust_option(parser)
        parser.add_argument("--json", action="store_true", help="everything as one JSON object")

    def main(self, options: argparse.Namespace) -> None:
        """Measures, judges and shows."""
        for name in options.only:
            registry.resolve("measurements", name)  # one that is not there is found out now
        from rich.console import Console

        from finesmith import comparing, judging
        from finesmith.cli._show import Terminal, print_json

        given = _evidence.given(options)
        with Terminal(quiet=options.json) as watcher:
            found = comparing.compare(
                options.run,
                effort=options.effort,
                only=options.only,
                again=options.again,
                trust_remote_code=options.trust_remote_code,
                watcher=watcher,
                **given,
            )
        plainly = judging.as_json(found)
        if options.json:
            print_json({"run": options.run, **plainly})
            return
        console = Console(highlight=False)
        for line in (*_evidence.lines(plainly), f"page: {found.path / 'report.html'}", f"run: {found.path}"):
            console.print(line, soft_wrap=True, markup=False)


PLUGIN = Compare()
