"""List what exists: tasks, methods, formats, metrics, baselines, checks, measurements, models."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator

from finesmith import registry
from finesmith.errors import RecipeError, nearest

KINDS = ("tasks", "methods", "formats", "metrics", "baselines", "checks", "measurements", "models")


class List:
    """`finesmith list [KIND]`."""

    def options(self, parser: argparse.ArgumentParser) -> None:
        """The kind, or all."""
        parser.add_argument("kind", nargs="?", help=", ".join(KINDS))
        parser.add_argument("--json", action="store_true", help="one JSON object")

    def main(self, options: argparse.Namespace) -> None:
        """One line for each thing."""
        if options.kind and options.kind not in KINDS:
            raise RecipeError(f"Nothing is listed as '{options.kind}'. {nearest(options.kind, KINDS)}")
        found = {kind: dict(lines(kind)) for kind in ([options.kind] if options.kind else KINDS)}
        if options.json:
            import json

            sys.stdout.write(json.dumps(found, indent=2) + "\n")
            return
        width = max(len(name) for entries in found.values() for name in entries) + 2
        for kind, entries in found.items():
            print(kind)
            for name, summary in entries.items():
                print(f"  {name:<{width}}{summary}")


def lines(kind: str) -> Iterator[tuple[str, str]]:
    """Name and one line of everything of a kind."""
    if kind == "models":
        from finesmith.models import embedded

        yield from embedded.lines()
        return
    for name in registry.available(kind):
        yield name, registry.summary(kind, name)


PLUGIN = List()
