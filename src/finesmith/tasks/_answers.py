"""Answers between text and tokens: what of a turn is learnt, and how the tokens that a model writes are read.

Where rows think, the thoughts are learnt with the answer; the answer is what stands behind them.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

from finesmith.errors import ProofError
from finesmith.tasks import _template
from finesmith.tasks._learnt import Learnt
from finesmith.tasks._sequence import Piece
from finesmith.types import Conversation, Example, Message

SWITCHES = ("enable_thinking", "thinking")
"""What templates are told, as false, so that an answer begins without thoughts."""


def piece(learnt: Learnt, tokenizer: Any, turn: _template.Turn) -> Piece:
    """A turn as tokens; one that ends a turn stands in the answer exactly once, at its end.

    Raises:
        ProofError: the answer holds one in the middle.
    """
    tokens = _template.follows(tokenizer, turn.prompt, turn.completion)
    end = learnt.end
    if turn.message.calls and end not in tokens:  # a call may end with a token of its own
        end = next((token for token in tokens if token in learnt.stop), end)
    length = tokens.index(end) + 1 if end in tokens else len(tokens) + 1
    answer = tokens[:length] if end in tokens else [*tokens, end]
    early = [token for token in answer[:-1] if token in learnt.stop] or [end] * (tokens[length:].count(end) > 0)
    if early:
        raise ProofError(
            f"the answer itself contains the token that ends a turn, "
            f"{tokenizer.convert_ids_to_tokens(early[0])!r}; the model would learn to stop in mid-answer."
        )
    return Piece(_template.ids(tokenizer, turn.prompt), answer, tokens[length:], turn.message.weight)


def read(learnt: Learnt, tokenizer: Any, tokens: Sequence[int]) -> str:
    """The text of an answer up to its end, without what the template puts before it and without thoughts."""
    text = _said(learnt, tokenizer, tokens)
    for end in learnt.thought_ends:
        text = text.rpartition(end)[2]
    return text.strip()


def up_to_end(learnt: Learnt, tokens: Sequence[int]) -> Sequence[int]:
    """What of the tokens that were generated is the answer, the first that ends it included."""
    return tokens[: next((place for place, token in enumerate(tokens, 1) if token in learnt.stop), len(tokens))]


def lead(learnt: Learnt, tokenizer: Any) -> str:
    """The preamble as a decoded answer shows it: of special tokens nothing may be left."""
    if not learnt.preamble:
        return ""
    asked = _template.render(tokenizer, _template.ASKED.messages, (), ask=True)
    return _decoded(learnt, tokenizer, _template.follows(tokenizer, asked, learnt.preamble))


def written(learnt: Learnt, tokenizer: Any, example: Example) -> Example:
    """The row with its target as `read` would read it if a model had written it, where that is not its content."""
    target = example.target
    if not isinstance(target, Message) or target.written is not None or not _changes(learnt, target):
        return example
    return replace(
        example, target=replace(target, written=read(learnt, tokenizer, _tokens(learnt, tokenizer, example)))
    )


def size(learnt: Learnt, tokenizer: Any, example: Example) -> int:
    """Bytes of what the model has to write, thoughts included; 1 at least."""
    target = example.target
    if not isinstance(target, Message):
        return 1
    if not _changes(learnt, target):
        return max(1, len(target.text.encode()))
    return max(1, len(_said(learnt, tokenizer, _tokens(learnt, tokenizer, example)).strip().encode()))


def longest(tokenizer: Any, answers: Sequence[Message], *, calls: bool) -> Message | None:
    """Of the answers that call tools, or of the others, the one with most tokens, thoughts included; None of none.

    Characters do not say it: 109 of Chinese may be 300 tokens, 369 of English 90.
    """
    kind = [answer for answer in answers if bool(answer.calls) == calls]
    texts = [f"{answer.thoughts}{answer.text}" for answer in kind]
    tokens = _template.counts(tokenizer, texts)
    place = max(range(len(kind)), key=lambda place: (tokens[place], texts[place]), default=None)
    return None if place is None else replace(kind[place], weight=1.0)


def counted(learnt: Learnt, tokenizer: Any, target: Message) -> tuple[int, str]:
    """Tokens of an answer as the template writes it, without its end, and how it is read; its text where refused."""
    try:
        turn = _template.last_turn(tokenizer, Conversation((Message("user", "a", 0.0),)), target)
        tokens = piece(learnt, tokenizer, turn).answer
    except ProofError:  # of its row this is said when that is encoded
        return len(_template.ids(tokenizer, target.text)), target.text
    before = _template.follows(tokenizer, turn.prompt, learnt.preamble)
    begun = len(before) if tokens[: len(before)] == before else 0
    return len(tokens) - 1 - begun, read(learnt, tokenizer, tokens)


def asking(learnt: Learnt, tokenizer: Any) -> dict[str, Any]:
    """What anyone has to know who asks the model without Finesmith, and wants the answers that were measured.

    `max_new_tokens`: the longest answer. `preamble`, `thought_end`: what another library shows before an answer and
    between its thoughts and it, where that is written (special tokens are no text there). `chat_template_kwargs`: what
    the template is told so that it puts the preamble into the prompt, where it does so as it was trained.
    """
    thinks = learnt.preamble or learnt.thinks or learnt.inside
    texts = (learnt.preamble, learnt.thought_ends[0] if thinks and learnt.thought_ends else "")
    lead, end = (str(tokenizer.decode(_template.ids(tokenizer, text), skip_special_tokens=True)) for text in texts)
    told = {name: False for name in _switches(learnt, tokenizer)[:1]}
    return {
        "max_new_tokens": learnt.new_tokens,
        "preamble": lead,
        "thought_end": end,
        "chat_template_kwargs": told,
    }


def _switches(learnt: Learnt, tokenizer: Any) -> list[str]:
    """Those with which the template sends just the tokens that were trained up to behind the preamble."""
    if not learnt.opening:  # nothing is written, or not before every answer
        return []
    turn = _template.last_turn(tokenizer, _template.ASKED, Message("assistant", "b"))
    trained = piece(learnt, tokenizer, turn).sequence()[0]
    asked, found = [message.as_dict() for message in _template.ASKED.messages], []
    for name in SWITCHES:
        with suppress(Exception):  # templates raise whatever jinja raises
            sent = tokenizer.apply_chat_template(asked, tokenize=False, add_generation_prompt=True, **{name: False})
            tokens = _template.ids(tokenizer, sent)
            if sent == turn.prompt + learnt.opening and trained[: len(tokens)] == tokens:
                found.append(name)
    return found


def _changes(learnt: Learnt, target: Message) -> bool:
    """Whether the template makes more of an answer than its content: calls, thoughts."""
    return bool(target.calls or target.thoughts or any(end in target.content for end in learnt.thought_ends))


def _tokens(learnt: Learnt, tokenizer: Any, example: Example) -> list[int]:
    assert isinstance(example.input, Conversation) and isinstance(example.target, Message)
    return piece(learnt, tokenizer, _template.last_turn(tokenizer, example.input, example.target)).answer


def _said(learnt: Learnt, tokenizer: Any, tokens: Sequence[int]) -> str:
    """All of an answer up to its end, without the preamble."""
    said = [token for token in up_to_end(learnt, tokens) if token not in learnt.stop]
    return _decoded(learnt, tokenizer, said).removeprefix(lead(learnt, tokenizer))


def _decoded(learnt: Learnt, tokenizer: Any, tokens: Sequence[int]) -> str:
    """Special tokens count where they may mark calls or the end of thoughts."""
    return str(tokenizer.decode(tokens, skip_special_tokens=not (learnt.tools or learnt.thinks or learnt.inside)))
