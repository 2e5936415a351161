"""Rows to answer: the column that is read, what stands beside it, ids, and what is said when it cannot be told."""

import json

import pytest

from finesmith.data import inputs
from finesmith.errors import DataError
from finesmith.types import Conversation, Message
from tests.conftest import write_csv, write_jsonl

LABELS = {"text": "what they wrote", "label": "queue", "id": "number"}


def asked(*turns):
    return Conversation(tuple(Message(role, content, 0.0) for role, content in turns))


def test_the_columns_of_the_training_data_are_remembered(tmp_path):
    rows = [{"number": "n1", "what they wrote": "my card", "text": "not this"}]
    found = inputs.read(str(write_csv(tmp_path / "new.csv", rows)), columns=LABELS)
    assert (found.ids, found.inputs, found.note) == (("n1",), ("my card",), "")


def test_a_named_column_counts_before_all_others(tmp_path):
    path = str(write_csv(tmp_path / "new.csv", [{"what they wrote": "this", "subject": "that"}]))
    assert inputs.read(path, columns=LABELS, column="subject").inputs == ("that",)
    with pytest.raises(DataError, match=r"has no column 'subjct'\. Did you mean 'subject'"):
        inputs.read(path, columns=LABELS, column="subjct")


def test_no_column_is_one_sentence_for_all_rows(tmp_path):
    path = write_csv(tmp_path / "new.csv", [{"a": "x", "b": "y"}] * 30)
    with pytest.raises(DataError) as caught:
        inputs.read(str(path), columns=LABELS)
    assert caught.value.message == (
        f"{path} has no column 'what they wrote', as the training data had. Columns found: a, b."
    )
    assert caught.value.problems == () and caught.value.hint == "Name the column with the input: --column NAME."
    with pytest.raises(DataError, match="has no column that is known as the input"):
        inputs.read(str(path))


def test_a_column_that_had_to_be_chosen_is_said(tmp_path):
    path = str(write_csv(tmp_path / "new.csv", [{"review": "x", "body": "y", "n": "1"}]))
    found = inputs.read(path)
    assert found.inputs == ("x",)
    assert found.note == "the input is the column 'review' (not body); --column says otherwise"
    assert inputs.read(path, columns=LABELS).note == (
        f"{path} has no column 'what they wrote', as the training data had; {found.note}"
    )
    assert inputs.read(path, column="body").note == ""
    assert inputs.read(str(write_csv(tmp_path / "one.csv", [{"review": "x", "n": "1"}]))).note == ""


def test_an_id_is_the_rows_own_or_its_place(tmp_path):
    path = write_jsonl(tmp_path / "new.jsonl", [{"id": 7, "text": "a"}, {"text": "b"}, {"id": None, "text": "c"}])
    assert inputs.read(str(path)).ids == ("7", f"{path}:2", f"{path}:3")


ALPACA = {"instruction": "instruction", "input": "input", "output": "output"}


@pytest.mark.parametrize("columns", [ALPACA, {}])
def test_an_instruction_keeps_its_input(tmp_path, columns):
    rows = [{"instruction": "Shorten", "input": "a clause"}, {"instruction": "Shorten", "input": ""}]
    found = inputs.read(str(write_jsonl(tmp_path / "new.jsonl", rows)), columns=columns)
    assert found.inputs == ("Shorten\n\na clause", "Shorten") and found.note == ""


def test_a_system_prompt_is_for_those_who_write(tmp_path):
    path = str(write_csv(tmp_path / "new.csv", [{"text": "a", "prompt": "b", "system": "linux"}]))
    writing = inputs.read(path, columns={"prompt": "prompt", "completion": "completion", "system": "system"})
    assert writing.inputs == (asked(("system", "linux"), ("user", "b")),)
    assert inputs.read(path, columns={"text": "text", "label": "queue"}).inputs == ("a",)


def test_conversations_lose_their_last_answer(tmp_path):
    turns = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
    path = write_jsonl(tmp_path / "new.jsonl", [{"messages": turns}, {"messages": turns[:1]}])
    assert inputs.read(str(path), columns={"messages": "messages"}).inputs == (asked(("user", "a")),) * 2


def test_a_row_without_the_column_of_the_others_is_named(tmp_path):
    path = write_jsonl(tmp_path / "new.jsonl", [{"text": "a"}, {"body": "b"}])
    with pytest.raises(DataError) as caught:
        inputs.read(str(path))
    assert caught.value.message == f"1 row of {path} cannot be answered:"
    assert caught.value.problems == (f"{path}:2: the column 'text' is missing (columns here: body)",)


@pytest.mark.parametrize(
    "answer",
    [
        {"role": "Assistant", "content": "SECRET"},
        {"from": "chatgpt", "value": "SECRET"},
        {"role": " GPT ", "content": "SECRET"},
        {"role": None, "from": "Model", "content": "SECRET"},
    ],
)
@pytest.mark.parametrize("as_text", [False, True])
def test_the_reference_answer_is_left_out_by_whatever_name(tmp_path, answer, as_text):
    turns = [{"role": "user", "content": "hi"}]
    rows = [{"messages": json.dumps(each) if as_text else each} for each in (turns, [*turns, answer])]
    assert inputs.read(str(write_jsonl(tmp_path / "new.jsonl", rows))).inputs == (asked(("user", "hi")),) * 2
