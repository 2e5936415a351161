"""Go on with a run that was stopped or killed, exactly where it was."""

from __future__ import annotations

import argparse

from finesmith.cli import _parser


class Resume:
    """`finesmith resume RUN`."""

    def options(self, parser: argparse.ArgumentParser) -> None:
        """The run."""
        parser.add_argument("run", help="the run folder")
        _parser.trust_option(parser)
        parser.add_argument("--json", action="store_true", help="the evidence as one JSON object on stdout")

    def main(self, options: argparse.Namespace) -> int:
        """Goes on and shows the evidence."""
        from finesmith.cli.tune import run_and_show

        return run_and_show(
            lambda run, watcher: run.resume(options.run, trust_remote_code=options.trust_remote_code, watcher=watcher),
            as_json=options.json,
        )


PLUGIN = Resume()
