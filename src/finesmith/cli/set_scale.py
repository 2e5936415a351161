"""Choose how much of the tuning to keep: set a finished model to a scale between base (0) and tuned (1), and back."""

from __future__ import annotations

import argparse

from finesmith.cli import _parser


class SetScale:
    """`finesmith set-scale RUN keep|knee|max|0.7`."""

    def options(self, parser: argparse.ArgumentParser) -> None:
        """The run and the scale."""
        parser.add_argument("run", help="the folder of a finished run")
        parser.add_argument(
            "scale", help="keep, knee or max, as `finesmith compare` found them, or a number; 1 is the model as tuned"
        )
        _parser.trust_option(parser)
        parser.add_argument("--json", action="store_true", help="what was set as one JSON object")

    def main(self, options: argparse.Namespace) -> None:
        """Writes the model folder anew and says what it holds."""
        from finesmith import scaling
        from finesmith.cli._show import Terminal, print_json
        from finesmith.evidence import plain
        from finesmith.report import words

        with Terminal(quiet=options.json) as watcher:
            own = options.trust_remote_code
            done = scaling.set_scale(options.run, options.scale, trust_remote_code=own, watcher=watcher)
        if options.json:
            print_json({**plain.values_of(done), "path": options.run})
            return
        named = f" ({done.point})" if done.point else ""
        print(f"{options.run}/model is now at scale {done.scale:g}{named}; it was at {done.before:g}.")
        if done.measured:
            print(f"{words.on_test_rows(done.metric, done.measured)}.")
        if done.scale != 1:
            print(f"The model as it was tuned comes back with: finesmith set-scale {options.run} 1")


PLUGIN = SetScale()
