"""float16, whose small numbers end at 6e-8, and devices other than the first."""

import shutil

import pytest
import torch
from accelerate import Accelerator

from finesmith.models import device, fast, load
from finesmith.models.settings import ModelSettings
from finesmith.train import fit, loop
from finesmith.train.batches import Plan
from finesmith.train.cache import Cache
from finesmith.train.gradients import Work
from finesmith.train.parallel import Processes
from tests import small
from tests.conftest import clause_rows, ticket_rows, write_csv, write_jsonl


@pytest.fixture(scope="module")
def ready(models, tmp_path_factory):
    data = write_jsonl(tmp_path_factory.mktemp("half") / "rows.jsonl", clause_rows(200))
    train = {"batch_size": 64, "max_steps": 1}
    return small.build(small.make_recipe(data, models("llama"), task="generation", method="full", train=train))[0]


def gradients(ready, dtype):
    ready.model.zero_grad()
    plan = Plan(ready.data.lengths, 64, 0)
    cache, pad_id = Cache(ready.data.lengths), ready.loaded.tokenizer.pad_token_id
    work = Work(ready.model, ready.task, ready.data, cache, Accelerator(cpu=True), dtype, pad_id)
    loss = loop._gradients(work, plan, plan.epoch(0)[0], loop.Room(2048, 2048), Processes(), 0)
    return loss, {name: weight.grad.clone() for name, weight in ready.model.named_parameters()}


def worst(found, expected):
    return max(float((found[name] - value).norm() / value.norm()) for name, value in expected.items())


def test_float16_loses_no_gradient(ready, monkeypatch):
    loss, expected = gradients(ready, torch.float32)
    half_loss, found = gradients(ready, torch.float16)
    assert half_loss == pytest.approx(loss, rel=1e-3) and worst(found, expected) < 0.005
    monkeypatch.setattr(loop, "SCALE", 1.0)
    assert worst(gradients(ready, torch.float16)[1], expected) > 0.01, "what the multiple is for"


@pytest.mark.parametrize(("gain", "chosen"), [(2.1, "bfloat16"), (0.9, "float32")])
def test_what_was_chosen_and_by_how_much_is_said(models, tmp_path, monkeypatch, gain, chosen):
    monkeypatch.setattr(device, "bfloat16_speedup", lambda: gain)
    data = write_jsonl(tmp_path / "rows.jsonl", clause_rows(30))
    said = f"arithmetic in {chosen}: products in bfloat16 are {gain} times as fast as in float32 here"
    built = small.build(small.make_recipe(data, models("llama"), model={"dtype": "auto"}))[0]
    assert said in built.notes and built.recipe.model.dtype == chosen
    again = small.build(small.make_recipe(data, models("llama"), model={"dtype": chosen}))[0]
    assert not any("arithmetic in" in note for note in again.notes), "it was asked for"


def test_a_multiple_that_overflows_is_made_smaller(ready, monkeypatch):
    _, expected = gradients(ready, torch.float16)
    monkeypatch.setattr(loop, "SCALE", 2.0**40)
    assert worst(gradients(ready, torch.float16)[1], expected) < 1e-3


def test_accelerate_does_not_remember_the_device_of_another_run():
    fit.accelerator_for(torch.device("cpu"))
    other = fit.accelerator_for(torch.device("meta"))  # stands for any that is not the CPU: the state is made anew
    assert other.state is not None
    again = fit.accelerator_for(torch.device("cpu"))
    assert again.device == torch.device("cpu")
    model, optimizer = torch.nn.Linear(2, 2, device="meta"), None
    optimizer = torch.optim.SGD(model.parameters())
    placed, _ = again.prepare(model, optimizer, device_placement=[False, False])
    assert next(placed.parameters()).device.type == "meta", "a model stays where it is"


HALF, FULL, ACCELERATOR = torch.bfloat16, torch.float32, torch.device("cuda")


def test_what_does_not_move_is_held_as_stored_on_an_accelerator():
    cuda, cpu = torch.device("cuda"), torch.device("cpu")
    assert load.held_in(HALF, HALF, cuda) == HALF
    assert load.held_in(torch.float16, HALF, cuda) == HALF, "what adapters make of it before the first step"
    assert {load.held_in(HALF, HALF, cpu), load.held_in(HALF, FULL, cuda), load.held_in(FULL, HALF, cuda)} == {FULL}


def test_a_head_that_was_trained_before_moves_in_float32(models, tmp_path, monkeypatch):
    """A classifier that is tuned again for labels of the same number brings its head, in the type of the file."""
    from transformers import AutoModelForSequenceClassification

    folder = shutil.copytree(models("bert"), tmp_path / "half")
    AutoModelForSequenceClassification.from_pretrained(folder, dtype=HALF, num_labels=2).save_pretrained(folder)
    monkeypatch.setattr(load, "held_in", lambda stored, dtype, device: stored)
    settings = ModelSettings(name=str(folder), dtype="bfloat16", device="cpu")
    model = load.load(settings, "sequence-classification", labels=("a", "b")).model
    kinds = {name: weight.dtype for name, weight in model.named_parameters()}
    assert kinds["classifier.weight"] == kinds["classifier.bias"] == FULL
    assert kinds["bert.encoder.layer.0.attention.self.query.weight"] == HALF


@pytest.mark.parametrize("stored", [HALF, torch.float16], ids=str)
@pytest.mark.parametrize("task", ["generation", "classification"])
def test_weights_that_are_held_as_stored_train_alike(models, tmp_path, monkeypatch, task, stored):
    """On the CPU, as an accelerator would: the frozen weights are never wider than in the file."""
    from transformers import AutoModelForCausalLM

    folder = shutil.copytree(models("llama"), tmp_path / "half")
    AutoModelForCausalLM.from_pretrained(folder, dtype=stored).save_pretrained(folder)
    held_in = load.held_in
    generates = task == "generation"
    rows = (
        write_jsonl(tmp_path / "c.jsonl", clause_rows(60))
        if generates
        else write_csv(tmp_path / "t.csv", ticket_rows(60))
    )
    recipe = small.make_recipe(
        rows, str(folder), method="lora", model={"dtype": "bfloat16"}, train={"max_steps": 4, "batch_size": 8}
    )
    losses = {}
    for how in ("wide", "as stored"):
        if how == "as stored":
            monkeypatch.setattr(load, "held_in", lambda stored, dtype, device: held_in(stored, dtype, ACCELERATOR))
        ready, splits = small.build(recipe)
        assert len({weight.dtype for weight in ready.model.parameters() if not weight.requires_grad}) == 1
        assert fast.of(ready.model).packed
        open_ = {weight.dtype for weight in ready.model.parameters() if weight.requires_grad}
        closed = {weight.dtype for weight in ready.model.parameters() if not weight.requires_grad}
        assert (open_, HALF in closed) == ({FULL}, True)
        losses[how] = [event.step.loss for event in small.fit(ready, splits)]
    # PEFT rounds the random start of an adapter to the type of its layer; a new classifier head is drawn in it too
    assert losses["as stored"] == pytest.approx(losses["wide"], rel=1e-4 if generates else 2e-2)
