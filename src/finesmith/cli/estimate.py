"""Say what a run will take before it is run: peak memory with its parts, time, disk."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from typing import TYPE_CHECKING

from finesmith.cli import _parser

if TYPE_CHECKING:
    from finesmith.estimate import Estimate as Found


class Estimate:
    """`finesmith estimate DATA|RECIPE [key=value ...] [--no-probe] [--json]`."""

    def options(self, parser: argparse.ArgumentParser) -> None:
        """A recipe's arguments."""
        _parser.recipe_options(parser)
        parser.add_argument("--no-probe", action="store_true", help="take no real steps: memory and disk only")
        parser.add_argument("--json", action="store_true", help="the estimate as one JSON object on stdout")

    def main(self, options: argparse.Namespace) -> int:
        """Estimates and shows."""
        from finesmith import estimate
        from finesmith.cli._show import Terminal, print_json
        from finesmith.recipe import from_source

        recipe = from_source(options.source, _parser.recipe_values(options))
        with Terminal(quiet=options.json) as watcher:
            found = estimate.estimate(recipe, watcher=watcher, probe=not options.no_probe)
        if options.json:
            print_json(found.plain())
        else:
            print("\n".join(_lines(found)))
        return 0


PARTS = {
    "weights": "weights",
    "gradients": "gradients",
    "moments": "optimizer (its moments)",
    "activations": "activations of the largest forward pass",
    "kernels": "oneDNN's kernels, by shape (bfloat16 on a CPU)",
    "temporary": "temporary (a chunk of logits, casts, attention)",
    "holes": "holes that the allocator keeps",
    "processes": "what the other processes of speed.processes hold for themselves",
    "read_back": "best weights, read back at the end",
    "base": "everything else: libraries, data, what loading left",
}


def _lines(found: Found) -> Iterator[str]:
    from finesmith.report.words import duration, size

    yield from _memory(found)
    recipe = found.recipe
    yield (
        f"        {int(recipe.train.micro_batch_tokens):,} tokens in a forward pass, "
        f"activation checkpointing {recipe.speed.checkpointing}"
    )
    if recipe.speed.compile:
        yield "        all of it without speed.compile: compiled blocks are neither planned nor timed"
    yield ""
    if found.seconds:
        low, high = duration(found.seconds.low), duration(found.seconds.high)
        yield f"time    {low} to {high} for {found.steps:,} steps with their evaluations, from {found.seconds.how}"
        yield "        the test at the end comes on top; patience may end the training sooner"
    else:
        yield "time    not measured"
    yield ""
    yield f"disk    {size(found.disk.model):>9}  model"
    told = "checkpoint to go on from, with the next beside it while that is written; removed at the end"
    yield f"        {size(found.disk.checkpoint):>9}  {told}"
    yield f"        {size(found.disk.predictions):>9}  answers to the test rows"
    if found.disk.frozen_states:
        kept = "what the frozen layers give, a temporary file while it trains"
        yield f"        {size(found.disk.frozen_states):>9}  {kept}"


def _memory(found: Found) -> Iterator[str]:
    from finesmith.report.words import size

    memory = found.memory
    if memory is None:
        yield f"memory  cannot be predicted for this model: {found.problem}"
        return
    yield f"memory  {size(memory.peak):>9}  at the peak of training"
    for name, title in PARTS.items():
        if getattr(memory, name) >= 50_000:
            yield f"        {size(getattr(memory, name)):>9}  {title}"
    if found.free is not None:
        said = "IT MAY NOT FIT" if memory.growth <= found.free else "IT DOES NOT FIT"
        said = "it fits" if found.fits else f"{said}: use a smaller model, method=lora or train.max_length"
        yield f"        {size(memory.growth):>9}  of it from step 1 on; {size(found.free)} is free: {said}"


PLUGIN = Estimate()
