"""Rows to answer: the same files as for training, but nobody needs labels, and the order is kept."""

from __future__ import annotations

from finesmith.data import messages, names, sources
from finesmith.data.rows import Bad, Fault, Row
from finesmith.errors import DataError, nearest
from finesmith.types import Conversation, Input, Message

WRITTEN = {"role": "assistant", "content": "(to be written)"}


def read(path: str, *, column: str | None = None) -> list[tuple[str, Input]]:
    """Ids and inputs of every row of a file or folder, in order.

    Args:
        path: what `data.read` reads; a final assistant turn is left out, it is for the model to write.
        column: the column with the input, where its name does not say so.

    Raises:
        DataError: rows that cannot be answered, all of them with file:line and reason.
    """
    found: list[tuple[str, Input]] = []
    problems: list[str] = []
    for source in sources.locate(path)[0]:
        for line, row in source.rows():
            try:
                found.append((_identity(row, line), _input(row, column)))
            except Fault as fault:
                problems.append(f"{source.name}:{line}: {fault}")
    if problems:
        raise DataError(f"{len(problems)} rows of {path} cannot be answered:", problems=problems)
    return found


def _identity(row: Row | Bad, line: int) -> str:
    return str(line if isinstance(row, Bad) else row.get("id", line))


def _input(row: Row | Bad, column: str | None) -> Input:
    """The text or conversation of a row."""
    if isinstance(row, Bad):
        raise Fault(row.reason)
    said = {"text": column} if column else {}
    if not column and (turns := names.find("messages", list(row), columns={})):
        return _conversation(row[turns[0]], row)
    name = next((found[0] for word in ("text", "prompt") if (found := names.find(word, list(row), columns=said))), None)
    if name is None or name not in row:
        raise Fault(f"no column '{column or 'text'}'. {nearest(column or 'text', row)} (--column NAME says which)")
    if not isinstance(row[name], str) or not row[name].strip():
        raise Fault(f"'{name}' holds no text")
    extra = row.get("input") if name == "instruction" else None
    text = f"{row[name]}\n\n{extra}" if extra else row[name]
    system = row.get("system")
    return Conversation((Message("system", system, 0.0), Message("user", text, 0.0))) if system else text


def _conversation(value: object, row: Row) -> Conversation:
    turns = [*value] if isinstance(value, list) else value
    if isinstance(turns, list) and turns and not _is_answer(turns[-1]):
        turns.append(WRITTEN)
    before, _ = messages.conversation(turns)
    return Conversation(before, messages.tools(row.get("tools")))


def _is_answer(turn: object) -> bool:
    roles = ("assistant", "gpt", "model", "bot")
    return isinstance(turn, dict) and (turn.get("role") in roles or turn.get("from") in roles)
