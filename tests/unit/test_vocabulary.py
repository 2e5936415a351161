"""Tokens that a tokenizer has and its model has no row for."""

import pytest
from transformers import AutoTokenizer, CanineConfig, CanineForSequenceClassification, CanineTokenizer

from finesmith.errors import ModelError
from finesmith.models import load
from finesmith.models.settings import ModelSettings
from tests.conftest import make_model

TEXT = "my card <image_soft_token> please"


def base(folder, *, tokens=(), special=(), template=None):
    make_model(folder, "llama", "chatml")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    rows = len(tokenizer)
    tokenizer.add_tokens(list(tokens))
    tokenizer.add_special_tokens({"additional_special_tokens": list(special)})
    tokenizer.chat_template = template or tokenizer.chat_template
    tokenizer.save_pretrained(folder)
    return ModelSettings(name=str(folder), dtype="float32", device="cpu"), rows


def test_a_mark_that_the_model_has_no_row_for_is_read_as_characters(tmp_path):
    settings, rows = base(tmp_path / "gemma", special=["<image_soft_token>"])
    outside = AutoTokenizer.from_pretrained(settings.name)(TEXT)["input_ids"]
    assert max(outside) == rows, "as Gemma 3 1b comes"
    loaded = load.load(settings, "causal-lm")
    assert "no row for: '<image_soft_token>'; in texts they are plain characters" in loaded.notes[-1]
    tokenizer = loaded.tokenizer
    tokens = tokenizer(TEXT)["input_ids"]
    assert len(tokenizer) == rows and max(tokens) < rows
    assert tokenizer.decode(tokens, skip_special_tokens=True) == TEXT
    assert None not in tokenizer.all_special_ids
    tokenizer.save_pretrained(tmp_path / "saved")
    assert AutoTokenizer.from_pretrained(tmp_path / "saved")(TEXT)["input_ids"] == tokens


@pytest.mark.parametrize("why", ["end", "template"])
def test_a_token_that_every_text_needs_must_have_a_row(why, tmp_path):
    settings, rows = base(tmp_path / "own", special=["<turn>"], template="<turn>{{ messages[0].content }}")
    if why == "end":
        tokenizer = AutoTokenizer.from_pretrained(settings.name)
        tokenizer.chat_template, tokenizer.eos_token = "{{ messages[0].content }}", "<turn>"
        tokenizer.save_pretrained(settings.name)
    with pytest.raises(ModelError, match=f"has {rows + 1} tokens, its model only {rows}"):
        load.load(settings, "causal-lm")


def test_a_tokenizer_of_another_model_is_refused(tmp_path):
    settings, rows = base(tmp_path / "small")
    small = make_model(tmp_path / "other", "bert")
    config = (tmp_path / "small" / "config.json").read_text()
    assert small.exists() and f'"vocab_size": {rows}' in config
    (tmp_path / "small" / "config.json").write_text(config.replace(f'"vocab_size": {rows}', '"vocab_size": 400'))
    with pytest.raises(ModelError, match=f"has {rows} tokens, its model only 400"):
        load.load(settings.model_copy(update={"from_scratch": True}), "causal-lm")


def test_a_model_without_a_table_of_tokens_is_refused(tmp_path):
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48}
    config = CanineConfig(**sizes, max_position_embeddings=128, num_hash_buckets=64, local_transformer_stride=16)
    CanineForSequenceClassification(config).save_pretrained(tmp_path)
    CanineTokenizer().save_pretrained(tmp_path)
    settings = ModelSettings(name=str(tmp_path), dtype="float32", device="cpu")
    with pytest.raises(ModelError, match=r"\(canine\) has no table with one row for each token"):
        load.load(settings, "sequence-classification", labels=("a", "b"))
