"""float16, whose small numbers end at 6e-8, and devices other than the first."""

import pytest
import torch
from accelerate import Accelerator

from finesmith.train import fit, loop
from finesmith.train.batches import Plan
from finesmith.train.cache import Cache
from tests import small
from tests.conftest import clause_rows, write_jsonl


@pytest.fixture(scope="module")
def ready(models, tmp_path_factory):
    data = write_jsonl(tmp_path_factory.mktemp("half") / "rows.jsonl", clause_rows(200))
    train = {"batch_size": 64, "max_steps": 1}
    return small.build(small.make_recipe(data, models("llama"), task="generation", method="full", train=train))[0]


def gradients(ready, dtype):
    ready.model.zero_grad()
    plan = Plan(ready.data.lengths, 64, 0)
    loss, _ = loop._gradients(
        ready.model, ready.task, ready.data, Cache(ready.data.lengths), plan, plan.epoch(0)[0], 2048,
        Accelerator(cpu=True), dtype, ready.loaded.tokenizer.pad_token_id, str,
    )  # fmt: skip
    return loss, {name: weight.grad.clone() for name, weight in ready.model.named_parameters()}


def worst(found, expected):
    return max(float((found[name] - value).norm() / value.norm()) for name, value in expected.items())


def test_float16_loses_no_gradient(ready, monkeypatch):
    loss, expected = gradients(ready, torch.float32)
    half_loss, found = gradients(ready, torch.float16)
    assert half_loss == pytest.approx(loss, rel=1e-3) and worst(found, expected) < 0.005
    monkeypatch.setattr(loop, "SCALE", 1.0)
    assert worst(gradients(ready, torch.float16)[1], expected) > 0.01, "what the multiple is for"


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
