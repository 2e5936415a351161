"""Conversations whose turns are out of order, or whose tool calls fit no tool."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal

from finesmith.checks.base import SHOWN, Checked, Progress, share
from finesmith.types import Conversation, Example, Finding, Message


@dataclass(frozen=True)
class Turns:
    """Roles that do not alternate, late system messages, tool results nobody asked for, calls of unknown tools."""

    title: str = "turns and tool calls"
    tasks: tuple[str, ...] = ("generation",)
    cost: Literal["fast"] = "fast"

    def __call__(self, data: Checked, progress: Progress) -> Iterator[Finding]:
        """One finding a fault."""
        faults: dict[str, list[int]] = {}
        for place, row in enumerate(data.rows):
            for fault in dict.fromkeys([*_order(_messages(row)), *_calls(row)]):
                faults.setdefault(fault, []).append(place)
        for fault, found in faults.items():
            yield Finding(
                "turns",
                "warning",
                f"{fault}: {share(len(found), len(data.rows))} rows.",
                len(found),
                data.origins(found),
                "At inference turns come in the usual order; what was learnt from another order does not carry over, "
                "and many chat templates refuse it.",
                "Put the turns in order (system, then user and assistant in turn); declare every tool that is called.",
                {"samples": [data.sample(place) for place in found[:SHOWN]]},
            )


def _messages(row: Example) -> tuple[Message, ...]:
    assert isinstance(row.input, Conversation) and isinstance(row.target, Message)
    return (*row.input.messages, row.target)


def _order(messages: Sequence[Message]) -> Iterator[str]:
    roles = [message.role for message in messages]
    if "system" in roles[1:]:
        yield "A system message that is not the first"
    spoken = [role for role in roles if role != "system"]
    if spoken[0] != "user":
        yield f"The first turn is {'an assistant' if spoken[0] == 'assistant' else 'a tool'} turn"
    for first, second in pairwise(messages):
        if first.role == second.role == "user":
            yield "Two user turns in a row"
        if first.role == second.role == "assistant" and "tool_calls" not in first.extra:
            yield "Two assistant turns in a row"
        if second.role == "tool" and first.role != "tool" and "tool_calls" not in first.extra:
            yield "A tool result that no tool call asked for"
        if "tool_calls" in first.extra and second.role != "tool":
            yield "A tool call whose result is missing"


def _calls(row: Example) -> Iterator[str]:
    """Calls of tools that are not declared, or without an argument that the tool requires."""
    assert isinstance(row.input, Conversation)
    declared = {function.get("name"): function for tool in row.input.tools if (function := _function(tool))}
    for message in _messages(row):
        for call in message.extra.get("tool_calls", ()):
            name, arguments = call["function"]["name"], call["function"]["arguments"]
            if declared and name not in declared:
                yield f"A call of '{name}', which is not among the tools of its row"
            needed = (declared.get(name, {}).get("parameters") or {}).get("required")
            needed = needed if isinstance(needed, list) else ()
            if missing := [argument for argument in needed if argument not in arguments]:
                yield f"A call of '{name}' without the argument '{missing[0]}'"


def _function(tool: Any) -> dict[str, Any]:
    found = tool.get("function") if isinstance(tool, dict) else None
    return found if isinstance(found, dict) else {}


PLUGIN = Turns()
