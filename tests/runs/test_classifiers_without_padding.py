"""A classifier trained on texts that share a row has the losses and gradients of padded texts: float32 within 1e-5."""

import numpy as np
import pytest
import torch
import transformers
from peft import LoraConfig, get_peft_model

from finesmith.models import blocked, fast, reading
from finesmith.tasks.base import Encoded, batch_of, collate, token_place
from finesmith.tasks.classification import Classification, ClassificationSettings
from tests.runs.test_fast_is_the_same import GROUPED, SMALL, same

QUIET = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0, "num_labels": 3}
DISTIL = {"dim": 32, "hidden_dim": 48, "n_layers": 2, "n_heads": 4, "vocab_size": 97, "pad_token_id": 0}
STILL = {"dropout": 0.0, "attention_dropout": 0.0, "seq_classif_dropout": 0.0, "num_labels": 3}
QUIET_GPT2 = {"attn_pdrop": 0.0, "resid_pdrop": 0.0, "embd_pdrop": 0.0, "num_labels": 3}
MODELS = {
    "bert": lambda: transformers.BertForSequenceClassification(transformers.BertConfig(**SMALL, **QUIET)),
    "roberta": lambda: transformers.RobertaForSequenceClassification(
        transformers.RobertaConfig(**{**SMALL, "pad_token_id": 1, "max_position_embeddings": 66}, **QUIET)
    ),
    "distilbert": lambda: transformers.DistilBertForSequenceClassification(
        transformers.DistilBertConfig(**DISTIL, **STILL)
    ),
    "electra": lambda: transformers.ElectraForSequenceClassification(
        transformers.ElectraConfig(**SMALL, embedding_size=16, **QUIET, classifier_dropout=0.0)
    ),
    "llama": lambda: transformers.LlamaForSequenceClassification(transformers.LlamaConfig(**GROUPED, num_labels=3)),
    "gpt2": lambda: transformers.GPT2ForSequenceClassification(transformers.GPT2Config(**SMALL, **QUIET_GPT2)),
}


@pytest.fixture(params=sorted(MODELS))
def model(request):
    torch.manual_seed(0)
    made = MODELS[request.param]()
    with torch.no_grad():
        for parameter in made.parameters():
            if parameter.dim() > 1:
                parameter.mul_(4)
    return made


def texts(sizes=(21, 20, 20, 13, 9, 9, 8, 3), classes=3) -> list[Encoded]:
    random = np.random.default_rng(1)
    target = random.integers(0, classes, len(sizes))
    return [
        Encoded(0, random.integers(2, 97, size).astype(np.int32), target=np.asarray(label, np.int64))
        for size, label in zip(sizes, target, strict=True)
    ]


def loss_and_gradients(model, batch, rounding=1e-5):
    model.train()
    model.zero_grad()
    task = Classification(ClassificationSettings(), labels=("a", "b", "c"))
    total, count = task.loss(model, batch)
    (total / count).backward()
    found = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    whole = sum(float(gradient.double().square().sum()) for gradient in found.values()) ** 0.5
    for name in [name for name in found if name.endswith(("key.bias", "k_lin.bias"))]:
        # softmax does not see a key's bias: its gradient is rounding, which two orders of sums need not share
        assert float(found.pop(name).double().norm()) <= rounding * whole, name
    return float(total.detach() / count), found


def pad_id(model) -> int:
    return int(model.config.pad_token_id)


@pytest.mark.parametrize("blocked", [0, 64], ids=["fused", "in blocks"])
def test_texts_without_padding(model, blocked):
    plain = loss_and_gradients(model, collate(texts(), pad_id(model), "cpu"))
    found = fast.can_read(model)
    assert found is not None
    fast.remember(model, fast.Fast(None, True, blocked, found))
    batch = batch_of(model, texts(), pad_id(model), "cpu")
    assert batch["input_ids"].shape == (1, sum(len(item.tokens) for item in texts()))
    same(plain, loss_and_gradients(model, batch))


def test_bfloat16_is_within_the_noise_of_two_orders(model):
    """Beside the float32 result, the fast way in bfloat16 is at most 1.5 times as far as the plain way in bfloat16."""
    items = texts((60, 50, 44, 30, 30, 29, 12))
    truth = loss_and_gradients(model, collate(items, pad_id(model), "cpu"))
    with torch.autocast("cpu", torch.bfloat16):
        plain = loss_and_gradients(model, collate(items, pad_id(model), "cpu"), rounding=0.1)
    fast.remember(model, fast.Fast(None, True, 64, fast.can_read(model)))
    with torch.autocast("cpu", torch.bfloat16):
        quick = loss_and_gradients(model, batch_of(model, items, pad_id(model), "cpu"), rounding=0.1)

    def error(found):
        return sum(float((found[1][name] - gradient).norm()) for name, gradient in truth[1].items())

    assert 0 < error(quick) <= 1.5 * error(plain)
    assert abs(quick[0] - truth[0]) <= max(1.5 * abs(plain[0] - truth[0]), 0.01 * truth[0])


@pytest.mark.parametrize("name", ["bert", "llama"])
def test_under_an_adapter_whose_head_is_trained(name):
    torch.manual_seed(0)
    model = MODELS[name]()
    found = fast.can_read(model)
    targets, head = (["query", "value"], "classifier") if name == "bert" else (["q_proj", "v_proj"], "score")
    made = get_peft_model(model, LoraConfig(r=4, target_modules=targets, modules_to_save=[head]))
    plain = loss_and_gradients(made, collate(texts(), 0, "cpu"))
    fast.remember(made, fast.Fast(None, True, 64, found))
    same(plain, loss_and_gradients(made, batch_of(made, texts(), 0, "cpu")))


def test_a_model_that_reads_otherwise_is_padded():
    plain = dict(SMALL, num_hidden_layers=3, local_attention=4, num_labels=3, cls_token_id=1, sep_token_id=2)
    model = transformers.ModernBertForSequenceClassification(transformers.ModernBertConfig(**plain))
    before = model.config._attn_implementation
    assert fast.can_read(model) is None
    assert model.config._attn_implementation == before
    zeros = MODELS["llama"]()
    torch.nn.init.zeros_(zeros.score.weight)
    assert fast.can_read(zeros) is None, "a head of zeros proves nothing"


def test_the_last_token_that_is_no_padding_is_read():
    tokens = np.array([5, 6, 0, 0], np.int32)
    assert (token_place(tokens, "last", 0), token_place(tokens, "first", 0)) == (1, 0)
    assert token_place(np.zeros(2, np.int32), "last", 0) == 0


def test_what_is_read_outside_is_whole():
    model = MODELS["bert"]()
    assert fast.can_read(model) == reading.Reading("first", 0)
    tokens = torch.randint(2, 97, (3, 9))
    assert model.bert(input_ids=tokens).last_hidden_state.shape == (3, 9, 32)


def test_dropout_in_blocks_drops_and_scales_alike_in_both_passes():
    torch.manual_seed(0)
    query, key, value = (torch.randn(6, 7, 1, 5).requires_grad_() for _ in range(3))
    hidden = torch.zeros(6, 7)
    hidden[2, 5:] = float("-inf")
    torch.manual_seed(1)
    out = blocked.attend(query, key, value, 0.5, blocked.Seen(causal=False, hidden=hidden), 0.3)
    slope = torch.randn_like(out)
    ours = torch.autograd.grad(out, (query, key, value), slope)
    torch.manual_seed(1)
    kept = torch.rand(6, 7, 7) >= 0.3
    rows, keys, values = (tensor.squeeze(2) for tensor in (query, key, value))
    shares = (0.5 * rows @ keys.transpose(1, 2) + hidden[:, None]).softmax(-1) * kept / 0.7
    plain = (shares @ values).unsqueeze(2)
    torch.testing.assert_close(out, plain, rtol=1e-5, atol=1e-6)
    for one, other in zip(ours, torch.autograd.grad(plain, (query, key, value), slope), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)
