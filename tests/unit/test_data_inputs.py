"""Rows to answer: the column that is read, what stands beside it, ids, and what is said when it cannot be told."""

import io
import json

import pytest

from finesmith.data import inputs, stdin
from finesmith.data.asked import as_inputs
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
    for answer in ({**turns[1], "weight": 0}, {**turns[1], "content": ""}):  # what is left out cannot be wrong
        path = write_jsonl(tmp_path / "more.jsonl", [{"messages": [turns[0], answer]}])
        assert inputs.read(str(path), columns={"messages": "messages"}).inputs == (asked(("user", "a")),)


def test_a_row_without_the_column_of_the_others_is_named(tmp_path):
    path = write_jsonl(tmp_path / "new.jsonl", [{"text": "a"}, {"body": "b"}])
    with pytest.raises(DataError) as caught:
        inputs.read(str(path))
    assert caught.value.message == f"1 row of {path} cannot be answered:"
    assert caught.value.problems == (f"{path}:2: the column 'text' is missing (columns here: body)",)


SPOKEN = [
    {"role": "developer", "content": [{"type": "text", "text": "Be "}, {"type": "text", "text": "kind."}]},
    {"role": "user", "content": "Rain?"},
    {
        "role": "assistant",
        "content": None,
        "tool_calls": [{"type": "function", "function": {"name": "weather", "arguments": '{"city": "Bern"}'}}],
    },
    {"role": "tool", "content": "dry"},
]
OFFERED = [{"name": "weather", "parameters": {}}]


@pytest.mark.parametrize("tools", [{}, {"tools": OFFERED}, {"functions": OFFERED}])
def test_a_program_and_a_file_send_the_same(tmp_path, tools):
    path = write_jsonl(tmp_path / "new.jsonl", [{"messages": SPOKEN, **tools}])
    (filed,) = inputs.read(str(path)).inputs
    assert as_inputs([{"messages": SPOKEN, **tools}]) == [filed]
    assert tools or as_inputs([SPOKEN, tuple(SPOKEN)]) == [filed, filed]
    assert [message.role for message in filed.messages] == ["system", "user", "assistant", "tool"]
    assert filed.messages[0].content == "Be kind." and filed.messages[2].calls[0]["arguments"] == {"city": "Bern"}


def test_a_prompt_that_is_a_list_of_turns_is_answered(tmp_path):
    row = {"prompt": SPOKEN, "completion": [{"role": "assistant", "content": "no"}], "tools": OFFERED}
    rows = [row, {"prompt": {"messages": SPOKEN, "tools": OFFERED}}]
    columns = {word: word for word in row}
    found = inputs.read(str(write_jsonl(tmp_path / "new.jsonl", rows)), columns=columns).inputs
    assert found == tuple(as_inputs([{"messages": SPOKEN, "tools": OFFERED}]) * 2)


def test_what_no_file_may_hold_is_refused_with_the_place_of_the_input():
    with pytest.raises(DataError, match=r"Input 2: message 1 has the unknown role 'usr'\. Did you mean 'user'"):
        as_inputs([SPOKEN, [{"role": "usr", "content": "a"}]])
    with pytest.raises(DataError, match=r"Input 1: the list of messages is empty"):
        as_inputs([[]])


def test_an_openai_batch_file_is_answered(tmp_path):
    body = {"model": "gpt", "messages": SPOKEN, "tools": OFFERED}
    rows = [
        {"custom_id": f"request-{number}", "method": "POST", "url": "/v1/chat/completions", "body": body}
        for number in (1, 2)
    ]
    path = str(write_jsonl(tmp_path / "batch.jsonl", rows))
    for columns in ({}, {"messages": "messages"}, {"prompt": "prompt", "completion": "answer"}):
        found = inputs.read(path, columns=columns)
        assert found.ids == ("request-1", "request-2")
        assert list(found.inputs) == as_inputs([{"messages": SPOKEN, "tools": OFFERED}] * 2)
        assert "requests" not in found.note
    assert stdin.lines([json.dumps(row) + "\n" for row in rows], spoken=True) == inputs.read(path)


def test_what_a_batch_file_says_of_how_to_answer_is_not_used_and_said(tmp_path):
    bodies = [
        {"model": "gpt", "messages": SPOKEN, "max_tokens": 5, "temperature": 0.5},
        {"messages": SPOKEN, "tools": OFFERED, "tool_choice": "required", "max_tokens": 9},
    ]
    rows = [{"custom_id": str(number), "body": body} for number, body in enumerate(bodies)]
    found = inputs.read(str(write_jsonl(tmp_path / "batch.jsonl", rows)))
    assert found.note == "not used from the requests: max_tokens, temperature, tool_choice"
    assert stdin.lines([json.dumps(row) for row in rows], spoken=True) == found


def test_a_line_that_is_nested_too_deeply_is_a_text():
    line = '{"messages": ' + "[" * 100_000
    assert stdin.lines([line], spoken=True).inputs == (line,)


def test_a_line_with_messages_is_a_row_for_those_who_write():
    row = json.dumps({"messages": SPOKEN, "tools": OFFERED})
    found = stdin.lines([row, "\n", "a text\r\n", '{"a": 1}'], spoken=True)
    assert found.ids == ("1", "3", "4") and found.inputs[1:] == ("a text", '{"a": 1}')
    assert [found.inputs[0]] == as_inputs([{"messages": SPOKEN, "tools": OFFERED}])
    assert found.note.startswith("1 of 2 lines are JSON objects and are answered as they stand")
    assert stdin.lines([row, "a text"], spoken=False).inputs == (row, "a text")
    with pytest.raises(DataError) as caught:
        stdin.lines(["a", '{"messages": [{"role": "usr", "content": "a"}]}'], spoken=True)
    assert caught.value.message == "1 line cannot be answered:"
    assert caught.value.problems[0].startswith("line 2: message 1 has the unknown role 'usr'.")


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


def test_lines_that_are_all_objects_are_rows_as_in_a_file(tmp_path):
    rows = [{"text": "where is it", "n": 1}, {"id": "b7", "text": "a refund"}]
    texts = [json.dumps(row) + "\n" for row in rows]
    for known in ({"text": "text", "label": "queue"}, {}):
        for spoken in (True, False):
            found = stdin.lines(["\n", *texts], spoken=spoken, columns=known)
            assert (found.ids, found.inputs, found.note) == (("2", "b7"), ("where is it", "a refund"), "")
    filed = inputs.read(str(write_jsonl(tmp_path / "new.jsonl", rows)), columns={"text": "text"})
    assert filed.inputs == found.inputs and found.names == ["line 2", "line 3 (id b7)"]
    assert filed.names == [f"{tmp_path / 'new.jsonl'}:1", f"{tmp_path / 'new.jsonl'}:2 (id b7)"]


def test_one_broken_line_does_not_make_texts_of_the_others():
    texts = ['{"text": "a"}', '{"text": "b', '{"text": ""}']
    with pytest.raises(DataError) as caught:
        stdin.lines(texts, spoken=False, columns={"text": "text"})
    assert caught.value.message == "2 rows of stdin cannot be answered:"
    assert caught.value.problems[0].startswith("line 2: not valid JSON")
    assert caught.value.problems[1] == "line 3: the text is empty (column 'text')"
    found = stdin.lines(texts, spoken=False, skip=True)
    assert found.inputs == ("a", "", "") and list(found.errors) == [1, 2] and found.ids == ("1", "2", "3")


def test_objects_without_a_known_column_are_texts_and_that_is_said():
    texts = ['{"level": "error", "code": 3}', '{"level": "info", "code": 4}']
    found = stdin.lines(texts, spoken=False, columns={"text": "text"})
    assert found.inputs == tuple(texts) and found.note.startswith("2 of 2 lines are JSON objects")
    assert stdin.lines(texts, spoken=False, column="level").inputs == ("error", "info")
    with pytest.raises(DataError, match=r"stdin has no column 'lvel'\. Did you mean 'level'"):
        stdin.lines(texts, spoken=False, column="lvel")


def test_the_head_of_a_table_on_stdin_is_noticed():
    columns = {"text": "what they wrote", "label": "queue"}
    found = stdin.lines(["what they wrote,queue", "a card,card"], spoken=False, columns=columns)
    assert len(found.inputs) == 2 and "looks like the head of a table" in found.note and "--format csv" in found.note
    assert stdin.lines(["what they wrote", "a card"], spoken=False, columns=columns).note
    assert stdin.lines(["my text, and more", "a card"], spoken=False, columns=columns).note == ""


def test_rows_that_cannot_be_read_may_be_skipped(tmp_path):
    path = write_jsonl(tmp_path / "new.jsonl", [{"text": "a"}, {"body": "b"}, {"id": "x", "text": 3}])
    with pytest.raises(DataError, match="2 rows of"):
        inputs.read(str(path))
    found = inputs.read(str(path), skip=True)
    assert found.inputs == ("a", "", "") and found.ids == tuple(f"{path}:{n}" for n in (1, 2, 3))
    assert found.errors == {1: "the column 'text' is missing (columns here: body)", 2: found.errors[2]}
    assert "must be text, found a whole number" in found.errors[2]


def test_a_format_may_be_said(tmp_path):
    path = tmp_path / "rows"
    path.write_text("text\na card\n")
    assert inputs.read(str(path), format="csv").inputs == ("a card",)
    found = inputs.read("stdin", format="csv", stream=io.BytesIO(path.read_bytes()))
    assert (found.ids, found.inputs) == (("stdin:2",), ("a card",))
