"""A base language model asked for a label by prompt: forms of the prompt, examples in it, and ways to read the answer.

The answer is the label whose string is most probable; nothing else can be said, so this is constrained decoding over
the label set. Readings of the log-probability: of the whole string (`sum`), per token (`mean`), per byte (`bytes`, as
lm-eval's `acc_bytes`), above that without a text (`pmi`, its `acc_mutual_info`); each also `calibrated` (contextual
calibration, Zhao et al. 2021, arXiv 2102.09690: divided by the mean distribution over texts without content).
Many labels are also tried as short codes of equal length, none of which begins another.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from finesmith.errors import ProofError
from finesmith.tasks import _continuations, _dates, _template
from finesmith.tasks.base import Progress, silent
from finesmith.types import Example, Message, Prediction

if TYPE_CHECKING:
    from finesmith.models.load import Loaded

CONTENT_FREE = ("N/A", "[MASK]", "")
PATTERN = "Text: {text}\nCategory:"
"""What a plain language model continues with a label."""
MOST_NAMED = 50
"""More labels than this are listed in a prompt only where that takes a quarter of the context, and tried as codes."""
CALIBRATED = " calibrated"
READINGS = tuple(f"{kind}{end}" for kind in ("sum", "mean", "bytes", "pmi") for end in ("", CALIBRATED))
TINY = 1e-30
USUAL = "mean calibrated"
"""The reading where none can be chosen."""


@dataclass(frozen=True)
class Form:
    """How a prompt is worded. `instruction` may name the `{labels}`; `row` is a `{text}` up to where its label is.
    With `codes` the answer is a label's code."""

    row: str
    instruction: str = ""
    codes: bool = False


FORMS = {
    "text-category": Form(PATTERN),
    "input-label": Form("Input: {text}\nLabel:", "Give the label of each input."),
    "question": Form("Text: {text}\nQuestion: Which category does this text belong to?\nAnswer:"),
    "about": Form("{text}\n\nThis text is about", "Each text is followed by what it is about."),
    "listed": Form("TEXT: {text}\nCATEGORY:", "Classify each text. The categories are: {labels}."),
    "codes": Form("Text: {text}\nCode:", "Give the code of each text. The codes are: {labels}.", codes=True),
}


_JOINTS = re.compile(r"(?<=[^\W\d_])[_-](?=[^\W_])|(?<=[^\W_])[_-](?=[^\W\d_])")  # a letter beside a letter or digit


def plain_label(label: str) -> str:
    """A label as words behind a form: `card_arrival` becomes ` card arrival`; `-1` and `A-` stay what they are."""
    return " " + _JOINTS.sub(" ", label)


def plain_labels(labels: Sequence[str]) -> list[str]:
    """All labels as words, or as they are where two would be the same words."""
    said = [plain_label(label) for label in labels]
    return said if len(set(said)) == len(labels) else [f" {label}" for label in labels]


def codes(count: int) -> list[str]:
    """So many numbers of one length: 10, 11, ... of up to 90 labels."""
    least = 1
    while 9 * least < count:
        least *= 10
    return [str(least + place) for place in range(count)]


class LabelPrompts:
    """Prompts for one model and one label set.

    `max_length` is the context in tokens. Examples get at most half of it, the least similar go first; a text that is
    still too long is cut at its beginning (`cut` counts them), for this opponent only. `day` is what a chat template
    writes as today's date, which a run is asked with whenever that is.
    """

    readings = READINGS

    def __init__(self, loaded: Loaded, labels: Sequence[str], max_length: int, day: str = "auto") -> None:
        self.loaded, self.labels = loaded, tuple(labels)
        self.chat = bool(loaded.tokenizer.chat_template)
        if self.chat:
            _dates.fix(loaded.tokenizer, day)
        self.lead, blank, before = _behind(loaded.tokenizer) if self.chat else ("", "", ":")
        self.forms = tuple(name for name, form in FORMS.items() if len(labels) > MOST_NAMED or not form.codes)
        names = plain_labels(labels), [f" {code}" for code in codes(len(labels))]
        self.said = {
            coded: dict(zip(labels, [blank + name.strip() for name in said] if self.chat else said, strict=True))
            for coded, said in zip((False, True), names, strict=True)
        }
        self.ends = {
            coded: [_template.follows(loaded.tokenizer, before, text) for text in said.values()]
            for coded, said in self.said.items()
        }
        self.room = max(1, max_length - max(map(len, self.ends[False])))
        self.cut = 0

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
            reading: the only one that is wanted, which may take less; all of them.
        """
        worded, wanted = FORMS[form], (reading,) if reading else self.readings
        prompts = [self.prompt(str(row.input), worded, shown) for row, shown in zip(rows, examples, strict=True)]
        sums = self._sums(prompts, worded, progress)
        free = bare = sums[:0]
        if any(name.endswith(CALIBRATED) for name in wanted):
            alike = all(shown == examples[0] for shown in examples)
            free = self._content_free(worded, examples[:1] if alike else examples, CONTENT_FREE if alike else ("N/A",))
        if any(name.startswith("pmi") for name in wanted):
            bare = self._sums([self._ids(_fill(worded.row, "").strip())], worded)
        found = {name: self._answers(rows, self._shares(name, worded, sums, free, bare)) for name in wanted}
        return found, float(np.mean([len(prompt) for prompt in prompts]))

    def written(self, answers: Sequence[Prediction], form: str) -> float:
        """Mean tokens of the labels that were answered."""
        lengths = dict(zip(self.labels, map(len, self.ends[FORMS[form].codes]), strict=True))
        return float(np.mean([lengths[str(answer.output)] for answer in answers]))

    def measure(
        self, rows: Sequence[Example], form: str, examples: Sequence[Sequence[Example]]
    ) -> list[dict[str, float]]:
        """A label's probability comes with the answer."""
        return [{} for _ in rows]

    def prompt(self, text: str, form: Form, examples: Sequence[Example]) -> list[int]:
        """The tokens of one prompt, within the room."""
        shown = list(examples)
        while shown and len(self._compose("", form, shown)) > self.room // 2:
            shown = shown[1:]
        tokens = self._compose(text, form, shown)
        if len(tokens) <= self.room:
            return tokens
        self.cut += 1
        words = _template.ids(self.loaded.tokenizer, text)
        over = len(tokens) - self.room
        while len(tokens) > self.room and over < len(words):
            tokens = self._compose(self.loaded.tokenizer.decode(words[over:]), form, shown)
            over += max(1, len(tokens) - self.room)
        return tokens[-self.room :]

    def _compose(self, text: str, form: Form, examples: Sequence[Example]) -> list[int]:
        """Instruction, examples and text as tokens; a chat model is given the examples as earlier turns."""
        instruction = self._instruction(form)
        if self.chat:
            turns = [Message("user", _fill(form.row, str(shown.input))) for shown in examples]
            said = [Message("assistant", self.said[form.codes][str(shown.target)].strip()) for shown in examples]
            pairs = [message for pair in zip(turns, said, strict=True) for message in pair]
            messages = [*pairs, Message("user", _fill(form.row, text))]
            first = Message("user", f"{instruction}\n\n{messages[0].content}".strip())
            tokenizer = self.loaded.tokenizer
            asked = _template.render(tokenizer, [first, *messages[1:]], (), ask=True)
            return _template.ids(tokenizer, asked + self.lead)
        blocks = [_fill(form.row, str(shown.input)) + self.said[form.codes][str(shown.target)] for shown in examples]
        return self._ids("\n\n".join([*([instruction] if instruction else []), *blocks, _fill(form.row, text)]))

    def _ids(self, text: str) -> list[int]:
        tokenizer = self.loaded.tokenizer
        start = [tokenizer.bos_token_id] if tokenizer.bos_token_id is not None else []
        return start + _template.ids(tokenizer, text)

    def _instruction(self, form: Form) -> str:
        """With the labels' names where they are few or there is room; without them the examples have to show them."""
        said = form.instruction
        if self.chat and "{labels}" not in said:
            said = f"{said} Answer with one of: {{labels}}.".strip()
        if "{labels}" not in said:
            return said
        names = [f"{code} " if form.codes else "" for code in codes(len(self.labels))]
        named = ", ".join(name + said.strip() for name, said in zip(names, self.said[False].values(), strict=True))
        if len(self.labels) > MOST_NAMED and len(_template.ids(self.loaded.tokenizer, named)) > self.room // 4:
            return form.instruction if "{labels}" not in form.instruction else ""
        return said.replace("{labels}", named)

    def _sums(self, prompts: Sequence[list[int]], form: Form, progress: Progress = silent) -> np.ndarray:
        return _continuations.log_probabilities(self.loaded, prompts, self.ends[form.codes], progress=progress)

    def _content_free(self, form: Form, examples: Sequence[Sequence[Example]], texts: Sequence[str]) -> np.ndarray:
        """[1 or rows, texts, K]: what is said of texts without content, behind the same examples."""
        prompts = [self.prompt(text, form, shown) for shown in examples for text in texts]
        return self._sums(prompts, form).reshape(len(examples), len(texts), len(self.labels))

    def _shares(self, name: str, form: Form, sums: np.ndarray, free: np.ndarray, bare: np.ndarray) -> np.ndarray:
        """The labels' probabilities [rows, K] under a reading."""
        kind, calibrated = name.removesuffix(CALIBRATED), name.endswith(CALIBRATED)
        shares = _softmax(self._reading(kind, form, sums, bare))
        if not calibrated:
            return shares
        without = _softmax(self._reading(kind, form, free, bare))
        return _normal(shares / np.maximum(without.mean(axis=1), TINY))

    def _reading(self, kind: str, form: Form, sums: np.ndarray, bare: np.ndarray) -> np.ndarray:
        if kind == "mean":
            return sums / np.array([len(end) for end in self.ends[form.codes]])
        if kind == "bytes":
            return sums / np.array([len(said.strip().encode()) for said in self.said[form.codes].values()])
        return sums - bare[0] if kind == "pmi" else sums

    def _answers(self, rows: Sequence[Example], shares: np.ndarray) -> list[Prediction]:
        return [
            Prediction(row.id, self.labels[int(share.argmax())], dict(zip(self.labels, share.tolist(), strict=True)))
            for row, share in zip(rows, shares, strict=True)
        ]


def _behind(tokenizer: Any) -> tuple[str, str, str]:
    """What a chat template puts before every answer (an empty block of thoughts), the blank that it writes between that
    and a label, and the text of a prompt up to there."""
    asked = _template.render(tokenizer, _template.ASKED.messages, (), ask=True)
    try:
        found = _template.before_answer(tokenizer)
    except ProofError:  # it writes a finished answer otherwise than it asks for one
        found = ""
    lead = found.rstrip(" ")
    return lead, found[len(lead) :], asked + lead


def _fill(row: str, text: str) -> str:
    return row.replace("{text}", text)  # not `format`: a text may hold braces


def _softmax(values: np.ndarray) -> np.ndarray:
    return _normal(np.exp(values - values.max(axis=-1, keepdims=True)))


def _normal(values: np.ndarray) -> np.ndarray:
    return values / values.sum(axis=-1, keepdims=True)
