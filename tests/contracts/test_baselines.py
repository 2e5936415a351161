"""What any baseline promises. A new file in `baselines/` is tested here without an edit."""

from collections import Counter

import pytest

from finesmith import registry
from finesmith.baselines.base import as_text
from finesmith.types import Conversation, Example, Message, Origin, Prediction

PROMPTS = [
    "where is my card",
    "the card was stolen",
    "my transfer failed",
    "a transfer to the wrong account",
    "hello there",
]


def conversation(text):
    return Conversation((Message("system", "Be brief."), Message("user", text)))


DATA = {
    "label": ("classification", list(PROMPTS), ["card", "card", "transfer", "transfer", "other"]),
    "labels": (
        "classification",
        list(PROMPTS),
        [("card",), ("card", "urgent"), ("transfer",), ("transfer", "urgent"), ()],
    ),
    "answer": (
        "generation",
        [conversation(text) for text in PROMPTS],
        [Message("assistant", text.upper()) for text in PROMPTS],
    ),
}
CASES = [
    pytest.param(name, shape, id=f"{name}-{shape}")
    for name in registry.available("baselines")
    for shape, (task, _, _) in DATA.items()
    if task in registry.resolve("baselines", name).tasks
]


def examples(shape, times=4):
    _, inputs, targets = DATA[shape]
    return [
        Example(f"{t}-{i}", x, y, Origin("rows.csv", i + 1))
        for t in range(times)
        for i, (x, y) in enumerate(zip(inputs, targets, strict=True))
    ]


def asked(shape):
    return [(f"test-{i}", as_text(value)) for i, value in enumerate(DATA[shape][1])]


@pytest.mark.parametrize("name", registry.available("baselines"))
def test_describes_itself(name):
    plugin = registry.resolve("baselines", name)
    assert plugin.title and set(plugin.tasks) <= set(registry.available("tasks")) and plugin.tasks
    assert registry.summary("baselines", name)


@pytest.mark.parametrize(("name", "shape"), CASES)
def test_answers_every_input_in_order_with_an_output_of_the_targets_type(name, shape):
    answers = registry.resolve("baselines", name)(examples(shape), asked(shape), seed=0)
    assert [answer.id for answer in answers] == [name for name, _ in asked(shape)]
    assert all(isinstance(answer, Prediction) for answer in answers)
    kind = tuple if shape == "labels" else str
    assert all(type(answer.output) is kind for answer in answers)
    assert all(0 <= score <= 1 for answer in answers for score in answer.scores.values())


@pytest.mark.parametrize(("name", "shape"), CASES)
def test_the_same_seed_gives_the_same_answers(name, shape):
    plugin = registry.resolve("baselines", name)
    assert plugin(examples(shape), asked(shape), seed=3) == plugin(examples(shape), asked(shape), seed=3)


@pytest.mark.parametrize(("name", "shape"), CASES)
def test_it_has_learnt_more_than_the_first_row(name, shape):
    """Of rows that it was taught it knows as many at least as the most frequent target holds for, in any order."""
    _, inputs, targets = DATA[shape]
    several = list(zip(inputs, targets, strict=True))
    taught = [
        Example(str(i), x, y, Origin("rows.csv", i + 1)) for i, (x, y) in enumerate(several[:1] + several[1:] * 3)
    ]
    wanted = [row.target.content if shape == "answer" else row.target for row in taught]
    asked = [(row.id, as_text(row.input)) for row in taught]
    plugin = registry.resolve("baselines", name)
    answers = [answer.output for answer in plugin(taught, asked, seed=0)]
    right = sum(answer == target for answer, target in zip(answers, wanted, strict=True))
    assert right >= max(Counter(wanted).values()) > wanted.count(wanted[0])
    assert [answer.output for answer in plugin(taught[::-1], asked, seed=0)] == answers


@pytest.mark.parametrize(("name", "shape"), CASES)
def test_an_answer_depends_on_its_own_input_only(name, shape):
    plugin = registry.resolve("baselines", name)
    together = plugin(examples(shape), asked(shape), seed=0)
    alone = [plugin(examples(shape), [item], seed=0)[0] for item in asked(shape)]
    assert together == alone


@pytest.mark.parametrize(("name", "shape"), CASES)
@pytest.mark.parametrize("text", ["", "   ", "?", "x", "卡", "\n"])
def test_texts_without_words_are_answered(name, shape, text):
    plugin = registry.resolve("baselines", name)
    given = conversation(text) if shape == "answer" else text
    train = [Example(str(i), given, row.target, row.origin) for i, row in enumerate(examples(shape))]
    assert len(plugin(train, [("a", text), ("b", "my card")], seed=0)) == 2
    assert len(plugin(examples(shape), [("a", text)], seed=0)) == 1


@pytest.mark.parametrize(("name", "shape"), CASES)
def test_a_single_training_row_and_no_test_rows_are_enough(name, shape):
    plugin = registry.resolve("baselines", name)
    one = examples(shape)[:1]
    expected = one[0].target.content if shape == "answer" else one[0].target
    assert [answer.output for answer in plugin(one, asked(shape), seed=0)] == [expected] * 5
    assert plugin(one, [], seed=0) == []
