"""Should I fine-tune at all? Checks, cheap opponents and prompts on the locked test rows; trains nothing large."""

from __future__ import annotations

import argparse
from typing import Any

from finesmith.cli import _parser


class Advise:
    """`finesmith advise DATA|RECIPE [key=value ...] [--model M] [--target X] [--minimum-gain X] [--json]`."""

    def options(self, parser: argparse.ArgumentParser) -> None:
        """A recipe's arguments, and what would be good enough."""
        _parser.recipe_options(parser)
        parser.add_argument("--target", type=float, metavar="X", help="the score that would be good enough")
        parser.add_argument(
            "--minimum-gain", type=float, metavar="X", help="the smallest gain of use (default: one point)"
        )
        parser.add_argument("--json", action="store_true", help="everything as one JSON object")

    def main(self, options: argparse.Namespace) -> None:
        """Measures and shows."""
        from rich.console import Console

        from finesmith import advising
        from finesmith.cli._show import Terminal, print_json
        from finesmith.recipe import from_source

        recipe = from_source(options.source, _parser.recipe_values(options))
        with Terminal(quiet=options.json) as watcher:
            found = advising.advise(recipe, target=options.target, minimum_gain=options.minimum_gain, watcher=watcher)
        if options.json:
            print_json(advising.as_json(found))
            return
        console = Console(highlight=False)
        console.print(found.sentence, soft_wrap=True, markup=False)
        console.print(_table(found))
        for line in _lines(found):
            console.print(line, soft_wrap=True, markup=False)


def _table(found: Any) -> Any:
    """Every system on the test rows, the best first, and how much better the best is than each."""
    from rich import box
    from rich.table import Table

    from finesmith import registry
    from finesmith.evidence import verdict

    metric = next(m for m in map(_metric, registry.available("metrics")) if m.title == found.metric)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for title in ("without fine-tuning", metric.title, "95 % interval", "n", "behind the best by", "95 % interval"):
        table.add_column(title, justify="left" if title.startswith("without") else "right")
    sign = -1.0 if metric.higher_is_better else 1.0
    for name, value in sorted(found.systems.items(), key=lambda pair: sign * pair[1].value):
        gain = found.gains.get(name)
        ends = (value.low, value.high)
        row = [found.titles[name], verdict.number(metric, value.value), " to ".join(_all(verdict.number, metric, ends))]
        row += [verdict.rows(value)]
        row += (
            [verdict.signed(metric, gain.value), " to ".join(_all(verdict.signed, metric, (gain.low, gain.high)))]
            if gain
            else ["", ""]
        )
        table.add_row(*row)
    return table


def _metric(name: str) -> Any:
    from finesmith import registry

    return registry.resolve("metrics", name)


def _all(show: Any, metric: Any, values: tuple[float, ...]) -> list[str]:
    return [show(metric, value) for value in values]


def _lines(found: Any) -> list[str]:
    """The prompt that was chosen, findings, what is missing, the times."""
    lines = []
    if found.prompting:
        chosen = found.prompting
        scores = ", ".join(f"{name} {value:.3g}" for name, value in chosen["templates"].items())
        lines.append(
            f"best prompt on {chosen['validation_rows']} validation rows: {chosen['best']}, template "
            f"'{chosen['best_template']}', read by {chosen['reading']}; templates: {scores}"
        )
    lines += [f"{finding.severity}: {finding.what}" for finding in found.findings if finding.severity != "note"]
    lines += [f"not measured: {name}: {why}" for name, why in found.not_measured.items()]
    took = ", ".join(f"{name} {seconds:.1f} s" for name, seconds in found.seconds.items())
    return [*lines, f"times: {took}"]


PLUGIN = Advise()
