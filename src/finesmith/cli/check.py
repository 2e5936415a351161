"""Check a data set before anything is trained: what would spoil the result, where, and what to do about it."""

from __future__ import annotations

import argparse
from typing import Any

from finesmith.cli import _outputs, _parser
from finesmith.errors import RecipeError


class CheckData:
    """`finesmith check DATA|RECIPE [key=value ...] [--model M] [--html FILE] [--json] [--fix]`."""

    def options(self, parser: argparse.ArgumentParser) -> None:
        """A recipe's arguments, and where the report goes."""
        _parser.recipe_options(parser)
        parser.add_argument("--html", metavar="FILE", help="also write one self-contained page with plots")
        parser.add_argument("--force", action="store_true", help="write over the file that --html names")
        parser.add_argument("--json", action="store_true", help="every finding with all its rows as one JSON object")
        parser.add_argument("--glossary", metavar="FILE", help='JSON list of {"preferred": ..., "forbidden": [...]}')
        parser.add_argument("--names", action="store_true", help="also look for names and places (extra: private)")
        parser.add_argument(
            "--fix", action="store_true", help="write a cleaned copy beside the data, with a log of every row touched"
        )

    def main(self, options: argparse.Namespace) -> int:
        """Checks, shows, and returns 2 where something would stop `tune`."""
        page_file = (
            _outputs.free(options.html, (".html", ".htm"), "A page", force=options.force) if options.html else None
        )
        if options.force and not options.html:
            raise RecipeError("--force has no effect without --html.")
        from rich.console import Console

        from finesmith import examine, mend
        from finesmith.cli._show import Terminal, print_json
        from finesmith.data import glossary
        from finesmith.recipe import from_source
        from finesmith.report import findings, page
        from finesmith.runfolder import write_file

        recipe = from_source(options.source, _parser.recipe_values(options))
        terms = glossary.read(options.glossary) if options.glossary else ()
        with Terminal(quiet=options.json) as watcher:
            found, data = examine.examine(
                recipe, glossary=terms, names=options.names, whole=options.fix, watcher=watcher
            )
            cleaned = mend.fix(recipe, found, data) if options.fix else None
        if page_file:
            write_file(page_file, page.render(found))
        if options.json:
            print_json({**findings.plain(found), **({"fixed": _cleaned(cleaned)} if cleaned else {})})
        else:
            console = Console(highlight=False)
            console.print(
                findings.render(found, height=console.height if console.is_terminal else 0, width=console.width)
            )
            if cleaned:
                done = _cleaned(cleaned)
                console.print(
                    f"Cleaned copy: {done['copy']} ({done['left_out']:,} rows left out, {done['changed']:,} changed); "
                    f"every row touched: {done['log']}",
                    soft_wrap=True,
                    markup=False,
                )
        return 2 if found.blocking else 0


def _cleaned(value: Any) -> dict[str, Any]:
    return {"copy": str(value.copy), "log": str(value.log), "left_out": value.dropped, "changed": value.changed}


PLUGIN = CheckData()
