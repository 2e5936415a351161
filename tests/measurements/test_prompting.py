"""Prompting: scores with and without the cache, the choice on validation rows, whole measurements on tiny models."""

import json
import math
import shutil
from types import SimpleNamespace

import numpy as np
import pytest

from finesmith import comparing, recipe, registry, run
from finesmith.measurements import _ladder, _prompted, prompting
from finesmith.models import load as loading
from finesmith.models.settings import ModelSettings
from finesmith.runfolder import RunFolder
from finesmith.tasks import _continuations, _json_only, _prompted_answers, _prompting, _template
from finesmith.types import Conversation, Example, Message, Origin, Prediction
from finesmith.watch import Watcher
from tests.conftest import TEMPLATES, make_tokenizer, ticket_rows, write_csv
from tests.unit.test_templates import sentencepiece


def loaded(folder):
    return loading.load(ModelSettings(name=folder, dtype="float32", device="cpu"), "causal-lm")


def rows(pairs, name="r"):
    return [Example(f"{name}{n}", text, label, Origin("f", n)) for n, (text, label) in enumerate(pairs)]


@pytest.mark.parametrize("family", ["llama", "llama_tied", "gpt2", "qwen3"])
def test_the_cache_of_the_shared_prefix_changes_no_score(models, family, monkeypatch):
    model = loaded(models(family))
    start = "Text: where is my parcel\nCategory: delivery\n\nText: "
    texts = ["refund", "the card was stolen today", "card", "password wrong again"]
    prompts = [_template.ids(model.tokenizer, f"{start}{text}\nCategory:") for text in texts]
    ends = [_template.ids(model.tokenizer, f" {label}") for label in ("card", "money back", "delivery late courier")]
    ends += [_template.ids(model.tokenizer, text) for text in (" card stolen", " card lost", " card stolen today")]
    assert len(_continuations._tree(ends)) < sum(len(end) - 1 for end in ends), "they begin alike"
    assert _continuations.shared(prompts) >= 10 and {len(end) for end in ends} != {1}
    plain = _continuations.log_probabilities(model, prompts, ends, cached=False)
    np.testing.assert_allclose(_continuations.log_probabilities(model, prompts, ends), plain, atol=2e-4)
    monkeypatch.setattr(_continuations, "MOST_ENDS", 2)  # continuations in several passes
    np.testing.assert_allclose(_continuations.log_probabilities(model, prompts[:1], ends), plain[:1], atol=2e-4)


def test_the_cached_way_is_really_taken_and_left_where_it_disagrees(models, monkeypatch):
    model = loaded(models("llama"))
    prompts, ends = [[5, 6, 7, 20], [5, 6, 7, 21]], [[30, 31], [32]]
    seen = []
    real = _continuations._plainly
    monkeypatch.setattr(_continuations, "_plainly", lambda m, p, e, s: seen.append(len(p)) or real(m, p, e, s))
    right = _continuations.log_probabilities(model, prompts, ends)
    assert seen == [1]  # the proof alone
    together = _continuations._together
    monkeypatch.setattr(_continuations, "_together", lambda *given: together(*given) + 9)
    np.testing.assert_allclose(_continuations.log_probabilities(model, prompts, ends), right, atol=2e-4)
    assert seen == [1, 1, 2]


def test_a_shared_prefix_leaves_every_prompt_a_token():
    assert _continuations.shared([[1, 2, 3], [1, 2, 3, 4]]) == 2
    assert _continuations.shared([[1, 2], [3, 4]]) == _continuations.shared([[1, 2]]) == 0


def test_readings_are_what_they_say(models):
    model = loaded(models("llama"))
    prompts = _prompting.LabelPrompts(model, ("card", "money_back"), 128)
    found, tokens = prompts.ask(rows([("my card", None)]), "text-category", [()])
    sums = _continuations.log_probabilities(model, [prompts.prompt("my card", _prompting.FORMS["text-category"], ())],
                                            prompts.ends[False])[0]  # fmt: skip
    share = np.exp(sums - np.logaddexp(*sums))
    np.testing.assert_allclose(list(found["sum"][0].scores.values()), share, rtol=1e-5)
    means = sums / [len(end) for end in prompts.ends[False]]
    np.testing.assert_allclose(list(found["mean"][0].scores.values()), np.exp(means - np.logaddexp(*means)), rtol=1e-5)
    each = sums / [len("card"), len("money back")]  # without the blank before them, as lm-eval counts
    np.testing.assert_allclose(list(found["bytes"][0].scores.values()), np.exp(each - np.logaddexp(*each)), rtol=1e-5)
    assert tokens > 5 and set(found) == set(_prompting.READINGS) and prompts.cut == 0


@pytest.mark.parametrize(
    ("labels", "said"),
    [
        (("card_arrival", "top-up"), [" card arrival", " top up"]),
        (("-1", "0", "1"), [" -1", " 0", " 1"]),
        (("A", "A-", "-", "_"), [" A", " A-", " -", " _"]),
        (("2-3", "2_3", "level_1", "covid-19"), [" 2-3", " 2_3", " level 1", " covid 19"]),
        (("no_card", "no-card", "a_b"), [" no_card", " no-card", " a_b"]),
    ],
)
def test_labels_that_differ_are_said_differently(labels, said):
    assert _prompting.plain_labels(labels) == said


@pytest.mark.parametrize("template", [None, "chatml"])
def test_labels_that_differ_in_a_sign_have_their_own_tokens(models, template):
    prompts = _prompting.LabelPrompts(loaded(models("llama", *([template] if template else []))), ("-1", "1", "-"), 999)
    assert len({tuple(end) for end in prompts.ends[False]}) == 3 and all(prompts.ends[False])
    found, _ = prompts.ask(rows([("cold", None)]), "text-category", [()])
    for answers in found.values():
        assert all(math.isfinite(share) for share in answers[0].scores.values())
    assert "-1, 1, -" in prompts._instruction(_prompting.FORMS["listed"])


def test_calibration_takes_out_what_is_said_of_texts_without_content(models):
    prompts = _prompting.LabelPrompts(loaded(models("llama")), ("a", "b", "c"), 128)
    asked = rows([(text, None) for text in _prompting.CONTENT_FREE])
    found, _ = prompts.ask(asked, "question", [()] * 3)
    for kind in ("sum", "mean", "bytes", "pmi"):
        plain = np.array([list(answer.scores.values()) for answer in found[kind]])
        even = np.array([list(answer.scores.values()) for answer in found[f"{kind} calibrated"]])
        expected = plain / plain.mean(axis=0)
        np.testing.assert_allclose(even, expected / expected.sum(axis=1, keepdims=True), rtol=1e-6)


def test_examples_get_half_of_the_context_and_long_texts_are_cut_at_their_beginning(models):
    prompts = _prompting.LabelPrompts(loaded(models("llama")), ("card", "other"), 128)
    form = _prompting.FORMS["text-category"]
    many = rows([(f"my card {n}", "card") for n in range(30)])
    text = prompts.loaded.tokenizer.decode(prompts.prompt("where", form, many))
    assert "card 29\nCategory: card" in text and "my card 0\n" not in text
    long = prompts.prompt("refund " * 80 + "the end", form, many)
    assert len(long) <= prompts.room and "the end\nCategory:" in prompts.loaded.tokenizer.decode(long)
    assert prompts.cut == 1


@pytest.mark.parametrize("template", ["chatml", "gemma"])
def test_a_chat_model_is_given_examples_as_turns(models, template):
    prompts = _prompting.LabelPrompts(loaded(models("llama", template)), ("card", "other"), 999)
    text = prompts.loaded.tokenizer.decode(
        prompts.prompt("x {y}", _prompting.FORMS["text-category"], rows([("q", "card")]))
    )
    assert text.index("one of: card, other") < text.index("Text: q") < text.index("Text: x {y}")


@pytest.mark.parametrize("kind", ["chatml", "mistral", "thinking", "mistral, SentencePiece", "gemma, SentencePiece"])
def test_a_label_has_the_tokens_that_the_template_would_write(tmp_path, kind):
    template, _, pieces = kind.partition(", ")
    tokenizer = sentencepiece(True) if pieces else make_tokenizer(tmp_path, template)
    tokenizer.chat_template = TEMPLATES[template]
    prompts = _prompting.LabelPrompts(SimpleNamespace(tokenizer=tokenizer), ("Yes", "no"), 999)
    prompt = prompts.prompt("is it?", _prompting.FORMS["input-label"], rows([("q", "Yes")]))
    asked = "Give the label of each input. Answer with one of: Yes, no.\n\nInput: q\nLabel:"
    turns = [Message("user", asked), Message("assistant", "Yes"), Message("user", "Input: is it?\nLabel:")]
    for label, end in zip(prompts.labels, prompts.ends[False], strict=True):
        text = _template.render(tokenizer, [*turns, Message("assistant", label)], (), ask=False)
        assert [*prompt, *end] == _template.ids(tokenizer, text)[: len(prompt) + len(end)]


def test_labels_are_asked_with_the_day_of_the_run(tmp_path, models, monkeypatch):
    """Otherwise two comparisons of one run could differ."""
    folder = shutil.copytree(models("llama", "chatml"), tmp_path / "base")
    template = folder / "chat_template.jinja"
    template.write_text("{{ strftime_now('%d %b %Y') }}\n" + template.read_text())
    (tmp_path / "manifest.json").write_text('{"created": "2025-02-28T10:00:00Z"}')
    (tmp_path / "steps.jsonl").write_text("")
    way = {"template": "question", "reading": "sum", "score": 0.5, "draw": 0}
    splits = SimpleNamespace(train=rows([("q", "a"), ("r", "b")]), validation=(), test=())
    study = SimpleNamespace(
        folder=RunFolder(tmp_path),
        recipe=recipe.make({"data": "x", "model": {"name": str(folder), "device": "cpu"}, "task": "classification"}),
        task=SimpleNamespace(labels=("a", "b")),
        splits=splits,
        primary=registry.resolve("metrics", "accuracy"),
        found={"prompting": {"best": "zero-shot", "ways": {"zero-shot": way}, "shots": 1}},
        predictions={"prompt": []},
        forget=lambda: None,
        budget=math.inf,
    )
    study.task = registry.resolve("tasks", "classification")(study.recipe.section("classification")).fit(splits.train)
    prompts = _prompted.chosen(study).prompts
    text = prompts.loaded.tokenizer.decode(prompts.prompt("x", _prompting.FORMS["question"], ()))
    assert text.startswith("28 Feb 2025")
    asked = []
    monkeypatch.setattr(prompting._ladder, "climb", lambda prompts, *_, **__: asked.append(prompts) or 1 / 0)
    with pytest.raises(ZeroDivisionError):
        prompting.PLUGIN(study, Watcher())
    form = _prompting.FORMS["question"]
    assert asked[0].prompt("x", form, ()) == prompts.prompt("x", form, ())
    today = _prompted.prompts_for(study.recipe, study.task)
    assert "strftime_now" not in today.loaded.tokenizer.chat_template, "midnight changes nothing"


class Fixed:
    """Prompts whose answers are known: each form and reading is right on a known share of the rows."""

    forms, readings, cut = ("bad", "good"), ("first", "second"), 0

    def __init__(self):
        self.asked = []

    def written(self, answers, form):
        return 2.0

    def measure(self, asked, form, examples):
        return [{"nats": 1.0} for _ in asked]

    def ask(self, asked, form, examples, progress, *, reading=""):
        kind = _ladder.ZERO if not examples[0] else _ladder.EXAMPLES
        self.asked.append((form, len(asked), [tuple(row.id for row in shown) for shown in examples]))
        right = {"bad": 0.3, "good": 0.6}[form] + (0.2 if kind == _ladder.EXAMPLES else 0)
        found = {
            reading: [
                Prediction(row.id, row.target if n < (right + more) * len(asked) else "?")
                for n, row in enumerate(asked)
            ]
            for reading, more in (("first", 0.0), ("second", 0.1))
        }
        return found, 10.0 + sum(map(len, examples))


def test_the_best_prompt_is_chosen_on_validation_rows_and_examples_are_training_rows():
    train = rows([(f"text {n % 4} {n}", "abcd"[n % 4]) for n in range(40)], "train")
    held, test = rows([(f"text {n} x", "a") for n in range(10)], "held"), rows([("text", "b")] * 400, "test")
    prompts = Fixed()
    found = _ladder.climb(
        prompts, train, held, test, higher_is_better=True, looks=0, seed=0, watcher=Watcher(),
        score=lambda some, answers: np.mean([a.output == r.target for r, a in zip(some, answers, strict=True)]),
    )  # fmt: skip
    assert (found.ways[found.best].form, found.ways[found.best].reading) == ("good", "second")
    assert found.best == _ladder.EXAMPLES and found.scores[_ladder.ZERO] == {"bad": 0.4, "good": 0.7}
    assert found.looks == 2 + 2 + 2 + 1 and len(found.draws) == 3
    assert {name: len(answers) for name, answers in found.answers.items()} == {
        "zero-shot": 400, "examples": 400, "retrieved": 300
    }  # fmt: skip
    shown = {name for _, _, examples in prompts.asked for each in examples for name in each}
    assert shown <= {row.id for row in train}
    assert all(answer.scores == {"nats": 1.0} for answers in found.answers.values() for answer in answers)
    values = _ladder.summary(found)
    calls = values["calls"]
    assert (
        calls["prompt-examples"].read > calls["prompt-zero-shot"].read == 10 and calls["prompt-examples"].written == 2
    )
    assert (values["worst"], values["best_template"]) == (pytest.approx(0.6), "good")
    said = "2 templates on the validation rows: median 0.750, worst 0.600"
    accuracy = registry.resolve("metrics", "accuracy")
    assert prompting._of_templates(values, accuracy) == f"its {said}"
    found.best = _ladder.RETRIEVED  # asked in one form alone
    assert prompting._of_templates(_ladder.summary(found), accuracy) == f"the examples prompt's {said}"


def test_ways_that_are_not_chosen_can_be_asked_less():
    train = rows([(f"text {n % 4} {n}", "abcd"[n % 4]) for n in range(40)], "train")
    held, test = rows([(f"text {n} x", "a") for n in range(10)], "held"), rows([("text", "b")] * 400, "test")
    found = _ladder.climb(
        Fixed(), train, held, test, higher_is_better=True, looks=0, seed=0, watcher=Watcher(), others=50,
        score=lambda some, answers: np.mean([a.output == r.target for r, a in zip(some, answers, strict=True)]),
    )  # fmt: skip
    assert {name: len(answers) for name, answers in found.answers.items()} == {
        "zero-shot": 50, "examples": 400, "retrieved": 50
    }  # fmt: skip


def test_examples_are_balanced_and_the_nearest_stand_last():
    train = rows([(f"word{n}", "a" if n < 30 else "bcd"[n % 3]) for n in range(40)])
    labels = [row.target for row in _ladder.balanced(train, 8, 1)]
    assert sorted(labels) == list("aabbccdd") and labels != [r.target for r in _ladder.balanced(train, 8, 2)]
    known = _ladder.Neighbours([row.input for row in train])
    assert _ladder.retrieved(known, train, rows([("word7", None)]), 3)[0][-1].id == "r7"
    assert (_ladder.shots_for(train), _ladder.shots_for(rows([("x", str(n)) for n in range(12)]))) == (8, 12)


def tuned(data, model, place, **settings):
    return run.tune(
        recipe.make(
            {"data": str(data), "model": {"name": model, "dtype": "float32", "device": "cpu"}, "out": str(place),
             "train": {"max_steps": 3}, "speed": {"block_attention": 0}, **settings}
        )
    )  # fmt: skip


def test_the_measurement_on_a_classifier(tickets, models, tmp_path, monkeypatch):
    monkeypatch.setattr(prompting, "MOST_VALIDATION", {"classification": 6})
    path = tuned(tickets, models("llama"), tmp_path / "run").path
    study = comparing.open_study(path, effort="quick", options={}, watcher=Watcher())
    assert prompting.PLUGIN.skips(study) == ""
    few = prompting.PLUGIN.cost(study)
    study.answer_seconds *= 2
    assert prompting.PLUGIN.cost(study) == pytest.approx(2 * few) and few > 0
    found = comparing.compare(path, only=["prompting"])
    numbers = found.measured["prompting"]["numbers"]
    assert set(numbers["templates"]) == set(_prompting.FORMS) - {"codes"} and numbers["looks"] == 13
    assert numbers["gain"]["value"] == pytest.approx(found.evidence.gains["prompt"].value)
    assert {"prompt", "prompt-zero-shot", "prompt-examples", "prompt-retrieved"} <= found.evidence.systems.keys()
    assert numbers["prompt_tokens"]["retrieved"] > numbers["prompt_tokens"]["zero-shot"] > 0
    assert numbers["tuned_prompt_tokens"] < numbers["prompt_tokens"]["examples"]
    calls = numbers["calls"]
    assert calls.keys() == {"tuned", "prompt-zero-shot", "prompt-examples", "prompt-retrieved"}
    assert all(call["read"] > 0 and call["milliseconds"] > 0 for call in calls.values())
    assert calls["tuned"]["written"] == 0 < calls["prompt-examples"]["written"]
    best = min(numbers["templates"].values()) <= numbers["median"] <= max(numbers["templates"].values())
    assert best and numbers["worst"] == min(numbers["templates"].values())
    assert f"median {numbers['median']:.3f}, worst {numbers['worst']:.3f}" in found.measured["prompting"]["says"]


def test_the_measurement_on_a_generator(clauses, models, tmp_path, monkeypatch):
    monkeypatch.setattr(prompting, "MOST_VALIDATION", {"generation": 2})
    path = tuned(clauses, models("llama"), tmp_path / "run", generation={"max_new_tokens": 4}).path
    found = comparing.compare(path, only=["prompting"])
    numbers = found.measured["prompting"]["numbers"]
    assert set(numbers["templates"]) == set(_prompted_answers.FORMS) and numbers["reading"] == "greedy"
    calls = numbers["calls"]
    assert {"tuned", "base", "prompt-zero-shot", "prompt-retrieved"} < calls.keys()
    assert calls["tuned"]["read"] == calls["base"]["read"] and calls["tuned"]["written"] >= 1
    for name in ("prompt", "prompt-zero-shot", "prompt-examples", "prompt-retrieved"):
        assert found.evidence.systems[name]["bits_per_byte"].value > 0, "the targets behind the prompt"


def test_written_prompts_are_timed_and_made_smaller_where_the_time_is_short(clauses, models, tmp_path, monkeypatch):
    monkeypatch.setattr(prompting, "MOST_VALIDATION", {"generation": 3})
    path = tuned(clauses, models("llama"), tmp_path / "run", generation={"max_new_tokens": 4}).path
    study = comparing.open_study(path, effort="quick", options={}, watcher=Watcher())
    few, whole = prompting.PLUGIN.cost(study), len(study.splits.test)
    plain, shown = study.timed["prompted"]
    assert plain > 0 and shown > 0
    study.answer_seconds = 0.0
    bare = prompting.PLUGIN.cost(study)
    study.timed["prompted"] = [2 * plain, 2 * shown]
    assert prompting.PLUGIN.cost(study) == pytest.approx(2 * bare) and bare < few, "timed once"
    monkeypatch.setattr(_prompted, "seconds", lambda study: (100.0, 400.0))
    sizes = []
    for budget in (math.inf, 1e6, 20_000.0, 1.0):
        study.budget = budget
        sizes.append(prompting._size(study))
        assert prompting.PLUGIN.cost(study) <= 0.6 * budget or budget == 1.0
    third = prompting.Size(1, -(-whole // 3))
    assert sizes[:2] == [prompting.Size(3, whole)] * 2 and sizes[-1] == third
    monkeypatch.setattr(prompting, "_size", lambda study: third)
    result = prompting.PLUGIN(study, Watcher())
    assert result.numbers["validation_rows"] == 1 and len(result.systems["prompt"]) == whole
    assert sorted(len(result.systems[f"prompt-{name}"]) for name in ("zero-shot", "examples", "retrieved")) == [
        third.others, third.others, whole
    ]  # fmt: skip
    (left,) = result.missing.items()
    assert left[0] == "prompts chosen on 3 validation rows" and "1 of them fit the time" in left[1]
    assert str(path) in left[1]


@pytest.mark.parametrize(("each", "start", "asked"), [(0.1, 0.5, [1, 4, 16]), (0.1, 5.0, [1]), (1.2, 0.5, [1, 4])])
def test_prompts_are_timed_on_more_rows_until_that_takes_too_long(monkeypatch, each, start, asked):
    """Of answers that take `start` seconds and `each` more a row: one row alone says little about many."""
    now, counts = [0.0], []

    def ask(some, form, examples, *, reading):
        counts.append(len(some))
        now[0] += start + each * len(some)

    prompts = SimpleNamespace(forms=("a", "b"), readings=("greedy",), ask=ask)
    splits = SimpleNamespace(validation=rows([("q", "a")] * 24), train=rows([("q", "a"), ("r", "b")]))
    monkeypatch.setattr(_prompted.time, "monotonic", lambda: now[0])
    shown = _ladder.Shown(splits.train, 1, 0)
    took = _prompted._timed(prompts, shown, _ladder.ZERO, SimpleNamespace(splits=splits), lambda done: None)
    assert counts == asked and took == pytest.approx(start / asked[-1] + each)


def test_what_a_target_costs_behind_a_prompt_is_what_the_model_says(models):
    import torch

    task = registry.resolve("tasks", "generation")
    row = Example("1", "late?", Message("assistant", "yes it is"), Origin("f", 2))
    model = loaded(models("llama"))
    task, _ = task(task.Settings(max_new_tokens=8)).fit([row]).prepare(model)
    prompts = _prompted_answers.AnswerPrompts(model, task, 128)
    shown = [Example("2", "early?", Message("assistant", "no"), Origin("f", 3))]
    found = prompts.measure([row], "question-answer", [shown])[0]
    start = task.prompt(model.tokenizer, prompts.prompt(row, _prompted_answers.FORMS["question-answer"], shown))
    answer = [*_template.ids(model.tokenizer, "yes it is"), task.learnt.end]
    with torch.no_grad():
        logs = torch.log_softmax(model.model(input_ids=torch.tensor([[*start, *answer]])).logits[0], 1)
    nats = -sum(float(logs[len(start) - 1 + at, token]) for at, token in enumerate(answer))
    assert found["nats"] == pytest.approx(nats, rel=1e-3)
    assert (found["tokens"], found["bytes"]) == (len(answer), 9)
    long = Example("3", "late?", Message("assistant", "yes it is " * 40), Origin("f", 4))
    assert prompts.measure([long, row], "turns", [(), ()])[0] == {}, "it does not fit into the context"


def test_many_labels_are_tried_as_codes_too(models):
    names = [f"kind of card {n}" for n in range(77)]
    prompts = _prompting.LabelPrompts(loaded(models("llama")), names, 128)
    assert prompts.forms == tuple(_prompting.FORMS)
    assert _prompting.codes(77)[0] == "10" and _prompting.codes(77)[-1] == "86" and len(_prompting.codes(91)[0]) == 3
    shown = rows([("my card", names[3])])
    text = prompts.loaded.tokenizer.decode(prompts.prompt("where", _prompting.FORMS["codes"], shown))
    assert "Text: my card\nCode: 13" in text and text.endswith("Text: where\nCode:") and "The codes are" not in text
    found, _ = prompts.ask(rows([("my card", None)]), "codes", [shown])
    assert set(found["mean calibrated"][0].scores) == set(names)
    assert prompts.written(found["sum"], "codes") < prompts.written(found["sum"], "question")
    roomy = _prompting.LabelPrompts(loaded(models("llama")), names, 100_000)
    text = roomy.loaded.tokenizer.decode(roomy.prompt("where", _prompting.FORMS["codes"], ()))
    assert "10 kind of card 0, 11 kind of card 1," in text
    assert "kind of card 76" in roomy._instruction(_prompting.FORMS["listed"])


def test_only_the_reading_that_is_wanted_is_made(models):
    prompts = _prompting.LabelPrompts(loaded(models("llama")), ("a", "b"), 128)
    every, _ = prompts.ask(rows([("x", None)]), "question", [()])
    for reading in prompts.readings:
        found, _ = prompts.ask(rows([("x", None)]), "question", [()], reading=reading)
        assert found.keys() == {reading} and found[reading][0].scores == pytest.approx(every[reading][0].scores)


def test_an_encoder_is_not_prompted(tickets, models, tmp_path):
    path = tuned(tickets, models("bert"), tmp_path / "run", method="full").path
    found = comparing.compare(path, only=["prompting"])
    assert "encoder" in found.not_measured["prompting"] and "prompt" not in found.evidence.systems


def test_answers_are_asked_with_examples_and_cut_where_another_begins(models, tmp_path):
    task = registry.resolve("tasks", "generation")
    task = task(task.Settings(max_new_tokens=8)).fit(
        [Example("0", "q", Message("assistant", "a" * 40), Origin("f", 1))]
    )
    model = loaded(models("llama"))
    task, _ = task.prepare(model)
    prompts = _prompted_answers.AnswerPrompts(model, task, 128)
    asked = Example("1", Conversation((Message("system", "be kind"), Message("user", "late?"))), None, Origin("f", 2))
    shown = [Example("2", "early?", Message("assistant", "no"), Origin("f", 3))]
    inline = prompts.prompt(asked, _prompted_answers.FORMS["question-answer"], shown)
    assert inline.messages[-1].content == "Q: early?\nA: no\n\nQ: late?\nA:"
    turns = prompts.prompt(asked, _prompted_answers.FORMS["instructed turns"], shown).messages
    assert [turn.content for turn in turns[1:]] == ["early?", "no", "late?"] and turns[0].content.startswith("be kind")
    assert prompts.prompt(asked, _prompted_answers.FORMS["turns"], shown * 90).messages[-1].content == "late?"
    assert _prompted_answers._cut("yes\n\nQ: and?\nA: no", _prompted_answers.FORMS["question-answer"]) == "yes"


@pytest.mark.parametrize(
    "text",
    [
        "{",
        '{"',
        '{"a',
        '{"a"',
        '{"a":',
        '{"a": t',
        '{"a": [1, -',
        '{"a": 1.',
        '{"a": "x\\',
        '{"a": "\\u00',
        "[",
        '[{"b": null}, ',
        ' {"a": fals',
        '{"a": 1,',
        '{"a": 12',
        "[1e",
    ],
)
def test_beginnings_of_json_are_known(text):
    assert _json_only.begun(text) and not _json_only.whole(text)


@pytest.mark.parametrize("text", ["x", '"a"', "{]", '{"a" 1', "{a", "[1 2", '{"a": tru3', "{}}", "[1]x", "12", "{   "])
def test_what_can_become_no_json_is_known(text):
    assert not _json_only.begun(text)


def test_every_beginning_of_a_json_text_is_one():
    text = json.dumps({"a": [1, -2.5e-7, True, None, 'q\u00e9 " \\ x'], "b": {"c": False, "d": []}})
    assert all(_json_only.begun(text[:end]) for end in range(1, len(text) + 1)) and _json_only.whole(text)


def test_answers_of_a_random_model_are_json_where_training_answers_are(models, tmp_path):
    task = registry.resolve("tasks", "generation")
    rows_ = [Example(str(n), "q", Message("assistant", '{"a": [1]}'), Origin("f", n)) for n in range(4)]
    model = loaded(models("llama"))
    task, _ = task(task.Settings(max_new_tokens=24)).fit(rows_).prepare(model)
    prompts = _prompted_answers.AnswerPrompts(model, task, 128)
    found, _ = prompts.ask(rows_, "turns", [()] * 4)
    assert set(found) == {"greedy", "json only"} == set(prompts.readings)
    assert all(_json_only.begun(answer.output) for answer in found["json only"])
    assert not any(_json_only.begun(answer.output) for answer in found["greedy"])


OPENERS = ("### Answer:", "### Request:", "### Result:")


def test_how_a_template_begins_its_turns(tmp_path):
    plain = make_tokenizer(tmp_path, "chatml")
    assert _template.openers(plain) == (), "special tokens and a mere word"
    _template.settle(plain, "plain")
    assert _template.openers(plain) == OPENERS
    plain.chat_template = "{% for m in messages %}{{ m['role'].title() }}: {{ m['content'] }}\n{% endfor %}"
    assert set(_template.openers(plain)) == {"User:", "Tool:", "System:"}


@pytest.mark.parametrize("form", list(_prompted_answers.FORMS))
def test_an_answer_ends_where_the_model_begins_another_turn(form):
    cut = _prompted_answers._cut
    words = _prompted_answers.FORMS[form]
    for opener in OPENERS:
        assert cut(f"Paris\n\n{opener}\nand of Italy?", words, OPENERS) == "Paris"
    assert cut("We call it ### Request: so", words, OPENERS) == "We call it ### Request: so", "in a line it is text"
    if words.asks:
        assert cut(f"Paris\n\n{words.asks}and\n\n### Request:\nmore", words, OPENERS) == "Paris"


def test_a_prompted_model_without_a_template_of_its_own_is_cut_at_the_plain_ones_turns(models, monkeypatch):
    model = loaded(models("llama"))
    model.tokenizer.chat_template = None
    task = registry.resolve("tasks", "generation")
    task = task(task.Settings(max_new_tokens=4))
    said = Message("assistant", "Paris")
    task = task.fit([Example("0", Conversation((Message("user", "capital?"),)), said, Origin("f", 0))])
    task, _ = task.prepare(model)
    prompts = _prompted_answers.AnswerPrompts(model, task, 120)
    ran_on = "Paris\n\n### Request:\nand of Italy?\n\n### Answer:\nRome"
    monkeypatch.setattr(type(task), "answer", lambda self, model, inputs, **_: [Prediction("", ran_on)] * len(inputs))
    asked = [Example("1", Conversation((Message("user", "and of France?"),)), None, Origin("f", 1))]
    for form in prompts.forms:
        assert prompts.ask(asked, form, [()], reading="greedy")[0]["greedy"][0].output == "Paris", form


def test_the_base_is_asked_with_its_whole_context_however_short_the_trained_texts_are(models, tmp_path):
    """The label list alone is longer than what the tuned model needs of a text."""
    data = write_csv(tmp_path / "tickets.csv", ticket_rows(60))
    said = []
    for length in (24, 96):
        asked = {
            "data": {"path": str(data), "over_length": "truncate"},
            "train": {"max_steps": 2, "max_length": length},
        }
        asked |= {"model": {"name": models("llama"), "dtype": "float32", "device": "cpu"}}
        path = run.tune(recipe.make({**asked, "out": str(tmp_path / str(length))})).path
        said.append([row["scores"] for row in RunFolder(path).read_lines("predictions/base.jsonl")])
    assert said[0] == said[1]
