"""The training loop and what holds it: invariances, references by hand, exact resuming, running out of memory."""

import dataclasses
import gc
import json
import math
import time
import weakref
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import transformers
from accelerate.utils.memory import should_reduce_batch_size
from safetensors import safe_open
from safetensors.torch import save_file

from finesmith import recipe as recipes
from finesmith import run
from finesmith.errors import DataError, RunError, TrainingError
from finesmith.models.device import is_out_of_memory
from finesmith.tasks import _evaluation, _head_first
from finesmith.tasks.base import collate
from finesmith.train import fit as fitting
from finesmith.train import loop, optim, state
from finesmith.train.batches import EncodedSet, Plan
from finesmith.train.fit import evaluation_steps, steps_are_left, total_steps
from finesmith.train.schedule import multiplier
from finesmith.train.settings import TrainSettings
from finesmith.watch import Interrupted, Watcher
from tests import small
from tests.conftest import chat_rows, clause_rows, make_tokenizer, ticket_rows, write_csv, write_jsonl


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    folder = tmp_path_factory.mktemp("rows")
    return {
        "tickets": write_csv(folder / "tickets.csv", ticket_rows(60)),
        "clauses": write_jsonl(folder / "clauses.jsonl", clause_rows(40)),
        "chats": write_jsonl(folder / "chats.jsonl", chat_rows(30)),
    }


TRAIN = {"batch_size": 8, "max_steps": 6, "learning_rate": 2e-3}


def build(data, model, **settings):
    train = {**TRAIN, **settings.pop("train", {})}
    return small.build(small.make_recipe(data, model, train=train, **settings))


def same_losses(left, right, tolerance=1e-5):
    assert [step.index for step in left] == [step.index for step in right]
    np.testing.assert_allclose([s.loss for s in left], [s.loss for s in right], rtol=0, atol=tolerance)


# --- how a step is cut into passes does not change it


@pytest.mark.parametrize(
    "data, family, method", [("clauses", "llama", "full"), ("chats", "qwen3", "lora"), ("tickets", "llama", "full")]
)
def test_one_pass_or_many_gives_the_same_losses_and_weights(rows, models, data, family, method):
    runs, passes = [], []
    longest = max(build(rows[data], models(family), method=method)[0].data.lengths)
    for budget in (100_000, 3 * longest, 1):
        ready, _ = build(rows[data], models(family), method=method, train={"micro_batch_tokens": budget})
        plan = Plan(ready.data.lengths, 8, 0)
        batch = max(plan.epoch(0), key=len)
        passes.append(len(plan.micro_batches(batch, budget)))
        runs.append((list(small.loop_steps(ready)), small.weights(ready.model)))
    assert passes[0] == 1 < passes[1] < passes[2] == 8
    for steps, weights in runs[1:]:
        same_losses(runs[0][0], steps)
        for name, tensor in runs[0][1].items():
            torch.testing.assert_close(weights[name], tensor, rtol=0, atol=2e-4)


def test_a_step_reports_what_it_took(rows, models):
    ready, _ = build(rows["clauses"], models("llama"), method="full")
    plan = Plan(ready.data.lengths, 8, 0)
    batches = [*plan.epoch(0), *plan.epoch(1)]
    for step, batch in zip(small.loop_steps(ready, total=6), batches, strict=False):
        assert step.tokens == sum(len(ready.data[place].tokens) for place in batch)
        assert step.supervised == sum(int((ready.data[place].weights > 0).sum()) for place in batch)
        assert step.epoch == pytest.approx(step.index / plan.steps_per_epoch)
        assert step.seconds > 0


def test_every_row_is_taken_once_a_pass_in_an_order_that_the_seed_fixes():
    lengths = list(np.random.default_rng(0).integers(3, 50, 131))
    plan = Plan(lengths, 8, seed=3)
    for number in range(3):
        taken = [place for batch in plan.epoch(number) for place in batch]
        assert sorted(taken) == list(range(131))
        assert len(plan.epoch(number)) == plan.steps_per_epoch == 17
    assert plan.epoch(0) == Plan(lengths, 8, seed=3).epoch(0)
    assert plan.epoch(0) != plan.epoch(1)
    assert plan.epoch(0) != Plan(lengths, 8, seed=4).epoch(0)


def test_passes_hold_the_batch_and_keep_to_the_budget():
    lengths = list(np.random.default_rng(1).integers(3, 50, 64).tolist())
    plan = Plan(lengths, 16, seed=0)
    for batch in plan.epoch(0):
        for budget in (1, 60, 200, 5000):
            passes = plan.micro_batches(batch, budget)
            assert sorted(place for places in passes for place in places) == sorted(batch)
            assert all(len(p) == 1 or len(p) * max(lengths[i] for i in p) <= budget for p in passes)


# --- against computations by hand


def padded(ready, batch):
    items = [ready.data[place] for place in batch]
    return items, collate(items, ready.loaded.tokenizer.pad_token_id, "cpu")


@pytest.mark.parametrize("data, family, template", [("clauses", "llama", "plain"), ("chats", "qwen3", "chatml")])
def test_the_loss_is_that_of_transformers_over_the_supervised_tokens(rows, models, data, family, template):
    ready, _ = build(rows[data], models(family, template), method="full", train={"micro_batch_tokens": 60})
    batch = Plan(ready.data.lengths, 8, 0).epoch(0)[0]
    items, tensors = padded(ready, batch)
    labels = tensors["input_ids"].masked_fill(tensors["weights"] == 0, -100)
    with torch.no_grad():
        wanted = ready.model(
            input_ids=tensors["input_ids"], attention_mask=tensors["attention_mask"], labels=labels
        ).loss.item()
        one_by_one = sum(
            F.cross_entropy(
                ready.model(input_ids=torch.tensor(item.tokens[None].astype(np.int64))).logits[0, :-1],
                torch.tensor(np.where(item.weights > 0, item.tokens, -100)[1:].astype(np.int64)),
                reduction="sum",
            ).item()
            for item in items
        ) / sum(int((item.weights > 0).sum()) for item in items)
    step = next(small.loop_steps(ready))
    assert step.loss == pytest.approx(wanted, abs=1e-5)
    assert step.loss == pytest.approx(one_by_one, abs=1e-5)


@pytest.mark.parametrize("data, clip", [("clauses", 0.05), ("tickets", None)])
def test_the_whole_loop_equals_a_flat_one(rows, models, data, clip):
    """Six steps by hand: AdamW, decay on matrices, clipping, warm-up and decay of the rate."""
    train = {"micro_batch_tokens": 60, "clip": clip, "warmup": 0.3, "weight_decay": 0.1, "schedule": "cosine"}
    ready, _ = build(rows[data], models("llama"), method="full", train=train)
    twin, _ = build(rows[data], models("llama"), method="full", train=train)
    assert small.equal(small.weights(ready.model), small.weights(twin.model))
    steps = list(small.loop_steps(ready, total=6))

    parameters = list(twin.model.parameters())
    groups = [
        {"params": [p for p in parameters if p.ndim >= 2], "weight_decay": 0.1},
        {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=2e-3, betas=(0.9, 0.999), fused=False, foreach=False)
    plan = Plan(twin.data.lengths, 8, 0)
    order = [*plan.epoch(0), *plan.epoch(1)]
    twin.model.train()
    for index, step in enumerate(steps):
        rate = 2e-3 * ((index + 1) / 3 if index < 2 else 0.5 * (1 + math.cos(math.pi * (index - 2) / 4)))
        for group in optimizer.param_groups:
            group["lr"] = rate
        _, tensors = padded(twin, order[index])
        out = twin.model(input_ids=tensors["input_ids"], attention_mask=tensors["attention_mask"]).logits
        if data == "clauses":
            labels = tensors["input_ids"].masked_fill(tensors["weights"] == 0, -100)
            loss = F.cross_entropy(out[:, :-1].flatten(0, 1), labels[:, 1:].flatten())
        else:
            loss = F.cross_entropy(out, tensors["target"])
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(parameters, clip or math.inf)
        assert step.loss == pytest.approx(loss.item(), abs=1e-4)
        assert step.gradient_norm == pytest.approx(norm.item(), rel=1e-3)
        assert step.learning_rate == pytest.approx(rate)
        optimizer.step()
        optimizer.zero_grad()
    for (name, tensor), by_hand in zip(ready.model.named_parameters(), parameters, strict=True):
        torch.testing.assert_close(tensor, by_hand, rtol=0, atol=5e-4, msg=name)


@pytest.mark.parametrize("schedule", ["linear", "cosine"])
def test_the_decay_is_that_of_transformers(schedule):
    maker = {
        "linear": transformers.get_linear_schedule_with_warmup,
        "cosine": transformers.get_cosine_schedule_with_warmup,
    }[schedule]
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.ones(1))], lr=1.0)
    reference = maker(optimizer, num_warmup_steps=5, num_training_steps=40)
    for step in range(40):
        ours = multiplier(step, 40, warmup=0.125, schedule=schedule)
        if step >= 5:
            assert ours == pytest.approx(optimizer.param_groups[0]["lr"])
        assert 0 < ours <= 1
        optimizer.step()
        reference.step()


def test_the_rate_rises_and_no_step_is_lost():
    rising = [multiplier(step, 100, warmup=0.06, schedule="constant") for step in range(10)]
    assert rising[:6] == pytest.approx([1 / 7, 2 / 7, 3 / 7, 4 / 7, 5 / 7, 6 / 7]) and set(rising[6:]) == {1.0}
    for total in range(1, 12):
        for schedule in ("linear", "cosine", "constant"):
            factors = [multiplier(s, total, warmup=0.06, schedule=schedule) for s in range(total)]
            assert all(0 < factor <= 1 for factor in factors)


def test_decay_is_on_open_matrices_only():
    model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.LayerNorm(4), torch.nn.Linear(4, 2))
    model[2].requires_grad_(False)
    matrices, vectors = optim.optimizer(model, learning_rate=1.0, weight_decay=0.5).param_groups
    assert matrices["weight_decay"] == 0.5 and [p.shape for p in matrices["params"]] == [(4, 3)]
    assert vectors["weight_decay"] == 0.0 and [p.shape for p in vectors["params"]] == [(4,), (4,), (4,)]


@pytest.mark.parametrize(
    "settings, sequences, steps, evaluations",
    [
        ({"epochs": 3.0, "batch_size": 16}, 100, 21, {7, 14, 21}),
        ({"epochs": 0.5, "batch_size": 16}, 100, 4, {4}),
        ({"max_steps": 5, "batch_size": 16}, 100, 5, {5}),
        ({"max_steps": 6, "evaluations": 3}, 100, 6, {2, 4, 6}),
        ({"epochs": 50.0, "batch_size": 10}, 100, 500, set(range(50, 501, 50))),
    ],
)
def test_how_many_steps_and_when_they_are_judged(settings, sequences, steps, evaluations):
    asked = TrainSettings(**settings)
    assert total_steps(asked, sequences) == steps
    assert evaluation_steps(asked, sequences) == evaluations


def test_automatic_epochs_count_sequences(rows, models, tmp_path):
    """A long document is many sequences, and a packed row holds several: both count as the steps take them."""
    words = " ".join(f"word{place}" for place in range(3000))
    documents = write_jsonl(tmp_path / "documents.jsonl", [{"text": f"{words} {row}"} for row in range(16)])
    auto = {"max_steps": None, "batch_size": 16}
    for data, family, more in (
        (documents, "llama", {"task": "text", "train": auto}),
        (rows["clauses"], "llama", {"train": {**auto, "batch_size": 1}}),
        (rows["clauses"], "llama", {"train": {**auto, "batch_size": 1, "packing": True}}),
    ):
        ready, _ = build(data, models(family), method="lora", **more)
        steps = -(-len(ready.data) // ready.recipe.train.batch_size)
        assert len(ready.data) != len(ready.splits.train) or not more["train"].get("packing")
        assert ready.recipe.train.epochs == ready.task.default_epochs(steps)


# --- the head that is fitted first


@pytest.mark.parametrize("family", ["bert", "roberta", "distilbert", "gpt2", "llama"])
def test_the_fitted_head_survives_the_dropout_of_training(rows, models, family):
    """Features that hardly vary must not get weights that dropout turns into a loss of hundreds."""
    ready, splits = build(rows["tickets"], models(family), method="full")
    losses = [event.step.loss for event in small.fit(ready, splits)]
    assert losses[0] < 1.2 * math.log(3) and max(losses) < 3 * math.log(3)


def test_the_head_is_fitted_better_than_by_chance_and_the_trunk_is_left_alone(rows, models):
    ready, _ = build(rows["tickets"], models("llama"), method="full")
    plain, _ = build(rows["tickets"], models("llama"), method="full", classification={"head_first": False})
    before, after = small.weights(plain.model), small.weights(ready.model)
    assert [name for name in before if not torch.equal(before[name], after[name])] == ["score.weight"]
    fitted, drawn = (
        float(each.task.loss(each.model.eval(), padded(each, range(len(each.data)))[1])[0]) for each in (ready, plain)
    )
    assert fitted < 0.8 * drawn


def eurobert(folder, pooling):
    from transformers import EuroBertConfig, EuroBertForMaskedLM

    tokenizer = make_tokenizer(folder)
    size = {"vocab_size": len(tokenizer), "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4,
            "num_key_value_heads": 4, "intermediate_size": 64, "max_position_embeddings": 128, "pad_token_id": 0,
            "bos_token_id": 1, "eos_token_id": 2}  # fmt: skip
    torch.manual_seed(0)
    EuroBertForMaskedLM(EuroBertConfig(**size, classifier_pooling=pooling)).save_pretrained(folder)
    return str(folder)


@pytest.mark.parametrize("pooling", ["late", "mean", "bos"])
def test_the_head_is_fitted_on_what_the_model_answers_from(rows, tmp_path, pooling):
    model = eurobert(tmp_path / pooling, pooling)
    ready, _ = build(rows["tickets"], model, method="head", classification={"head_first": True})
    layer, items = _head_first.last_linear(ready.loaded.model, ready.task), ready.data[:9]
    pool = _head_first._pool(ready.loaded, layer, items)
    features = _head_first._features(ready.loaded, layer, pool, items, lambda _: None)
    batch = collate([dataclasses.replace(row, target=None) for row in items], 0, "cpu")
    with torch.no_grad():
        said = ready.loaded.model.eval()(**batch).logits.numpy()
    ours = features @ layer.weight.detach().numpy().T + layer.bias.detach().numpy()
    np.testing.assert_allclose(ours, said, rtol=1e-3, atol=1e-4)
    assert any("classification layer first fitted on frozen features" in note for note in ready.notes)


def test_a_head_whose_answers_are_made_otherwise_begins_at_random_and_that_is_said(rows, models, monkeypatch):
    from transformers import LlamaForSequenceClassification as Kind

    forward = Kind.forward

    def other(self, *args, **more):
        out = forward(self, *args, **more)
        return type(out)(logits=out.logits.roll(1, dims=-1))

    monkeypatch.setattr(Kind, "forward", other)
    ready, _ = build(rows["tickets"], models("llama"), method="head")
    assert any("begins at random: how LlamaForSequenceClassification makes its answer" in note for note in ready.notes)


def test_a_label_whose_rows_were_all_left_out_gets_a_layer_that_does_not_answer_it(models, tmp_path):
    rows = ticket_rows(60)
    for number in range(3):
        rows.append({"text": f"{number} " + "the card is lost and the invoice is late " * 30, "queue": "apart"})
    data = write_csv(tmp_path / "tickets.csv", rows)
    recipe = small.make_recipe(data, models("bert"), method="head", train=TRAIN)
    ready, splits = small.build(recipe.replace(data={"over_length": "drop"}))
    lost = ready.task.labels.index("apart")
    assert lost == 0 and not any(row.target == "apart" for row in ready.splits.train)
    assert any("no training row is left of 'apart'" in note for note in ready.notes)
    scored = ready.task.answer(dataclasses.replace(ready.loaded, model=ready.model), [r.input for r in splits.train])
    assert scored and all(answer.output != "apart" for answer in scored)


@pytest.mark.parametrize("present", [[0, 2, 3], [1, 3], [2]])
def test_labels_without_rows_leave_the_layer_of_the_others_as_it_is(present):
    features = np.random.default_rng(0).normal(size=(60, 5))
    targets = np.random.default_rng(1).integers(0, len(present), 60)
    every, some = (SimpleNamespace(labels=tuple("abcd"[:count]), multi_label=False) for count in (4, len(present)))
    weights, biases = _head_first._regression(every, features, np.array(present)[targets], 1.0, True)
    wanted, wanted_biases = _head_first._regression(some, features, targets, 1.0, True)
    np.testing.assert_allclose(weights[present], wanted)
    np.testing.assert_allclose(biases[present], wanted_biases)
    others = [label for label in range(4) if label not in present]
    assert (weights[others] == 0).all() and (biases[others] == _head_first.UNSEEN).all()
    assert set((features @ weights.T + biases).argmax(1)) <= set(present)


# --- seeds


def numbers(rows, models, seed, method="full"):
    ready, splits = build(rows["tickets"], models("bert"), method=method, seed=seed)
    return [(e.step.loss, e.step.gradient_norm, e.scores) for e in small.fit(ready, splits)], small.weights(ready.model)


def test_the_same_seed_gives_the_same_numbers_and_another_seed_others(rows, models):
    first, again, other = (numbers(rows, models, seed) for seed in (0, 0, 1))
    assert first[0] == again[0] and small.equal(first[1], again[1])
    assert first[0] != other[0] and not small.equal(first[1], other[1])


# --- memory


@dataclasses.dataclass
class Tight:
    """A task whose forward pass runs out of memory above so many tokens, padding included."""

    task: Any
    limit: int
    error: Exception = dataclasses.field(default_factory=lambda: torch.OutOfMemoryError("CUDA out of memory."))
    refused: int = 0
    done: list[int] = dataclasses.field(default_factory=list)

    def __getattr__(self, name):
        return getattr(self.task, name)

    def loss(self, model, batch):
        if batch["input_ids"].numel() > self.limit:
            self.refused += 1
            raise self.error
        self.done.append(batch["input_ids"].numel())
        return self.task.loss(model, batch)


CPU_ERROR = RuntimeError(
    "[enforce fail at alloc_cpu.cpp:121] err == 0. DefaultCPUAllocator: can't allocate memory: you tried to allocate"
)


@pytest.mark.parametrize("error", [torch.OutOfMemoryError("CUDA out of memory."), CPU_ERROR], ids=["cuda", "cpu"])
@pytest.mark.parametrize("data, method", [("clauses", "full"), ("tickets", "lora")])
def test_running_out_of_memory_is_an_event(rows, models, data, method, error):
    plain, _ = build(rows[data], models("llama"), method=method)
    wanted = list(small.loop_steps(plain, total=8))
    ready, _ = build(rows[data], models("llama"), method=method)
    task = Tight(ready.task, 3 * max(ready.data.lengths), error)
    got = list(small.loop_steps(ready, task=task, total=8))
    assert 1 <= task.refused <= 3  # what fitted once is remembered
    same_losses(wanted, got)
    for name, tensor in small.weights(plain.model).items():
        torch.testing.assert_close(ready.model.state_dict()[name], tensor, rtol=0, atol=5e-4)


def test_what_a_failed_pass_has_accumulated_is_thrown_away(rows, models):
    class Late(Tight):
        """Memory runs out once, in the second pass of the first step, when gradients are there already."""

        def loss(self, model, batch):
            if len(self.done) == 1 and not self.refused:
                assert any(p.grad is not None and p.grad.any() for p in model.parameters())
                self.refused += 1
                raise self.error
            return super().loss(model, batch)

    plain, _ = build(rows["clauses"], models("llama"), method="full", train={"micro_batch_tokens": 100})
    wanted = [(s.loss, s.gradient_norm) for s in small.loop_steps(plain)]
    ready, _ = build(rows["clauses"], models("llama"), method="full", train={"micro_batch_tokens": 100})
    task = Late(ready.task, 100_000)
    got = [(s.loss, s.gradient_norm) for s in small.loop_steps(ready, task=task)]
    assert task.refused == 1
    np.testing.assert_allclose(got, wanted, rtol=1e-4)


class _Held(torch.autograd.Function):
    """Stands for a pass's activations: an object that lives as long as its graph. Its backward pass counts them all."""

    @staticmethod
    def forward(ctx, loss, tokens, alive):
        ctx.held = torch.empty(tokens)
        alive.add(ctx.held)
        ctx.alive = alive
        return loss.clone()

    @staticmethod
    def backward(ctx, gradient):
        if sum(len(held) for held in ctx.alive) > 300:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return gradient, None, None


@pytest.mark.parametrize("collected", [True, False])
def test_a_failed_pass_is_gone_when_it_is_tried_again(rows, models, monkeypatch, collected):
    """Else the second, smaller one finds no more memory than the first: all but one row is refused for nothing."""
    alive: weakref.WeakSet = weakref.WeakSet()

    class Counting(Tight):
        def loss(self, model, batch):
            loss, count = self.task.loss(model, batch)
            return _Held.apply(loss, batch["input_ids"].numel(), alive), count

    settings = {"batch_size": 16, "micro_batch_tokens": 512}
    ready, _ = build(rows["clauses"], models("llama"), method="full", train=settings)
    gc.collect()
    gc.disable()
    if not collected:
        monkeypatch.setattr(gc, "collect", lambda: 0)
    try:
        assert len(list(small.loop_steps(ready, task=Counting(ready.task, 0), total=2))) == 2
    finally:
        gc.enable()


def test_moments_that_do_not_fit_are_said(rows, models, monkeypatch):
    ready, splits = build(rows["clauses"], models("llama"), method="full")

    def no_room(*_, **__):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

    monkeypatch.setattr(torch.optim.AdamW, "step", no_room)
    with pytest.raises(TrainingError, match="what the optimizer keeps beside each weight") as caught:
        list(small.fit(ready, splits))
    assert all(way in caught.value.hint for way in ("lora", "adamw_8bit", "smaller model"))


class Drawn(Tight):
    """The same; a pass has drawn from the random numbers before its memory runs out."""

    def loss(self, model, batch):
        if batch["input_ids"].numel() > self.limit:
            torch.rand(5)
        return super().loss(model, batch)


DROPPED = {"method": "lora", "lora": {"dropout": 0.3}, "train": {"evaluations": 2}}


def test_a_pass_that_is_tried_again_draws_the_same_random_numbers(rows, models):
    """The steps are those of a run that began with as many tokens in a pass."""
    ready, _ = build(rows["clauses"], models("llama"), **DROPPED)
    room = loop.room_for(ready.recipe.train)
    found = list(small.loop_steps(ready, task=Drawn(ready.task, 3 * max(ready.data.lengths)), room=room, total=6))
    assert 1 < room.tokens < room.settled
    settings = {**DROPPED, "train": {**DROPPED["train"], "micro_batch_tokens": room.tokens}}
    wanted = list(small.loop_steps(build(rows["clauses"], models("llama"), **settings)[0], total=6))
    assert [step.loss for step in found] == [step.loss for step in wanted]


def test_smaller_passes_are_said_and_stay_in_a_run_that_goes_on(rows, models, tmp_path):
    def steps(folder, *, tight, **more):
        ready, splits = build(rows["clauses"], models("llama"), **DROPPED)
        limit = 3 * max(ready.data.lengths) if tight else 1 << 30
        for event in small.fit(ready, splits, folder, task=Drawn(ready.task, limit), **more):
            seen.append(event.step.loss)

    seen, told = [], []
    room = loop.Room(2048, 2048, tell=told.append)
    steps(tmp_path / "whole", tight=True, room=room)
    assert told and (told[-1],) == room.notes
    assert told[-1] == f"memory ran out in step {room.step}: from there on forward passes are of up to {room.tokens} " \
        "tokens, not 2,048"  # fmt: skip
    wanted, seen = seen, []
    with pytest.raises(Interrupted):
        steps(tmp_path / "part", tight=True, should_stop=lambda: len(seen) == 3)
    again = loop.Room(2048, 2048)
    steps(tmp_path / "part", tight=False, resume=True, room=again)
    assert seen == wanted and again.notes == room.notes


def test_a_row_that_alone_does_not_fit_is_named(rows, models):
    ready, splits = build(rows["clauses"], models("llama"), method="full")
    limit = sorted(set(ready.data.lengths))[-2]
    too_long = {str(splits.train[item.row].origin) for item in ready.data if len(item.tokens) > limit}
    with pytest.raises(TrainingError, match="even for one row at a time") as caught:
        list(small.fit(ready, splits, task=Tight(ready.task, limit)))
    assert len(caught.value.problems) == 1 and set(caught.value.problems) <= too_long
    assert "train.max_length" in caught.value.hint


@pytest.mark.parametrize(
    "text",
    [
        "CUDA out of memory. Tried to allocate 2.00 GiB.",
        "HIP out of memory. Tried to allocate 2.00 GiB.",
        "XPU out of memory. Tried to allocate 2.00 GiB.",
        "MPS backend out of memory (MPS allocated: 18.02 GB, max allowed: 18.13 GB). Tried to allocate 4.50 MB.",
        "[enforce fail at alloc_cpu.cpp:118] err == 0. DefaultCPUAllocator: can't allocate memory: you tried to",
        "FATAL ERROR :: MODULE:PT_DEVMEM Allocation failed for size::268435456 (256)MB",
    ],
)
def test_what_every_device_says_when_memory_runs_out_is_understood(text):
    error = RuntimeError(text)
    assert should_reduce_batch_size(error) and is_out_of_memory(error)


@pytest.mark.parametrize(
    "text",
    [
        "[enforce fail at alloc_cpu.cpp:116] data. DefaultCPUAllocator: not enough memory: you tried to allocate 8 B",
        "unable to mmap 5000 bytes from file <model.safetensors>: Cannot allocate memory (12)",
    ],
)
def test_so_is_what_windows_and_a_file_that_cannot_be_mapped_say(text):
    assert is_out_of_memory(RuntimeError(text))


@pytest.mark.parametrize(
    "text", ["CUDA error: device-side assert triggered", "mat1 and mat2 shapes cannot be multiplied"]
)
def test_other_errors_are_not_taken_for_it(text):
    assert not should_reduce_batch_size(RuntimeError(text)) and not is_out_of_memory(RuntimeError(text))


def test_another_error_of_the_model_is_not_taken_for_memory(rows, models):
    ready, _ = build(rows["clauses"], models("llama"), method="full")
    task = Tight(ready.task, 0, RuntimeError("mat1 and mat2 shapes cannot be multiplied"))
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        list(small.loop_steps(ready, task=task))
    assert task.refused == 1


@dataclasses.dataclass
class Narrow:
    """A machine on which an evaluation of more than so many rows at a time runs out of memory."""

    most: int
    rows: list[int] = dataclasses.field(default_factory=list)

    def __call__(self, module, inputs, given):
        if not module.training:
            places, tokens = given.get("position_ids"), given.get("input_ids", inputs[0] if inputs else None)
            count = len(tokens) if places is None else int((places == 0).sum())
            self.rows.append(count)
            if count > self.most:
                raise CPU_ERROR


@pytest.mark.parametrize("data, family", [("clauses", "llama"), ("tickets", "bert")])
def test_an_evaluation_that_runs_out_of_memory_goes_on_in_smaller_batches(rows, models, data, family):
    scores = []
    for most in (10_000, 1):
        ready, splits = build(rows[data], models(family), method="full")
        narrow = Narrow(most)
        handle = ready.model.base_model.register_forward_pre_hook(narrow, with_kwargs=True)
        scores.append([event.scores for event in small.fit(ready, splits) if event.scores])
        handle.remove()
        assert bool(_evaluation.notes(ready.model)) == (most == 1)
    assert narrow.rows[0] > 1 and narrow.rows.count(1) == len(scores[1]) * len(splits.validation)
    for wanted, found in zip(*scores, strict=True):
        assert found == pytest.approx(wanted, rel=1e-4)


@pytest.mark.parametrize("data, family", [("clauses", "llama"), ("tickets", "bert")])
def test_an_evaluation_that_memory_has_no_room_for_loses_no_step(rows, models, data, family, tmp_path):
    settings = {"method": "full", "train": {"evaluations": 2}}
    ready, splits = build(rows[data], models(family), **settings)
    wanted = list(small.fit(ready, splits))
    ready, _ = build(rows[data], models(family), **settings)
    handle = ready.model.base_model.register_forward_pre_hook(Narrow(0), with_kwargs=True)
    seen = []
    with pytest.raises(TrainingError, match="evaluate even one row"):
        seen += [event.step.index for event in small.fit(ready, splits, tmp_path)]
    handle.remove()
    assert state.saved_step(tmp_path / "state.safetensors") == 2
    again, _ = build(rows[data], models(family), **settings)
    found = list(small.fit(again, splits, tmp_path, resume=True))
    assert [(e.step.index, e.step.loss, e.scores) for e in found] == [
        (e.step.index, e.step.loss, e.scores) for e in wanted[2:]
    ]


# --- numbers that are none


@dataclasses.dataclass
class Broken:
    """A task whose loss (or gradient) is no number from some call on."""

    task: Any
    factor: float
    calls: int = 0

    def __getattr__(self, name):
        return getattr(self.task, name)

    def loss(self, model, batch):
        loss, count = self.task.loss(model, batch)
        self.calls += 1
        if self.calls < 3:
            return loss, count
        if math.isnan(self.factor):
            return loss * self.factor, count
        return (loss - loss.detach()) * self.factor, count  # the loss is finite, its gradient is not


class Unmeasurable:
    """The task, whose validation rows get a probability that is no number from the second evaluation on."""

    def __init__(self, task, value):
        self.task, self.value, self.calls = task, value, 0

    def __getattr__(self, name):
        return getattr(self.task, name)

    def measure(self, *arguments):
        self.calls += 1
        measured = self.task.measure(*arguments)
        return measured if self.calls == 1 else [{**row, "nats": self.value} for row in measured]


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_validation_score_that_is_no_number_is_said_with_its_step(rows, models, value):
    ready, splits = build(rows["clauses"], models("llama"), method="full", train={"evaluations": 3})
    seen = []
    message = r"The validation score log_probability became (nan|-inf) in step 4\."
    with pytest.raises(TrainingError, match=message) as caught:
        seen.extend(small.fit(ready, splits, task=Unmeasurable(ready.task, value)))
    assert [event.step.index for event in seen] == [1, 2, 3] and seen[1].best
    assert "lower train.learning_rate" in caught.value.hint


@pytest.mark.parametrize("factor, message", [(math.nan, "The loss became nan"), (math.inf, "nan")])
def test_a_loss_that_is_no_number_stops_the_run_and_names_the_rows(rows, models, factor, message):
    ready, splits = build(rows["clauses"], models("llama"), method="full")
    seen = []
    with pytest.raises(TrainingError, match=message) as caught:
        for event in small.fit(ready, splits, task=Broken(ready.task, factor)):
            seen.append(event.step.index)
    assert seen == [1, 2]
    plan = Plan(ready.data.lengths, 8, 0)
    third = [str(splits.train[ready.data.rows[place]].origin) for place in plan.epoch(0)[2]]
    assert sorted(caught.value.problems) == sorted(third)
    assert "learning_rate" in caught.value.hint
    assert all(torch.isfinite(tensor).all() for tensor in small.weights(ready.model).values())


def test_a_loss_that_is_no_number_names_all_examples_of_a_packed_row(rows, models):
    ready, splits = build(rows["clauses"], models("llama"), method="full", train={"packing": True, "batch_size": 2})
    with pytest.raises(TrainingError, match="The loss became nan") as caught:
        list(small.fit(ready, splits, task=Broken(ready.task, math.nan, calls=2)))
    step = Plan(ready.data.lengths, 2, 0).epoch(0)[0]
    shared = [row for place in step for row in ready.data.origins(place)]
    segments = sum(len(ready.data[place].segments) for place in step)
    assert len(set(shared)) == len(shared) == segments > len(step)
    assert set(caught.value.problems) == {str(splits.train[row].origin) for row in shared}


def test_a_gradient_that_is_no_number_stops_before_the_weights_are_spoilt(rows, models):
    class Steep(Broken):
        def loss(self, model, batch):
            loss, count = self.task.loss(model, batch)
            self.calls += 1
            return loss if self.calls < 3 else _Steep.apply(loss), count

    class _Steep(torch.autograd.Function):
        @staticmethod
        def forward(_, value):
            return value.clone()

        @staticmethod
        def backward(_, gradient):
            return gradient * math.inf

    ready, splits = build(rows["clauses"], models("llama"), method="full")
    with pytest.raises(TrainingError, match=r"The gradient became (nan|inf) in step 3") as caught:
        list(small.fit(ready, splits, task=Steep(ready.task, 1.0)))
    assert len(caught.value.problems) == 8
    assert all(torch.isfinite(tensor).all() for tensor in small.weights(ready.model).values())


# --- the best step


@dataclasses.dataclass
class Scripted:
    """A task whose validation scores are written down beforehand; it keeps the weights that it was asked about."""

    task: Any
    scores: list[float]
    seen: list[dict] = dataclasses.field(default_factory=list)

    def __getattr__(self, name):
        return getattr(self.task, name)

    def measure(self, loaded, examples, **_):
        self.seen.append(small.weights(loaded.model))
        return [{"nats": -self.scores[len(self.seen) - 1], "tokens": 1.0, "bytes": 1.0}]


SCORES = [-5.0, -3.0, -4.0, -3.0, -3.5, -1.0]


@pytest.mark.parametrize(
    "patience, keep, steps, kept", [(3, "best", 10, 2), (None, "best", 12, 6), (3, "last", 10, 5), (1, "best", 6, 2)]
)
@pytest.mark.parametrize("method", ["full", "lora"])
def test_early_stopping_keeps_the_best_step(rows, models, patience, keep, steps, kept, method):
    train = {"max_steps": 12, "evaluations": 6, "patience": patience, "keep": keep}
    ready, splits = build(rows["clauses"], models("llama"), method=method, train=train)
    task = Scripted(ready.task, SCORES)
    events = list(small.fit(ready, splits, task=task))
    assert [event.step.index for event in events if event.scores] == list(range(2, steps + 1, 2))
    assert len(events) == steps
    bests = [event.step.index for event in events if event.best]
    assert bests == [index for index in (2, 4, 12) if index <= steps]
    assert small.equal(small.weights(ready.model), task.seen[kept - 1])
    assert not small.equal(task.seen[0], task.seen[1])


def test_the_state_of_a_stopped_training_goes_on_to_nothing(rows, models, tmp_path):
    train = {"max_steps": 12, "evaluations": 6, "patience": 1}
    ready, splits = build(rows["clauses"], models("llama"), method="lora", train=train)
    list(small.fit(ready, splits, tmp_path, task=Scripted(ready.task, SCORES)))
    facts = state.saved_facts(tmp_path / "state.safetensors")
    assert not steps_are_left(facts, ready.recipe.train, 12) and steps_are_left({}, ready.recipe.train, 12)
    facts["step"] = facts["scores"][-1][0]  # saved after the last score, killed before the end
    assert not steps_are_left(facts, ready.recipe.train, 12)
    assert steps_are_left(facts, ready.recipe.train.model_copy(update={"patience": 4}), 12)
    kept = small.weights(ready.model)
    again, _ = build(rows["clauses"], models("llama"), method="lora", train=train)
    assert list(small.fit(again, splits, tmp_path, task=Scripted(again.task, SCORES), resume=True)) == []
    assert small.equal(small.weights(again.model), kept)


# --- stopped, killed, resumed: bit for bit


def test_the_state_is_saved_every_so_many_minutes(rows, models, tmp_path, monkeypatch):
    """On a clock that goes on by four minutes a step, and ten minutes between two saved states."""
    now = [1000.0]
    monkeypatch.setattr(fitting, "monotonic", lambda: now[0])
    train = {"max_steps": 8, "evaluations": 1, "save_minutes": 10.0}
    ready, splits = build(rows["clauses"], models("llama"), method="lora", train=train)
    saved = []
    for _ in small.fit(ready, splits, tmp_path):
        saved.append(state.saved_step(tmp_path / "state.safetensors"))
        now[0] += 4 * 60
    assert saved == [0, 0, 0, 3, 3, 3, 6, 6]


class Died(BaseException):
    """Stands for `kill -9`: nothing in the library catches it."""


class Kill(small.Stop):
    """The process dies in a step: nothing more is saved than is on the disk."""

    def step(self, step, total, scores, best):
        if step.index == self.at:
            raise Died


class KillInStage(Watcher):
    """The process dies at the beginning of a stage."""

    def __init__(self, title):
        self.title = title

    def progress(self, title, total):
        if title.startswith(self.title):
            raise Died
        return super().progress(title, total)


RUNS = {
    "generation-lora": {
        "data": "clauses",
        "model": "llama",
        "method": "lora",
        "lora": {"dropout": 0.1, "rank": 4},
        "generation": {"max_new_tokens": 4},
    },
    "classification-full": {"data": "tickets", "model": "bert", "method": "full"},  # dropout 0.1 in the model
    "generation-muon": {
        "data": "clauses",
        "model": "llama",
        "method": "full",
        "train": {"optimizer": "muon"},
        "generation": {"max_new_tokens": 4},
    },
}
if find_spec("bitsandbytes"):
    RUNS["classification-8-bit"] = {
        "data": "tickets",
        "model": "bert",
        "method": "full",
        "train": {"optimizer": "adamw_8bit"},
    }
RESUME_TRAIN = {"batch_size": 8, "max_steps": 9, "evaluations": 3, "learning_rate": 2e-3, "save_minutes": 1e-6}


def whole_recipe(name, rows, models, out):
    settings = dict(RUNS[name])
    data, family = settings.pop("data"), settings.pop("model")
    train = RESUME_TRAIN | settings.pop("train", {})
    return small.make_recipe(rows[data], models(family), train=train, **settings).replace(out=str(out))


@pytest.fixture(scope="module")
def uninterrupted(rows, models, tmp_path_factory):
    done: dict[str, run.Run] = {}

    def get(name):
        if name not in done:
            began = time.monotonic()
            done[name] = run.tune(whole_recipe(name, rows, models, tmp_path_factory.mktemp("whole") / "run"))
            assert_costs(done[name].path, time.monotonic() - began)
        return done[name]

    return get


def what_came_of(path: Path):
    """Everything in a run that must not depend on time or memory (for these: `assert_costs`)."""
    steps = [json.loads(line) for line in (path / "steps.jsonl").read_text().splitlines()]
    evidence = json.loads((path / "evidence.json").read_text())
    for cost in ("seconds", "peak_memory_bytes"):
        evidence["costs"].pop(cost)
    recipe = recipes.load(path / "recipe.yaml").replace(out="-")
    files = {
        file.relative_to(path): file.read_bytes()
        for part in ("model", "predictions")
        for file in sorted((path / part).iterdir())
    }
    return {
        "steps": [{key: value for key, value in step.items() if key != "seconds"} for step in steps],
        "evidence": evidence,
        "recipe": recipe,
        "files": files,
        "splits": (path / "splits.json").read_bytes(),
        "names": sorted(str(file.relative_to(path)) for file in path.rglob("*")),
    }


def assert_costs(path: Path, most: float):
    """The seconds of a training are those of all its steps at least, and no more than have passed."""
    steps = [json.loads(line) for line in (path / "steps.jsonl").read_text().splitlines()]
    costs = json.loads((path / "evidence.json").read_text())["costs"]
    seconds = json.loads((path / "manifest.json").read_text())["seconds"]
    assert sum(step["seconds"] for step in steps) <= costs["seconds"] == seconds["training"] <= seconds["all"] <= most
    assert costs["peak_memory_bytes"] > 10_000_000


BEGAN = time.monotonic()


@pytest.fixture(autouse=True)
def clock():
    """Each test's wall time bounds what a run in it may say that it took."""
    global BEGAN
    BEGAN = time.monotonic()


def assert_same(left: Path, right: Path):
    assert_costs(right, time.monotonic() - BEGAN)
    first, second = what_came_of(left), what_came_of(right)
    for key, value in first.items():
        assert value == second[key], key


@pytest.mark.parametrize("name", sorted(RUNS))
@pytest.mark.parametrize(
    "watcher",
    [small.Stop(1), small.Stop(6), small.Stop(9), Kill(2), Kill(6)],
    ids=lambda w: f"{type(w).__name__}{w.at}",
)
def test_a_run_that_was_stopped_goes_on_bit_for_bit(name, watcher, rows, models, uninterrupted, tmp_path):
    out = tmp_path / "run"
    with pytest.raises((Interrupted, Died)):
        run.tune(whole_recipe(name, rows, models, out), watcher=watcher)
    assert not (out / "evidence.json").exists() and not (out / "lock").exists()
    torch.rand(7)  # the random numbers of another process
    run.resume(out)
    assert_same(uninterrupted(name).path, out)


@pytest.mark.parametrize("stage", ["testing the tuned", "testing the base", "testing the baseline"])
def test_a_run_that_was_killed_while_it_was_judged_goes_on(stage, rows, models, uninterrupted, tmp_path):
    out = tmp_path / "run"
    with pytest.raises(Died):
        run.tune(whole_recipe("generation-lora", rows, models, out), watcher=KillInStage(stage))
    run.resume(out)
    assert_same(uninterrupted("generation-lora").path, out)


def change_facts(path: Path, change):
    """Writes other facts into a saved state."""
    with safe_open(path, framework="pt") as file:
        tensors, facts = {name: file.get_tensor(name) for name in file.keys()}, file.metadata()  # noqa: SIM118
    facts["facts"] = json.dumps(change(json.loads(facts["facts"])))
    save_file(tensors, path, metadata=facts)


@pytest.mark.parametrize("kill", [Kill(6), KillInStage("testing the tuned")], ids=["training", "testing"])
def test_what_a_run_cost_before_it_was_killed_counts(kill, rows, models, tmp_path):
    """The part before is given two hours and a terabyte: no later part can have taken them."""
    out, saved = tmp_path / "run", {}
    with pytest.raises(Died):
        run.tune(whole_recipe("generation-lora", rows, models, out), watcher=kill)

    def dearer(facts):
        saved.update(facts["costs"])
        return {**facts, "costs": {"seconds": facts["costs"]["seconds"] + 7200, "memory": 1 << 40}}

    change_facts(out / "checkpoint/state.safetensors", dearer)
    run.resume(out)
    costs = json.loads((out / "evidence.json").read_text())["costs"]
    assert costs["peak_memory_bytes"] == 1 << 40 > saved["memory"] > 10_000_000
    assert 7200 + saved["seconds"] < costs["seconds"] < 7200 + time.monotonic() - BEGAN
    assert json.loads((out / "manifest.json").read_text())["seconds"]["all"] > costs["seconds"]


def test_a_state_that_says_nothing_of_costs_goes_on(rows, models, uninterrupted, tmp_path):
    """As versions before this one saved them."""
    out = tmp_path / "run"
    wanted = uninterrupted("generation-lora").path
    with pytest.raises(Died):
        run.tune(whole_recipe("generation-lora", rows, models, out), watcher=Kill(6))
    change_facts(out / "checkpoint/state.safetensors", lambda facts: {name: facts[name] for name in ("step", "scores")})
    run.resume(out)
    assert_same(wanted, out)


def test_a_run_that_was_killed_twice_goes_on(rows, models, uninterrupted, tmp_path):
    out = tmp_path / "run"
    with pytest.raises(Died):
        run.tune(whole_recipe("generation-lora", rows, models, out), watcher=Kill(3))
    with pytest.raises(Interrupted):
        run.resume(out, watcher=small.Stop(5))
    run.resume(out)
    assert_same(uninterrupted("generation-lora").path, out)


def test_a_killed_run_whose_lock_is_left_goes_on(rows, models, tmp_path, uninterrupted):
    out = tmp_path / "run"
    with pytest.raises(Interrupted):
        run.tune(whole_recipe("generation-lora", rows, models, out), watcher=small.Stop(4))
    (out / "lock").write_text("999999999")  # kill -9 leaves it; no such process exists
    run.resume(out)
    assert_same(uninterrupted("generation-lora").path, out)


def test_a_log_whose_last_line_is_torn_goes_on(rows, models, uninterrupted, tmp_path):
    out = tmp_path / "run"
    with pytest.raises(Died):
        run.tune(whole_recipe("generation-lora", rows, models, out), watcher=Kill(5))
    with (out / "steps.jsonl").open("a") as file:
        file.write('{"step": 6, "epo')
    run.resume(out)
    assert_same(uninterrupted("generation-lora").path, out)


def test_a_changed_file_is_not_gone_on_with(rows, models, tmp_path):
    data = tmp_path / "clauses.jsonl"
    data.write_bytes(rows["clauses"].read_bytes())
    out = tmp_path / "run"
    recipe = whole_recipe("generation-lora", rows, models, out).replace(data={"path": str(data)})
    with pytest.raises(Interrupted):
        run.tune(recipe, watcher=small.Stop(2))
    with data.open("a") as file:
        file.write(json.dumps({"prompt": "a new one", "completion": "the new one"}) + "\n")
    with pytest.raises(DataError, match="has changed since the run began"):
        run.resume(out)
    assert not (out / "lock").exists()


def test_a_file_whose_answers_were_edited_is_not_gone_on_with(rows, models, tmp_path):
    data = tmp_path / "clauses.jsonl"
    data.write_bytes(rows["clauses"].read_bytes())
    out = tmp_path / "run"
    recipe = whole_recipe("generation-lora", rows, models, out).replace(data={"path": str(data)})
    with pytest.raises(Interrupted):
        run.tune(recipe, watcher=small.Stop(2))
    data.write_text(data.read_text().replace("is late", "is lost"))  # the same rows by number, other words
    with pytest.raises(DataError, match="has changed since the run began"):
        run.resume(out)


def test_a_finished_run_is_not_gone_on_with(uninterrupted):
    with pytest.raises(RunError, match="is finished"):
        run.resume(uninterrupted("generation-lora").path)


def test_a_state_reads_back_bit_for_bit(rows, models, tmp_path):
    ready, splits = build(rows["clauses"], models("llama"), method="lora")
    list(small.fit(ready, splits, tmp_path))
    assert state.saved_step(tmp_path / "state.safetensors") == 6
    assert state.saved_step(tmp_path / "none") == 0
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"state.safetensors", "best.safetensors"}


def _state_file(place, names):
    """The tensors of a state file, and the file again with only the random numbers called `names`."""
    with safe_open(place, framework="pt") as file:
        tensors, facts = {name: file.get_tensor(name) for name in file.keys()}, file.metadata()  # noqa: SIM118
    kept = {name: tensor for name, tensor in tensors.items() if not name.startswith("random.") or name in names}
    save_file(kept, place, metadata=facts)
    return tensors


@pytest.mark.parametrize("device", ["cuda:1", "mps"])
def test_the_random_numbers_of_the_models_own_device_are_saved(rows, models, tmp_path, monkeypatch, device):
    """The machine has no such device: its generator is played, the weights stay on the CPU."""
    ready, _ = build(rows["clauses"], models("llama"), method="lora")
    optimizer, kind = optim.optimizer(ready.model, learning_rate=1e-3, weight_decay=0.0), torch.device(device).type
    states = {"cuda": torch.tensor([7, 8], dtype=torch.uint8), "cuda:1": torch.tensor([1, 2], dtype=torch.uint8)}
    states["mps"] = torch.tensor([3, 4], dtype=torch.uint8)
    monkeypatch.setattr(state, "device_of", lambda model: torch.device(device))
    monkeypatch.setattr(torch.cuda, "get_rng_state", lambda place="cuda": states[str(place)])
    monkeypatch.setattr(torch.cuda, "set_rng_state", lambda new, place="cuda": states.update({str(place): new}))
    monkeypatch.setattr(torch.mps, "get_rng_state", lambda: states["mps"])
    monkeypatch.setattr(torch.mps, "set_rng_state", lambda new: states.update(mps=new))
    before = {name: value.clone() for name, value in states.items()}
    place = tmp_path / "state"
    state.save_state(place, ready.model, optimizer, {"step": 1})
    states[device] = torch.tensor([9, 9], dtype=torch.uint8)
    state.load_state(place, ready.model, optimizer)
    assert small.equal(states, before)
    assert torch.equal(_state_file(place, {"random.cpu"})[f"random.{kind}"], before[device])
    state.load_state(place, ready.model, optimizer)  # one that was saved on the CPU
    assert small.equal(states, before)


def test_on_the_cpu_only_its_random_numbers_are_saved_and_those_of_a_gpu_are_passed_over(rows, models, tmp_path):
    ready, _ = build(rows["clauses"], models("llama"), method="lora")
    optimizer, place = optim.optimizer(ready.model, learning_rate=1e-3, weight_decay=0.0), tmp_path / "state"
    state.save_state(place, ready.model, optimizer, {"step": 1})
    tensors = _state_file(place, {"random.cpu"})
    assert [name for name in tensors if name.startswith("random.")] == ["random.cpu"]
    with safe_open(place, framework="pt") as file:
        facts = file.metadata()
    save_file({**tensors, "random.cuda": torch.zeros(16, dtype=torch.uint8)}, place, metadata=facts)
    torch.rand(3)
    assert state.load_state(place, ready.model, optimizer) == {"step": 1}
    assert torch.equal(torch.get_rng_state(), tensors["random.cpu"])


def test_a_memory_mapped_set_gives_what_one_in_memory_gives(rows, models):
    ready, _ = build(rows["chats"], models("qwen3", "chatml"), method="full")
    mapped = EncodedSet(list(ready.data), in_memory_tokens=0)
    assert len(mapped) == len(ready.data) and mapped.supervised == ready.data.supervised
    for left, right in zip(mapped, ready.data, strict=True):
        assert left.row == right.row
        assert np.array_equal(left.tokens, right.tokens) and np.array_equal(left.weights, right.weights)
