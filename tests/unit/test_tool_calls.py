"""Tool calls are trained on, generated, scored and shown as what they are, whichever template writes them."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from finesmith import recipe as recipes
from finesmith import registry
from finesmith.checks.base import Checked
from finesmith.data import messages
from finesmith.errors import ProofError
from finesmith.tasks import _cut, _template
from finesmith.tasks.generation import Generation, GenerationSettings
from finesmith.train.encode import training_set
from finesmith.types import Conversation, Example, Message, Origin
from tests.conftest import CHATML, make_tokenizer

TOOL = {"type": "function", "function": {"name": "weather", "description": "of a day", "parameters": {}}}
START = "{% for t in tools or [] %}{{ t | tojson }}{% endfor %}{% for m in messages %}<|im_start|>{{ m.role }}\n"
END = (
    "{{ m.content }}{% for c in m.tool_calls or [] %}CALL{% endfor %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
FORMS = {
    "json": "<tool_call>{{ c.function | tojson }}</tool_call>",
    "xml": "<{{ c.function.name }}>"
    "{% for k, v in c.function.arguments | items %}<{{ k }}>{{ v }}</{{ k }}>{% endfor %}",
    "python": "[{{ c.function.name }}({% for k, v in c.function.arguments.items() %}{{ k }}={{ v }}{% endfor %})]",
    "text": "<{{ c.function.name + ' ' + c.function.arguments }}>",
    "special": "[INST]{{ c.function | tojson }}[/INST]",
}
OWN = {name: START + END.replace("CALL", form) for name, form in FORMS.items()}


def call(name="weather", /, **arguments):
    return {"id": "c1", "type": "function", "function": {"name": name, "arguments": json.dumps(arguments)}}


def row(*turns, line=1, tools=(TOOL,)):
    before, target = messages.conversation(list(turns))
    return Example(str(line), Conversation(before, messages.tools(list(tools))), target, Origin("rows.jsonl", line))


def asks(text="Will it rain?"):
    return {"role": "user", "content": text}


def calls(*made, content=None):
    return {"role": "assistant", "content": content, "tool_calls": list(made)}


WETTER = row(asks(), calls(call(city='Zürich "West"', days=3, wind=True)))
PLAIN = '[{"name": "weather", "arguments": {"city": "Zürich \\"West\\"", "days": 3, "wind": true}}]'


def tokenizer_with(folder, template):
    tokenizer = make_tokenizer(folder, "plain" if template is None else "chatml")
    tokenizer.chat_template = template
    return tokenizer


def prepared(tokenizer, rows):
    model = SimpleNamespace(generation_config=SimpleNamespace(eos_token_id=tokenizer.eos_token_id))
    loaded = SimpleNamespace(tokenizer=tokenizer, model=model)
    return Generation(GenerationSettings()).fit(rows).prepare(loaded)[0]


class Speaker:
    """A model that answers with given tokens, then pads."""

    config = SimpleNamespace(max_position_embeddings=2048, model_type="llama")

    def __init__(self, answers):
        self.answers = answers

    def eval(self):
        return self

    def generate(self, input_ids, pad_token_id, max_new_tokens, **_):
        rows = [[*answer, *[pad_token_id] * 500][:max_new_tokens] for answer in self.answers]
        return torch.cat([input_ids, torch.tensor(rows)], dim=1)


def said(task, tokenizer, example):
    """What the task reads where a model answers with exactly the tokens that are trained."""
    (piece,) = task.encode(example, 0, tokenizer, 10_000)
    speaker = Speaker([piece.tokens[piece.weights > 0].tolist()])
    tokenizer.model_max_length = 2048
    loaded = SimpleNamespace(tokenizer=tokenizer, model=speaker, device=torch.device("cpu"), dtype=torch.float32)
    return task.answer(loaded, [example.input])[0]


def test_the_plain_template_writes_tools_and_calls(tmp_path):
    tokenizer = tokenizer_with(tmp_path, None)
    task = prepared(tokenizer, [WETTER])
    (piece,) = task.encode(WETTER, 0, tokenizer, 10_000)
    learnt = tokenizer.decode(piece.tokens[piece.weights > 0])
    assert learnt == PLAIN + "</s>" and WETTER.target.text == PLAIN
    context = tokenizer.decode(piece.tokens[piece.weights == 0])
    assert context.startswith(f"<s>### Tools:\n{json.dumps(TOOL['function'])}\n\n### Request:\nWill it rain?\n\n")


def test_several_calls_behind_a_text_and_their_results(tmp_path):
    tokenizer = tokenizer_with(tmp_path, None)
    both = calls(call(city="Bern"), call(city="Rom"), content="I look.")
    results = [{"role": "tool", "content": "dry"}, {"role": "tool", "content": "wet"}]
    example = row(asks(), both, *results, {"role": "assistant", "content": "Only in Rome."})
    task = prepared(tokenizer, [example])
    (piece,) = task.encode(example, 0, tokenizer, 10_000)
    text = tokenizer.decode(piece.tokens)
    assert f"### Answer:\n{example.input.messages[1].text}</s>\n\n### Result:\ndry\n\n### Result:\nwet\n\n" in text
    assert example.input.messages[1].text.splitlines() == [
        "I look.",
        '[{"name": "weather", "arguments": {"city": "Bern"}}, {"name": "weather", "arguments": {"city": "Rom"}}]',
    ]


def test_rows_without_tools_are_written_as_ever(tmp_path):
    tokenizer = tokenizer_with(tmp_path, None)
    _template.settle(tokenizer, "auto")
    turns = [Message("system", "Be kind."), Message("user", "a"), Message("assistant", "b"), Message("user", "c")]
    assert _template.render(tokenizer, turns, (), ask=True) == (
        "<s>Be kind.\n\n### Request:\na\n\n### Answer:\nb</s>\n\n### Request:\nc\n\n### Answer:\n"
    )


def test_a_template_that_leaves_out_calls_is_refused_with_the_rows(tmp_path):
    tokenizer = tokenizer_with(tmp_path, CHATML)
    plain = row(asks(), {"role": "assistant", "content": "Yes."}, tools=())
    rows = [plain, *(row(asks(), calls(call(city="Bern")), line=line, tools=()) for line in (2, 3))]
    task = prepared(tokenizer, rows)
    with pytest.raises(ProofError) as caught:
        training_set(task, tokenizer, rows, limit=2048, policy="error", progress=lambda done: None)
    assert caught.value.problems == tuple(
        f"rows.jsonl:{line}: The chat template leaves out the call of 'weather'." for line in (2, 3)
    )
    assert "generation.template=plain" in caught.value.hint


def test_a_name_in_the_question_is_no_tool_and_no_call(tmp_path):
    asked = asks("Call weather for the weather in Bern?")
    tokenizer = tokenizer_with(tmp_path, CHATML)
    for example, lost in (
        (row(asked, calls(call(city="Bern"))), "the tool 'weather'"),
        (row(asked, calls(call(), content="I call weather."), tools=()), "the call of 'weather'"),
    ):
        with pytest.raises(ProofError, match=lost):
            prepared(tokenizer, [example]).encode(example, 0, tokenizer, 10_000)
    tokenizer = tokenizer_with(tmp_path, OWN["json"])
    example = row(asks("weather"), calls(call(city="weather"), content="weather"))
    assert prepared(tokenizer, [example]).encode(example, 0, tokenizer, 10_000)


LOSSES = {
    "the tool 'weather'": (OWN["json"].replace("{{ t | tojson }}", ""), WETTER),
    "'days' in the arguments of 'weather'": (OWN["json"].replace("c.function | tojson", "c.function.name"), WETTER),
    "the call of 'weather'": (OWN["json"].replace("c.function | tojson", "c.function.arguments | tojson"), WETTER),
    "the result of a tool, 'It pours.'": (
        OWN["json"].replace("{{ m.content }}", "{% if m.role != 'tool' %}{{ m.content }}{% endif %}"),
        row(asks(), calls(call()), {"role": "tool", "content": "It pours."}, {"role": "assistant", "content": "Yes."}),
    ),
}


@pytest.mark.parametrize("lost", LOSSES)
def test_what_a_template_leaves_out_is_named(tmp_path, lost):
    template, example = LOSSES[lost]
    if "days" in lost:
        example = row(asks(), calls(call(days=3)))
    tokenizer = tokenizer_with(tmp_path, template)
    with pytest.raises(ProofError, match=lost):
        prepared(tokenizer, [example]).encode(example, 0, tokenizer, 10_000)


@pytest.mark.parametrize("form", OWN)
def test_own_forms_of_calls_pass_and_a_perfect_answer_scores_as_one(tmp_path, form):
    tokenizer = tokenizer_with(tmp_path, OWN[form])
    task = prepared(tokenizer, [WETTER])
    assert not task.learnt.as_json and task.primary == "exact_match"
    target = task.written(tokenizer, WETTER).target
    assert "weather" in target.text and "Zürich" in target.text and "<|im_end|>" not in target.text
    assert target.text.startswith("[INST]") == (form == "special")
    answer = said(task, tokenizer, WETTER)
    assert answer.output == target.text
    metrics = [registry.resolve("metrics", name) for name in ("exact_match", "chrf")]
    assert [metric.value([target], [answer]) for metric in metrics] == [metric.limits[1] for metric in metrics]


def test_the_call_fits_into_the_answer_and_its_bytes_are_counted(tmp_path, monkeypatch):
    tokenizer = tokenizer_with(tmp_path, None)
    rows = [WETTER, row(asks(), {"role": "assistant", "content": "Yes."}, line=2)]
    task = prepared(tokenizer, rows)
    assert task.learnt.new_tokens == len(tokenizer(PLAIN, add_special_tokens=False)["input_ids"]) * 3 // 2 + 8
    assert said(task, tokenizer, WETTER).output == PLAIN
    sizes = []
    monkeypatch.setattr("finesmith.tasks._language.measure", lambda *given: sizes.extend(given[3]))
    task.measure(SimpleNamespace(tokenizer=tokenizer), rows)
    assert sizes == [len(PLAIN.encode()), 4]


def test_an_answer_is_whole_that_ends_with_its_end_also_at_the_limit(tmp_path):
    tokenizer = tokenizer_with(tmp_path, None)
    tokenizer.model_max_length = 2048
    rows = [row(asks(), {"role": "assistant", "content": "Yes."})]
    task = prepared(tokenizer, rows)
    most, end = task.learnt.new_tokens, task.learnt.end
    word = tokenizer("a", add_special_tokens=False)["input_ids"][0]
    answers = []
    for tokens in ([word, end], [word] * (most - 1) + [end], [word] * most):
        where = {"device": torch.device("cpu"), "dtype": torch.float32}
        loaded = SimpleNamespace(tokenizer=tokenizer, model=Speaker([tokens]), **where)
        answers += task.answer(loaded, [rows[0].input])
    assert [answer.cut for answer in answers] == [False, False, True] and answers[2].tokens == most
    assert _cut.answers(task, answers).endswith("(generation.max_new_tokens) or of the context: 3")
    assert _cut.answers(task, answers[:2]) == "" and not _cut.by_system(task, {"base": answers[:2]})
    (note,) = _cut.by_system(task, {"tuned": answers[:2], "base": answers})
    assert note.startswith(f"test rows, base: 1 of 3 answers cut off at the limit of {most} tokens")


def test_special_tokens_stay_out_of_answers_where_no_row_has_tools(tmp_path):
    tokenizer = tokenizer_with(tmp_path, OWN["special"])
    example = row(asks(), {"role": "assistant", "content": "a [INST]b"}, tools=())
    task = prepared(tokenizer, [example])
    assert not task.learnt.tools and said(task, tokenizer, example).output == "a b"


def test_the_nearest_answer_is_a_call_too():
    (found,) = registry.resolve("baselines", "nearest")([WETTER], [("1", "Will it rain?")], seed=0)
    assert found.output == PLAIN


def test_different_calls_are_no_duplicates_and_contradict_each_other():
    rows = [row(asks(), calls(call(city=city)), line=line) for line, city in enumerate(("Bern", "Rom", "Bern"), 1)]
    given = np.array(["all"] * len(rows))
    data = Checked(rows, given, given, recipes.make({"data": "rows.jsonl"}), "generation")
    duplicates = registry.resolve("checks", "exact_duplicates")
    (found,) = duplicates(data, lambda done: None)
    assert list(duplicates.mend(found, data).drop) == ["rows.jsonl:3"]
    assert [finding.count for finding in registry.resolve("checks", "contradictions")(data, lambda done: None)]
