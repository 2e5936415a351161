"""Which columns mean what, and what a row of each shape becomes."""

import json
import shlex

import pytest

from finesmith.data import messages
from finesmith.data.convert import convert
from finesmith.data.names import settings
from finesmith.data.rows import Fault
from finesmith.data.shapes import detect, label_variants, shape_task
from finesmith.errors import DataError
from finesmith.recipe import parse_assignments
from finesmith.types import Conversation, Message


def plan_of(*rows, **options):
    return detect(list(rows), name="x.csv", **options)


def converted(row, **options):
    return convert(row, plan_of(row, **options))


def user(text):
    return Message("user", text, 0.0)


def fault(row, plan):
    with pytest.raises(Fault) as raised:
        convert(row, plan)
    return str(raised.value)


@pytest.mark.parametrize(
    ("keys", "shape", "columns"),
    [
        ("text label", "labels", "text label"),
        ("Body QUEUE", "labels", "Body QUEUE"),
        ("utterance intent", "labels", "utterance intent"),
        ("question category", "labels", "question category"),
        ("question answer category", "prompt", "question answer"),
        ("text target", "labels", "text target"),
        ("input target", "prompt", "input target"),
        ("input label", "labels", "input label"),
        ("source target", "prompt", "source target"),
        ("text label category extra", "labels", "text label"),
        ("body email queue", "labels", "body queue"),
        ("prompt completion label", "prompt", "prompt completion"),
        ("instruction response context category", "prompt", "instruction response"),
        ("question answer source", "prompt", "question answer"),
        ("instruction input output", "alpaca", "instruction output input"),
        ("instruction output", "alpaca", "instruction output"),
        ("document url", "text", "document"),
        ("note", "text", "note"),
    ],
)
def test_detection_by_names(keys, shape, columns):
    plan = plan_of(*({key: f"{key} {i}" for key in keys.split()} for i in range(3)))
    assert plan.shape == shape
    assert list(plan.columns.values()) == columns.split()
    assert set(plan.unused) == set(keys.split()) - set(columns.split())


def test_detection_says_itself():
    plan = plan_of({"id": "1", "body": "hi", "queue": "a", "customer": "x", "group_id": "g", "date": "d"})
    assert plan.note() == (
        "Shape labels: text is the column 'body', label is the column 'queue', id is the column 'id', "
        "group is the column 'group_id'. Columns not used: customer, date."
    )


def test_two_possible_labels():
    with pytest.raises(DataError) as error:
        plan_of({"body": "hi", "queue": "a", "type": "b"})
    assert error.value.message == "x.csv: more than one column may be the label: queue, type."
    assert error.value.hint == "Write data.columns.label=queue or data.columns.label=type."
    assert plan_of({"body": "hi", "queue": "a", "type": "b"}, columns={"label": "type"}).columns["label"] == "type"


def test_two_possible_shapes():
    with pytest.raises(DataError) as error:
        plan_of({"input": "hi", "output": "a", "label": "b"})
    assert error.value.message == "x.csv can be read in more than one way: prompt or labels."
    assert error.value.hint == (
        "Write data.columns.prompt=input data.columns.completion=output or "
        "data.columns.text=input data.columns.label=label."
    )


@pytest.mark.parametrize("column", ["queue", "Customer message", "it's", "1", "true", "a: b", "naïve", "-", "{x}", ""])
def test_columns_in_hints_can_be_pasted(column):
    words = shlex.split(settings({"text": "body", "label": column}))
    assert parse_assignments(words) == {"data": {"columns": {"text": "body", "label": column}}}
    assert settings({"text": "body", "label": "queue"}) == "data.columns.text=body data.columns.label=queue"


def test_nothing_recognisable():
    with pytest.raises(DataError) as error:
        plan_of({"foo": "a", "bar": "b", "baz": "c"})
    assert error.value.message == "x.csv: cannot tell what its columns mean. Columns found: foo, bar, baz."
    assert "labels: columns text and label" in error.value.problems
    assert not any(problem.startswith("messages: messages") for problem in error.value.problems)


def test_unknown_word_and_unknown_column():
    with pytest.raises(DataError, match=r"Unknown word 'txt' in data.columns. Did you mean 'text'\?"):
        plan_of({"body": "hi"}, columns={"txt": "body"})
    with pytest.raises(
        DataError, match=r"x.csv has no column 'bdy' \(for text\). Did you mean 'body'\? Known: body, queue."
    ):
        plan_of({"body": "hi", "queue": "a"}, columns={"text": "bdy"})
    with pytest.raises(DataError, match=r"Unknown shape 'label'. Did you mean 'labels'\?"):
        plan_of({"body": "hi", "queue": "a"}, shape="label")


def test_two_unknown_columns_are_guessed_by_their_values():
    rows = [{"wish": f"please do the thing number {i}", "team": ["north", "south"][i % 2]} for i in range(20)]
    plan = plan_of(*rows)
    assert (plan.shape, dict(plan.columns), plan.guessed) == ("labels", {"text": "wish", "label": "team"}, True)
    assert "guessed from the values" in plan.note()


def test_a_missing_header_is_seen():
    rows = [{"please do it": f"please do the thing number {i}", "north": ["north", "south"][i % 2]} for i in range(20)]
    with pytest.raises(DataError, match=r"x.csv seems to have no header line: its first line is 'please do it,north'."):
        plan_of(*rows)


def test_given_shape_wins():
    row = {"text": "hi", "label": "a"}
    assert plan_of(row, shape="text").shape == "text"
    with pytest.raises(DataError, match=r"x.csv has no column for completion. Columns found: text, label."):
        plan_of(row, shape="prompt", columns={"prompt": "text"})


def test_default_tasks():
    shapes = ["labels", "prompt", "messages", "alpaca", "sharegpt", "turns", "text"]
    assert [shape_task(shape) for shape in shapes] == ["classification", *["generation"] * 5, "text"]


def test_label_variants():
    assert label_variants(["caf\u00e9", "cafe\u0301", "cafe"]) == [("cafe\u0301", "caf\u00e9")]
    assert label_variants(["Bill", "bill", " bill ", "refund", "x", "X"]) == [(" bill ", "Bill", "bill"), ("X", "x")]


def test_labels():
    assert converted({"text": "hi", "label": "a "}) == ("hi", "a ")
    assert converted({"text": "hi", "label": 3}) == ("hi", "3")
    assert converted({"text": "hi", "label": True}) == ("hi", "True")
    assert converted({"text": "hi", "labels": ["b", "a", "b"]}) == ("hi", ("a", "b"))
    assert converted({"text": "hi", "labels": []}) == ("hi", ())


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"text": None, "label": "a"}, "the text is missing (column 'text')"),
        ({"text": " \n", "label": "a"}, "the text is empty (column 'text')"),
        ({"text": 7, "label": "a"}, "the text must be text, found a whole number (column 'text')"),
        ({"text": "hi", "label": None}, "the label is missing (column 'label')"),
        ({"text": "hi", "label": float("nan")}, "the label is missing (column 'label')"),
        ({"text": "hi", "label": ""}, "the label is empty (column 'label')"),
        (
            {"text": "hi", "label": 1.5},
            "the label must be text or a whole number, found a decimal number (column 'label')",
        ),
        ({"text": "hi", "label": ["a"]}, "the label is a list where the rows before have one label (column 'label')"),
        ({"text": "hi"}, "the column 'label' is missing (columns here: text)"),
        (
            {"prompt": "a", "completion": "b"},
            "mixed shapes: has prompt/completion where the rows before have text/label",
        ),
    ],
)
def test_label_faults(row, reason):
    assert fault(row, plan_of({"text": "hi", "label": "a"})) == reason


def test_a_label_where_lists_were():
    plan = plan_of({"text": "hi", "label": ["a"]})
    assert fault({"text": "hi", "label": "a"}, plan) == (
        "the label is text where the rows before have a list of labels (column 'label')"
    )


def test_prompt():
    asked = Conversation((user("2+2?"),))
    assert converted({"question": "2+2?", "answer": "4"}) == (asked, Message("assistant", "4"))
    given, _ = converted({"prompt": "2+2?", "completion": "4", "system": "Count."})
    assert given.messages == (Message("system", "Count.", 0.0), user("2+2?"))
    plan = plan_of({"prompt": "a", "completion": "b"})
    assert fault({"prompt": "", "completion": "b"}, plan) == "the prompt is empty (column 'prompt')"
    assert fault({"prompt": "a", "completion": None}, plan) == "the completion is missing (column 'completion')"
    late, _ = convert({"prompt": "a", "completion": "b", "system": "late"}, plan)
    assert late.messages[0].content == "late"


def test_alpaca():
    given, target = converted({"instruction": "Add.", "input": "2 2", "output": "4"})
    assert given.messages == (user("Add.\n\n2 2"),) and target == Message("assistant", "4")
    assert converted({"instruction": "Add.", "input": "", "output": "4"})[0].messages == (user("Add."),)


def test_text():
    assert converted({"text": "A document."}) == ("A document.", None)


def chat(*messages, **more):
    return {"messages": list(messages), **more}


def says(role, content, **more):
    return {"role": role, "content": content, **more}


def test_openai_file_works_as_it_is():
    function = {"name": "weather", "parameters": {"type": "object"}}
    call = {"id": "c1", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Bern"}'}}
    given, target = converted(
        chat(
            says("developer", "Help."),
            says("user", [{"type": "text", "text": "Rain in "}, {"type": "text", "text": "Bern?"}]),
            {"role": "assistant", "content": None, "tool_calls": [call], "weight": 0},
            says("tool", "no", tool_call_id="c1"),
            says("assistant", "No rain.", weight=1),
            tools=[{"type": "function", "function": function}],
            parallel_tool_calls=False,
        )
    )
    assert [(m.role, m.content, m.weight) for m in given.messages] == [
        ("system", "Help.", 0.0),
        ("user", "Rain in Bern?", 0.0),
        ("assistant", "", 0.0),
        ("tool", "no", 0.0),
    ]
    assert given.messages[2].extra["tool_calls"][0]["function"] == {"name": "weather", "arguments": {"city": "Bern"}}
    assert given.messages[3].extra == {"tool_call_id": "c1"}
    assert given.tools == ({"type": "function", "function": function},)
    assert target == Message("assistant", "No rain.", 1.0)


def test_openai_older_functions():
    function = {"name": "f", "parameters": {}}
    given, target = converted(
        chat(
            says("user", "go"),
            {"role": "assistant", "content": None, "function_call": {"name": "f", "arguments": "{}"}},
            functions=[function],
        )
    )
    assert given.tools == ({"type": "function", "function": function},)
    assert target.extra["tool_calls"] == [{"type": "function", "function": {"name": "f", "arguments": {}}}]


@pytest.mark.parametrize("several", [False, True])
def test_calls_of_llama_factory(several):
    """A turn of the role function_call is the call as JSON; its tools are JSON text."""
    call, again = ({"name": "weather", "arguments": {"city": city}} for city in ("Bern", "Bonn"))
    said = [call, again] if several else call
    turns = [
        {"from": "human", "value": "Rain?"},
        {"from": "Function_call", "value": json.dumps(said)},
        {"from": "observation", "value": "dry"},
        {"from": "gpt", "value": "No rain."},
    ]
    row = {"conversations": turns, "tools": json.dumps([{"name": "weather", "parameters": {}}])}
    given, target = converted(row)
    assert [message.role for message in given.messages] == ["user", "assistant", "tool"] and given.tools
    assert [(each["name"], each["arguments"]["city"]) for each in given.messages[1].calls] == [
        ("weather", "Bern"),
        ("weather", "Bonn"),
    ][: 1 + several]
    assert given.messages[1].weight == 1.0 and given.messages[1].content == "" and target.content == "No rain."
    ending = converted({**row, "conversations": turns[:2]})[1]
    assert ending.calls == given.messages[1].calls
    assert messages.is_answer(turns[1]), "predict leaves it out"


def test_sharegpt():
    turns = [{"from": "system", "value": "Be brief."}, {"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Ho"}]
    plan = plan_of({"conversations": turns})
    given, target = convert({"conversations": turns}, plan)
    assert plan.shape == "sharegpt"
    assert [message.role for message in given.messages] == ["system", "user"]
    assert target == Message("assistant", "Ho")


ASKED = [{"role": "system", "content": "Help."}, {"role": "user", "content": "Rain?"}]
SAID = [{"role": "assistant", "content": "No."}]


def test_prompt_and_completion_as_turns():
    tools = [{"type": "function", "function": {"name": "weather"}}]
    more = [{"role": "assistant", "content": "Where?"}, {"role": "user", "content": "Bern"}]
    row = {"prompt": [*ASKED, *more], "completion": SAID, "tools": tools}
    given, target = converted(row)
    assert plan_of(row).shape == "turns" and plan_of(row).columns["tools"] == "tools"
    assert [(turn.role, turn.weight) for turn in given.messages] == [
        ("system", 0.0),
        ("user", 0.0),
        ("assistant", 0.0),
        ("user", 0.0),
    ]
    assert target == Message("assistant", "No.", 1.0) and given.tools == tuple(tools)
    assert converted({"prompt": "Rain?", "completion": SAID}) == (Conversation((user("Rain?"),)), target)
    assert converted({"prompt": ASKED, "completion": "No."})[1] == target
    plan = plan_of(row)
    assert (
        fault({"prompt": ASKED, "completion": []}, plan)
        == "the completion must be text, found a list (column 'completion')"
    )
    assert fault({"prompt": [{"role": "usr"}], "completion": SAID}, plan).startswith(
        "message 1 has the unknown role 'usr'"
    )


def test_a_prompt_that_reads_like_turns_stays_a_text():
    text = '[{"role": "user", "content": "a"}]'
    assert converted({"prompt": text, "completion": "b"})[0].messages == (user(text),)


@pytest.mark.parametrize(
    ("row", "setting", "asked"),
    [
        ({"prompt": "Rain?", "chosen": "No.", "rejected": "Yes."}, "completion=chosen", "Rain?"),
        ({"prompt": ASKED, "chosen": SAID, "rejected": SAID}, "completion=chosen", "Rain?"),
        ({"prompt": "Rain?", "chosen": [*ASKED, *SAID], "rejected": SAID}, "messages=chosen", "Rain?"),
        ({"chosen": [*ASKED, *SAID], "rejected": SAID}, "messages=chosen", "Rain?"),
        ({"chosen": "Human: a", "rejected": "b"}, "text=chosen", None),
        (
            {"input": {"messages": ASKED}, "preferred_output": SAID, "non_preferred_output": SAID},
            "completion=preferred_output",
            "Rain?",
        ),
    ],
)
def test_preferences_are_not_trained_on_and_the_way_out_works(row, setting, asked):
    with pytest.raises(DataError, match=r"preference training \(DPO\) is not supported") as caught:
        plan_of(row)
    assert caught.value.hint == f"data.columns.{setting} trains the preferred answers alone."
    word, column = setting.split("=")
    given, target = convert(row, plan_of(row, columns={word: column}))
    assert (given == "Human: a") if asked is None else (given.messages[-1].content, target.content) == (asked, "No.")


def test_messages_as_json_text():
    given, target = converted({"messages": '[{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]'})
    assert given.messages == (user("a"),) and target.content == "b"


def test_train_marks_turns():
    given, target = converted(
        chat(
            says("user", "a"),
            says("assistant", "b", train=False),
            says("user", "c"),
            says("assistant", "d", train=True),
        )
    )
    assert (given.messages[1].weight, target.weight) == (0.0, 1.0)


U, A = says("user", "a"), says("assistant", "b")
UNLEARNT = {**A, "content": "not this", "weight": 0}


@pytest.mark.parametrize("end", [(UNLEARNT,), ({**A, "train": False},), (U, UNLEARNT), (UNLEARNT, U, UNLEARNT)])
def test_the_target_is_the_last_turn_that_is_learnt(end):
    assert converted(chat(U, {**A, "weight": 0.5}, *end)) == (
        Conversation((user("a"),)),
        Message("assistant", "b", 0.5),
    )
    turns = {"prompt": [U], "completion": [A, *end]}
    assert convert(turns, plan_of(turns)) == (Conversation((user("a"),)), Message("assistant", "b"))


def test_an_opening_turn_is_no_target():
    assert fault(chat(A, U, UNLEARNT), plan_of(chat(U, A))).startswith("no answer is trained")


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (chat(), "the list of messages is empty"),
        (chat(U), "has no assistant turn"),
        (chat(U, A, U), "ends with a user turn that nobody answers"),
        (chat({**U, "weight": 1}, A), "message 1 (user) is marked for training; only assistant turns are trained"),
        (chat({**U, "train": True}, A), "message 1 (user) is marked for training; only assistant turns are trained"),
        (chat(U, {**A, "weight": 2}), "message 2: weight must be a number from 0 to 1, found 2"),
        (chat(U, {**A, "train": "no"}), "message 2: train must be true or false, found 'no'"),
        (chat(U, {**A, "train": False, "weight": 1}), "message 2: train is false but weight is 1"),
        (chat(U, {**A, "weight": 0}), "no assistant turn is trained: all have weight 0"),
        (chat(U, {**A, "wieght": 0}), "message 2 has the unknown key 'wieght'. Did you mean 'weight'?"),
        (chat(U, says("assistant", None)), "message 2 has no content (only a message with tool_calls may lack it)"),
        (chat(U, says("assistant", " ")), "message 2 (assistant) is empty"),
        (chat(U, says("assistant", 4)), "message 2: the content must be text, found a whole number"),
        (chat(says("user", [{"type": "image_url"}]), A), "message 1 has a content part of type 'image_url'; "),
        (chat("hi", A), "message 1 must be an object, found text"),
        (chat({"content": "x"}, A), "message 1 has no role"),
        (chat(U, {**A, "function_call": {"name": "f", "arguments": "{"}}), "message 2: the arguments of f are not"),
        (
            chat(U, {**A, "function_call": {"name": "f", "arguments": r'{"a": "\ud83d"}'}}),
            r"message 2: the arguments of f are text that holds half a character (\ud83d without its pair)",
        ),
        (
            chat(U, {**A, "function_call": {"name": "f", "arguments": '{"a": ' + "[" * 100_000}}),
            "message 2: the arguments of f are nested too deeply",
        ),
        (chat(U, says("function_call", "f(1)"), A), "message 2 (function_call): the call is not JSON: "),
        (chat(U, says("function_call", '{"f": 1}'), A), "message 2 (function_call) must hold a call as JSON, an"),
        (chat(U, says("function_call", "[]"), A), "message 2 (function_call) must hold a call as JSON"),
        (chat(U, says("function_call", '{"name": "f", "arguments": 3}'), A), "message 2: the arguments of f must be"),
        (chat(U, {**says("function_call", "{}"), "tool_calls": []}, A), "message 2 has the role function_call, whose "),
        (chat(U, A, tools=["f"]), "a tool must be an object, found text"),
        (chat(U, A, tools="[{"), "the tools are text that is not JSON: "),
    ],
)  # fmt: skip
def test_message_faults(row, reason):
    assert fault(row, plan_of(chat(U, A))).startswith(reason)


def test_unknown_role_names_the_nearest():
    assert fault(chat(says("asistant", "x")), plan_of(chat(U, A))).startswith(
        "message 1 has the unknown role 'asistant'. Did you mean 'assistant'?"
    )


def test_other_keys_of_a_message_reach_the_template():
    assert converted(chat(U, {**A, "mood": "hm", "refusal": None}))[1].extra == {"mood": "hm"}


@pytest.mark.parametrize("name", ["thinking", "reasoning", "reasoning_content"])
def test_thoughts_have_one_name(name):
    said = {**A, "thinking": "hm", name: "hm", "reasoning": None} if name != "reasoning" else {**A, name: "hm"}
    assert converted(chat(U, said))[1].extra == {"reasoning_content": "hm"}
    assert fault(chat(U, {**A, name: ["hm"]}), plan_of(chat(U, A))) == f"message 2: {name} must be text, found a list"
    twice = {**A, "reasoning_content": "hm", "reasoning": "so"}
    assert fault(chat(U, twice), plan_of(chat(U, A))).startswith(
        "message 2 has different thoughts in reasoning_content and reasoning"
    )


def test_parameters_of_tools_may_be_json_text():
    tool = {"name": "f", "parameters": '{"required": ["a"]}'}
    assert messages.tools([tool])[0]["function"]["parameters"] == {"required": ["a"]}
    assert messages.tools([{"type": "function", "function": {**tool, "parameters": None}}])
    for parameters, reason in (
        ("{", "are not JSON"),
        ([1], "must be an object, found a list"),
        ("3", "must be an object"),
    ):
        with pytest.raises(Fault, match=f"the parameters of the tool 'f' {reason}"):
            messages.tools([{**tool, "parameters": parameters}])
    with pytest.raises(Fault, match=r"the messages are text that holds half a character"):
        messages.conversation(r'[{"role": "user", "content": "\ud83d"}]')


def test_a_text_without_blanks_is_no_code():
    rows = [{"content": "今天天气很好我们去公园", "description": f"a longer english text {n}", "label": "ab"[n % 2]}
            for n in range(4)]  # fmt: skip
    assert plan_of(*rows).columns["text"] == "content"


def test_a_column_of_codes_is_no_text_where_another_one_is():
    rows = [{"ticket": f"T-{n}", "description": f"my parcel {n} is late", "category": "ab"[n % 2]} for n in range(9)]
    plan = plan_of(*rows)
    assert plan.columns == {"text": "description", "label": "category"} and plan.unused == ("ticket",)
    assert plan_of(*rows, columns={"text": "ticket"}).columns["text"] == "ticket"
    written = [{**row, "ticket": f"{row['description']}, please"} for row in rows]
    assert plan_of(*written).columns["text"] == "ticket"
    assert plan_of(*({"message": f"m{n}", "label": "ab"[n % 2]} for n in range(9))).columns["text"] == "message"


def test_a_word_that_the_shape_has_no_use_for():
    rows = [{"text": f"a b {n}", "label": "ab"[n % 2]} for n in range(9)]
    with pytest.raises(
        DataError, match=r"^data.columns.label has no effect: rows of the shape text have text, id, group"
    ):
        plan_of(*rows, columns={"label": "label"}, shape="text")
