"""Talk to the base and the tuned model of a generation run, side by side."""

from __future__ import annotations

import argparse
from typing import Any

from finesmith.errors import RunError


class Chat:
    """`finesmith chat RUN`."""

    def options(self, parser: argparse.ArgumentParser) -> None:
        """The run."""
        parser.add_argument("run", help="the run folder")
        parser.add_argument("--tuned-only", action="store_true", help="do not load and ask the base model")
        parser.add_argument("--device", default="auto", help="auto, cuda, mps or cpu")

    def main(self, options: argparse.Namespace) -> None:
        """Reads a line, shows both answers; an empty line starts a new conversation, Ctrl-D ends."""
        from rich.console import Console

        from finesmith import measure, predictor

        models = {"tuned": predictor.load(options.run, device=options.device)}
        if not hasattr(models["tuned"].task, "prompt"):
            raise RunError(f"'{options.run}' is no generation run; ask it with: finesmith predict {options.run} -")
        if not options.tuned_only:
            models = {"base": measure.base_of(options.run, models["tuned"], options.device), **models}
        console = Console(highlight=False)
        console.print("[dim]Empty line: new conversation. Ctrl-D: end.[/dim]")
        _talk(console, models)


def _talk(console: Any, models: dict[str, Any]) -> None:
    histories: dict[str, list[dict[str, Any]]] = {name: [] for name in models}
    while True:
        try:
            line = console.input("[bold]you[/bold]   ")
        except (EOFError, KeyboardInterrupt):
            return
        if not line.strip():
            histories = {name: [] for name in models}
            continue
        for name, model in models.items():
            histories[name].append({"role": "user", "content": line})
            answer = model.predict([histories[name]])[0].output
            histories[name].append({"role": "assistant", "content": answer})
            console.print(f"[bold]{name:<6}[/bold]{answer}", soft_wrap=True)


PLUGIN = Chat()
