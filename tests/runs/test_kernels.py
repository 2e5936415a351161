"""Liger's kernels take the place of a model's norms and gated layers only where they compute the same.

The kernels themselves need a GPU. Here stand-ins with their signatures (liger-kernel 0.8.5) compute in plain PyTorch.
"""

import copy
import sys
import types

import pytest
import torch
import torch.nn.functional as F
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM

from finesmith.errors import MissingExtraError, RecipeError
from finesmith.models import kernels
from finesmith.train import ways
from tests import small

CUDA = torch.device("cuda")


class Norm:
    @staticmethod
    def apply(x, weight, eps, offset=0.0, casting_mode="llama", in_place=True, row_mode=None):
        assert (offset, casting_mode, in_place) == (0.0, "llama", False)
        return F.rms_norm(x, weight.shape, weight, eps)


class Gated:
    calls = 0

    @classmethod
    def apply(cls, a, b, gate_multiplier=1.0, down_multiplier=1.0):
        cls.calls += 1
        return F.silu(a) * b


class Wrong:
    @staticmethod
    def apply(a, b):
        return F.gelu(a) * b


class WrongGradient:
    @staticmethod
    def apply(a, b):
        return F.silu(a.detach()) * b


class Failing:
    @staticmethod
    def apply(a, b):
        raise RuntimeError("the driver is too old")


@pytest.fixture
def stand_in(monkeypatch):
    """`stand_in(gated=...)`: liger_kernel as if it were installed."""

    def put(gated=Gated):
        monkeypatch.setattr(kernels, "find_spec", lambda name: object())
        for name, parts in (("rms_norm", {"LigerRMSNormFunction": Norm}), ("swiglu", {"LigerSiLUMulFunction": gated})):
            module = types.ModuleType(f"liger_kernel.ops.{name}")
            vars(module).update(parts)
            monkeypatch.setitem(sys.modules, module.__name__, module)

    return put


def load(models, family):
    return AutoModelForCausalLM.from_pretrained(models(family), dtype=torch.float32)


def replaced(model):
    return [module for module in model.modules() if "forward" in vars(module)]


@pytest.mark.parametrize("family, layers", [("llama", 5 + 2), ("qwen3", 5 + 4 + 2)])  # Qwen3 has norms in attention too
def test_norms_and_gated_layers_are_replaced_and_given_back(family, layers, models, stand_in):
    stand_in()
    model, tokens = load(models, family), torch.arange(3, 13)[None]
    before, used = model(input_ids=tokens).logits, Gated.calls
    assert kernels.use_liger(model, CUDA) == layers == len(replaced(model))
    torch.testing.assert_close(model(input_ids=tokens).logits, before)
    assert Gated.calls > used
    assert all(parameter.grad is None for parameter in model.parameters())
    kernels.release(model)
    assert not replaced(model) and torch.equal(model(input_ids=tokens).logits, before)


def test_a_training_says_so_and_leaves_no_trace(models, stand_in, monkeypatch, clauses, tmp_path):
    stand_in()
    monkeypatch.setattr(kernels, "use_liger", lambda model, device: kernels.install(model))
    losses = []
    for name in ("torch", "liger"):
        ready, _ = small.build(small.make_recipe(clauses, models("llama"), speed={"kernels": name}))
        assert ("Liger's kernels in 7 layers" in ready.notes) is (name == "liger")
        losses.append([step.loss for step in small.loop_steps(ready, total=3)])
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)
    ways.leave(ready.model)
    assert not replaced(ready.model)


def test_adapters_put_in_later_are_computed(models, stand_in):
    stand_in()
    plain = load(models, "llama")
    quick = copy.deepcopy(plain)
    kernels.use_liger(quick, CUDA)
    torch.manual_seed(0)
    found = []
    for model in (plain, quick):
        torch.manual_seed(0)
        tuned = get_peft_model(model, LoraConfig(target_modules=["gate_proj", "down_proj"], init_lora_weights=False))
        tuned(input_ids=torch.arange(3, 13)[None]).logits.square().mean().backward()
        found.append({name: p.grad for name, p in tuned.named_parameters() if p.requires_grad})
    assert found[0].keys() == found[1].keys() and len(found[0]) == 8
    for name, gradient in found[0].items():
        torch.testing.assert_close(gradient, found[1][name])


@pytest.mark.parametrize("gated", [Wrong, WrongGradient, Failing])
def test_what_is_not_the_same_is_left_out(gated, models, stand_in):
    stand_in(gated)
    model = load(models, "llama")
    assert kernels.use_liger(model, CUDA) == 0
    assert not replaced(model)


def test_a_model_without_such_layers_stays_as_it_is(models, stand_in):
    stand_in()
    assert kernels.use_liger(load(models, "gpt2"), CUDA) == 0


def test_what_is_missing_is_named(models, monkeypatch):
    monkeypatch.setattr(kernels, "find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"needs the library 'liger_kernel'.*\n.*finesmith\[liger\]"):
        kernels.use_liger(load(models, "llama"), CUDA)
    with pytest.raises(RecipeError, match="needs a CUDA device; this run is on 'cpu'"):
        kernels.use_liger(load(models, "llama"), torch.device("cpu"))
