"""What every task promises, over every file in `tasks/`: a new task is tested without an edit here.

A task is tested on the shapes of data that belong to it; a task that no shape belongs to, on all that it can read.
"""

import json
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
import torch

from finesmith import registry
from finesmith import run as runs
from finesmith.data.shapes import SHAPES
from finesmith.models import load as models_
from finesmith.models.load import Loaded
from finesmith.models.settings import ModelSettings
from finesmith.tasks.base import Encoded, Task, collate, predict
from finesmith.train.proof import faults
from finesmith.types import Conversation, Example, Message, Prediction, Splits
from tests import small
from tests.conftest import TEMPLATES, chat_rows, clause_rows, sentence, ticket_rows, write_jsonl

TASKS = registry.available("tasks")
ROWS = {
    "labels": lambda: ticket_rows(24),
    "several labels": lambda: [
        {"text": f"{row['text']} please", "labels": [row["queue"], *(["late"] if n % 2 else [])]}
        for n, row in enumerate(ticket_rows(24))
    ],
    "prompt": lambda: clause_rows(24),
    "messages": lambda: chat_rows(24),
    "text": lambda: [{"text": f"{row['text']} " * 6} for row in ticket_rows(24)],
}
CASES = [(task, rows) for task in TASKS for rows in ROWS if SHAPES[rows if rows in SHAPES else "labels"].task == task]
CASES += [(task, rows) for task in TASKS for rows in ROWS if all(SHAPES[shape].task != task for shape in SHAPES)]
LENGTH = 128


@dataclass
class Case:
    """A task on some rows, fitted and prepared, with a loaded model."""

    unfitted: Task
    task: Task
    loaded: Loaded
    splits: Splits
    pieces: list[Encoded]

    @property
    def rows(self) -> list[Example]:
        return list(self.splits.train)

    def loss(self, items: list[Encoded], task: Task | None = None) -> tuple[float, float]:
        self.loaded.model.eval()
        batch = collate(items, self.loaded.tokenizer.pad_token_id, "cpu")
        with torch.inference_mode():
            total, count = (task or self.task).loss(self.loaded.model, batch)
        assert total.shape == count.shape == () and total.dtype == torch.float32
        return float(total), float(count)


def make(task: str, rows: str, folder: Any, model: str, **settings: Any) -> Case:
    data = write_jsonl(folder / f"{task}-{rows.replace(' ', '-')}.jsonl", ROWS[rows]())
    prepared = runs.prepare(small.make_recipe(data, model))
    plugin = registry.resolve("tasks", task)
    unfitted = plugin(plugin.Settings(**settings))
    fitted = unfitted.fit(prepared.splits.train)
    loaded = models_.load(
        ModelSettings(name=model, dtype="float32", device="cpu"), fitted.kind, **fitted.load_arguments(), seed=0
    )
    ready, notes = fitted.prepare(loaded)
    assert isinstance(notes, tuple) and all(isinstance(note, str) for note in notes)
    pieces = [
        piece
        for place, row in enumerate(prepared.splits.train)
        for piece in ready.encode(row, place, loaded.tokenizer, LENGTH)
    ]
    return Case(unfitted, ready, loaded, prepared.splits, pieces)


@pytest.fixture(scope="module", params=CASES, ids=lambda case: "-".join(case).replace(" ", "-"))
def case(request, models, tmp_path_factory):
    return make(*request.param, tmp_path_factory.mktemp("task"), models("llama"))


def test_each_task_has_data_here():
    assert {task for task, _ in CASES} == set(TASKS)


# --- fit, state, restore


def test_fit_returns_a_new_task_and_leaves_the_old_one_as_it_was(case):
    before = json.dumps(case.unfitted.state())
    fitted = case.unfitted.fit(case.rows)
    assert json.dumps(case.unfitted.state()) == before
    assert type(fitted) is type(case.unfitted) and fitted.settings == case.unfitted.settings
    assert fitted.state() == case.unfitted.fit(case.rows).state()
    assert fitted.state() == case.unfitted.fit(case.rows[::-1]).state()
    learns_nothing = json.dumps(fitted.state()) == before
    assert learns_nothing or fitted is not case.unfitted


def test_the_state_is_plain_and_reads_back(case):
    plugin = type(case.task)
    state = case.task.state()
    assert json.loads(json.dumps(state)) == json.loads(json.dumps(state, allow_nan=False))
    settings = plugin.Settings.model_validate(json.loads(case.task.settings.model_dump_json()))
    again = plugin(settings).restore(json.loads(json.dumps(state)))
    assert again.state() == state and again.settings == case.task.settings
    assert (again.primary, again.metrics, again.kind) == (case.task.primary, case.task.metrics, case.task.kind)
    row = case.rows[0]
    for left, right in zip(
        case.task.encode(row, 0, case.loaded.tokenizer, LENGTH),
        again.encode(row, 0, case.loaded.tokenizer, LENGTH),
        strict=True,
    ):
        assert np.array_equal(left.tokens, right.tokens)
    inputs = [example.input for example in case.rows[:3]]
    assert again.answer(case.loaded, inputs) == case.task.answer(case.loaded, inputs)


def test_metrics_exist_and_the_primary_one_is_first(case):
    assert case.task.metrics[0] == case.task.primary
    assert len(set(case.task.metrics)) == len(case.task.metrics)
    for name in case.task.metrics:
        assert registry.resolve("metrics", name).title
    assert case.task.kind in ("causal-lm", "sequence-classification") and case.task.spare in (0, 1)
    assert case.task.proves


def test_small_sets_get_more_passes(case):
    passes = [case.task.default_epochs(steps) for steps in (1, 10, 100, 10_000)]
    assert passes == sorted(passes, reverse=True) and passes[-1] >= 1


def test_the_head_names_modules_of_the_model(case):
    names = {name for name, _ in case.loaded.model.named_modules()}
    assert set(case.task.head(case.loaded.model)) <= names
    assert bool(case.task.head(case.loaded.model)) == (case.task.kind == "sequence-classification")


# --- encode and loss


def test_encoding_is_deterministic_and_says_what_is_supervised(case):
    for place, row in enumerate(case.rows):
        mine = [piece for piece in case.pieces if piece.row == place]
        again = case.task.encode(row, place, case.loaded.tokenizer, LENGTH)
        assert mine and len(mine) == len(again)
        for left, right in zip(mine, again, strict=True):
            assert np.array_equal(left.tokens, right.tokens)
            assert (left.weights is None) != (left.target is None)
            assert 1 <= len(left.tokens) <= LENGTH and left.supervised > 0
            if left.weights is not None:
                assert len(left.weights) == len(left.tokens) and left.weights[0] == 0
                assert np.array_equal(left.weights, right.weights)
        assert faults(case.task, case.loaded.tokenizer, row, mine) == []


def test_the_count_is_the_sum_of_what_is_supervised(case):
    _, count = case.loss(case.pieces)
    assert count == pytest.approx(sum(piece.supervised for piece in case.pieces))


@pytest.mark.parametrize("parts", [2, 5, 24])
def test_the_loss_of_a_batch_is_the_sum_of_its_parts(case, parts):
    whole = case.loss(case.pieces)
    cuts = np.array_split(np.random.default_rng(parts).permutation(len(case.pieces)), min(parts, len(case.pieces)))
    pieces = [case.loss([case.pieces[place] for place in cut]) for cut in cuts]
    assert sum(total for total, _ in pieces) == pytest.approx(whole[0], rel=1e-5)
    assert sum(count for _, count in pieces) == pytest.approx(whole[1])


def test_padding_changes_nothing(case):
    shortest = min(case.pieces, key=lambda piece: len(piece.tokens))
    longest = max(case.pieces, key=lambda piece: len(piece.tokens))
    assert len(longest.tokens) > len(shortest.tokens)
    alone, other, both = case.loss([shortest]), case.loss([longest]), case.loss([shortest, longest])
    assert both[0] == pytest.approx(alone[0] + other[0], rel=1e-5)
    # the number in the place of padding does not matter
    batch = collate([shortest, longest], 7, "cpu")
    if case.task.kind == "causal-lm":
        with torch.inference_mode():
            total, _ = case.task.loss(case.loaded.model, batch)
        assert float(total) == pytest.approx(both[0], rel=1e-5)


def test_weights_scale_the_loss(case):
    if case.pieces[0].weights is None:
        pytest.skip("rows of this task have no token weights")
    whole = case.loss(case.pieces[:4])
    half = case.loss([replace(piece, weights=piece.weights / 2) for piece in case.pieces[:4]])
    assert half == pytest.approx((whole[0] / 2, whole[1] / 2), rel=1e-5)


# --- answer and measure


def test_answers_take_inputs_and_keep_their_order(case):
    inputs = [example.input for example in case.rows]
    answers = case.task.answer(case.loaded, inputs)
    assert [answer.id for answer in answers] == [str(place) for place in range(len(inputs))]
    assert all(isinstance(answer, Prediction) for answer in answers)
    order = np.random.default_rng(0).permutation(len(inputs))
    moved = case.task.answer(case.loaded, [inputs[place] for place in order])
    for place, answer in zip(order, moved, strict=True):
        assert answer.output == answers[place].output
        assert answer.scores == pytest.approx(answers[place].scores, abs=1e-5)
    for place in (0, 5):
        (alone,) = case.task.answer(case.loaded, [inputs[place]])
        assert alone.output == answers[place].output and alone.id == "0"
    assert case.task.answer(case.loaded, []) == []


def test_progress_is_told_of_every_row(case):
    done: list[int] = []
    predict(case.task, case.loaded, case.rows, progress=done.append)
    assert sum(done) == len(case.rows)
    done.clear()
    answers = case.task.answer(case.loaded, [example.input for example in case.rows], progress=done.append)
    assert sum(done) == sum(answer.output is not None for answer in answers)


def test_measuring_does_not_depend_on_the_order_or_the_company(case):
    together = case.task.measure(case.loaded, case.rows)
    alone = [case.task.measure(case.loaded, [row])[0] for row in case.rows[:5]]
    backwards = case.task.measure(case.loaded, case.rows[::-1])[::-1]
    for left, right in zip(together, backwards, strict=True):
        assert left == pytest.approx(right, rel=1e-5)
    for left, right in zip(together, alone, strict=False):
        assert left == pytest.approx(right, rel=1e-5)
        if left:
            assert left["nats"] > 0 and left["tokens"] >= 1 and left["bytes"] >= 1


def test_predictions_have_the_ids_of_the_examples(case):
    rows = list(case.splits.test)
    found = predict(case.task, case.loaded, rows)
    assert [row.id for row in found] == [row.id for row in rows]
    targets = [row.target for row in rows]
    for name in case.task.metrics:
        metric = registry.resolve("metrics", name)
        if all(metric.measurable(answer) for answer in found):
            assert np.isfinite(metric.value(targets, found))


# --- what only some tasks have


FAMILIES = [(rows, template) for rows in ("prompt", "messages") for template in TEMPLATES]


@pytest.mark.parametrize("rows, template", FAMILIES, ids=lambda value: value)
def test_a_training_sequence_begins_with_the_prompt_of_inference(rows, template, models, tmp_path):
    case = make("generation", rows, tmp_path, models("llama", template))
    for place, row in enumerate(case.rows):
        pieces = [piece for piece in case.pieces if piece.row == place]
        sent = case.task.prompt(case.loaded.tokenizer, row.input)
        assert pieces[-1].tokens[: len(sent)].tolist() == sent
        assert (pieces[-1].weights[len(sent) :] == 1).all()
        first = next(i for i, message in enumerate((*row.input.messages, row.target)) if message.role == "assistant")
        begun = case.task.prompt(case.loaded.tokenizer, Conversation(row.input.messages[:first]))
        assert pieces[0].tokens[: len(begun)].tolist() == begun
        assert not pieces[0].weights[: len(begun)].any()


def test_the_measured_loss_of_an_answer_is_that_of_training_it(models, tmp_path):
    case = make("generation", "prompt", tmp_path, models("llama"))
    for row, found in zip(case.rows[:6], case.task.measure(case.loaded, case.rows[:6]), strict=True):
        total, count = case.loss(case.task.encode(row, 0, case.loaded.tokenizer, LENGTH))
        assert (found["nats"], found["tokens"]) == (pytest.approx(total, rel=1e-5), count)
        assert found["bytes"] == len(row.target.content.encode())


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_an_answer_does_not_depend_on_who_else_is_asked(family, models, tmp_path):
    """Also where one prompt nearly fills the context: it must not shorten the answers of the others."""
    case = make("generation", "prompt", tmp_path, models(family), max_new_tokens=30)
    short = [row.input for row in case.rows[:4]]
    long = "please"
    while len(case.task.prompt(case.loaded.tokenizer, long)) < LENGTH - 10:
        long += " please"
    alone = [case.task.answer(case.loaded, [item])[0].output for item in (*short, long)]
    together = [answer.output for answer in case.task.answer(case.loaded, [*short, long])]
    assert together == alone


def test_an_answer_ends_where_the_turn_ends(models, tmp_path):
    """A model that has learnt one answer by heart writes it, and nothing more."""
    rows = [{"prompt": f"say {n}", "completion": "the card"} for n in range(20)]
    data = write_jsonl(tmp_path / "rows.jsonl", rows)
    train = {"max_steps": 60, "learning_rate": 1e-2}
    ready, splits = small.build(
        small.make_recipe(
            data, models("llama", "chatml"), method="full", train=train, generation={"max_new_tokens": 40}
        )
    )
    for _ in small.fit(ready, splits):
        pass
    answers = ready.task.answer(replace(ready.loaded, model=ready.model), ["say 3", "say 77"])
    assert [answer.output for answer in answers] == ["the card", "the card"]


def test_a_document_is_windowed_and_no_token_is_lost_or_learnt_twice(models, tmp_path):
    case = make("text", "text", tmp_path, models("llama"))
    long = replace(case.rows[0], input=" ".join(sentence(np_random(n), 20) for n in range(30)))
    whole = case.loaded.tokenizer(long.input, add_special_tokens=False)["input_ids"]
    pieces = case.task.encode(long, 0, case.loaded.tokenizer, 50)
    assert len(pieces) > 3 and all(len(piece.tokens) <= 50 for piece in pieces)
    learnt = np.concatenate([piece.tokens[piece.weights > 0] for piece in pieces]).tolist()
    assert learnt == [*whole, case.loaded.tokenizer.eos_token_id]
    (found,) = case.task.restore({"max_length": 50}).measure(case.loaded, [long])
    assert found["tokens"] == len(learnt) and found["bytes"] == len(long.input.encode())
    assert found["nats"] == pytest.approx(case.loss(pieces)[0], rel=1e-5)


def np_random(seed: int) -> Any:
    import random

    return random.Random(seed)


def test_labels_come_from_the_training_rows_alone_and_in_a_fixed_order(models, tmp_path):
    case = make("classification", "labels", tmp_path, models("llama"))
    fitted = case.unfitted.fit([row for row in case.rows if row.target != "login"])
    assert fitted.load_arguments()["labels"] == ("delivery", "refund")
    assert case.task.load_arguments()["labels"] == ("delivery", "login", "refund")
    model = case.loaded.model.config
    assert model.id2label == {0: "delivery", 1: "login", 2: "refund"} and model.label2id["refund"] == 2


def test_a_text_and_the_same_as_a_conversation_are_sent_alike(models, tmp_path):
    case = make("generation", "prompt", tmp_path, models("llama"))
    as_turn = Conversation((Message("user", "where is it", 0.0),))
    assert case.task.prompt(case.loaded.tokenizer, "where is it") == case.task.prompt(case.loaded.tokenizer, as_turn)
