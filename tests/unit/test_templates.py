"""Chat templates as models bring them: what they leave out is said, what they add is no part of the answer, and what
they write today they write tomorrow."""

import json
import shutil
from types import SimpleNamespace

import pytest
import torch

from finesmith import measure, recipe
from finesmith.errors import ModelError, ProofError, RecipeError
from finesmith.measurements import prompting
from finesmith.predictor import Predictor
from finesmith.tasks import _answers, _calls, _template
from finesmith.tasks._learnt import learn
from finesmith.tasks._prompted_answers import AnswerPrompts
from finesmith.tasks.generation import Generation, GenerationSettings
from finesmith.train.proof import prove
from finesmith.types import Conversation, Example, Message, Origin
from tests.conftest import GEMMA, MISTRAL, make_tokenizer
from tests.unit.test_proof import settled
from tests.unit.test_tool_calls import Speaker

THINKS = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{% if m.role == 'assistant' and loop.last %}<think>\n"
    "{{ m.reasoning_content | default('') }}\n</think>\n\n{% endif %}{{ m.content.split('</think>')[-1] }}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
SMOL = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
THINKING = SMOL.replace(
    "{{ m.content }}", "{% if m.thinking %}<hm>{{ m.thinking }}</hm>{% endif %}{{ m.content }}"
)  # gpt-oss reads no other name
OPENED = (  # as of Qwen3's thinking models: the prompt opens the thoughts
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{% if m.role == 'assistant' and loop.last %}"
    "{% set parts = m.content.split('</think>') %}<think>\n"
    "{{ (m.reasoning_content or parts[0].split('<think>')[-1] if m.reasoning_content or parts[1:] else '') | trim }}"
    "\n</think>\n\n{{ parts[-1] | trim }}{% else %}{{ m.content }}{% endif %}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n<think>\n{% endif %}"
)
CHANNELS = SMOL.replace(
    "{{ m.content }}", "{% if m.thinking %}<analysis>{{ m.thinking }}<final>{% endif %}{{ m.content }}"
)
MISTRALS = MISTRAL.replace(
    "{{ bos_token }}",
    "{{ bos_token }}{% set rest = messages[1:] if messages[0]['role'] == 'system' else messages %}"
    "{% for m in rest %}{% if (m['role'] == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception("
    "'After the optional system message, roles must alternate') }}{% endif %}{% endfor %}",
)
HARMONY = (
    "{% for m in messages %}{% if m.role == 'assistant' %}<|im_start|>{% if m.tool_calls %} to="
    "{% for call in m.tool_calls %}{{ call.function.name }}{{ call.function.arguments | tojson }}{% endfor %}"
    "{% else %}final:{{ m.content }}{% endif %}<|im_end|>{% else %}{{ m.content }}\n{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>{% endif %}"
)
CALLS = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{% if m.role == 'tool' %}{{ m.content }}{% elif m.tool_calls %}"
    "{% for call in m.tool_calls %}"
    "{% if call.id | length != 9 %}{{ raise_exception('ids of 9 characters') }}{% endif %}"
    "{{ call.function | tojson }}{% endfor %}{% else %}{{ m.content }}{% endif %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def says(tmp_path, template):
    tokenizer = make_tokenizer(tmp_path, "chatml")
    tokenizer.chat_template = template
    return tokenizer


def said(role, content, **extra):
    return Message(role, content, float(role == "assistant"), extra)


def row(*messages):
    return Example("1", Conversation(tuple(messages[:-1])), messages[-1], Origin("file.jsonl", 7))


def call(name, key=None, **arguments):
    return {**({"id": key} if key else {}), "type": "function", "function": {"name": name, "arguments": arguments}}


THOUGHT = "first I add the numbers, then I check the sum, " * 3


PLAIN = _template.PLAIN.replace("{{ bos }}", "")
APART, INSIDE = (
    said("assistant", "4", reasoning_content=THOUGHT),
    said("assistant", f"<think>\n{THOUGHT}\n</think>\n\n4"),
)


@pytest.mark.parametrize(
    ("template", "answer"),
    [
        (THINKS, APART),
        (THINKING, APART),
        (PLAIN, APART),
        (PLAIN, INSIDE),
        (SMOL, INSIDE),
        (CHANNELS, APART),
        (CHANNELS, INSIDE),
        (OPENED, APART),
        (OPENED, INSIDE),
    ],
)
def test_thoughts_are_learnt_and_the_answer_behind_them_is_scored(tmp_path, template, answer):
    tokenizer = says(tmp_path, template)
    example = row(said("user", "2+2?"), answer)
    task = settled(tokenizer, [example])
    (piece,) = task.encode(example, 0, tokenizer, 10_000)
    learnt = piece.tokens[piece.weights > 0].tolist()
    assert THOUGHT.strip() in tokenizer.decode(learnt) and task.learnt.thinks
    assert task.learnt.new_tokens >= len(learnt)
    assert _answers.read(task.learnt, tokenizer, learnt) == "4" == task.written(tokenizer, example).target.text
    assert task.size(tokenizer, example) > len(THOUGHT), "the nats are those of all that is written"
    assert task.for_base().prompt(tokenizer, example.input) == task.prompt(tokenizer, example.input), "it may think too"
    prove(task, tokenizer, [example], 10_000)


def test_thoughts_are_tokens_of_a_call(tmp_path):
    tokenizer = says(tmp_path, THINKS)
    tokenizer.model_max_length = 2048
    example = row(said("user", "2+2?"), APART)
    task = settled(tokenizer, [example])
    (piece,) = task.encode(example, 0, tokenizer, 10_000)
    answer = piece.tokens[piece.weights > 0].tolist()
    beyond = tokenizer("\n\nQ: 3+3?\nA: 6", add_special_tokens=False)["input_ids"]
    for form, written in (("turns", answer), ("question-answer", [*answer[:-1], *beyond, answer[-1]])):
        loaded = SimpleNamespace(tokenizer=tokenizer, model=Speaker([written]), device=torch.device("cpu"))
        loaded.dtype = torch.float32
        prompts = AnswerPrompts(loaded, task, 2048)
        found, _ = prompts.ask([example], form, [()])
        assert found["greedy"][0].output == "4" and prompts.written(found["greedy"], form) == len(answer)
        model = Predictor(task, loaded)
        study = SimpleNamespace(
            recipe=SimpleNamespace(task="generation"),
            splits=SimpleNamespace(test=[example]),
            predictions={name: found["greedy"] for name in ("tuned", "base")},
            forget=lambda: None,
            **{name: lambda model=model: model for name in ("tuned", "base")},
        )
        assert {call.written for call in prompting.own_calls(study).values()} == {len(written)}


def test_where_rows_do_not_think_the_base_is_not_to_either(tmp_path):
    tokenizer = says(tmp_path, THINKS)
    task = settled(tokenizer, [row(said("user", "2+2?"), said("assistant", "4"))])
    asked = tokenizer.decode(task.for_base().prompt(tokenizer, "2+2?"))
    assert asked.endswith("assistant\n<think>\n\n</think>") or asked.endswith("<think>\n\n</think>\n\n")
    thought = tokenizer("<think>\nhm\n</think>\n\n4<|im_end|>", add_special_tokens=False)["input_ids"]
    assert _answers.read(task.learnt, tokenizer, thought) == "4"


def test_an_answer_has_room_behind_what_the_template_puts_before_it(tmp_path):
    """A tuned model writes that too: with a long one a short answer was cut in its middle."""
    tokenizer = says(tmp_path, THINKS)
    example = row(said("user", "2+2?"), said("assistant", "4"))
    task = settled(tokenizer, [example])
    (piece,) = task.encode(example, 0, tokenizer, 10_000)
    assert task.learnt.new_tokens > (piece.weights > 0).sum() > 10


SWITCH = "assistant\n{% if enable_thinking is defined and not enable_thinking %}<think>\n\n</think>\n\n{% endif %}"
OFF = THINKS.replace("assistant\n", SWITCH)
"""As Qwen3's template: thoughts can be switched off."""


@pytest.mark.parametrize(
    ("template", "answer", "told", "end"),
    [
        (OFF, said("assistant", "4"), {"enable_thinking": False}, "</think>"),
        (OFF, APART, {}, "</think>"),  # it thinks as it was measured
        (THINKS, said("assistant", "4"), {}, "</think>"),
        (OFF.replace("{{ m.role }}", "{{ m.role }}{{ enable_thinking }}"), said("assistant", "4"), {}, "</think>"),
        (SMOL, said("assistant", "4"), {}, ""),
        (SMOL, INSIDE, {}, "</think>"),  # no word of the template's: the rows' own
    ],
)
def test_others_are_told_how_to_ask_for_what_was_measured(tmp_path, template, answer, told, end):
    tokenizer = says(tmp_path, template)
    task = settled(tokenizer, [row(said("user", "2+2?"), answer)])
    found = _answers.asking(task.learnt, tokenizer)
    assert (found["chat_template_kwargs"], found["thought_end"]) == (told, end)
    assert found["preamble"].rstrip() == ("" if template == SMOL else "<think>\n\n</think>")
    assert found["max_new_tokens"] == task.learnt.new_tokens


LOST = {
    "thoughts": (SMOL, [said("user", "a"), said("assistant", "4", reasoning_content="hm")]),
    "thoughts inside": (THINKS, [said("user", "a"), said("assistant", "<think>so and so</think>4")]),
    "second system turn": (
        "{% for m in messages %}{% if m.role == 'user' or loop.first %}{{ m.content }}{% endif %}\n{% endfor %}",
        [said("system", "x"), said("user", "a"), said("system", "Answer in French."), said("assistant", "4")],
    ),
    "text beside a call": (
        CALLS.replace("call.id | length != 9", "false"),
        [said("user", "weather?"), said("assistant", "Let me look.", tool_calls=[call("weather", "c", city="Bern")])],
    ),
}


@pytest.mark.parametrize("what", LOST)
def test_text_that_a_template_leaves_out_is_named(tmp_path, what):
    template, messages = LOST[what]
    with pytest.raises(ProofError, match=r"leaves out .*") as error:
        _template.turns(says(tmp_path, template), row(*messages).input, messages[-1])
    assert "generation.template=plain" in str(error.value)


SWITCHES = (
    "{% if messages[0].role == 'system' %}{% set text = messages[0].content %}<|im_start|>system\n"
    "{{ 'Answer at once.' if \"/no_think\" in text else 'Think first.' }}\n"
    "{{ text.replace(\"/no_think\", '').replace('/think', '').rstrip() }}<|im_end|>\n{% set messages = messages[1:] %}"
    "{% endif %}"
) + SMOL


@pytest.mark.parametrize("whole", ["You are kind. /no_think", "/think Be /no_think kind.", "/no_think"])
def test_a_switch_that_a_template_obeys_and_takes_out_is_not_lost(tmp_path, whole):
    tokenizer = says(tmp_path, SWITCHES)
    messages = [said("system", whole), said("user", "a"), said("assistant", "b")]
    text = _template.turns(tokenizer, row(*messages).input, messages[-1])[0].prompt
    assert "Answer at once." in text and "/no_think" not in text
    tokenizer.chat_template = {"default": SWITCHES, "tool_use": SWITCHES}
    assert _template.render(tokenizer, messages[:2], (), ask=True) == text


@pytest.mark.parametrize(
    ("role", "whole"), [("system", "Mind /etc. /no_think"), ("user", "what does /etc hold? /no_think")]
)
def test_other_words_with_a_slash_are_lost(tmp_path, role, whole):
    tokenizer = says(
        tmp_path, SWITCHES.replace("m.content", "m.content.replace('/' ~ 'etc', '').replace('/no_think', '')")
    )
    tokenizer.chat_template = tokenizer.chat_template.replace("text.replace", "text.replace('/' ~ 'etc', '').replace")
    messages = [said("system", "Be kind."), said("user", "a")]
    messages = [Message(role, whole) if message.role == role else message for message in messages]
    with pytest.raises(ProofError, match=f"leaves out what the {role} says"):
        _template.render(tokenizer, messages, (), ask=True)


def test_thoughts_of_earlier_turns_may_be_left_out(tmp_path):
    tokenizer = says(tmp_path, THINKS)
    turns = [said("user", "a"), said("assistant", "<think>hm</think>b"), said("user", "c")]
    turns += [said("assistant", "d", reasoning_content="e")]
    text = _template.render(tokenizer, turns, (), ask=False)
    assert "hm" not in text and "<think>\ne\n</think>\n\nd" in text


def test_thoughts_of_earlier_turns_reach_a_template_that_calls_them_thinking(tmp_path):
    turns = [said("user", "a"), APART, said("user", "c"), said("assistant", "d", reasoning_content="e")]
    assert [turn.completion for turn in _template.turns(says(tmp_path, THINKING), row(*turns).input, turns[-1])] == [
        f"<hm>{THOUGHT}</hm>4<|im_end|>\n",
        "<hm>e</hm>d<|im_end|>\n",
    ]


def test_a_start_token_that_begins_every_turn_is_no_fault(tmp_path):
    """As in SmolLM2, whose first token of all is that of every turn."""
    tokenizer = says(tmp_path, SMOL)
    tokenizer.bos_token = "<|im_start|>"
    rows = [row(said("user", "hi"), said("assistant", "hello"), said("user", "and"), said("assistant", "so"))]
    task = settled(tokenizer, rows)
    assert "proved on 1 row" in prove(task, tokenizer, rows, 1000)
    forged = row(said("user", "hi <|im_start|> there"), said("assistant", "hello"))
    with pytest.raises(ProofError, match="its text holds the start token"):
        prove(task, tokenizer, [forged], 1000)


@pytest.mark.parametrize(
    ("template", "roles"),
    [(GEMMA, "system user user"), (MISTRALS, "system user user"), (MISTRALS, "system assistant user")],
)
def test_turns_that_a_template_refuses_are_one_error_with_the_row(tmp_path, template, roles):
    if template == GEMMA:  # the real one wants turns to alternate
        template += "{% if messages | length > 1 and messages[-1]['role'] == messages[-2]['role'] %}" \
            "{{ raise_exception('Conversation roles must alternate') }}{% endif %}"  # fmt: skip
    tokenizer = says(tmp_path, template)
    messages = [said(role, f"text {n}") for n, role in enumerate(roles.split())]
    example = row(*messages, said("assistant", "b"))
    with pytest.raises(ProofError, match=r"^file.jsonl:7: The chat template refuses") as error:
        settled(tokenizer, [row(said("user", "a"), said("assistant", "b"))]).encode(example, 0, tokenizer, 1000)
    assert "generation.template=plain" in str(error.value)


def test_a_system_text_is_put_into_nobody_elses_mouth(tmp_path):
    tokenizer = says(tmp_path, GEMMA)
    asked = [said("system", "be kind"), said("assistant", "hello"), said("user", "hi")]
    assert _template.render(tokenizer, asked, (), ask=False).endswith(
        "<start_of_turn>user\nbe kind<end_of_turn>\n<start_of_turn>model\nhello<end_of_turn>\n"
        "<start_of_turn>user\nhi<end_of_turn>\n"
    )


def test_a_date_in_a_template_stays_that_of_the_run(tmp_path):
    tokenizer = says(tmp_path, '{% if strftime_now is defined %}{{ strftime_now("%d %b %Y") }}{% endif %}\n' + SMOL)
    note, day = _template.settle(tokenizer, "auto", "2025-02-28")
    assert day == "2025-02-28" and _template.render(tokenizer, [said("user", "a")], (), ask=True).startswith(
        "28 Feb 2025"
    )
    assert "strftime_now(" not in tokenizer.chat_template and _template.settle(tokenizer, "auto") == (note, "")
    assert settled(says(tmp_path, "{{ strftime_now('%Y') }}" + SMOL), []).settings.date != "auto"


def test_a_base_is_sent_nothing_that_would_keep_it_from_calling(tmp_path):
    tokenizer = says(tmp_path, HARMONY)
    calls = row(said("user", "weather?"), said("assistant", "", tool_calls=[call("weather", city="Bern")]))
    talks = row(said("user", "weather?"), said("assistant", "sun"))
    for rows, sent in (([talks], "final:"), ([talks, calls], "")):
        task = settled(tokenizer, rows)
        assert task.learnt.preamble == "final:" and task.for_base().learnt.begun == sent


def test_the_base_to_talk_to_is_the_base_that_was_measured(tmp_path, models):
    folder = shutil.copytree(models("llama", "chatml"), tmp_path / "base")
    (folder / "chat_template.jinja").write_text(HARMONY)
    (tmp_path / "recipe.yaml").write_text(f"data: rows.jsonl\nmodel: {folder}\n")
    calls = row(said("user", "weather?"), said("assistant", "", tool_calls=[call("weather", city="Bern")]))
    tokenizer = says(tmp_path, HARMONY)
    task = settled(tokenizer, [calls, row(said("user", "weather?"), said("assistant", "sun"))])
    finished = task.restore(json.loads(json.dumps(task.state())))
    base = measure.base_of(str(tmp_path), Predictor(finished, None), "cpu")
    assert base.task.prompt(base.loaded.tokenizer, "x") == task.for_base().prompt(tokenizer, "x")
    assert base.loaded.model.generation_config.eos_token_id == list(task.learnt.stop), "the template is settled"


def test_results_stand_in_the_order_of_their_calls(tmp_path):
    calls = [call("weather", "c1", city="Bern"), call("weather", "c2", city="Oslo")]
    asked = [said("user", "?"), said("assistant", "", tool_calls=calls)]
    results = [said("tool", "rain in Oslo", tool_call_id="c2"), said("tool", "sun in Bern", tool_call_id="c1")]
    tokenizer = says(tmp_path, _template.PLAIN.replace("{{ bos }}", ""))
    text = _template.render(tokenizer, [*asked, *results], (), ask=True)
    assert text.index("sun in Bern") < text.index("rain in Oslo")
    nameless = [said("tool", "one"), said("tool", "two")]
    assert _calls.ordered([*asked, *nameless]) == [*asked, *nameless]


def test_ids_of_calls_are_made_where_a_template_asks_for_its_own(tmp_path):
    turns = [said("user", "?"), said("assistant", "", tool_calls=[call("weather", city="Bern")])]
    turns += [said("tool", "sun"), said("assistant", "sunny")]
    assert '"city": "Bern"' in _template.render(says(tmp_path, CALLS), turns, (), ask=False)


def test_no_token_that_ends_a_turn_stands_in_an_answer(tmp_path):
    tokenizer = says(tmp_path, SMOL)
    task = settled(tokenizer, [], ends=[tokenizer.convert_tokens_to_ids("</s>")])
    with pytest.raises(ProofError, match=r"the answer itself contains .*'</s>'"):
        task.encode(row(said("user", "a"), said("assistant", "the token </s> ends")), 0, tokenizer, 1000)


def sentencepiece(legacy):
    from transformers import LlamaTokenizer

    signs = ["<unk>", "<s>", "</s>", "▁", *(f"<0x{byte:02X}>" for byte in range(256))]
    signs += [*"abcdefghijklmnopqrstuvwxyzYESH#:?,.\n", "Ye", "Yes", "▁Yes"]
    merges = [("Y", "e"), ("Ye", "s"), ("▁", "Yes")]
    return LlamaTokenizer(vocab={sign: n for n, sign in enumerate(dict.fromkeys(signs))}, merges=merges, legacy=legacy)


@pytest.mark.parametrize("legacy", [True, False])
def test_an_answer_has_the_tokens_that_follow_its_prompt(legacy):
    """SentencePiece would put a blank before a text by itself: no answer behind a line's end begins with one."""
    tokenizer = sentencepiece(legacy)
    task = settled(tokenizer, [row(said("user", "ok?"), said("assistant", "Yes"))])
    example = row(said("user", "ok?"), said("assistant", "Yes"), said("user", "ok?"), said("assistant", "Yes"))
    (piece,) = task.encode(example, 0, tokenizer, 1000)
    assert tokenizer.convert_ids_to_tokens(piece.tokens[piece.weights > 0]) == ["Yes", "</s>"] * 2
    whole = _template.render(tokenizer, (*example.input.messages, example.target), (), ask=False)
    assert piece.tokens.tolist() == _template.ids(tokenizer, whole)[: len(piece.tokens)]
    assert tokenizer.convert_ids_to_tokens(_template.follows(tokenizer, "ok:", " Yes")) == ["▁Yes"]


@pytest.mark.parametrize("legacy", [True, False])
def test_what_is_sent_before_an_answer_has_the_tokens_that_follow_the_prompt(legacy):
    tokenizer = sentencepiece(legacy)
    tokenizer.chat_template = THINKS.replace("<|im_end|>", "</s>")
    example = row(said("user", "ok?"), said("assistant", "Yes"))
    task = settled(tokenizer, [example])
    assert task.learnt.preamble.startswith("<think>")
    text = _template.render(tokenizer, example.input.messages, (), ask=True) + task.learnt.preamble
    sent = task.for_base().prompt(tokenizer, example.input)
    assert sent == _template.ids(tokenizer, text)
    (piece,) = task.encode(example, 0, tokenizer, 1000, final_only=True)
    assert piece.tokens[piece.weights == 0].tolist() == sent
    assert tokenizer.convert_ids_to_tokens(piece.tokens[piece.weights > 0]) == ["Yes", "</s>"]
    (piece,) = task.encode(example, 0, tokenizer, 1000)
    answer = piece.tokens[piece.weights > 0].tolist()
    written = len(_template.ids(tokenizer, task.learnt.preamble))
    assert _answers.read(task.learnt, tokenizer, answer) == "Yes" and task.learnt.new_tokens == written + 1 * 3 // 2 + 8


def test_the_longest_answer_counts_with_its_thoughts(tmp_path):
    tokenizer = make_tokenizer(tmp_path)
    rows = [row(said("user", "a"), said("assistant", text)) for text in ("short", "rather longer")]
    rows += [row(said("user", "a"), said("assistant", "b", reasoning_content="much longer than all the rest"))]
    longest = _answers.longest(tokenizer, [each.target for each in rows], calls=False)
    assert longest.thoughts.startswith("much longer")
    assert _answers.longest(tokenizer, [longest], calls=True) is None
    assert not learn(rows).thinks and learn(rows[2:]).thinks


def test_the_limit_is_that_of_the_answer_with_most_tokens_not_most_characters(tmp_path):
    tokenizer = make_tokenizer(tmp_path)
    texts = [" ".join(["answer clause"] * 6), "Срок поставки наступил", "короткий", " ".join(["answer clause"] * 3)]
    tokens = [len(_template.ids(tokenizer, text)) for text in texts]
    assert len(texts[0]) > 3 * len(texts[1]) and tokens[1] > 2 * tokens[0], "the longest has fewer tokens"
    rows = [row(said("user", "a"), said("assistant", text)) for text in texts]
    for some in (rows, rows[::-1]):
        assert settled(tokenizer, some).learnt.new_tokens == tokens[1] * 3 // 2 + 8
    calls = row(said("user", "a"), said("assistant", "", tool_calls=[call("weather", city="Санкт-Петербург" * 2)]))
    written = len(_template.ids(tokenizer, calls.target.text))
    assert settled(tokenizer, [*rows, calls]).learnt.new_tokens >= written * 3 // 2 + 8 > tokens[1] * 3 // 2 + 8


def test_a_run_of_an_earlier_version_is_read():
    state = {**Generation(GenerationSettings()).state(), "longest": "", "calling": "", "stop": [2]}
    assert Generation(GenerationSettings()).restore(state).learnt.stop == (2,)


def test_thoughts_are_offered_first_under_both_names():
    """Templates that read `thinking` write the rest without it; not every transformers sets that name by itself."""
    (first, *_) = _calls.forms([said("assistant", "4", reasoning_content="hm").as_dict()])
    assert (first[0]["thinking"], first[0]["reasoning_content"]) == ("hm", "hm")


@pytest.mark.parametrize("answer", ["4", '{"sum": 4}'])
def test_the_kind_of_the_answers_is_that_of_what_stands_behind_their_thoughts(answer):
    apart, inside = (
        learn([row(said("user", "a"), one)])
        for one in (
            said("assistant", answer, reasoning_content=THOUGHT),
            said("assistant", f"<think>{THOUGHT}</think>\n\n{answer}"),
        )
    )
    assert (apart.short, apart.as_json) == (inside.short, inside.as_json) == (True, answer != "4")


@pytest.mark.parametrize("odd", ["tomorrow", "2026-02-31", "20261122", 20261122, "2026-11-22 10:00"])
def test_settings_say_what_a_date_is(odd, tmp_path):
    path = tmp_path / "recipe.yaml"
    path.write_text(f"data: rows.jsonl\ngeneration:\n  date: {odd}\n")
    with pytest.raises(RecipeError, match=r"recipe\.yaml:3: .*'generation\.date' is .* a day of the calendar such as"):
        recipe.load(path)


@pytest.mark.parametrize("quoted", ["2026-11-22", "'2026-11-22'"])
def test_a_date_needs_no_quotes(tmp_path, quoted):
    path = tmp_path / "recipe.yaml"
    path.write_text(f"data: rows.jsonl\ngeneration:\n  date: {quoted}\n")
    said = recipe.parse_assignments(["data=rows.jsonl", f"generation.date={quoted}"])
    for found in (recipe.load(path), recipe.make(said)):
        assert found.section("generation").date == "2026-11-22"
        path.write_text(found.to_yaml())
        assert recipe.load(path) == found


@pytest.mark.parametrize(("template", "choice"), [(SMOL, "auto"), (SMOL, "plain"), (None, "auto")])
def test_a_date_that_nobody_would_write_is_refused(tmp_path, template, choice):
    with pytest.raises(ModelError, match=r"generation\.date is '2026-11-22', but .* never asks for today's date"):
        _template.settle(says(tmp_path, template), choice, "2026-11-22")
