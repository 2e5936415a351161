"""The frozen values that pass between the stages of a run. Standard library only.

Conventions: losses in nats, shares in 0..1, lengths in tokens, times in seconds, sizes in bytes.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

Together = Literal["any", "equal", "none"] | int
"""Which sequences may stand in one batch: any (the shorter are padded), those of equal length, or each alone; a number:
any up to so many tokens, and longer ones with those of equal length."""


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a row came from; `str(origin)` is `file:line` (`line` counts from 1; the record number in Parquet,
    and in JSON of which two records share a line)."""

    file: str
    line: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}"


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a conversation. `weight` is the loss weight of its tokens; only assistant turns are ever trained.

    `role` is system, user, assistant or tool. `extra` keeps what a chat template may want: `tool_calls`,
    `tool_call_id`, `name`, `reasoning_content`. `written` is how the template of a run writes an answer that calls
    tools or thinks (without the thoughts); None where no template has written it.
    """

    role: str
    content: str
    weight: float = 1.0
    extra: Mapping[str, Any] = field(default_factory=dict)
    written: str | None = None

    @property
    def calls(self) -> list[dict[str, Any]]:
        """The tool calls, each with `name` and `arguments`."""
        functions = [call.get("function", call) for call in self.extra.get("tool_calls") or ()]
        return [{"name": each.get("name"), "arguments": each.get("arguments") or {}} for each in functions]

    @property
    def thoughts(self) -> str:
        """What the assistant thinks before it answers (`reasoning_content`)."""
        return str(self.extra.get("reasoning_content") or "")

    @property
    def text(self) -> str:
        """The whole turn as text: as its template wrote it, else the content and behind it the calls as JSON."""
        if self.written is not None or not self.calls:
            return self.content if self.written is None else self.written
        return "\n".join(part for part in (self.content, json.dumps(self.calls, ensure_ascii=False)) if part)

    def as_dict(self) -> dict[str, Any]:
        """The form that chat templates take (no weight)."""
        return {"role": self.role, "content": self.content, **self.extra}


@dataclass(frozen=True, slots=True)
class Conversation:
    """What a generation model is given: the messages up to the turn it must write, and the tools it may call."""

    messages: tuple[Message, ...]
    tools: tuple[Mapping[str, Any], ...] = ()


Input = str | Conversation
"""A text (classification, text) or a conversation (generation)."""

Target = str | tuple[str, ...] | Message | None
"""One label; several labels, sorted (multi-label); the last assistant turn (generation); nothing (text)."""


@dataclass(frozen=True, slots=True)
class Example:
    """One row of the user's data, as a task sees it. `group` holds rows together that must not straddle splits."""

    id: str
    input: Input
    target: Target
    origin: Origin
    group: str | None = None


@dataclass(frozen=True, slots=True)
class Splits:
    """The three parts of the data. `test` is opened once, at the end, and chooses nothing.

    `hash` is a SHA-256 over the ids in each part, so that a report can be tied to its rows.
    `notes` says, in sentences, how the parts came about and what was noticed (leaks between given parts).
    """

    train: Sequence[Example]
    validation: Sequence[Example]
    test: Sequence[Example]
    hash: str
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Step:
    """One optimizer step. `loss` is the mean over supervised units (tokens or rows) of the whole effective batch."""

    index: int
    epoch: float
    loss: float
    learning_rate: float
    gradient_norm: float
    supervised: int
    tokens: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Prediction:
    """One answer. `output` is a label, a tuple of labels, or a text; None where a system gives only scores.

    `scores` are label probabilities (classification), or `nats`, `tokens`, `bytes` of the reference
    (generation, text), from which bits per byte and the held-out loss come. `tokens` are those that were generated for
    a text, thoughts and the end of the turn included; 0 where none were, and in predictions read from a run.
    `cut`: a text that is not whole, because it came to the limit of its length before its end.
    """

    id: str
    output: str | tuple[str, ...] | None
    scores: Mapping[str, float] = field(default_factory=dict)
    tokens: int = 0
    cut: bool = False


@dataclass(frozen=True, slots=True)
class Estimate:
    """A number with its 95 % interval and the number of test rows behind it.

    `groups` is how many groups these form, where some belong together and groups were drawn instead of rows.
    """

    value: float
    low: float
    high: float
    n: int
    groups: int | None = None

    def __neg__(self) -> Estimate:
        return Estimate(-self.value, -self.high, -self.low, self.n, self.groups)


@dataclass(frozen=True, slots=True)
class Evidence:
    """Every system on one test set, the paired gains, and the sentence that follows from them.

    `systems[name][metric]` is a score; `gains[name]` is tuned minus that system on the primary metric, signed so that
    positive is better. `not_measured` maps what is missing to the reason. `costs` has `seconds`, `peak_memory_bytes`,
    `trainable_parameters`, `total_parameters`, `saved_bytes`.
    `details` keeps what only some tasks have: per-class scores, confusion pairs, samples.
    """

    task: str
    metric: str
    systems: Mapping[str, Mapping[str, Estimate]]
    gains: Mapping[str, Estimate]
    verdict: str
    not_measured: Mapping[str, str]
    costs: Mapping[str, float]
    details: Mapping[str, Any] = field(default_factory=dict)

    @property
    def gain(self) -> Estimate:
        """Tuned minus base on the primary metric: what this fine-tuning changed."""
        return self.gains["base"]


Outcome = Literal["supported", "not supported", "inconclusive", "not measured"]


@dataclass(frozen=True, slots=True)
class Claim:
    """One thing that is said of fine-tuning, judged on this model and this data.

    `grade`: A for three seeds, an interval without 0 and no leaked rows; B for one seed; C for a point estimate; empty
    where nothing was measured. `p` is the p-value that Holm's correction takes, where the rule has one.
    """

    name: str
    outcome: Outcome
    sentence: str
    grade: Literal["A", "B", "C", ""] = ""
    p: float | None = None
    numbers: Mapping[str, Any] = field(default_factory=dict)


Severity = Literal["blocking", "warning", "note"]
"""blocking: the result would be wrong, `tune` stops. warning: it would suffer. note: worth knowing."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that a check found in the data.

    `what` is a sentence with the numbers, `count` how many rows (or classes, terms, ...) it is about, `rows` all the
    origins (`file:line`) that it names. `why` says what it would do to the result, `advice` what to do about it.
    `detail` holds the numbers and samples behind it as plain values; private data in samples is masked.
    """

    check: str
    severity: Severity
    what: str
    count: int
    rows: tuple[str, ...]
    why: str
    advice: str
    detail: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Examined:
    """What all checks found in one data set, the gravest first.

    `rows` counts the rows of each part, `skipped` maps a check that did not run to the reason, `seconds` is how long
    each one took, `notes` says how the data was read and parted, `looked` is how many rows were looked at.
    """

    source: str
    task: str
    rows: Mapping[str, int]
    findings: tuple[Finding, ...]
    skipped: Mapping[str, str]
    seconds: Mapping[str, float]
    notes: tuple[str, ...] = ()
    looked: int = 0

    @property
    def blocking(self) -> tuple[Finding, ...]:
        """The findings that stop `tune`."""
        return tuple(finding for finding in self.findings if finding.severity == "blocking")
