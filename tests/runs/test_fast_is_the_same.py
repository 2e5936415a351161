"""Every way to train fast gives the losses and gradients of the plain way: float32 within 1e-5, relative."""

import copy
import math

import numpy as np
import pytest
import torch
import transformers
from peft import LoraConfig, get_peft_model
from torch import nn

from finesmith.errors import ModelError, RecipeError
from finesmith.methods import _fused
from finesmith.methods.base import layer_list, linear_names
from finesmith.models import attention, fast, recompute
from finesmith.models.documents import documents
from finesmith.tasks import _cross_entropy, _language
from finesmith.tasks.base import Encoded, batch_of, collate, pack

SMALL = {
    "vocab_size": 97,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 64,
    "pad_token_id": 0,
    "bos_token_id": None,
    "eos_token_id": None,
}
GROUPED = {**SMALL, "num_key_value_heads": 2}
MODELS = {
    "llama": lambda: transformers.LlamaForCausalLM(transformers.LlamaConfig(**GROUPED, tie_word_embeddings=True)),
    "qwen3": lambda: transformers.Qwen3ForCausalLM(transformers.Qwen3Config(**GROUPED, head_dim=8)),
    "mistral, sliding window": lambda: transformers.MistralForCausalLM(
        transformers.MistralConfig(**GROUPED, sliding_window=5)
    ),
    "gpt2": lambda: transformers.GPT2LMHeadModel(
        transformers.GPT2Config(**SMALL, attn_pdrop=0.0, resid_pdrop=0.0, embd_pdrop=0.0)
    ),
    "gemma3": lambda: transformers.Gemma3ForCausalLM(
        transformers.Gemma3TextConfig(**GROUPED, head_dim=8, sliding_window=5)
    ),
    "granite, scaled logits": lambda: transformers.GraniteForCausalLM(
        transformers.GraniteConfig(**GROUPED, logits_scaling=4.0)
    ),
    "gpt-neox": lambda: transformers.GPTNeoXForCausalLM(
        transformers.GPTNeoXConfig(**SMALL, hidden_dropout=0.0, attention_dropout=0.0)
    ),
}
ATTENTION = {"packed": 0, "packed in blocks": 64}


@pytest.fixture(params=sorted(MODELS))
def model(request):
    torch.manual_seed(0)
    made = MODELS[request.param]()
    with torch.no_grad():  # far from the near-constant outputs of fresh weights, so that a wrong path shows
        for parameter in made.parameters():
            if parameter.dim() > 1:
                parameter.mul_(8)
    return made


def sequences(sizes=(21, 20, 13, 9, 9, 8, 3)) -> list[Encoded]:
    random = np.random.default_rng(1)
    out = []
    for size in sizes:
        weights = (random.random(size) < 0.5).astype(np.float32)
        weights[-1], weights[0] = 0.5, 1.0  # the first token has nothing before it: its weight must not count
        out.append(Encoded(0, random.integers(1, 97, size).astype(np.int32), weights=weights))
    return out


def loss_and_gradients(model: nn.Module, batch) -> tuple[float, dict[str, torch.Tensor]]:
    model.train()
    model.zero_grad()
    total, count = _language.weighted_loss(model, batch)
    (total / count).backward()
    found = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    return float(total.detach() / count), found


def same(one, other) -> None:
    assert math.isclose(one[0], other[0], rel_tol=1e-5)
    assert one[1].keys() == other[1].keys()
    size = math.sqrt(sum(float(gradient.double().square().sum()) for gradient in one[1].values()))
    assert size > 0
    for name, gradient in one[1].items():
        apart = float((gradient.double() - other[1][name].double()).norm())
        assert apart <= 1e-5 * max(float(gradient.double().norm()), 1e-2 * size), name


def adapted(model: nn.Module) -> nn.Module:
    transposed = isinstance(model, transformers.GPT2LMHeadModel)
    names = sorted({name.rpartition(".")[2] for name in linear_names(model, outside=())})
    made = get_peft_model(model, LoraConfig(r=4, lora_alpha=8, target_modules=names, fan_in_fan_out=transposed))
    for name, parameter in made.named_parameters():
        if "lora_B" in name:
            nn.init.normal_(parameter, std=0.1)
    return made


def test_the_loss_on_supervised_tokens_in_chunks(model, monkeypatch):
    monkeypatch.setattr(_cross_entropy, "BUDGET", 6 * 97 * 64)  # 64 rows a chunk
    batch = collate(sequences((40, 40, 40, 38, 21)), 0, "cpu")
    plain = loss_and_gradients(model, batch)
    fast.remember(model, fast.Fast(fast.cut(model)))
    assert fast.of(model).output is not None
    same(plain, loss_and_gradients(model, batch))


@pytest.mark.parametrize("blocked", ATTENTION.values(), ids=ATTENTION.keys())
def test_sequences_without_padding(model, blocked):
    plain = loss_and_gradients(model, collate(sequences(), 0, "cpu"))
    assert fast.can_pack(model)
    fast.remember(model, fast.Fast(fast.cut(model), True, blocked))
    batch = batch_of(model, sequences(), 0, "cpu")
    assert batch["input_ids"].shape == (1, sum(len(item.tokens) for item in sequences()))
    same(plain, loss_and_gradients(model, batch))


@pytest.mark.parametrize("way", ["padded", "packed", "packed, adapters as one"])
def test_blocks_that_are_computed_again(model, way):
    kept: list[int] = []
    model = adapted(model) if "adapters" in way else model
    if "packed" in way:
        inner = model.get_base_model() if "adapters" in way else model
        fast.remember(model, fast.Fast(fast.cut(inner), fast.can_pack(model), 64))
    _fused.fuse(model, "float32")
    batch = batch_of(model, sequences(), 0, "cpu")
    with torch.autograd.graph.saved_tensors_hooks(lambda tensor: kept.append(tensor.numel()) or tensor, lambda x: x):
        plain = loss_and_gradients(model, batch)
        before, kept[:] = sum(kept), []
        recompute.begin(model, layer_list(model))
        again = loss_and_gradients(model, batch)
    same(plain, again)
    assert sum(kept) < before
    recompute.end(model)
    assert not any(type(vars(module).get("forward")) is recompute._Again for module in model.modules())


def test_dropout_is_the_same_when_a_block_is_computed_again():
    model = transformers.GPT2LMHeadModel(transformers.GPT2Config(**SMALL))
    batch = collate(sequences(), 0, "cpu")
    torch.manual_seed(3)
    plain = loss_and_gradients(model, batch)
    recompute.begin(model, layer_list(model))
    torch.manual_seed(3)
    same(plain, loss_and_gradients(model, batch))


def test_blocks_that_are_compiled():
    model = MODELS["llama"]()
    fast.remember(model, fast.Fast(fast.cut(model), fast.can_pack(model), 64))
    batch = batch_of(model, sequences(), 0, "cpu")
    plain = loss_and_gradients(model, batch)
    fast.compile_blocks(model, model.model.layers)
    same(plain, loss_and_gradients(model, batch))


def test_a_compiler_that_is_missing_is_named(monkeypatch):
    monkeypatch.setenv("CXX", "no-such-compiler")
    model = MODELS["llama"]()
    with pytest.raises(RecipeError, match="C\\+\\+ compiler"):
        fast.compile_blocks(model, model.model.layers)


@pytest.mark.parametrize("precision", ["float32", "compute"])
def test_a_linear_layer_and_its_adapter_as_one(model, precision):
    model = adapted(model)
    batch = collate(sequences(), 0, "cpu")
    plain = loss_and_gradients(model, batch)
    count = _fused.fuse(model, precision)
    assert bool(count) != isinstance(model.get_base_model(), transformers.GPT2LMHeadModel)  # its layers are transposed
    same(plain, loss_and_gradients(model, batch))
    _fused.unfuse(model)
    assert not any("forward" in vars(module) for module in model.modules())


def test_adapters_that_are_off_stay_off():
    model = adapted(MODELS["llama"]())
    tokens = torch.arange(1, 9)[None]
    with model.disable_adapter():
        base = model(input_ids=tokens).logits
        _fused.fuse(model, "float32")
        assert torch.equal(model(input_ids=tokens).logits, base)
    assert not torch.equal(model(input_ids=tokens).logits, base)


def test_layers_with_dropout_keep_their_own_way():
    model = get_peft_model(MODELS["llama"](), LoraConfig(target_modules=["q_proj"], lora_dropout=0.1))
    assert _fused.fuse(model, "float32") == 0


IN_PLACE = {
    "longformer": lambda: transformers.LongformerForSequenceClassification(
        transformers.LongformerConfig(**{**SMALL, "eos_token_id": 2}, attention_window=4)
    ),
    "deberta": lambda: transformers.DebertaForSequenceClassification(
        transformers.DebertaConfig(**SMALL, relative_attention=True, pos_att_type=["c2p", "p2c"])
    ),
}


@pytest.mark.parametrize("name", sorted(IN_PLACE))
def test_a_layer_whose_output_the_model_changes_in_place(name):
    torch.manual_seed(0)
    model = adapted(IN_PLACE[name]()).eval()

    def gradients():
        model.zero_grad()
        model(input_ids=torch.arange(3, 19).view(2, 8)).logits.square().sum().backward()
        return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}

    plain = gradients()
    assert _fused.fuse(model, "float32") > 0
    same((1.0, plain), (1.0, gradients()))


def test_bfloat16_is_within_the_noise_of_two_orders(model):
    """Beside the float32 result, the fast way in bfloat16 is at most 1.5 times as far as the plain way in bfloat16."""
    items = sequences((60, 50, 44, 30, 30, 29, 12))
    truth = loss_and_gradients(model, collate(items, 0, "cpu"))
    with torch.autocast("cpu", torch.bfloat16):
        plain = loss_and_gradients(model, collate(items, 0, "cpu"))
    fast.can_pack(model)
    fast.remember(model, fast.Fast(fast.cut(model), True, 64))
    with torch.autocast("cpu", torch.bfloat16):
        quick = loss_and_gradients(model, batch_of(model, items, 0, "cpu"))

    def error(found):
        return sum(float((found[1][name] - gradient).norm()) for name, gradient in truth[1].items())

    assert error(quick) <= 1.5 * error(plain)
    assert abs(quick[0] - truth[0]) <= max(1.5 * abs(plain[0] - truth[0]), 0.01 * truth[0])


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_bfloat16_blocks_that_are_computed_again_are_the_same(family):
    torch.manual_seed(0)
    model = MODELS[family]()
    batch = collate(sequences(), 0, "cpu")
    with torch.autocast("cpu", torch.bfloat16):
        plain = loss_and_gradients(model, batch)
        recompute.begin(model, layer_list(model))
        same(plain, loss_and_gradients(model, batch))


def test_no_document_sees_another():
    model = MODELS["llama"]()
    assert fast.can_pack(model)
    items = sequences((9, 7))
    other = [Encoded(0, items[0].tokens[::-1].copy(), weights=items[0].weights), items[1]]
    fast.remember(model, fast.Fast(fast.cut(model), True))
    with torch.no_grad():
        one, two = (_language.token_losses(model, pack(rows, "cpu"))[0] for rows in (items, other))
    count = int((items[1].weights[1:] > 0).sum())
    assert torch.equal(one[-count:], two[-count:])
    assert not torch.equal(one[:-count], two[:-count])


def test_what_cannot_be_done_is_left_out_and_the_model_stays_as_it_was():
    gemma = transformers.Gemma2ForCausalLM(transformers.Gemma2Config(**GROUPED, head_dim=8))
    bloom = transformers.BloomForCausalLM(transformers.BloomConfig(vocab_size=97, hidden_size=32, n_layer=2, n_head=4))
    assert fast.cut(gemma) is None  # its logits are capped
    for made in (gemma, bloom):
        before = made.config._attn_implementation
        assert not fast.can_pack(made)
        assert made.config._attn_implementation == before


EXPERTS = {
    "num_experts": 2,
    "num_experts_per_tok": 1,
    "moe_intermediate_size": 16,
    "shared_expert_intermediate_size": 16,
}
IN_THE_MASK = {
    "phimoe": lambda window: transformers.PhimoeConfig(**GROUPED, num_local_experts=2, sliding_window=window),
    "qwen2_moe": lambda window: transformers.Qwen2MoeConfig(
        **GROUPED, **EXPERTS, sliding_window=window, use_sliding_window=window is not None
    ),
}


@pytest.mark.parametrize("name", sorted(IN_THE_MASK))
def test_a_window_that_only_the_mask_knows_is_not_lost(name):
    """It is wider than the few tokens that the model is asked about, and packed rows have no mask."""
    for form in (transformers.AutoModelForCausalLM, transformers.AutoModelForSequenceClassification):
        if type(IN_THE_MASK[name](40)) not in form._model_mapping:
            continue
        trial = fast.can_pack if form is transformers.AutoModelForCausalLM else fast.can_read
        for window, can in ((40, False), (None, True)):
            made = form.from_config(IN_THE_MASK[name](window))
            before = made.config._attn_implementation
            assert bool(trial(made)) == can
            assert can or made.config._attn_implementation == before


def test_a_window_that_layers_name_may_be_wider_than_the_probe():
    wide = transformers.MistralForCausalLM(transformers.MistralConfig(**GROUPED, sliding_window=40))
    assert fast.can_pack(wide)


def test_a_released_model_is_as_before(model):
    tokens = torch.arange(1, 9)[None]
    model.eval()
    before = model(input_ids=tokens).logits
    fast.remember(model, fast.Fast(None, fast.can_pack(model)))
    assert model.config._attn_implementation == attention.NAME
    assert torch.equal(model(input_ids=tokens).logits, before)  # without a layout it is PyTorch's attention
    fast.release(model)
    assert model.config._attn_implementation == "sdpa"
    assert fast.of(model) == fast.Fast()


def test_left_padding_is_masked_as_ever():
    model = MODELS["llama"]().eval()
    tokens = torch.tensor([[0, 0, 0, 5, 6, 7], [9, 8, 7, 5, 6, 7]])
    mask = (tokens > 0).long()
    before = model(input_ids=tokens, attention_mask=mask).logits
    assert fast.can_pack(model)
    assert torch.equal(model(input_ids=tokens, attention_mask=mask).logits, before)


def test_the_layout_of_documents():
    layout = documents([90, 90, 85, 40, 2, 1])
    assert [(count, length) for count, length, *_ in layout.groups] == [(3, 90), (2, 40), (1, 1)]  # short: to twice
    places = layout.places.tolist()
    assert places[264:270] == [264] * 6  # the third has 85 tokens: its last one stands in
    assert layout.places[layout.back].tolist() == list(range(308))
    assert layout.behind.tolist() == [*range(265, 270), *range(312, 350)]
    hidden = layout.groups[1][2]
    assert hidden[0].tolist() == [0.0] * 40 and hidden[1, 1:3].tolist() == [0.0, -math.inf]


def test_copies_do_not_share_what_was_prepared():
    model = MODELS["llama"]()
    fast.remember(model, fast.Fast(None, True))
    assert fast.of(copy.deepcopy(model)) == fast.Fast()


@pytest.mark.parametrize("factor", [1.0, 40.0], ids=["near", "beyond what a probability can hold"])
def test_the_loss_of_tokens_however_unlikely(factor):
    torch.manual_seed(0)
    hidden = (torch.randn(9, 6) * factor).requires_grad_()
    matrix, targets, weights = torch.randn(30, 6).requires_grad_(), torch.arange(9), torch.linspace(0.5, 1.5, 9)
    plain = (nn.functional.cross_entropy(hidden @ matrix.T, targets, reduction="none") * weights).sum()
    assert (plain > 1000) == (factor > 1)
    ours = _cross_entropy.weighted_sum(hidden, matrix, None, 1.0, targets, weights)
    torch.testing.assert_close(ours, plain, rtol=1e-5, atol=0)
    expected, found = (torch.autograd.grad(loss, (hidden, matrix)) for loss in (plain, ours))
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


def test_a_shared_cast_is_made_anew_when_what_was_read_has_changed():
    x = torch.randn(5, 8).bfloat16()
    first = _fused._read(x, True)
    assert _fused._read(x.reshape(-1, 8), True) is first
    x.add_(1)
    assert torch.equal(_fused._read(x, True), x.float())
    assert torch.equal(_fused._read(x[:3], True), x[:3].float())
    _fused.forget()


class Full(torch.nn.Module):
    """A layer for which memory does not suffice."""

    def forward(self, *args, **kwargs):
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 1 bytes")


@pytest.mark.parametrize("trial", [fast.can_pack, lambda model: fast.can_mask(model, 64)], ids=["pack", "mask"])
def test_memory_that_is_too_small_is_not_taken_for_what_a_model_cannot_do(trial):
    model = MODELS["llama"]()
    model.model.layers[0].mlp = Full()
    with pytest.raises(ModelError, match="Memory is too small to run this model"):
        trial(model)


def test_neither_is_it_in_a_classifier():
    config = transformers.BertConfig(hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32,
                                     vocab_size=50, num_labels=3)  # fmt: skip
    model = transformers.BertForSequenceClassification(config).eval()
    calls = []

    def from_the_third_on(*_):
        calls.append(1)
        if len(calls) > 2:  # the two texts are read alone first, then as one row
            Full()()

    model.bert.encoder.register_forward_pre_hook(from_the_third_on)
    with pytest.raises(ModelError, match="Memory is too small to run this model"):
        fast.can_read(model)
