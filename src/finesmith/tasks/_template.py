"""How a conversation becomes text: the model's own chat template, or a stated plain one, and what ends a turn.

Training and inference both go through this file, so that they cannot differ; `proof.py` then checks on real rows that
they do not.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from finesmith.errors import ModelError, ProofError
from finesmith.tasks import _calls, _dates
from finesmith.tasks._learnt import openings
from finesmith.types import Conversation, Message

PLAIN = """\
{{ bos }}{% if tools %}### Tools:
{% for tool in tools %}{{ tool['function'] | default(tool) | tojson }}
{% endfor %}

{% endif %}{% for message in messages %}\
{% if message['role'] == 'system' %}{{ message['content'] }}

{% elif message['role'] == 'assistant' %}### Answer:
{% if message['reasoning_content'] %}<think>
{{ message['reasoning_content'] }}
</think>

{% endif %}{{ message['content'] }}{% if message['tool_calls'] %}{{ '\\n' if message['content'] }}[\
{% for call in message['tool_calls'] %}{{ ', ' if not loop.first }}{"name": {{ call['function']['name'] | tojson }}, \
"arguments": {{ call['function']['arguments'] | tojson }}}{% endfor %}]{% endif %}{{ eos_token }}

{% elif message['role'] == 'tool' %}### Result:
{{ message['content'] }}

{% else %}### Request:
{{ message['content'] }}

{% endif %}{% endfor %}{% if add_generation_prompt %}### Answer:
{% endif %}"""


PLAINLY = "The plain template takes every row: generation.template=plain."
ASKED = Conversation((Message("user", "a"),))
COUNTED = 1000
"""Texts that are tokenised at a time where only their number of tokens is wanted."""


@dataclass(frozen=True)
class Turn:
    """One assistant turn as text: what the model is sent, and what it must answer, terminator included."""

    prompt: str
    completion: str
    message: Message


def settle(tokenizer: Any, choice: str, date: str = "auto") -> tuple[str, str]:
    """Gives the tokenizer the template of this run (`auto`, `chat` or `plain`) and returns a note that names it.

    Also the day that the template writes from now on (`date`; auto: today), empty where it writes none.

    Raises:
        ModelError: `chat` for a model that has no template; a plain template for a tokenizer without an end token; a
            date for a template that writes none.
    """
    note = _choose(tokenizer, choice)
    day = _dates.fix(tokenizer, date)
    if date != "auto" and not day:
        said = f"generation.date is '{date}', but {note.partition(',')[0]} never asks for today's date."
        raise ModelError(said, hint="Leave generation.date out.")
    return note, day


def _choose(tokenizer: Any, choice: str) -> str:
    if choice == "chat" and not tokenizer.chat_template:
        raise ModelError(
            "generation.template is 'chat', but this model has no chat template.", hint="Use auto or plain."
        )
    if tokenizer.chat_template and choice != "plain":
        return "the model's own chat template"
    if tokenizer.eos_token is None:
        raise ModelError("The tokenizer has no end token, so that an answer could never stop.")
    tokenizer.chat_template = PLAIN.replace("{{ bos }}", "{{ bos_token }}" if adds_bos(tokenizer) else "")
    why = ", as asked" if choice == "plain" else ", as the model has no chat template of its own"
    return f"a plain template (### Request / ### Answer){why}"


def adds_bos(tokenizer: Any) -> bool:
    """Whether the tokenizer by itself puts a start token before a text."""
    tokens = tokenizer("a", verbose=False)["input_ids"]
    return tokenizer.bos_token_id is not None and bool(tokens) and tokens[0] == tokenizer.bos_token_id


def render(tokenizer: Any, messages: Sequence[Message], tools: Sequence[Any], *, ask: bool) -> str:
    """The text of a conversation; with `ask`, up to where the assistant begins to write.

    Raises:
        ProofError: the template refuses the conversation, or leaves out something of it.
    """
    problems: list[ProofError] = []
    messages = _calls.ordered(messages)
    for plain in _calls.forms([message.as_dict() for message in messages]):
        try:
            text = _rendered(tokenizer, plain, tools, ask)
            _calls.refuse_losses(text, messages, tools, template=tokenizer.chat_template)
            return text
        except ProofError as error:
            problems.append(error)
    raise problems[0]


def _rendered(tokenizer: Any, plain: list[dict[str, Any]], tools: Sequence[Any], ask: bool) -> str:
    try:
        return _apply(tokenizer, plain, tools, ask)
    except Exception as error:  # templates raise whatever jinja raises
        if plain and plain[0]["role"] == "system" and not _takes_system(tokenizer):
            with suppress(Exception):
                return _apply(tokenizer, _fold_system(plain), tools, ask)
        said = str(error).rstrip(".")
        raise ProofError(
            f"The chat template refuses a conversation with the turns "
            f"{', '.join(message['role'] for message in plain)}: {said}.",
            hint=PLAINLY,
        ) from error


def _takes_system(tokenizer: Any) -> bool:
    try:
        _apply(tokenizer, [{"role": "system", "content": "a"}, {"role": "user", "content": "b"}], (), True)
    except Exception:
        return False
    return True


def turns(tokenizer: Any, conversation: Conversation, target: Message) -> list[Turn]:
    """Every assistant turn that answers something, with its prompt, exactly as inference would send it.

    Raises:
        ProofError: the template does not continue its own prompt, so there is no right completion.
    """
    messages, context = (*conversation.messages, target), openings(conversation)
    places = [i for i, message in enumerate(messages) if message.role == "assistant" and i not in context]
    return [_turn(tokenizer, messages, conversation.tools, place) for place in places]


def last_turn(tokenizer: Any, conversation: Conversation, target: Message) -> Turn:
    """The last of `turns`."""
    messages = (*conversation.messages, target)
    return _turn(tokenizer, messages, conversation.tools, len(messages) - 1)


def _turn(tokenizer: Any, messages: Sequence[Message], tools: Sequence[Any], place: int) -> Turn:
    prompt = render(tokenizer, messages[:place], tools, ask=True)
    whole = render(tokenizer, messages[: place + 1], tools, ask=False)
    if not whole.startswith(prompt):
        raise ProofError(
            "The chat template writes a finished answer differently from the prompt it sends.",
            problems=[
                f"prompt ends with    {prompt[-60:]!r}",
                f"finished text there {whole[max(0, len(prompt) - 60) : len(prompt)]!r}",
            ],
            hint=PLAINLY,
        )
    completion = whole[len(prompt) :]
    _calls.refuse_losses(completion, messages[place : place + 1], learnt=True)  # it may stand in the prompt too
    return Turn(prompt, completion, messages[place])


def terminator(tokenizer: Any) -> int:
    """The token that really ends an assistant turn: the first special token behind the answer, else the end token."""
    turn = turns(tokenizer, ASKED, Message("assistant", "b"))[0]
    behind = turn.completion.rpartition("b")[2]
    special = {index for index, token in tokenizer.added_tokens_decoder.items() if token.special}
    found = [token for token in ids(tokenizer, behind) if token in special or token == tokenizer.eos_token_id]
    if not found and tokenizer.eos_token_id is None:
        raise ModelError("Nothing ends an answer: the template writes no special token and there is no end token.")
    return found[0] if found else int(tokenizer.eos_token_id)


def openers(tokenizer: Any) -> tuple[str, ...]:
    """How the template begins a turn, as text: where a model writes one of these, its answer is over.

    Special tokens are no text. What is left of an opener is dropped where it is a mere word (`user`), which an answer
    may hold, and so is a turn that the template refuses.
    """
    asked, answered, following = "asked0", "answered1", "following2"
    begun = [Message("user", asked), Message("assistant", answered)]
    found = [render(tokenizer, begun[:1], (), ask=True).partition(asked)[2]]
    for role in ("user", "tool", "system"):
        try:
            text = render(tokenizer, [*begun, Message(role, following)], (), ask=False)
        except ProofError:
            continue
        opener, follows, _ = text.partition(answered)[2].partition(following)
        found += [opener] if follows else []
    special = [token.content for token in tokenizer.added_tokens_decoder.values() if token.special]
    special += tokenizer.all_special_tokens
    for token in sorted(special, key=len, reverse=True):
        found = [opener.replace(token, "") for opener in found]
    return tuple(dict.fromkeys(opener for each in found if re.search(r"[^\w\s]", opener := each.strip())))


def preamble(tokenizer: Any) -> str:
    """What the template itself puts before an answer (an empty thinking block, say); it is no part of the answer.

    A mere blank is: it becomes one token with the word behind it.
    """
    return before_answer(tokenizer).rstrip(" ")


def before_answer(tokenizer: Any) -> str:
    """The preamble, and the blank that may stand behind it (Mistral's `[/INST] answer`)."""
    turn = turns(tokenizer, ASKED, Message("assistant", "b"))[0]
    return turn.completion[: turn.completion.index("b")]


def shared_opening(tokenizer: Any, opening: str, call: Message | None) -> str:
    """The preamble where an answer that calls tools begins with it too; else nothing is sent before both."""
    if call is None:
        return opening
    try:
        begins = last_turn(tokenizer, ASKED, call).completion.startswith(opening)
    except ProofError:  # of its row this is said when that is encoded
        begins = True
    return opening if begins else ""


def thought_end(tokenizer: Any) -> str:
    """What the template writes between the thoughts of an answer and the answer; empty where it writes no thoughts."""
    target = Message("assistant", "answer1", extra={"reasoning_content": "thought0"})
    try:
        turn = turns(tokenizer, ASKED, target)[0]
    except ProofError:
        return ""
    return turn.completion.partition("thought0")[2].partition("answer1")[0].strip()


def ids(tokenizer: Any, text: str) -> list[int]:
    """Token ids of a rendered text: nothing is added, the template has written every special token."""
    return tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"] if text else []


def counts(tokenizer: Any, texts: Sequence[str]) -> list[int]:
    """How many tokens each text has by itself."""
    found: list[int] = []
    for start in range(0, len(texts), COUNTED):
        some = list(texts[start : start + COUNTED])
        rows = tokenizer(some, add_special_tokens=False, return_attention_mask=False, verbose=False)["input_ids"]
        found += map(len, rows)
    return found


def follows(tokenizer: Any, before: str, text: str) -> list[int]:
    """Token ids of a text as they stand behind another: SentencePiece marks the beginning of a text by itself as if a
    blank stood there.
    """
    alone = ids(tokenizer, text)
    if not alone or not str(tokenizer.convert_ids_to_tokens(ids(tokenizer, "b")[0])).startswith("\u2581"):
        return alone
    first, whole = ids(tokenizer, before), ids(tokenizer, before + text)
    return whole[len(first) :] if whole[: len(first)] == first else alone


def _apply(tokenizer: Any, messages: list[dict[str, Any]], tools: Sequence[Any], ask: bool) -> str:
    return tokenizer.apply_chat_template(
        messages, tools=[dict(tool) for tool in tools] or None, tokenize=False, add_generation_prompt=ask
    )


def _fold_system(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """For templates without a system role (Gemma): its text goes before the first user turn, or is one."""
    first, rest = messages[0], messages[1:]
    if not rest or rest[0]["role"] != "user":
        return [{**first, "role": "user"}, *rest]
    return [{**rest[0], "content": f"{first['content']}\n\n{rest[0]['content']}"}, *rest[1:]]
