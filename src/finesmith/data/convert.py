"""One row to what an example holds, by the plan that `shapes.detect` made. A row that does not fit is a Fault."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from finesmith.data import messages
from finesmith.data.label_lists import parted
from finesmith.data.names import NAMES
from finesmith.data.rows import Fault, Row, absent, kind
from finesmith.data.shapes import SHAPES, Plan, candidates, possible
from finesmith.types import Conversation, Input, Message, Target


def convert(row: Row, plan: Plan) -> tuple[Input, Target]:
    """The input and the target of a row.

    Raises:
        Fault: the row lacks something, holds something of the wrong type, or has another shape.
    """
    lacking = [column for column in plan.required if column not in row]
    if lacking:
        raise Fault(_lacking(row, plan, lacking))
    return CONVERTERS[plan.shape](row, plan)


def group(row: Row, plan: Plan) -> str | None:
    """The group that the row belongs to, or None."""
    value = optional(row, plan, "group")
    if absent(value) or value == "":
        return None
    if isinstance(value, str | int):
        return str(value)
    raise Fault(f"the group must be text or a whole number, found {kind(value)}")


def own_id(row: Row, plan: Plan) -> str | None:
    """The id that the row brings along, or None."""
    value = optional(row, plan, "id")
    if absent(value) or value == "":
        return None
    if isinstance(value, str | int) and not isinstance(value, bool):
        return str(value)
    raise Fault(f"the id must be text or a whole number, found {kind(value)}")


def optional(row: Row, plan: Plan, word: str) -> Any:
    """The cell of an optional column; a row may have it although the first rows had not."""
    if word in plan.columns:
        return row.get(plan.columns[word])
    taken = plan.columns.values()
    return next((row[name] for name in NAMES[word].strong if name in row and name not in taken), None)


def shortened(row: Row, plan: Plan) -> bool:
    """Whether a row ends with turns that are not learnt: its target is the last one that is."""
    word = {"messages": "messages", "sharegpt": "messages", "turns": "completion"}.get(plan.shape)
    turns = row[plan.columns[word]] if word else None
    return messages.ends_unlearnt(messages.listed(turns) if word == "messages" else turns)


def _lacking(row: Row, plan: Plan, lacking: list[str]) -> str:
    other = next(iter(possible([row], {})), "")
    if other not in ("", "text", plan.shape):
        here = "/".join(candidates(other, word, list(row), {})[0] for word in SHAPES[other].required)
        return f"mixed shapes: has {here} where the rows before have {'/'.join(plan.required)}"
    found = ", ".join(map(str, row)) or "none"
    return f"the column {' and '.join(repr(column) for column in lacking)} is missing (columns here: {found})"


def written(row: Row, plan: Plan, word: str) -> str:
    """A cell that must hold some text."""
    value = row[plan.columns[word]]
    if absent(value):
        raise Fault(f"the {word} is missing (column '{plan.columns[word]}')")
    if not isinstance(value, str):
        raise Fault(f"the {word} must be text, found {kind(value)} (column '{plan.columns[word]}')")
    if not value.strip():
        raise Fault(f"the {word} is empty (column '{plan.columns[word]}')")
    return value


def _labels(row: Row, plan: Plan) -> tuple[Input, Target]:
    text, value, column = written(row, plan, "text"), row[plan.columns["label"]], plan.columns["label"]
    if absent(value):
        raise Fault(f"the label is missing (column '{column}')")
    value = parted(value) if plan.several else value
    if isinstance(value, list) != plan.several:
        usual = "a list of labels" if plan.several else "one label"
        raise Fault(f"the label is {kind(value)} where the rows before have {usual} (column '{column}')")
    if isinstance(value, list):
        return text, tuple(sorted({_label(each, column) for each in value}))
    return text, _label(value, column)


def _label(value: Any, column: str) -> str:
    if not isinstance(value, str | int):
        raise Fault(f"the label must be text or a whole number, found {kind(value)} (column '{column}')")
    if not str(value).strip():
        raise Fault(f"the label is empty (column '{column}')")
    return str(value)


def _text(row: Row, plan: Plan) -> tuple[Input, Target]:
    return written(row, plan, "text"), None


def _prompt(row: Row, plan: Plan) -> tuple[Input, Target]:
    return asked(row, plan), Message("assistant", written(row, plan, "completion"))


def _alpaca(row: Row, plan: Plan) -> tuple[Input, Target]:
    return asked(row, plan), Message("assistant", written(row, plan, "output"))


def asked(row: Row, plan: Plan) -> Conversation:
    """The question of a row with prompt and completion, or with instruction, input and output."""
    prompt = _instruction(row, plan) if plan.shape == "alpaca" else written(row, plan, "prompt")
    return Conversation((*system(row, plan), Message("user", prompt, weight=0.0)))


def _instruction(row: Row, plan: Plan) -> str:
    instruction, given = written(row, plan, "instruction"), optional(row, plan, "input")
    if not absent(given) and not isinstance(given, str):
        raise Fault(f"the input must be text, found {kind(given)}")
    blank = absent(given) or not given.strip()
    return instruction if blank else f"{instruction}\n\n{given}"


def system(row: Row, plan: Plan) -> tuple[Message, ...]:
    """The system prompt of a row as a message, where it has one."""
    value = optional(row, plan, "system")
    if absent(value) or value == "":
        return ()
    if not isinstance(value, str):
        raise Fault(f"the system text must be text, found {kind(value)}")
    return (Message("system", value, weight=0.0),)


def _messages(row: Row, plan: Plan) -> tuple[Input, Target]:
    value, tools = row[plan.columns["messages"]], messages.tools(optional(row, plan, "tools"))
    before, target = messages.conversation(value)
    lead = system(row, plan) if plan.shape == "sharegpt" else ()
    if lead and before and before[0].role == "system":
        raise Fault("has a system text in a column and another one in its messages")
    return Conversation((*lead, *before), tools), target


def _turns(row: Row, plan: Plan) -> tuple[Input, Target]:
    """Prompt and completion as lists of turns: those of the prompt are not trained unless their weight says so."""
    given, offered = row[plan.columns["prompt"]], optional(row, plan, "tools")
    within = given if isinstance(given, dict) else {"messages": given}  # OpenAI's preference files have an object
    asked = [_untrained(turn) for turn in _listed(within.get("messages"), row, plan, "prompt", "user")]
    said = _listed(row[plan.columns["completion"]], row, plan, "completion", "assistant")
    before, target = messages.conversation([*asked, *said])
    return Conversation(before, messages.tools(within.get("tools", offered))), target


def _listed(value: Any, row: Row, plan: Plan, word: str, role: str) -> list[Any]:
    """The turns of a cell; a text is one turn."""
    return value if isinstance(value, list) and value else [{"role": role, "content": written(row, plan, word)}]


def _untrained(turn: Any) -> Any:
    said = not isinstance(turn, dict) or "weight" in turn or "train" in turn
    return turn if said else {**turn, "weight": 0}


CONVERTERS: dict[str, Callable[[Row, Plan], tuple[Input, Target]]] = {
    "labels": _labels,
    "text": _text,
    "prompt": _prompt,
    "alpaca": _alpaca,
    "messages": _messages,
    "sharegpt": _messages,
    "turns": _turns,
}
