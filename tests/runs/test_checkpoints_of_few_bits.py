"""Checkpoints that come quantised: read as plain weights, held as they are under adapters, or refused at loading."""

import json
import shutil
from importlib.util import find_spec
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig

from finesmith import measure, stages
from finesmith.errors import ModelError
from finesmith.measurements.lora_or_full import PLUGIN as LORA_OR_FULL
from finesmith.models import load as models_of
from finesmith.models import quantize
from finesmith.models.settings import ModelSettings
from tests import small
from tests.conftest import clause_rows, ticket_rows, write_jsonl

needs_library = pytest.mark.skipif(not find_spec("bitsandbytes"), reason="needs bitsandbytes (the extra of that name)")
BLOCK = 16


@pytest.fixture(scope="module")
def fp8(models, tmp_path_factory):
    """A tiny Llama as fine-grained FP8 checkpoints are: codes of 8 bits and one scale for each block."""
    folder = tmp_path_factory.mktemp("fp8") / "model"
    shutil.copytree(models("llama", "chatml"), folder)
    config = json.loads((folder / "config.json").read_text())
    made = {"quant_method": "fp8", "weight_block_size": [BLOCK, BLOCK], "activation_scheme": "dynamic", "fmt": "e4m3"}
    (folder / "config.json").write_text(json.dumps({**config, "dtype": "bfloat16", "quantization_config": made}))
    kept = {}
    for name, weight in load_file(folder / "model.safetensors").items():
        if "proj" not in name:
            kept[name] = weight.to(torch.bfloat16)
            continue
        tall, wide = (size // BLOCK for size in weight.shape)
        blocks = weight.view(tall, BLOCK, wide, BLOCK)
        scales = blocks.abs().amax(dim=(1, 3)) / 448
        kept[name] = (blocks / scales[:, None, :, None]).view_as(weight).to(torch.float8_e4m3fn)
        kept[f"{name}_scale_inv"] = scales
    save_file(kept, folder / "model.safetensors", metadata={"format": "pt"})
    return str(folder)


@pytest.fixture(scope="module")
def nf4(models, tmp_path_factory):
    """A tiny Llama as checkpoints in 4 bits are."""
    folder, plain = tmp_path_factory.mktemp("nf4") / "model", models("llama", "chatml")
    made = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4")
    AutoModelForCausalLM.from_pretrained(plain, quantization_config=made, device_map={"": "cpu"}).save_pretrained(
        folder
    )
    AutoTokenizer.from_pretrained(plain).save_pretrained(folder)
    return str(folder)


def loaded_from(folder, **more):
    settings = ModelSettings(name=folder, dtype="float32", device="cpu", from_scratch=more.pop("from_scratch", False))
    return models_of.load(settings, "causal-lm", **more)


@pytest.mark.parametrize("moving", [False, True])
def test_weights_of_eight_bits_are_read_as_plain_ones(fp8, models, moving, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)  # on such a GPU transformers keeps the codes
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda *_: (9, 0))
    loaded = loaded_from(fp8, moving=moving)
    assert {weight.dtype for weight in loaded.model.parameters()} == {torch.float32}
    assert getattr(loaded.model.config, "quantization_config", None) is None
    assert "the checkpoint is quantised (fp8); its weights are read as plain ones" in loaded.notes[0]
    plain = dict(loaded_from(models("llama", "chatml")).model.named_parameters())
    for name, weight in loaded.model.named_parameters():
        assert (weight - plain[name]).abs().max() < 0.05 * plain[name].abs().max(), name


def test_adapters_learn_on_a_base_of_eight_bits(fp8, tmp_path):
    data = write_jsonl(tmp_path / "rows.jsonl", clause_rows(40))
    ready, splits = small.build(small.make_recipe(data, fp8, method="lora", train={"max_steps": 2, "evaluations": 1}))
    assert len(list(small.fit(ready, splits))) == 2
    assert not quantize.stays(models_of.load_config(ready.recipe.model))


def test_random_weights_are_plain_whatever_the_checkpoint_holds(fp8):
    loaded = loaded_from(fp8, from_scratch=True, moving=True)
    assert not hasattr(loaded.model.config, "quantization_config")
    assert {type(module) for module in loaded.model.modules() if "Linear" in type(module).__name__} == {torch.nn.Linear}


def test_codes_are_not_narrowed_with_the_weights_beside_them():
    codes = torch.nn.Linear(4, 4)
    codes.weight = torch.nn.Parameter(torch.ones(4, 4).to(torch.float8_e4m3fn), requires_grad=False)
    codes.weight_scale = torch.nn.Parameter(torch.ones(1), requires_grad=False)
    model = torch.nn.ModuleDict({"codes": codes, "norm": torch.nn.LayerNorm(4).requires_grad_(False)})
    stages._precision(model, SimpleNamespace(dtype=torch.bfloat16), SimpleNamespace(adapter=True))
    assert (codes.weight.dtype, codes.weight_scale.dtype) == (torch.float8_e4m3fn, torch.float32)
    assert model["norm"].weight.dtype == torch.bfloat16


@needs_library
@pytest.mark.parametrize("method", ["full", "last_layers", "head"])
def test_weights_of_four_bits_cannot_move(method, nf4, tmp_path):
    data = write_jsonl(tmp_path / "rows.jsonl", ticket_rows(60) if method == "head" else clause_rows(40))
    with pytest.raises(ModelError, match=r"are quantised \(bitsandbytes, 4 bits\): they cannot move") as caught:
        small.build(small.make_recipe(data, nf4, method=method))
    assert "Use method: lora" in str(caught.value)


@needs_library
def test_adapters_stand_on_a_base_of_four_bits_and_the_manifest_says_so(nf4, tmp_path):
    data = write_jsonl(tmp_path / "rows.jsonl", clause_rows(40))
    ready, _ = small.build(small.make_recipe(data, nf4, method="lora"))
    assert "the frozen base is quantised (bitsandbytes, 4 bits), as its checkpoint is" in ready.notes
    assert measure.manifest(ready, stages.Trained(1, 0))["quantize"] == "bitsandbytes, 4 bits"
    assert "quantised base cannot move" in LORA_OR_FULL.skips(SimpleNamespace(recipe=ready.recipe))


@needs_library
def test_bits_that_no_training_passes_through_are_refused(nf4, monkeypatch):
    from transformers.quantizers.quantizer_bnb_4bit import Bnb4BitHfQuantizer

    monkeypatch.setattr(Bnb4BitHfQuantizer, "is_trainable", False)
    with pytest.raises(ModelError, match=r"\(bitsandbytes, 4 bits\) in a way that no training passes through"):
        loaded_from(nf4)
