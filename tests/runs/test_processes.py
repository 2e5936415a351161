"""Processes side by side: the gradients of one process, whatever happens to one of the others."""

import dataclasses
import os
import signal
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from finesmith import recipe as recipes
from finesmith import run
from finesmith.errors import RecipeError, TrainingError
from finesmith.train import divide, parallel, state
from finesmith.train.parallel import Processes
from finesmith.watch import Interrupted
from tests import small
from tests.conftest import clause_rows, ticket_rows, write_csv, write_jsonl

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="processes are forks, on Linux only")


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    folder = tmp_path_factory.mktemp("rows")
    return {
        "tickets": write_csv(folder / "tickets.csv", ticket_rows(60)),
        "clauses": write_jsonl(folder / "clauses.jsonl", clause_rows(40)),
    }


TRAIN = {"batch_size": 8, "max_steps": 6, "learning_rate": 2e-3}


def build(data, model, /, **settings):
    train = {**TRAIN, **settings.pop("train", {})}
    return small.build(small.make_recipe(data, model, train=train, **settings))[0]


def steps(ready, count, **more):
    processes = Processes(count)
    try:
        return list(small.loop_steps(ready, processes=processes, total=6, **more)), processes
    finally:
        processes.close()


def same(left, right, rtol=1e-5):
    for name in ("loss", "gradient_norm"):
        np.testing.assert_allclose([getattr(s, name) for s in left], [getattr(s, name) for s in right], rtol=rtol)


@pytest.mark.parametrize(
    "data, family, method",
    [
        ("clauses", "llama", "full"),
        ("clauses", "qwen3", "lora"),
        ("tickets", "qwen3", "full"),
        ("tickets", "llama", "lora"),
    ],
)
@pytest.mark.parametrize("count", [2, 3])
def test_processes_compute_what_one_does(rows, models, data, family, method, count):
    runs = []
    for number in (1, count):
        ready = build(rows[data], models(family), method=method, train={"micro_batch_tokens": 200})
        runs.append((steps(ready, number)[0], small.weights(ready.model)))
    same(runs[0][0], runs[1][0])
    for name, tensor in runs[0][1].items():
        torch.testing.assert_close(runs[1][1][name], tensor, rtol=0, atol=5e-4)


@pytest.mark.parametrize("data, family, method", [("clauses", "llama", "lora"), ("tickets", "qwen3", "full")])
def test_in_bfloat16_processes_are_within_the_noise_of_two_orders(rows, models, data, family, method):
    """Beside float32, two processes are at most 1.5 times as far as one in the same arithmetic."""
    found = []
    for dtype, count in (("float32", 1), ("bfloat16", 1), ("bfloat16", 2)):
        ready = build(rows[data], models(family), method=method, model={"dtype": dtype})
        found.append(np.array([(step.loss, step.gradient_norm) for step in steps(ready, count)[0]]))
    plain, two = (np.abs(each / found[0] - 1).mean(axis=0) for each in found[1:])
    assert (two > 0).all() and (two <= np.maximum(1.5 * plain, 0.01)).all()


def test_a_step_with_fewer_rows_than_processes_goes_on(rows, models):
    settings = {"method": "full", "train": {"batch_size": 9}}
    data = build(rows["clauses"], models("llama"), **settings).data
    assert len(data) % 9 == 1, "one step of every epoch has one row, and three of four processes none"
    wanted, _ = steps(build(rows["clauses"], models("llama"), **settings), 1)
    found, _ = steps(build(rows["clauses"], models("llama"), **settings), 4)
    same(wanted, found)


def test_shares_are_of_like_size():
    lengths = [100, 7, 90, 12, 40, 41, 3, 88]
    found = divide.shares(range(8), lengths, 3)
    assert sorted(place for share in found for place in share) == list(range(8))
    loads = [sum(lengths[place] for place in share) for share in found]
    assert max(loads) - min(loads) <= 12
    assert divide.shares([4, 0], lengths, 1) == [[0, 4]]


@dataclasses.dataclass
class Odd:
    """A task that does something in the other processes, or in this one, in the first pass there."""

    task: Any
    act: Any
    here: bool
    first: int = dataclasses.field(default_factory=os.getpid)
    done: int = 0

    def __getattr__(self, name):
        return getattr(self.task, name)

    def loss(self, model, batch):
        loss, count = self.task.loss(model, batch)
        self.done += 1
        return (self.act(loss) if (os.getpid() == self.first) == self.here and self.done == 1 else loss), count


def no_memory(loss):
    raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 1 TB")


def killed(loss):
    os.kill(os.getpid(), signal.SIGKILL)


def broken(loss):
    raise ValueError("shapes do not fit")


@pytest.mark.parametrize("act, here", [(no_memory, True), (no_memory, False), (killed, False)])
def test_a_process_without_memory_or_without_life_costs_no_step(rows, models, act, here):
    wanted, _ = steps(build(rows["clauses"], models("llama"), method="full"), 1)
    ready = build(rows["clauses"], models("llama"), method="full")
    found, processes = steps(ready, 2, task=Odd(ready.task, act, here))
    same(wanted, found)
    assert bool(processes.notes) == (act is killed)


@dataclasses.dataclass
class Elsewhere(Odd):
    """The same in every pass in the other processes."""

    def loss(self, model, batch):
        self.done = 0
        return super().loss(model, batch)


def test_a_training_that_goes_on_in_one_process_says_so_and_its_state_knows(rows, models, tmp_path):
    settings = {"method": "full", "train": {"evaluations": 1}}
    recipe = small.make_recipe(rows["clauses"], models("llama"), **settings, speed={"processes": 2})
    recipe = recipe.replace(train=TRAIN)
    ready, splits = small.build(recipe)
    processes = Processes(2)
    odd = Elsewhere(ready.task, no_memory, here=False)
    list(small.fit(ready, splits, tmp_path, task=odd, processes=processes))
    processes.close()
    assert [note for note in processes.notes if "with a row in each of 2 processes" in note]
    facts = state.saved_facts(tmp_path / "state.safetensors")
    assert facts["processes"] == {"count": 1, "notes": list(processes.notes)}
    again = Processes(2)
    again.go_on(facts["processes"])
    assert (again.count, again.notes) == (1, processes.notes)


def test_a_system_without_another_process_trains_in_one(rows, models, monkeypatch):
    def refuse():
        raise BlockingIOError("Resource temporarily unavailable")

    wanted, _ = steps(build(rows["clauses"], models("llama"), method="full"), 1)
    monkeypatch.setattr(parallel, "_fork", refuse)
    found, processes = steps(build(rows["clauses"], models("llama"), method="full"), 2)
    same(wanted, found)
    assert processes.notes == ("the system makes no further process (Resource temporarily unavailable): 1 of 2",)


@pytest.mark.parametrize("here", [True, False])
def test_a_loss_that_is_no_number_names_its_rows(rows, models, here):
    ready = build(rows["clauses"], models("llama"), method="full")
    with pytest.raises(TrainingError, match="loss became nan") as caught:
        steps(ready, 2, task=Odd(ready.task, lambda loss: loss * float("nan"), here))
    assert 1 <= len(caught.value.problems) < TRAIN["batch_size"] and "learning_rate" in caught.value.hint


def test_another_error_is_shown_with_its_place(rows, models):
    ready = build(rows["clauses"], models("llama"), method="full")
    with pytest.raises(RuntimeError, match=r"test_processes.py(.|\n)*shapes do not fit"):
        steps(ready, 2, task=Odd(ready.task, broken, here=False))


def children():
    found = []
    for entry in os.scandir("/proc"):
        if entry.name.isdigit():
            try:
                fields = Path(entry.path, "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            if int(fields[1]) == os.getpid():
                found.append(int(entry.name))
    return set(found)


def test_nothing_is_left_behind(rows, models):
    before = children()
    ready = build(rows["clauses"], models("llama"), method="full")
    processes = Processes(3)
    training = small.loop_steps(ready, processes=processes, total=6)
    next(training)
    assert len(children() - before) == 2 and torch.get_num_threads() >= 1
    training.close()
    processes.close()
    assert not children() - before and processes.memory > 0
    assert all(weight.grad is None or weight.grad.isfinite().all() for weight in ready.model.parameters())


def recipe_of(rows, models, out, **speed):
    return recipes.make(
        {
            "data": {"path": str(rows["clauses"])},
            "model": {"name": models("llama"), "dtype": "float32", "device": "cpu"},
            "method": "lora",
            "lora": {"dropout": 0.3},
            "train": {**TRAIN, "evaluations": 3},
            "speed": {"block_attention": 0, **speed},
            "out": str(out),
        }
    )


def test_a_stopped_run_goes_on_bit_for_bit(rows, models, tmp_path):
    results = []
    for name, after in (("whole", 0), ("stopped", 3)):
        recipe = recipe_of(rows, models, tmp_path / name, processes=2)
        try:
            run.tune(recipe, watcher=small.Stop(after))
        except Interrupted:
            run.resume(tmp_path / name)
        lines = (tmp_path / name / "steps.jsonl").read_text().splitlines()
        results.append([line.split('"seconds"')[0] for line in lines])
    assert len(results[0]) == 6 and results[0] == results[1]


def test_how_many_this_machine_has_is_not_written_down_and_a_resumed_run_has_as_many(
    rows, models, tmp_path, monkeypatch
):
    results = []
    for name, after in (("whole", 0), ("stopped", 3)):
        recipe = recipe_of(rows, models, tmp_path / name, processes="auto")
        monkeypatch.setattr(divide, "chosen", lambda *_: 2)
        with suppress(Interrupted):
            run.tune(recipe, watcher=small.Stop(after))
        assert recipes.load(tmp_path / name / "recipe.yaml").speed.processes == "auto"
        if after:
            monkeypatch.setattr(divide, "chosen", lambda *_: 1)
            run.resume(tmp_path / name)
        lines = (tmp_path / name / "steps.jsonl").read_text().splitlines()
        results.append([line.split('"seconds"')[0] for line in lines])
    assert len(results[0]) == 6 and results[0] == results[1]


def test_dropout_differs_between_steps_and_processes(rows, models):
    seen = []
    for count in (1, 2):
        ready = build(rows["clauses"], models("llama"), method="lora", lora={"dropout": 0.5})
        seen.append([step.loss for step in steps(ready, count)[0]])
        again = build(rows["clauses"], models("llama"), method="lora", lora={"dropout": 0.5})
        assert seen[-1] == [step.loss for step in steps(again, count)[0]]
    assert seen[0] != seen[1]


# --- how many


def layers(width, moving=True):
    model = nn.Sequential(nn.Linear(width, width), nn.Linear(width, width))
    return model if moving else model.requires_grad_(False)


@pytest.fixture
def two_threads(monkeypatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1})


CPU = torch.device("cpu")


def test_two_where_a_step_has_enough_to_compute(two_threads, monkeypatch):
    model, frozen = layers(1000), layers(1000, moving=False)
    assert divide.operations(model) == 12e6 and divide.operations(frozen) == 8e6  # 2 million weights
    enough = divide.LEAST_WORK / 12e6
    assert divide.chosen("auto", model, CPU, enough + 1, 8) == 2
    assert divide.chosen("auto", model, CPU, enough - 1, 8) == 1
    assert divide.chosen("auto", model, CPU, enough + 1, 1) == 1, "one row cannot be shared"
    monkeypatch.setattr(divide, "LEAST_SHARE", enough * 6 + 10)
    assert divide.chosen("auto", model, CPU, enough + 1, 8) == 1, "too many weights for so few tokens"
    assert divide.chosen("auto", frozen, CPU, 1.5 * enough + 1, 8) == 2
    monkeypatch.setattr(torch, "get_num_threads", lambda: 4)
    assert divide.chosen("auto", frozen, CPU, 10 * enough, 8) == 1, "not measured"
    assert divide.chosen(3, model, CPU, 1, 8) == 3


class Speaker(nn.Module):
    """A body and an output layer."""

    def __init__(self, words):
        super().__init__()
        self.body, self.output = nn.Linear(500, 500), nn.Linear(500, words)

    def get_output_embeddings(self):
        return self.output


def test_one_where_the_output_layer_is_most_of_it(two_threads):
    assert divide.chosen("auto", Speaker(words=400), CPU, 1e6, 8) == 2
    assert divide.chosen("auto", Speaker(words=600), CPU, 1e6, 8) == 1
    assert divide.operations(Speaker(words=600), without=None) == 6 * (250_000 + 300_000)


def test_an_embedding_is_read_and_not_multiplied_unless_it_is_tied():
    tied = nn.ModuleDict({"in": nn.Embedding(50, 8), "out": nn.Linear(8, 50, bias=False)})
    assert divide.operations(tied) == 6 * 400
    tied["out"].weight = tied["in"].weight
    assert divide.operations(tied) == 6 * 400
    assert divide.operations(nn.Embedding(50, 8)) == 0


def test_numbers_that_cannot_be(monkeypatch):
    with pytest.raises(RecipeError, match=r"speed.processes: 2 needs Linux and a CPU; this run is on 'cuda'"):
        divide.chosen(2, layers(4), torch.device("cuda"), 100, 8)
    with pytest.raises(RecipeError, match=r"speed.processes is 9, but a step has only 8 rows"):
        divide.chosen(9, layers(4), CPU, 100, 8)
    monkeypatch.setattr(sys, "platform", "darwin")
    assert divide.chosen("auto", layers(4), CPU, 1e12, 8) == 1
