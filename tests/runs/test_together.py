"""An answer does not depend on which texts are asked beside it: where padding would change it, nothing is padded."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from transformers import CONFIG_MAPPING, AutoModelForCausalLM, AutoModelForSequenceClassification

from finesmith.errors import RecipeError
from finesmith.models import context, fast, together
from finesmith.models.load import Loaded
from finesmith.tasks import _continuations, _evaluation, _language
from finesmith.tasks.base import Encoded, collate
from finesmith.tasks.classification import run_batches
from finesmith.train import ways
from finesmith.train.batches import Plan
from finesmith.train.speed import SpeedSettings

SIZE = {"vocab_size": 97, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48,
        "max_position_embeddings": 64, "initializer_range": 0.3, "pad_token_id": 0, "bos_token_id": 1,
        "eos_token_id": 2}  # fmt: skip
ENCODERS = {
    "bert": ({}, "any"),
    "roberta": ({}, "any"),
    "modernbert": ({}, "any"),
    "ibert": ({}, "any"),  # its embedding layer says no number of words
    "fnet": ({}, "equal"),
    "convbert": ({"embedding_size": 32, "head_ratio": 2}, "equal"),
}
"""Settings, and which texts may share a batch."""
DECODERS = {
    "llama": ({}, "any"),
    "gpt2": ({"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 64}, "any"),
    "lfm2": ({"layer_types": ["conv", "full_attention"], "num_key_value_heads": 2}, "any"),
    "rwkv": ({"attention_hidden_size": 32, "context_length": 64}, "none"),
}
"""The same, for prompts."""
LENGTHS = (12, 5, 9, 5, 3, 12)


class Pads:
    pad_token_id = 0


def made(kind, settings, auto):
    torch.manual_seed(0)
    model = auto.from_config(CONFIG_MAPPING[kind](**{**SIZE, **settings}), dtype=torch.float32)
    return Loaded(model.eval(), Pads(), torch.device("cpu"), torch.float32)


def rows(lengths=LENGTHS):
    random_ = np.random.default_rng(0)
    return [random_.integers(3, 97, length) for length in lengths]


@pytest.mark.parametrize("kind", ENCODERS)
def test_a_label_is_the_same_alone_and_beside_others(kind):
    settings, company = ENCODERS[kind]
    loaded, texts, sizes = made(kind, settings, AutoModelForSequenceClassification), rows(), []

    def forward(batch):
        sizes.append(len(batch["input_ids"]))
        return loaded.model(**batch).logits

    beside = run_batches(loaded, texts, forward)
    with torch.no_grad():
        alone = [loaded.model(input_ids=torch.from_numpy(row)[None]).logits[0].numpy() for row in texts]
    assert together.reading(loaded.model) == company and sizes == ([6] if company == "any" else [2, 1, 2, 1])
    np.testing.assert_allclose(beside, np.stack(alone), atol=1e-4)


@pytest.mark.parametrize("kind", DECODERS)
def test_what_is_written_is_the_same_alone_and_beside_others(kind):
    settings, company = DECODERS[kind]
    loaded, prompts = made(kind, settings, AutoModelForCausalLM), rows()
    found = [[] for _ in prompts]

    def written(positions):
        batch = [prompts[place] for place in positions]
        return _language.generate(loaded, batch, new_tokens=6, temperature=0.0, stop=[96])

    def write(positions):
        for place, tokens in zip(positions, written(positions), strict=True):
            found[place] = tokens

    _evaluation.in_batches(loaded.model, LENGTHS, write, writing=True)
    assert together.writing(loaded.model) == company
    for place, tokens in enumerate(found):
        (alone,) = written([place])
        assert tokens[: len(alone)] == alone


def test_batches_are_of_one_kind_and_halved_where_memory_runs_out():
    model = made("llama", {}, AutoModelForCausalLM).model
    kinds, batches = [1, 2, 1, 2, 1, 1], []

    def compute(positions):
        if len(positions) > 2:
            raise torch.OutOfMemoryError("out of memory")
        batches.append(positions)

    _evaluation.in_batches(model, LENGTHS, compute, kinds=kinds, writing=True)
    assert sorted(place for batch in batches for place in batch) == list(range(6))
    assert all(len({kinds[place] for place in batch}) == 1 for batch in batches)
    assert "memory is too small" in _evaluation.notes(model)[0]


TURN = 16
TURNED = (24, 10, 18, 10, 6, 24)
LONGROPE = {"max_position_embeddings": 64, "original_max_position_embeddings": TURN, "num_key_value_heads": 4,
            "rope_scaling": {"rope_type": "longrope", "short_factor": [1.0] * 4, "long_factor": [4.0] * 4}}  # fmt: skip


def test_a_text_beside_which_positions_turn_otherwise_is_read_apart():
    loaded, texts, sizes = made("phi3", LONGROPE, AutoModelForSequenceClassification), rows(TURNED), []

    def forward(batch):
        sizes.append(len(batch["input_ids"]))
        return loaded.model(**batch).logits

    with torch.no_grad():
        alone = np.stack([loaded.model(input_ids=torch.from_numpy(row)[None]).logits[0].numpy() for row in texts])
    np.testing.assert_allclose(run_batches(loaded, texts, forward), alone, atol=1e-4)
    assert together.turns(loaded.model) == together.reading(loaded.model) == TURN and sizes == [2, 1, 3]
    with torch.no_grad():
        batch = collate([Encoded(0, texts[0].astype(np.int32)), Encoded(1, texts[1].astype(np.int32))], 0, "cpu")
        mixed = loaded.model(**batch).logits[1].numpy()
    assert np.abs(mixed - alone[1]).max() > 1e-3, "a longer neighbour would change what is said of the shorter"


def test_what_is_trained_and_written_goes_by_it_too():
    assert together.turns(made("llama", {}, AutoModelForCausalLM).model) is None
    dynamic = {"rope_scaling": {"rope_type": "dynamic", "factor": 2.0}}
    assert together.turns(made("llama", dynamic, AutoModelForCausalLM).model) == SIZE["max_position_embeddings"]
    loaded = made("phi3", LONGROPE, AutoModelForCausalLM)
    with pytest.raises(RecipeError, match=f"turns positions otherwise above {TURN} tokens"):
        ways.prepare(SpeedSettings(block_attention=0), "causal-lm", loaded, shared=TURN + 1)
    _, notes = ways.prepare(SpeedSettings(block_attention=0), "causal-lm", loaded, shared=TURN)
    assert any(f"more than {TURN} tokens are computed only with others of the same length" in note for note in notes)
    assert fast.of(loaded.model).packed and together.training(loaded.model) == TURN
    plan = Plan(TURNED, 6, 0, together.training(loaded.model))
    assert [len(batch) for batch in plan.micro_batches(range(6), 100, packed=True)] == [2, 1, 3]
    assert together.writing(loaded.model) == 1
    fast.release(loaded.model)
    ends = [[5, 6], [7]]
    prompts = [[3, 4, 5, 6, *range(20, 20 + more)] for more in (16, 1, 3)]
    found, apart = (
        np.concatenate([_continuations.log_probabilities(loaded, part, ends) for part in parts])
        for parts in ([prompts], [[prompt] for prompt in prompts])
    )
    np.testing.assert_allclose(found, apart, atol=1e-3)


def test_training_goes_by_it_and_says_so():
    settings, _ = ENCODERS["fnet"]
    loaded = made("fnet", settings, AutoModelForSequenceClassification)
    _, notes = ways.prepare(SpeedSettings(), "sequence-classification", loaded)
    assert "padding would change what this model says: only sequences of one length are computed together" in notes
    plan = Plan(LENGTHS, 6, 0, together.training(loaded.model))
    assert all(len({LENGTHS[place] for place in batch}) == 1 for batch in plan.micro_batches(range(6), 100))
    assert len(Plan(LENGTHS, 6, 0).micro_batches(range(6), 100)) == 1


def test_answers_are_written_many_rows_at_a_time_as_far_as_what_they_leave_behind_allows(monkeypatch):
    model = made("llama", {"num_key_value_heads": 1}, AutoModelForCausalLM).model
    with torch.no_grad():
        kept = model(input_ids=torch.arange(5)[None], use_cache=True).past_key_values
    one = sum(part.nbytes for layer in kept.layers for part in (layer.keys, layer.values)) // 5
    assert context.cached_bytes(model) == one > 0

    def sizes(lengths, **how):
        found = []
        _evaluation.in_batches(model, lengths, lambda places: found.append(len(places)), **how)
        return found

    long, longer = [1024] * 40, [2049] * 20
    assert sizes(long) == [8] * 5 and sizes(long, writing=True) == [32, 8]
    assert sizes(longer) == sizes(longer, writing=True)
    monkeypatch.setattr(_evaluation, "CACHED", one * 16_384)
    assert sizes(long, writing=True) == [16, 16, 8]
    monkeypatch.setattr(_evaluation, "CACHED", one)
    assert sizes(long, writing=True) == [8] * 5
    monkeypatch.setattr(_evaluation, "CACHED", 1 << 29)
    monkeypatch.setattr(context, "cached_bytes", lambda model: None)
    assert sizes(long, writing=True) == [8] * 5


def test_a_model_that_does_not_say_its_heads_leaves_nobody_knows_what():
    assert context.cached_bytes(SimpleNamespace(config=SimpleNamespace(num_hidden_layers=2))) is None
