"""The proof and the masks, over template families: what is trained is what inference sends, and every answer ends."""

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from finesmith.errors import ProofError
from finesmith.tasks import _template
from finesmith.tasks._learnt import learn
from finesmith.tasks.base import Encoded
from finesmith.tasks.generation import Generation, GenerationSettings
from finesmith.train.proof import faults, prove
from finesmith.types import Conversation, Example, Message, Origin
from tests.conftest import TEMPLATES, make_tokenizer

WORDS = (
    st.text(
        alphabet=st.characters(codec="utf-8", exclude_categories=("Cs", "Cc"), exclude_characters="<>[]|"),
        min_size=1,
        max_size=30,
    )
    .map(str.strip)
    .filter(bool)
)


@pytest.fixture(scope="module", params=sorted(TEMPLATES))
def prepared(request, tmp_path_factory):
    """A tokenizer with a family's template, and the generation task prepared on it."""
    tokenizer = make_tokenizer(tmp_path_factory.mktemp(request.param), request.param)
    return request.param, tokenizer, prepared_task(tokenizer)


def prepared_task(tokenizer, template="auto"):
    return settled(tokenizer, [], template=template)


def settled(tokenizer, rows, *, template="auto", ends=()):
    """The generation task, fitted to rows, on a model that is only a tokenizer."""
    from types import SimpleNamespace

    ends = [tokenizer.eos_token_id, *ends]
    loaded = SimpleNamespace(
        tokenizer=tokenizer, model=SimpleNamespace(generation_config=SimpleNamespace(eos_token_id=ends))
    )
    unfitted = Generation(GenerationSettings(template=template))
    task, _ = (unfitted.fit(rows) if rows else unfitted).prepare(loaded)
    return task


def example(*contents, system=None, weights=None):
    messages = [Message("system", system, 0.0)] if system else []
    for place, content in enumerate(contents):
        role = "user" if place % 2 == 0 else "assistant"
        weight = (weights or {}).get(place, 1.0 if role == "assistant" else 0.0)
        messages.append(Message(role, content, weight))
    return Example("1", Conversation(tuple(messages[:-1])), messages[-1], Origin("file.jsonl", 7))


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    contents=st.lists(WORDS, min_size=1, max_size=3).flatmap(
        lambda users: st.lists(WORDS, min_size=len(users), max_size=len(users)).map(
            lambda answers: [text for pair in zip(users, answers, strict=True) for text in pair]
        )
    )
)
def test_any_conversation_passes_the_proof(prepared, contents):
    _, tokenizer, task = prepared
    row = example(*contents)
    pieces = task.encode(row, 0, tokenizer, 10_000)
    assert faults(task, tokenizer, row, pieces) == []


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(user=WORDS, answer=WORDS)
def test_prompt_is_a_prefix_and_the_answer_reads_back(prepared, user, answer):
    _, tokenizer, task = prepared
    row = example(user, answer)
    (piece,) = task.encode(row, 0, tokenizer, 10_000)
    sent = task.prompt(tokenizer, row.input)
    assert piece.tokens[: len(sent)].tolist() == sent
    assert not piece.weights[: len(sent)].any() and piece.weights[len(sent) :].all()
    assert piece.tokens[-1] == task.learnt.end
    written = tokenizer.decode(piece.tokens[len(sent) :], skip_special_tokens=True)
    assert written.removeprefix(task.learnt.preamble).strip() == answer


def test_every_assistant_turn_is_supervised_and_nothing_else(prepared):
    family, tokenizer, task = prepared
    row = example("where is my card", "in the machine", "and my parcel", "it is late")
    pieces = task.encode(row, 0, tokenizer, 10_000)
    assert len(pieces) == (2 if family == "thinking" else 1)  # its later prompt rewrites the earlier turn
    learnt = "".join(tokenizer.decode(piece.tokens[piece.weights > 0], skip_special_tokens=True) for piece in pieces)
    assert "in the machine" in learnt and "it is late" in learnt
    assert "where" not in learnt and "parcel" not in learnt


def test_system_turn_is_kept_even_where_the_template_has_none(prepared):
    _, tokenizer, task = prepared
    row = example("hello", "answer", system="be brief")
    (piece,) = task.encode(row, 0, tokenizer, 10_000)
    if prepared[0] != "mistral":
        assert "be brief" in tokenizer.decode(piece.tokens)
    assert faults(task, tokenizer, row, [piece]) == []


@pytest.mark.parametrize("system", [None, "Be short."])
def test_an_opening_turn_of_the_assistant_is_context(prepared, system):
    _, tokenizer, task = prepared
    before = [Message("system", system, 0.0)] if system else []
    greeting = Message("assistant", "good morning", 1.0)
    given = Conversation((*before, greeting, Message("user", "who are you", 0.0)))
    row = Example("1", given, Message("assistant", "a machine", 1.0), Origin("file.jsonl", 7))
    [piece] = task.encode(row, 0, tokenizer, 1 << 20)
    learnt = tokenizer.decode(piece.tokens[piece.weights > 0])
    assert "a machine" in learnt and "morning" not in learnt and "good morning" in tokenizer.decode(piece.tokens)
    prove(task, tokenizer, [row], 1 << 20)
    said = learn([row, example("hello", "good day")]).notes()
    assert said == ("1 row: the assistant's opening turn answers nobody: it is read as context and not learnt",)
    assert not learn([example("hello", "good day")]).notes()


def test_message_weights_are_honoured(prepared):
    _, tokenizer, task = prepared
    row = example("a", "one", "b", "two", weights={1: 0.0, 3: 0.5})
    pieces = task.encode(row, 0, tokenizer, 10_000)
    assert len(pieces) == 1
    assert set(np.unique(pieces[0].weights)) == {0.0, 0.5}
    assert "one" not in tokenizer.decode(pieces[0].tokens[pieces[0].weights > 0])


def test_measuring_supervises_only_the_last_answer(prepared):
    _, tokenizer, task = prepared
    row = example("a", "one", "b", "two", weights={3: 0.0})
    (piece,) = task.encode(row, 0, tokenizer, 10_000, final_only=True)
    assert set(np.unique(piece.weights)) == {0.0, 1.0}
    assert "two" in tokenizer.decode(piece.tokens[piece.weights > 0])


def test_an_answer_that_contains_its_own_end_is_refused(tmp_path):
    tokenizer = make_tokenizer(tmp_path, "chatml")
    task = prepared_task(tokenizer)
    with pytest.raises(ProofError, match=r"file.jsonl:7: the answer itself contains .*im_end"):
        task.encode(example("a", "stop <|im_end|> here"), 0, tokenizer, 1000)


def test_proof_fails_when_the_end_is_not_learnt(tmp_path):
    tokenizer = make_tokenizer(tmp_path, "chatml")
    task = prepared_task(tokenizer)
    row = example("a", "one")
    (piece,) = task.encode(row, 0, tokenizer, 1000)
    cut = Encoded(0, piece.tokens[:-1], piece.weights[:-1])
    assert faults(task, tokenizer, row, [cut]) == [
        "an answer does not end with '<|im_end|>': the model would never stop"
    ]


def test_proof_fails_on_two_start_tokens_and_on_a_changed_prompt(tmp_path):
    tokenizer = make_tokenizer(tmp_path, "llama3")
    task = prepared_task(tokenizer)
    row = example("a", "one")
    (piece,) = task.encode(row, 0, tokenizer, 1000)
    doubled = Encoded(0, np.insert(piece.tokens, 0, tokenizer.bos_token_id), np.insert(piece.weights, 0, 0.0))
    found = faults(task, tokenizer, row, [doubled])
    assert any("2 start tokens" in fault for fault in found)
    assert any("differs from the one inference sends" in fault for fault in found)


def test_proof_fails_when_nothing_is_supervised_and_shows_the_row(tmp_path):
    tokenizer = make_tokenizer(tmp_path, "chatml")
    task = prepared_task(tokenizer)
    with pytest.raises(ProofError, match=r"file.jsonl:7: nothing in this row is supervised"):
        prove(task, tokenizer, [example("a", "one", weights={1: 0.0})], 1000)


def test_a_template_that_rewrites_its_own_prompt_is_refused(tmp_path):
    tokenizer = make_tokenizer(tmp_path, "chatml")
    tokenizer.chat_template = (
        "{% for m in messages %}({{ m['role'] }}) {{ m['content'] }}<|im_end|>{% endfor %}"
        "{% if add_generation_prompt %}[answer]{% endif %}"
    )
    with pytest.raises(ProofError, match="differently from the prompt"):
        _template.turns(tokenizer, Conversation((Message("user", "a"),)), Message("assistant", "b"))


def test_the_plain_template_is_stated_and_saved(tmp_path):
    tokenizer = make_tokenizer(tmp_path, "chatml")
    note, _ = _template.settle(tokenizer, "plain")
    assert "### Request" in note and "as asked" in note and "### Request" in tokenizer.chat_template
    assert _template.settle(make_tokenizer(tmp_path, "chatml"), "auto") == ("the model's own chat template", "")
