"""A base language model asked for an answer by prompt: instruction, answered examples, and the request.

Greedy, with the task's own template, stop tokens and length; an answer that goes on to write another example, or
another turn of the template, is cut there, which is the form's own stop rule. Where all training answers are JSON also
`json only`: constrained decoding.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from finesmith.tasks import _template
from finesmith.tasks._json_only import JsonOnly
from finesmith.tasks.base import Progress, silent
from finesmith.types import Conversation, Example, Message, Prediction

if TYPE_CHECKING:
    from finesmith.models.load import Loaded
    from finesmith.tasks.generation import Generation

GREEDY, JSON = "greedy", "json only"


@dataclass(frozen=True)
class Form:
    """How a prompt is worded. With `asks` and `says` examples stand in the last request, else they are turns."""

    instruction: str = ""
    asks: str = ""
    says: str = ""


FORMS = {
    "turns": Form(),
    "instructed turns": Form("Answer each request in the way of the earlier answers."),
    "input-output": Form("Write the output for the last input.", "Input: ", "Output:"),
    "question-answer": Form("", "Q: ", "A:"),
    "request-answer": Form("Answer the last request in the way of the examples.", "REQUEST:\n", "ANSWER:\n"),
}


class AnswerPrompts:
    """Prompts for one model and a generation task that knows its template and stop tokens.

    Examples are left out from the least similar on until prompt and answer fit into the context; a request that does
    not fit with the instruction is asked as it stands (`cut` counts them).
    """

    forms = tuple(FORMS)

    def __init__(self, loaded: Loaded, task: Generation, max_length: int) -> None:
        self.loaded, self.task = loaded, task
        self.room = max_length - task.learnt.new_tokens
        self.openers = _template.openers(loaded.tokenizer)
        self.cut = 0
        self.tasks: dict[str, Generation] = {GREEDY: task}
        if task.learnt.as_json:
            self.tasks[JSON] = JsonOnly(task.settings, task.learnt)
        self.readings = tuple(self.tasks)

    def ask(
        self,
        rows: Sequence[Example],
        form: str,
        examples: Sequence[Sequence[Example]],
        progress: Progress = silent,
        *,
        reading: str = "",
    ) -> tuple[dict[str, list[Prediction]], float]:
        """The answers by reading, and the mean length of a prompt in tokens.

        Args:
            rows: rows to answer; their targets are not looked at.
            form: a name of `forms`.
            examples: of each row the answered examples in its prompt, the most similar last.
            reading: the only one that is wanted; all of them.
        """
        inputs = self.prompts(rows, form, examples)
        found = {}
        for name in (reading,) if reading else self.readings:
            answers = self.tasks[name].answer(self.loaded, inputs, progress=progress)
            found[name] = self._as_asked(rows, form, answers)
            progress = silent
        return found, float(np.mean([self._length(item) for item in inputs]))

    def sample(
        self,
        rows: Sequence[Example],
        form: str,
        examples: Sequence[Sequence[Example]],
        *,
        reading: str,
        temperature: float,
        seed: int,
    ) -> list[Prediction]:
        """Answers drawn at a temperature, see `Generation.sample`."""
        inputs = self.prompts(rows, form, examples)
        answers = self.tasks[reading].sample(self.loaded, inputs, temperature=temperature, seed=seed)
        return self._as_asked(rows, form, answers)

    def written(self, answers: Sequence[Prediction], form: str) -> float:
        """Mean tokens of the answers, thoughts and the end of the turn included."""
        return float(np.mean([answer.tokens for answer in answers]))

    def measure(
        self, rows: Sequence[Example], form: str, examples: Sequence[Sequence[Example]]
    ) -> list[dict[str, float]]:
        """Nats, tokens and bytes of the rows' own targets behind the same prompts; nothing where they do not fit."""
        asked = [
            replace(row, input=item)
            for row, item in zip(rows, self.prompts(rows, form, examples), strict=True)
            if isinstance(row.target, Message)
        ]
        fit = [row for row in asked if self._length_with_target(row) <= self.room + self.task.learnt.new_tokens]
        known = zip(fit, self.task.measure(self.loaded, fit), strict=True)
        by_id = {row.id: scores for row, scores in known}
        return [by_id.get(row.id, {}) for row in rows]

    def prompts(self, rows: Sequence[Example], form: str, examples: Sequence[Sequence[Example]]) -> list[Conversation]:
        """Each row's prompt."""
        return [self.prompt(row, FORMS[form], shown) for row, shown in zip(rows, examples, strict=True)]

    def prompt(self, row: Example, form: Form, examples: Sequence[Example]) -> Conversation:
        """One prompt as a conversation, within the room."""
        asked = row.input if isinstance(row.input, Conversation) else Conversation((Message("user", row.input),))
        for start in range(len(examples) + 1):
            item = self._compose(asked, form, examples[start:])
            if self._length(item) <= self.room:
                return item
        self.cut += 1
        return asked

    def _length(self, item: Conversation) -> int:
        return len(self.task.prompt(self.loaded.tokenizer, item))

    def _length_with_target(self, row: Example) -> int:
        pieces = self.task.encode(row, 0, self.loaded.tokenizer, 1 << 30, final_only=True)
        return max((len(piece.tokens) for piece in pieces), default=0)

    def _as_asked(self, rows: Sequence[Example], form: str, answers: Sequence[Prediction]) -> list[Prediction]:
        """The answers up to where the form ends them; no caller would pay for what was generated behind that."""
        found = []
        for row, answer in zip(rows, answers, strict=True):
            text = _cut(whole := str(answer.output), FORMS[form], self.openers)
            behind = len(_template.ids(self.loaded.tokenizer, whole[len(text) :]))
            cut = answer.cut and text == whole
            found.append(Prediction(row.id, text, tokens=max(1, answer.tokens - behind), cut=cut))
        return found

    def _compose(self, asked: Conversation, form: Form, examples: Sequence[Example]) -> Conversation:
        instruction = " ".join(part for part in (form.instruction, self._format()) if part)
        if form.asks:
            return _in_the_request(asked, form, instruction, examples)
        system = [message for message in asked.messages[:1] if message.role == "system"]
        if instruction:
            before = f"{system[0].content}\n\n" if system else ""
            system = [Message("system", before + instruction, 0.0)]
        shown = [message for example in examples for message in (*_request(example), _answer(example))]
        rest = [message for message in asked.messages if message.role != "system"]
        return replace(asked, messages=(*system, *shown, *rest))

    def _format(self) -> str:
        if self.task.learnt.as_json:
            return "Answer with JSON only."
        return "Answer with the value only." if self.task.learnt.short else ""


def _in_the_request(asked: Conversation, form: Form, instruction: str, examples: Sequence[Example]) -> Conversation:
    """Everything in the last message."""
    blocks = [f"{form.asks}{_request(shown)[-1].content}\n{form.says} {_answer(shown).text}" for shown in examples]
    last = asked.messages[-1]
    content = "\n\n".join([*([instruction] if instruction else []), *blocks, f"{form.asks}{last.content}\n{form.says}"])
    return replace(asked, messages=(*asked.messages[:-1], replace(last, content=content)))


def _request(example: Example) -> list[Message]:
    """The turns of an example up to its answer, without a system message."""
    if not isinstance(example.input, Conversation):
        return [Message("user", example.input, 0.0)]
    return [message for message in example.input.messages if message.role != "system"]


def _answer(example: Example) -> Message:
    assert isinstance(example.target, Message)
    return replace(example.target, weight=0.0)


def _cut(answer: str, form: Form, openers: Sequence[str] = ()) -> str:
    """Up to where the model begins another example, or on a new line another turn of the template."""
    own = [form.asks.strip()] if form.asks else []
    kept = answer
    for begin in (*own, *openers):
        kept = kept.partition(f"\n{begin}")[0]
    return kept.strip() if own or kept != answer else answer
