"""Print the JSON Schema of a recipe, from which editors complete."""

from __future__ import annotations

import argparse


class Schema:
    """`finesmith schema`."""

    def options(self, parser: argparse.ArgumentParser) -> None:
        """None."""

    def main(self, options: argparse.Namespace) -> None:
        """Prints the schema."""
        from finesmith.cli._show import print_json
        from finesmith.recipe import schema

        print_json(schema())


PLUGIN = Schema()
