"""Attention in blocks is PyTorch's own in other pieces: the same results and gradients, for each way to look."""

import itertools

import pytest
import torch
import transformers

from finesmith.models import attention, blocked, fast
from finesmith.models.blocked import Seen
from finesmith.models.documents import collect, documents, spread
from tests import small
from tests.conftest import clause_rows, write_jsonl


def drawn(count, length, heads, groups, size=8):
    torch.manual_seed(0)
    shapes = ((count, length, heads, size), (count, length, groups, size), (count, length, groups, size))
    return [torch.randn(shape).requires_grad_() for shape in shapes]


def hides(count, length):
    """Each document of another length than the longest, which the first has."""
    ends = torch.tensor([max(1, length - 3 * place) for place in range(count)])
    return torch.zeros(count, length).masked_fill_(ends[:, None] <= torch.arange(length), float("-inf"))


LOOKS = {
    "causal": lambda count, length: Seen(),
    "in a window": lambda count, length: Seen(window=7),
    "in both directions": lambda count, length: Seen(causal=False),
    "in both directions, some hidden": lambda count, length: Seen(causal=False, hidden=hides(count, length)),
}


@pytest.mark.parametrize("look", LOOKS)
@pytest.mark.parametrize(("heads", "groups"), [(4, 4), (6, 2)])
@pytest.mark.parametrize("length", [1, 8, 29])
def test_every_way_to_look_in_tiles_and_blocks(look, heads, groups, length, monkeypatch):
    monkeypatch.setattr(blocked, "TILE", 8)
    monkeypatch.setattr(blocked, "BLOCK", 2 * heads * min(length, 8) * length)  # two documents at a time
    tensors, seen = drawn(5, length, heads, groups), LOOKS[look](5, length)
    plain = attention.fused(*tensors, 0.4, seen, 0.0)
    ours = blocked.attend(*tensors, 0.4, seen, 0.0)
    torch.testing.assert_close(ours, plain, rtol=1e-5, atol=1e-6)
    slope = torch.randn_like(plain)
    expected, found = (torch.autograd.grad(way, tensors, slope) for way in (plain, ours))
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5)


def test_dropout_keeps_the_same_shares_in_the_backward_pass(monkeypatch):
    """The output is linear in the values, so their gradient can be had from the outputs themselves."""
    monkeypatch.setattr(blocked, "TILE", 8)
    query, key, value = drawn(2, 20, 2, 2)

    def out(values):
        torch.manual_seed(3)
        return blocked.attend(query, key, values, 0.4, Seen(), 0.5)

    slope = torch.randn(2, 20, 2, 8)
    (found,) = torch.autograd.grad(out(value), value, slope)
    for place in itertools.product((0, 1), (0, 9, 19), (0, 1), (0, 5)):
        one = torch.zeros_like(value)
        one[place] = 1.0
        torch.testing.assert_close(found[place], (out(one) * slope).sum(), rtol=1e-4, atol=1e-5)


def test_bfloat16_is_as_near_to_the_truth_as_pytorchs_own():
    tensors = drawn(2, 200, 6, 2, size=64)
    truth = attention.fused(*tensors, 0.125, Seen(), 0.0)
    slope = torch.randn_like(truth)
    exact = torch.autograd.grad(truth, tensors, slope)
    narrow = [tensor.detach().bfloat16().requires_grad_() for tensor in tensors]

    def error(way):
        found = torch.autograd.grad(way(*narrow, 0.125, Seen(), 0.0), narrow, slope.bfloat16())
        return [float((one.float() - other).norm() / other.norm()) for one, other in zip(found, exact, strict=True)]

    for ours, theirs in zip(error(blocked.attend), error(attention.fused), strict=True):
        assert ours <= 1.1 * theirs


def test_the_way_to_the_groups_and_back_is_read_in_both_directions():
    layout = documents([70, 66, 66, 20])
    assert layout.sizes == [210, 20]
    tokens = torch.randn(222, 3, dtype=torch.float64, requires_grad=True)
    there = spread(tokens, layout)
    back = collect(there.split(layout.sizes), layout)
    assert torch.equal(back, tokens)
    slope = torch.randn_like(tokens)
    assert torch.equal(torch.autograd.grad(back, tokens, slope)[0], slope)
    places = torch.randn(230, 3, dtype=torch.float64, requires_grad=True)
    (found,) = torch.autograd.grad(collect(places.split(layout.sizes), layout), places, slope)
    assert torch.equal(found[layout.behind], torch.zeros(len(layout.behind), 3, dtype=torch.float64))
    assert torch.equal(found[layout.back], slope)


def test_documents_of_one_length_stand_where_they_are():
    layout = documents([80, 80, 3])
    assert layout.places is None
    tokens = torch.randn(163, 3)
    assert spread(tokens, layout) is tokens


@pytest.mark.parametrize(("gain", "longest"), [(2.0, blocked.LIMIT), (1.1, 0)])
def test_who_wins_the_race_clearly_is_used_and_by_how_much_is_said(gain, longest, models, tmp_path, monkeypatch):
    monkeypatch.setattr(blocked, "speedup", lambda fused, length, *shape: gain if length == blocked.RACED else 0.0)
    data = write_jsonl(tmp_path / "clauses.jsonl", clause_rows(30))
    ready = small.build(small.make_recipe(data, models("llama"), speed={"block_attention": "auto"}))[0]
    assert ready.recipe.speed.block_attention == longest
    (told,) = (note for note in ready.notes if "attention" in note and "blocks" in note)
    assert f"blocks are {gain} times as fast" in told and ("not in blocks" in told) == (not longest)


class Clock:
    """A clock of the processor's time that moves in ticks of so many seconds; `work` passes without a wait."""

    def __init__(self, tick):
        self.tick, self.now = tick, 0.0

    def read(self):
        return self.now // self.tick * self.tick

    def work(self, seconds):
        def kernel(query, *others):
            self.now += seconds
            return query * 1

        return kernel


@pytest.mark.parametrize("tick", [1e-6, 0.01, 1 / 64])
@pytest.mark.parametrize("gain", [0.8, 1.0, 2.5])
def test_a_clock_that_moves_in_steps_does_not_decide_the_race(tick, gain, monkeypatch):
    clock = Clock(tick)
    monkeypatch.setattr(blocked.time, "process_time", clock.read)
    monkeypatch.setattr(blocked, "attend", clock.work(0.0004))
    found = blocked.speedup(clock.work(0.0004 * gain), blocked.RACED, 4, 2, 8, torch.float32)
    assert found == pytest.approx(gain, rel=0.15)
    assert clock.now < 0.3


def test_a_clock_that_stands_still_chooses_nothing(monkeypatch):
    monkeypatch.setattr(blocked.time, "process_time", lambda: 1.0)
    monkeypatch.setattr(blocked, "attend", Clock(1.0).work(0.0))
    assert blocked.speedup(Clock(1.0).work(0.1), blocked.RACED, 1, 1, 1, torch.float32) == 1.0


def test_layers_of_different_shapes_do_not_race(monkeypatch):
    """Gemma 4's configuration names no head size for all layers, and says so with an error of its own."""
    monkeypatch.setattr(blocked, "speedup", lambda *shape: 9.0)
    size = {"vocab_size": 97, "hidden_size": 32, "intermediate_size": 48, "vocab_size_per_layer_input": 97}
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8, "global_head_dim": 16}
    layers = {"num_hidden_layers": 2, "num_kv_shared_layers": 0, "hidden_size_per_layer_input": 8}
    more = {"layer_types": ["sliding_attention", "full_attention"], "sliding_window": 8, "pad_token_id": 0}
    gemma = transformers.Gemma4ForCausalLM(transformers.Gemma4TextConfig(**size, **heads, **layers, **more))
    assert fast.race(gemma, torch.float32, torch.device("cpu")) == 0


@pytest.mark.parametrize("packing", [True, False])
def test_blocks_are_spoken_of_where_they_are_used(models, tmp_path, monkeypatch, packing):
    """Rows that are padded, because the model cannot do else, are not computed in blocks, whatever was asked for."""
    if not packing:
        monkeypatch.setattr(fast, "can_pack", lambda model: False)
    data = write_jsonl(tmp_path / "clauses.jsonl", clause_rows(30))
    speed = {"block_attention": 128}
    ready, _ = small.build(small.make_recipe(data, models("llama"), method="lora", speed=speed))
    assert any("attention in blocks" in note for note in ready.notes) == packing
