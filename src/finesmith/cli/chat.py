"""Talk to the base and the tuned model of a generation run, side by side."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from typing import Any

from finesmith.cli import _parser
from finesmith.errors import FinesmithError, RunError
from finesmith.types import Conversation, Message


class Chat:
    """`finesmith chat RUN`."""

    def options(self, parser: argparse.ArgumentParser) -> None:
        """The run."""
        parser.add_argument("run", help="the run folder")
        parser.add_argument("--system", metavar="TEXT", help="a system prompt that begins every conversation")
        parser.add_argument("--tuned-only", action="store_true", help="do not load and ask the base model")
        parser.add_argument("--device", default="auto", help="auto, cuda, mps or cpu")
        _parser.trust_option(parser)

    def main(self, options: argparse.Namespace) -> None:
        """Reads a line, shows both answers; an empty line starts a new conversation, Ctrl-D ends."""
        from finesmith import measure, predictor

        own = {"trust_remote_code": options.trust_remote_code}
        if not hasattr(predictor.answering(options.run, **own).task, "prompt"):
            raise RunError(
                f"'{options.run}' is a classifier, which holds no conversation.",
                hint=f"Ask it with: finesmith predict {options.run} -",
            )
        models = {"tuned": predictor.load(options.run, device=options.device, **own)}
        if not options.tuned_only:
            models = {"base": measure.base_of(options.run, models["tuned"], options.device, **own), **models}
        _talk(models, [{"role": "system", "content": options.system}] if options.system else [])


def _talk(models: dict[str, Any], start: list[dict[str, Any]]) -> None:
    """One line in, one answer of each model out; only people get prompts, a pipe gets answers."""
    from rich.console import Console
    from rich.text import Text

    from finesmith.data import stdin

    console = Console(highlight=False)
    people = sys.stdin.isatty() and sys.stdout.isatty()
    if people:
        console.print("[dim]Empty line: new conversation. Ctrl-D: end.[/dim]")
    histories = {name: [*start] for name in models}
    typed = None if people else stdin.decoded(sys.stdin)
    while (line := _line(console, typed)) is not None:
        if not line.strip():
            histories = {name: [*start] for name in models}
            continue
        for name, model in models.items():
            try:
                answer = _answer(model, histories[name], line)
            except FinesmithError as error:  # the context is full, half a character was typed
                print(f"error: {error}\nA new conversation begins.", file=sys.stderr)
                histories = {name: [*start] for name in models}
                break
            title = (f"{name:<6}", "bold") if people or len(models) > 1 else ""
            console.print(Text.assemble(title, answer), soft_wrap=True)


def _answer(model: Any, history: list[dict[str, Any]], line: str) -> str:
    """What a model says to a line; the history goes on with both."""
    history.append({"role": "user", "content": line})
    said = (Message(turn["role"], turn["content"], 0.0) for turn in history)  # an answer may be empty
    answer = str(model.predict([Conversation(tuple(said))])[0].output)
    history.append({"role": "assistant", "content": answer})
    return answer


def _line(console: Any, typed: Iterator[str] | None) -> str | None:
    """The next line, from people or from a pipe; None at the end."""
    try:
        return console.input("[bold]you[/bold]   ") if typed is None else next(typed).rstrip("\r\n")
    except (EOFError, StopIteration, KeyboardInterrupt):
        return None


PLUGIN = Chat()
