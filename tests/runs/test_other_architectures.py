"""Decoders that are not built like Llama: windows, chunks, convolutions, recurrences, experts, a second sense."""

import numpy as np
import pytest
import torch
from transformers import CONFIG_MAPPING, AutoModelForCausalLM, AutoModelForSequenceClassification

from finesmith.errors import ModelError, RecipeError
from finesmith.methods import _frozen, _spared
from finesmith.methods.base import layer_list, linear_names, unreached
from finesmith.methods.last_layers import LastLayers, LastLayersSettings
from finesmith.methods.lora import Lora, LoraSettings
from finesmith.models.load import Loaded
from finesmith.tasks import _continuations, _language
from finesmith.tasks.base import Encoded, batch_of
from finesmith.tasks.generation import Generation, GenerationSettings
from finesmith.train import ways
from finesmith.train.packing import joined
from finesmith.train.speed import SpeedSettings
from finesmith.types import Conversation, Example, Message, Origin

WINDOW = 16
SIZE = {"vocab_size": 97, "hidden_size": 32, "num_hidden_layers": 4, "num_attention_heads": 4, "num_key_value_heads": 2,
        "head_dim": 8, "intermediate_size": 48, "max_position_embeddings": 256, "initializer_range": 0.1,
        "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}  # fmt: skip
EXPERTS = {"num_local_experts": 4, "num_experts_per_tok": 2}
KINDS = {
    "llama": {},
    "mistral": {"sliding_window": WINDOW},
    "gemma2": {"sliding_window": WINDOW, "query_pre_attn_scalar": 8},
    "gemma3_text": {"sliding_window": WINDOW, "query_pre_attn_scalar": 8},
    "gpt_oss": {"sliding_window": WINDOW, **EXPERTS},
    "llama4_text": {"attention_chunk_size": WINDOW, "intermediate_size_mlp": 48, **EXPERTS},
    "mixtral": {"sliding_window": None, **EXPERTS},
    "lfm2": {"layer_types": ["conv", "full_attention"] * 2},
    "jamba": {"attn_layer_period": 2, "attn_layer_offset": 1, "expert_layer_period": 2, "expert_layer_offset": 1,
              "num_experts": 4, "mamba_d_state": 4, "mamba_dt_rank": 4, "use_mamba_kernels": False},
    "bloom": {"n_layer": 4, "n_head": 4},
}  # fmt: skip


class Pads:
    pad_token_id = 0


def made(kind):
    torch.manual_seed(0)
    fits = {**SIZE, **KINDS[kind]}
    if kind in ("lfm2", "jamba", "bloom"):
        fits.pop("head_dim")
    model = AutoModelForCausalLM.from_config(CONFIG_MAPPING[kind](**fits), dtype=torch.float32)
    return Loaded(model.eval(), Pads(), torch.device("cpu"), torch.float32)


def sequences(*sizes):
    random_ = np.random.default_rng(0)
    ones = [np.append(np.float32(0), np.ones(size - 1, np.float32)) for size in sizes]
    return [
        Encoded(row, random_.integers(3, 97, size).astype(np.int32), weights=weights)
        for row, (size, weights) in enumerate(zip(sizes, ones, strict=True))
    ]


def gradients(model, items):
    model.zero_grad()
    total, _ = _language.weighted_loss(model, batch_of(model, items, 0, "cpu"))
    total.backward()
    return torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])


@pytest.mark.parametrize("packing", [True, False])
@pytest.mark.parametrize("kind", KINDS)
def test_sequences_that_share_a_row_do_not_see_one_another_or_the_row_is_refused(kind, packing):
    loaded, apart = made(kind), sequences(45, 15)
    expected = gradients(loaded.model, apart)
    speed = SpeedSettings(packing=packing, chunked_loss=False, block_attention=0)
    try:
        ways.prepare(speed, "causal-lm", loaded, shared=60)
    except RecipeError as error:
        assert "train.packing" in str(error) and loaded.model.config.model_type in str(error)
        assert kind not in ("llama", "mixtral"), "these can"
        return
    assert kind not in ("lfm2", "jamba", "bloom", "llama4_text"), "these cannot"
    found = gradients(loaded.model, [joined(apart)])
    assert (found - expected).norm() / expected.norm() < 1e-4


@pytest.mark.parametrize("kind", KINDS)
def test_continuations_say_the_same_read_from_a_cache(kind):
    loaded, random_ = made(kind), np.random.default_rng(0)
    begin, ends = [3, 4, 5, 6], [[5, 6], [7], [8, 9, 10]]
    for held in (0, 2 * WINDOW):
        prompts = [[*begin, *range(10, 10 + held), *random_.integers(50, 90, size).tolist()] for size in (5, 40, 30)]
        found = _continuations.log_probabilities(loaded, prompts, ends)
        plainly = _continuations.log_probabilities(loaded, prompts, ends, cached=False)
        assert np.abs(found - plainly).max() < 1e-3


@pytest.mark.parametrize("kind", KINDS)
def test_every_stack_of_blocks_is_found_and_takes_adapters(kind):
    model = made(kind).model
    assert len(layer_list(model)) == 4
    share = unreached(model)
    assert (share > 0.1) == (kind in ("mixtral", "gpt_oss", "llama4_text", "jamba"))
    wrapped = Lora(LoraSettings()).apply(model, head=(), seed=0)
    assert len(layer_list(wrapped)) == 4 and _frozen.frozen_part(wrapped)


def opened(model, head=()):
    LastLayers(LastLayersSettings(count=1)).apply(model, head=head, seed=0)
    return {name.rpartition(".")[0] for name, weight in model.named_parameters() if weight.requires_grad}


@pytest.mark.parametrize(
    ("kind", "norm"),
    [("llama", "model.norm"), ("bloom", "transformer.ln_f"), ("opt", "model.decoder.final_layer_norm")],
)
def test_the_norm_behind_the_last_block_moves_with_it(kind, norm):
    more = {"ffn_dim": 48, "word_embed_proj_dim": 32} if kind == "opt" else KINDS[kind]
    fits = {name: value for name, value in SIZE.items() if kind == "llama" or name != "head_dim"}
    model = AutoModelForCausalLM.from_config(CONFIG_MAPPING[kind](**fits, **more), dtype=torch.float32)
    state = torch.get_rng_state()
    assert {name for name in opened(model) if ".3." not in name} == {norm}
    assert torch.equal(state, torch.get_rng_state()) and _frozen.frozen_part(model).blocks


def test_a_norm_that_every_block_reads_stays_closed():
    relative = {"relative_attention": True, "position_buckets": 16, "norm_rel_ebd": "layer_norm",
                "share_att_key": True, "pos_att_type": ["p2c", "c2p"], "position_biased_input": False}  # fmt: skip
    sizes = {name: SIZE[name] for name in ("vocab_size", "hidden_size", "num_attention_heads", "intermediate_size")}
    config = CONFIG_MAPPING["deberta-v2"](**sizes, **relative, num_hidden_layers=4, max_position_embeddings=64)
    model = AutoModelForSequenceClassification.from_config(config)
    assert not any(name.startswith("deberta.encoder.LayerNorm") for name in opened(model, head=("classifier",)))
    assert len(_frozen.frozen_part(model).blocks) == 3


MAMBA = {"mamba_d_ssm": 32, "mamba_n_heads": 4, "mamba_d_head": 8, "mamba_n_groups": 1, "mamba_d_state": 4}
HYBRID = {"mamba_n_heads": 4, "mamba_d_head": 16, "mamba_n_groups": 1, "mamba_d_state": 4, "mamba_expand": 2,
          "attn_layer_indices": [1]}  # fmt: skip
LONGCAT = {"num_layers": 2, "ffn_hidden_size": 48, "q_lora_rank": 8, "kv_lora_rank": 8, "qk_nope_head_dim": 8,
           "qk_rope_head_dim": 8, "v_head_dim": 8, "moe_topk": 2, "n_routed_experts": 4, "zero_expert_num": 2,
           "expert_ffn_hidden_size": 16, "num_key_value_heads": 4}  # fmt: skip
ODD_LINEARS = {
    "llama4_text": ({"attention_chunk_size": 64, "intermediate_size_mlp": 48, **EXPERTS}, "router"),
    "phimoe": (EXPERTS, "router"),
    "falcon": ({"new_decoder_architecture": True}, "lm_head"),
    "falcon_h1": (MAMBA, "out_proj"),
    "mamba": ({"state_size": 4}, "out_proj"),
    "falcon_mamba": ({"state_size": 4}, "dt_proj"),
    "jamba": (KINDS["jamba"], "dt_proj"),
    "bamba": (HYBRID, "out_proj"),
    "longcat_flash": (LONGCAT, "classifier"),
    "zamba2": (
        {
            "num_key_value_heads": 4,
            "mamba_ngroups": 1,
            "mamba_d_state": 4,
            "n_mamba_heads": 4,
            "mamba_expand": 2,
            "num_mem_blocks": 1,
            "adapter_rank": 4,
            "layers_block_type": ["mamba", "hybrid", "mamba", "mamba"],
            "hybrid_layer_ids": [1],
        },
        "out_proj",
    ),
    "granitemoehybrid": ({**HYBRID, **EXPERTS, "layer_types": ["mamba", "attention"] * 2}, "out_proj"),
    "nemotron_h": ({"mamba_num_heads": 4, "mamba_head_dim": 8, "n_groups": 1, "ssm_state_size": 4}, "out_proj"),
}


@pytest.mark.parametrize("kind", ODD_LINEARS)
def test_adapters_stand_only_on_layers_that_compute_as_linear_ones_do_and_that_peft_takes(kind):
    more, spared_layer = ODD_LINEARS[kind]
    own_heads = kind in ("falcon", "mamba", "falcon_mamba", "jamba", "bamba", "granitemoehybrid", "zamba2")
    fits = {name: value for name, value in SIZE.items() if not own_heads or name != "head_dim"}
    if kind in ("nemotron_h", "longcat_flash"):
        fits.pop("num_hidden_layers")
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(CONFIG_MAPPING[kind](**{**fits, **more}), dtype=torch.float32)
    wrapped = Lora(LoraSettings()).apply(model, head=(), seed=0)
    moved = [name for name, weight in wrapped.named_parameters() if weight.requires_grad]
    assert moved and not any(spared_layer in name for name in moved)
    if kind == "falcon":
        assert any("query_key_value" in name for name in moved), "its own forward pass gives what a linear one gives"
    wrapped.train()(input_ids=torch.arange(3, 20)[None]).logits.sum().backward()
    idle = [name for name, weight in wrapped.named_parameters() if weight.requires_grad and weight.grad is None]
    assert not idle, "every adapter learns"


MIXTURE = {"num_experts_per_tok": 2, "moe_intermediate_size": 16}
SHARED_EXPERTS = {
    "deepseek_v2": {"n_routed_experts": 4, "n_shared_experts": 1, "first_k_dense_replace": 1, "kv_lora_rank": 8,
                    "q_lora_rank": None, "qk_nope_head_dim": 8, "qk_rope_head_dim": 8, "v_head_dim": 8,
                    "n_group": 1, "topk_group": 1, "topk_method": "greedy", "num_key_value_heads": 4},
    "glm4_moe": {"n_routed_experts": 4, "n_shared_experts": 1, "first_k_dense_replace": 1, "n_group": 1,
                 "topk_group": 1},
    "ernie4_5_moe": {"moe_num_experts": 4, "moe_k": 2, "moe_num_shared_experts": 1, "moe_layer_start_index": 1},
}  # fmt: skip


def mixture(kind):
    torch.manual_seed(0)
    config = CONFIG_MAPPING[kind](**{**SIZE, **MIXTURE, **SHARED_EXPERTS[kind]})
    return AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()


@pytest.mark.parametrize("kind", SHARED_EXPERTS)
def test_adapters_reach_no_routed_expert_through_the_names_of_the_shared_ones(kind, tmp_path):
    from peft import PeftModel

    model, tokens = mixture(kind), torch.arange(3, 20)[None]
    (note,) = _spared.notes(model)
    assert note.startswith("no adapters on down_proj, gate_proj, up_proj: PEFT takes these names")
    wrapped = Lora(LoraSettings(dropout=0.1, last_layers=2)).apply(model, head=(), seed=0)
    moved = [name for name, weight in wrapped.named_parameters() if weight.requires_grad]
    assert moved and all(".self_attn." in name and (".2." in name or ".3." in name) for name in moved)
    for name, weight in wrapped.named_parameters():
        torch.nn.init.constant_(weight, 0.1) if "lora_B" in name else None
    wrapped.save_pretrained(tmp_path)
    again = PeftModel.from_pretrained(mixture(kind), tmp_path)
    with torch.no_grad():
        assert torch.equal(again.eval()(tokens).logits, wrapped.eval()(tokens).logits)
    with pytest.raises(RecipeError, match="cannot put adapters on 'up_proj' of this model: PEFT takes these names"):
        Lora(LoraSettings(target_modules=("up_proj",))).apply(mixture(kind), head=(), seed=0)


def test_adapters_that_peft_puts_elsewhere_are_refused(monkeypatch):
    monkeypatch.setattr("finesmith.methods.lora.spared", lambda model: {})
    with pytest.raises(RecipeError, match=r"elsewhere than asked: on .'down_proj', 'gate_up_proj'"):
        Lora(LoraSettings()).apply(mixture("deepseek_v2"), head=(), seed=0)


def test_a_layer_that_peft_refuses_is_a_mistake_in_the_recipe():
    config = CONFIG_MAPPING["mamba"](vocab_size=97, hidden_size=32, num_hidden_layers=2, state_size=4)
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    with pytest.raises(RecipeError, match=r"PEFT cannot put adapters .*out_proj"):
        Lora(LoraSettings(target_modules=("out_proj",))).apply(model, head=(), seed=0)


def test_a_model_without_blocks_is_refused():
    with pytest.raises(ModelError, match="No stack of blocks"):
        layer_list(torch.nn.Sequential(torch.nn.Linear(2, 2)))


def test_adapters_leave_the_eyes_of_a_model_alone():
    text = {**SIZE, "sliding_window": WINDOW, "query_pre_attn_scalar": 8}
    sees = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 1, "num_attention_heads": 4,
            "image_size": 28, "patch_size": 14}  # fmt: skip
    config = CONFIG_MAPPING["gemma3"](text_config=text, vision_config=sees, mm_tokens_per_image=4,
                                      image_token_index=96, boi_token_index=95, eoi_token_index=94)  # fmt: skip
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    names = list(linear_names(model, outside=()))
    assert names and not any("vision" in name or "projector" in name for name in names)
    wrapped = Lora(LoraSettings()).apply(model, head=(), seed=0)
    moved = [name for name, weight in wrapped.named_parameters() if weight.requires_grad]
    assert moved and not any("vision" in name for name in moved)


def harmony():
    """A tokenizer and a template whose answers begin with special tokens and a word, as gpt-oss has them."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    core = Tokenizer(
        models.BPE(vocab={c: i for i, c in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}, merges=[])
    )
    core.pre_tokenizer, core.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    special = ["<|start|>", "<|channel|>", "<|message|>", "<|end|>"]
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=core, eos_token="<|return|>", pad_token="<|pad|>", additional_special_tokens=special
    )
    tokenizer.chat_template = (
        "{% for m in messages %}{% if m.role == 'assistant' %}<|start|>assistant<|channel|>final<|message|>"
        "{{ m.content }}<|return|>{% else %}<|start|>{{ m.role }}<|message|>{{ m.content }}<|end|>{% endif %}"
        "{% endfor %}{% if add_generation_prompt %}<|start|>assistant{% endif %}"
    )
    return tokenizer


def test_what_the_template_puts_before_an_answer_is_no_part_of_it(monkeypatch):
    loaded = made("llama")
    tokenizer = harmony()
    loaded.model.resize_token_embeddings(len(tokenizer))
    loaded = Loaded(loaded.model, tokenizer, loaded.device, loaded.dtype)
    task, _ = Generation(GenerationSettings(max_new_tokens=30)).prepare(loaded)
    lead = "<|channel|>final<|message|>"
    assert task.learnt.preamble == lead
    said = tokenizer(f"{lead}It is 42.<|return|>", add_special_tokens=False)["input_ids"]

    def write(input_ids, **_):
        return torch.cat([input_ids, torch.tensor([said]).expand(len(input_ids), -1)], 1)

    monkeypatch.setattr(loaded.model, "generate", write)
    assert task.answer(loaded, ["what?"])[0].output == "It is 42."
    base = task.for_base()
    sent = tokenizer.decode(base.prompt(tokenizer, "what?"))
    assert sent.endswith(f"<|start|>assistant{lead}") and not tokenizer.decode(
        task.prompt(tokenizer, "what?")
    ).endswith(lead)
    row = Example("0", Conversation((Message("user", "what?"),)), Message("assistant", "It is 42."), Origin("f", 1))
    measured, trained = (task.encode(row, 0, tokenizer, 100, final_only=only)[0] for only in (True, False))
    assert measured.tokens.tolist() == trained.tokens.tolist()
    assert tokenizer.decode(measured.tokens[measured.weights > 0]) == "It is 42.<|return|>"
    assert tokenizer.decode(trained.tokens[trained.weights > 0]) == f"{lead}It is 42.<|return|>"


def test_greedy_answers_are_the_models_own_whatever_its_settings_say_of_repetitions(models):
    from finesmith.models import load
    from finesmith.models.settings import ModelSettings

    loaded = load.load(ModelSettings(name=models("llama"), dtype="float32", device="cpu"), "causal-lm")
    task, _ = Generation(GenerationSettings(max_new_tokens=24)).prepare(loaded)
    own = [row.output for row in task.answer(loaded, ["my card", "kettle parcel"])]
    loaded.model.generation_config.repetition_penalty = 1.5
    loaded.model.generation_config.no_repeat_ngram_size = 1
    assert [row.output for row in task.answer(loaded, ["my card", "kettle parcel"])] == own
    _, notes = task.prepare(loaded)
    assert "repetition_penalty 1.5, no_repeat_ngram_size 1" in notes[-1], (
        "and whoever serves the model does as was measured"
    )
    assert loaded.model.generation_config.repetition_penalty == 1.0
