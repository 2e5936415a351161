"""Packing: every token stays, nothing sees its neighbour, the loss and the gradient are those of the rows apart."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoModelForCausalLM, AutoTokenizer

from finesmith import recipe as recipes
from finesmith import run
from finesmith.errors import RecipeError
from finesmith.tasks import _language
from finesmith.tasks.base import Encoded, collate
from finesmith.tasks.text import Text, TextSettings
from finesmith.train.batches import EncodedSet
from finesmith.train.packing import pack
from finesmith.types import Example, Origin


def sequence(row, tokens):
    weights = np.ones(len(tokens), np.float32)
    weights[0] = 0
    return Encoded(row, np.asarray(tokens, np.int32), weights)


@given(sizes=st.lists(st.integers(2, 50), max_size=300))
def test_every_token_stays_and_rows_keep_the_limit(sizes):
    given_ = [sequence(row, [row] * size) for row, size in enumerate(sizes)]
    packed = list(pack(given_, 50))
    assert all(len(row.tokens) <= 50 for row in packed)
    found = sorted(int(part[0]) for row in packed for part in parts(row))
    assert found == list(range(len(sizes)))
    assert sum(row.supervised for row in packed) == sum(item.supervised for item in given_)
    assert all(len(set(part.tolist())) == 1 for row in packed for part in parts(row))


def parts(row):
    if row.segments is None:
        return [row.tokens]
    return np.split(row.tokens, np.cumsum(row.segments)[:-1])


def test_rows_become_full():
    sizes = np.random.default_rng(0).integers(5, 200, 2000)
    packed = list(pack([sequence(row, [1] * size) for row, size in enumerate(sizes.tolist())], 256))
    assert sum(sizes) / (256 * len(packed)) > 0.95


@pytest.mark.parametrize("family", ["llama", "llama_tied", "gpt2", "qwen3"])
def test_loss_and_gradient_are_those_of_the_rows_apart(models, family):
    random = np.random.default_rng(0)
    apart = [sequence(row, random.integers(5, 60, size)) for row, size in enumerate((9, 4, 13, 20, 7))]
    packed = EncodedSet(pack(apart, 24))
    assert any(row.segments is not None for row in packed) and any(row.segments is None for row in packed)
    model = AutoModelForCausalLM.from_pretrained(models(family)).eval()
    found = []
    for items in (apart, list(packed)):
        model.zero_grad()
        loss, count = _language.weighted_loss(model, collate(items, 0, torch.device("cpu")))
        loss.backward()
        found.append((loss.item(), count.item(), {name: p.grad.clone() for name, p in model.named_parameters()}))
    assert found[0][0] == pytest.approx(found[1][0], rel=1e-5) and found[0][1] == found[1][1]
    for name, gradient in found[0][2].items():
        torch.testing.assert_close(found[1][2][name], gradient, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("limit", [8, 64])
def test_many_at_a_time_are_encoded_as_one_by_one(models, limit):
    tokenizer = AutoTokenizer.from_pretrained(models("llama"))
    rows = [example(f"the parcel is late {'again ' * number}") for number in range(30)]
    task = Text(TextSettings(), limit)
    apart = [task.encode(row, 5 + place, tokenizer, limit) for place, row in enumerate(rows)]
    together = task.encode_many(rows, 5, tokenizer, limit)
    assert [[(piece.row, piece.tokens.tolist(), piece.weights.tolist()) for piece in row] for row in apart] == [
        [(piece.row, piece.tokens.tolist(), piece.weights.tolist()) for piece in row] for row in together
    ]


def example(text):
    return Example("id", text, None, Origin("rows.jsonl", 1))


def test_a_classifier_is_not_packed(tickets, tmp_path, models):
    settings = {"model": {"name": models("llama")}, "train": {"packing": True}, "out": str(tmp_path / "r")}
    recipe = recipes.from_source(str(tickets)).replace(**settings)
    with pytest.raises(RecipeError, match=r"train\.packing has no effect"):
        run.tune(recipe)


def test_what_stands_before_in_the_row_changes_nothing(models):
    model = AutoModelForCausalLM.from_pretrained(models("llama")).eval()
    last = sequence(0, range(20, 30))
    found = []
    for before in (range(5, 13), range(40, 48)):
        (row,) = pack([sequence(1, before), last], 32)
        nats, _ = _language.token_losses(model, collate([row], 0, torch.device("cpu")))
        found.append(nats[-9:])
    torch.testing.assert_close(found[0], found[1], rtol=0, atol=0)
