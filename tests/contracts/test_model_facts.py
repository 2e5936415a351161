"""What is settled about a model when it is loaded: its pad token and how long a text it reads."""

import pytest
import torch
import transformers as tf

from finesmith.errors import ModelError
from finesmith.models import licences, load, place
from finesmith.models.settings import ModelSettings
from tests.conftest import make_tokenizer

SIZE = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48}


def loaded(folder, kind="causal-lm", **more):
    settings = ModelSettings(name=str(folder), dtype="float32", device="cpu")
    return load.load(settings, kind, **more)


def test_the_part_that_reads_text_knows_the_pad_token_too(tmp_path):
    known = len(make_tokenizer(tmp_path)) + 8
    text = {**SIZE, "vocab_size": known, "num_key_value_heads": 2, "head_dim": 8, "max_position_embeddings": 256,
            "num_hidden_layers": 4, "linear_num_key_heads": 2, "linear_num_value_heads": 2, "linear_key_head_dim": 8,
            "linear_value_head_dim": 8}  # fmt: skip
    sees = {"depth": 1, "hidden_size": 32, "intermediate_size": 48, "num_heads": 4, "out_hidden_size": 32}
    marks = ("image_token_id", "video_token_id", "vision_start_token_id", "vision_end_token_id")
    ids = {name: known - 1 - at for at, name in enumerate(marks)}
    config = tf.CONFIG_MAPPING["qwen3_5"](text_config=text, vision_config=sees, **ids)
    tf.Qwen3_5ForConditionalGeneration(config).save_pretrained(tmp_path)
    base = loaded(tmp_path, "sequence-classification", labels=("a", "b"))
    rows = torch.tensor([[5, 6, 7], [8, base.tokenizer.pad_token_id, base.tokenizer.pad_token_id]])
    with torch.no_grad():
        together = base.model(input_ids=rows, attention_mask=torch.tensor([[1, 1, 1], [1, 0, 0]])).logits
        alone = base.model(input_ids=rows[1:, :1]).logits
    assert torch.allclose(together[1:], alone, atol=1e-5)


@pytest.mark.parametrize("kind", ["mpnet", "roberta", "bert", "longformer", "ibert"])
def test_the_longest_text_has_a_position_for_every_token(tmp_path, kind):
    known = len(make_tokenizer(tmp_path))
    more = {"attention_window": 8} if kind == "longformer" else {}
    more |= {"pad_token_id": 1, "quant_mode": False} if kind == "ibert" else {}
    config = tf.CONFIG_MAPPING[kind](**SIZE, vocab_size=known, max_position_embeddings=65, **more)
    tf.AutoModelForMaskedLM.from_config(config).save_pretrained(tmp_path)
    base = loaded(tmp_path, "sequence-classification", labels=("a", "b"))
    longest = load.context_length(base.model.config, base.tokenizer)
    assert longest in range(63, 66) and (longest == 65) == (kind == "bert")
    assert load.context_length(config, base.tokenizer) == longest, "also by a configuration that no model was made of"
    with torch.no_grad():
        base.model(input_ids=torch.full((1, longest), 7))
        with pytest.raises((IndexError, RuntimeError)):
            base.model(input_ids=torch.full((1, longest + 1), 7))


def test_a_model_that_states_no_limit_reads_what_its_tokenizer_does(tmp_path):
    tokenizer = make_tokenizer(tmp_path)
    config = tf.XLNetConfig(vocab_size=len(tokenizer), d_model=32, n_layer=2, n_head=4, d_inner=48)
    assert config.max_position_embeddings == -1
    assert load.context_length(config, tokenizer) == tokenizer.model_max_length == 128


@pytest.mark.parametrize("own", [False, True])
def test_the_end_token_is_learnt_where_it_also_pads(tmp_path, own):
    tokenizer = make_tokenizer(tmp_path)
    if not own:
        tokenizer.pad_token = None
        tokenizer.save_pretrained(tmp_path)
    config = tf.LlamaConfig(**SIZE, vocab_size=len(tokenizer), eos_token_id=tokenizer.eos_token_id)
    tf.LlamaForCausalLM(config).save_pretrained(tmp_path)
    base = loaded(tmp_path)
    pad, end = base.tokenizer.pad_token_id, base.tokenizer.eos_token_id
    assert (pad == end) == (not own)
    base.model(input_ids=torch.tensor([[5, end, 7, 8, end, 9, pad]])).logits.square().mean().backward()
    gradient = base.model.get_input_embeddings().weight.grad
    assert gradient[end].abs().max() > 0 and (gradient[pad].abs().max() > 0) == (not own)


def test_a_folder_below_the_home_folder_is_loaded_by_its_short_name(tmp_path, models, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "base").symlink_to(models("llama"), target_is_directory=True)
    assert place.check(ModelSettings(name="~/base")) == str(tmp_path / "base")
    assert loaded("~/base").model.config.model_type == "llama"
    with pytest.raises(ModelError, match="There is no model folder '~/bass'"):
        place.check(ModelSettings(name="~/bass"))


def licences_of(folder):
    return {path.name: path.read_text() for path in licences.files(ModelSettings(name=str(folder)))}


def test_a_licence_that_is_a_link_out_of_the_model_folder_is_not_passed_on(tmp_path):
    base, elsewhere = tmp_path / "base", tmp_path / "private"
    (base / "texts").mkdir(parents=True)
    elsewhere.write_text("a key")
    (base / "texts" / "licence").write_text("mine")
    (base / "LICENSE").symlink_to(elsewhere)
    (base / "README.md").symlink_to("../private")
    (base / "NOTICE").symlink_to("texts/licence")
    (base / "COPYING").write_text("yours")
    assert licences_of(base) == {"NOTICE": "mine", "COPYING": "yours"}


def test_licences_in_a_hub_cache_are_links_to_its_blobs(tmp_path):
    snapshot = tmp_path / "models--a--b" / "snapshots" / "c0ffee"
    snapshot.mkdir(parents=True)
    (tmp_path / "models--a--b" / "blobs").mkdir()
    (tmp_path / "models--a--b" / "blobs" / "5ha").write_text("ours")
    (tmp_path / "5ha").write_text("a key")
    (snapshot / "LICENSE").symlink_to("../../blobs/5ha")
    (snapshot / "NOTICE").symlink_to("../../../5ha")
    assert licences_of(snapshot) == {"LICENSE": "ours"}
