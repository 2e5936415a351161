"""Examples as a sequence that may be larger than memory: an Arrow table, mapped from a temporary file when large."""

from __future__ import annotations

import json
import os
import tempfile
import weakref
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, overload

import pyarrow as pa

from finesmith.data import temporary
from finesmith.types import Conversation, Example, Input, Message, Origin, Target

IN_MEMORY = 64 * 1024 * 1024
"""Bytes of examples that are held in memory; beyond that they go to a temporary file."""

Change = Callable[[Example], Example]
"""What a view makes of each example."""

BATCH_BYTES = 4 * 1024 * 1024
BATCH_ROWS = 4096

SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("file", pa.dictionary(pa.int32(), pa.string())),
        ("line", pa.int64()),
        ("payload", pa.string()),
        ("group", pa.string()),
    ]
)


class _Table:
    """The columns of one Arrow table; when it goes, so does the room that its temporary file takes."""

    def __init__(self, table: Any, path: str) -> None:
        self.columns = {name: table.column(name) for name in SCHEMA.names}
        self.num_rows: int = table.num_rows
        if path and os.name == "posix":
            os.unlink(path)  # the mapping lives on without the name, and even a killed process leaves nothing behind
        elif path:
            weakref.finalize(self, os.unlink, path)

    def example(self, index: int) -> Example:
        """The decoded row."""
        cells = {name: column[index].as_py() for name, column in self.columns.items()}
        given, wanted = _decode(cells["payload"])
        return Example(cells["id"], given, wanted, Origin(cells["file"], cells["line"]), cells["group"])


class Examples(Sequence[Example]):
    """Examples decoded one at a time, when asked for. Slices and `take` are views on the same table."""

    def __init__(self, table: _Table, indices: Sequence[int], change: Change | None = None) -> None:
        self._table = table
        self._indices = indices
        self._change = change

    @overload
    def __getitem__(self, index: int) -> Example: ...
    @overload
    def __getitem__(self, index: slice) -> Examples: ...
    def __getitem__(self, index: int | slice) -> Example | Examples:
        if isinstance(index, slice):
            return Examples(self._table, self._indices[index], self._change)
        return self._example(self._indices[index])

    def __len__(self) -> int:
        return len(self._indices)

    def __iter__(self) -> Iterator[Example]:
        return map(self._example, self._indices)

    def __repr__(self) -> str:
        return f"Examples({len(self)} rows)"

    def take(self, indices: Iterable[int]) -> Examples:
        """A view on the examples at these places (0-based, of this view), in this order."""
        return Examples(self._table, [self._indices[index] for index in indices], self._change)

    def changed(self, change: Change) -> Examples:
        """A view in which every example is what `change` makes of it, when asked for; ids and groups stay."""
        before = self._change
        return Examples(self._table, self._indices, change if before is None else lambda row: change(before(row)))

    def ids(self) -> list[str]:
        """The id of each example, without decoding it."""
        return self._column("id")

    def groups(self) -> list[str | None]:
        """The group of each example, without decoding it."""
        return self._column("group")

    def _example(self, index: int) -> Example:
        row = self._table.example(int(index))
        return row if self._change is None else self._change(row)

    def _column(self, name: str) -> list[Any]:
        return self._table.columns[name].take(pa.array(self._indices, pa.int64())).to_pylist()


class Writer:
    """Takes examples one by one; `close` gives them back as `Examples`. The file goes with them."""

    def __init__(self, *, in_memory: int = IN_MEMORY) -> None:
        self._in_memory = in_memory
        self._pending: dict[str, list[Any]] = {name: [] for name in SCHEMA.names}
        self._pending_bytes = self._total_bytes = 0
        self._batches: list[Any] = []
        self._path = ""
        self._stream: Any = None
        self._discard: weakref.finalize[..., Writer] | None = None

    def add(self, example: Example) -> None:
        """Append one example; its content must be what JSON can hold."""
        payload = _encode(example)
        origin = example.origin
        for name, value in zip(
            SCHEMA.names, (example.id, origin.file, origin.line, payload, example.group), strict=True
        ):
            self._pending[name].append(value)
        self._pending_bytes += len(payload)
        if self._pending_bytes >= min(BATCH_BYTES, self._in_memory) or len(self._pending["id"]) >= BATCH_ROWS:
            self._flush()

    def close(self) -> Examples:
        """All examples, in the order in which they came."""
        self._flush()
        if self._discard is None:
            table = _Table(pa.Table.from_batches(self._batches, SCHEMA), "")
        else:
            with temporary.written():
                self._stream.close()
            self._discard.detach()
            table = _Table(pa.ipc.open_stream(pa.memory_map(self._path)).read_all(), self._path)
        return Examples(table, range(table.num_rows))

    def _flush(self) -> None:
        with temporary.written():
            self._write()

    def _write(self) -> None:
        batch = pa.record_batch([pa.array(self._pending[field.name], field.type) for field in SCHEMA], schema=SCHEMA)
        self._total_bytes += self._pending_bytes
        self._pending, self._pending_bytes = {name: [] for name in SCHEMA.names}, 0
        if self._stream is None and self._total_bytes > self._in_memory:
            self._spill()
        if self._stream is not None:
            self._stream.write_batch(batch)
        elif batch.num_rows:
            self._batches.append(batch)

    def _spill(self) -> None:
        handle, self._path = tempfile.mkstemp(prefix=temporary.PREFIX, suffix=".arrow")
        os.close(handle)
        self._stream = pa.ipc.new_stream(self._path, SCHEMA)
        self._discard = weakref.finalize(self, os.unlink, self._path)  # in case of an error before `close`
        for batch in self._batches:
            self._stream.write_batch(batch)
        self._batches = []


def _encode(example: Example) -> str:
    return json.dumps([_input(example.input), _target(example.target)], ensure_ascii=False, separators=(",", ":"))


def _input(value: str | Conversation) -> Any:
    if isinstance(value, str):
        return value
    return {
        "messages": [_message(message) for message in value.messages],
        "tools": [dict(tool) for tool in value.tools],
    }


def _message(message: Message) -> list[Any]:
    return [message.role, message.content, message.weight, dict(message.extra)]


def _target(value: Target) -> Any:
    return {"message": _message(value)} if isinstance(value, Message) else value


def _decode(payload: str) -> tuple[Input, Target]:
    given, wanted = json.loads(payload)
    if isinstance(given, dict):
        given = Conversation(tuple(Message(*message) for message in given["messages"]), tuple(given["tools"]))
    if isinstance(wanted, dict):
        wanted = Message(*wanted["message"])
    return given, tuple(wanted) if isinstance(wanted, list) else wanted
