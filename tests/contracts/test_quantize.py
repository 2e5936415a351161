"""What a quantised base promises: the base is held in few bits, adapters learn on it, and nothing else changes."""

import importlib
import json
import logging
import re
import subprocess
import sys
import types
from importlib.util import find_spec

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForMaskedLM

from finesmith import predictor, run
from finesmith.errors import MissingExtraError, ModelError, RecipeError
from finesmith.evidence import plain
from finesmith.models import fast, quantize
from finesmith.models import load as models_
from finesmith.models.settings import ModelSettings
from finesmith.runfolder import RunFolder
from finesmith.watch import Interrupted, Watcher
from tests import small
from tests.conftest import clause_rows, make_model, ticket_rows, write_jsonl

needs_library = pytest.mark.skipif(not find_spec("bitsandbytes"), reason="needs bitsandbytes (the extra of that name)")
MODES = ("nf4", "int8")
FAMILIES = (("generation", "llama"), ("generation", "llama_tied"), ("generation", "qwen3"), ("generation", "gpt2"))
FAMILIES += (("classification", "llama"), ("classification", "gpt2"), ("classification", "bert"))
FAMILIES += (("classification", "roberta"), ("classification", "distilbert"))
KINDS = {"nf4": "Params4bit", "int8": "Int8Params"}
TRAIN = {"max_steps": 12, "batch_size": 64, "learning_rate": 4e-3, "evaluations": 3, "keep": "last"}


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    folder = tmp_path_factory.mktemp("rows")
    return {
        "classification": write_jsonl(folder / "tickets.jsonl", ticket_rows(60)),
        "generation": write_jsonl(folder / "clauses.jsonl", clause_rows(30)),
    }


def recipe(rows, models, task, family, mode, **more):
    model = {"quantize": mode, **more.pop("model", {})}
    if task == "classification":  # a fitted head leaves these adapters little to learn
        more["classification"] = {"head_first": False}
    return small.make_recipe(rows[task], models(family), task=task, model=model, train=TRAIN, **more)


def ask(ready, model):
    return small.logits(model, ready.data[:5], ready.loaded.tokenizer.pad_token_id)


@pytest.fixture(scope="module")
def trained(rows, models, tmp_path_factory):
    """A model before and after twelve steps with three validations between them, and saved; made once each."""
    made = {}

    def get(task, family, mode):
        if (task, family, mode) not in made:
            ready, splits = small.build(recipe(rows, models, task, family, mode))
            before = {name: p.detach().clone() for name, p in ready.model.named_parameters()}
            events = list(small.fit(ready, splits))
            folder = tmp_path_factory.mktemp("saved") / "model"
            settings = ready.recipe.model
            predictor.save(folder, ready.model, ready.loaded, ready.task, task_name=task, base=settings, adapter=True)
            made[task, family, mode] = ready, before, events, folder
        return made[task, family, mode]

    return get


@needs_library
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("task, family", FAMILIES)
def test_the_trunk_is_quantised_and_nothing_else(task, family, mode, rows, models):
    settings = recipe(rows, models, task, family, mode).model
    labels = ("a", "b", "c") if task == "classification" else ()
    kind = "sequence-classification" if labels else "causal-lm"
    quantised = models_.load(settings, kind, labels=labels).model
    plain_model = models_.load(settings.model_copy(update={"quantize": "none"}), kind, labels=labels).model
    few = {name for name, p in quantised.named_parameters() if type(p).__name__ == KINDS[mode]}
    inside = [name for name, p in plain_model.named_parameters() if (p.ndim == 2 and ".layer" in name) or ".h." in name]
    assert few == {
        name for name in inside if name.endswith(".weight") and "norm" not in name.lower() and "ln_" not in name
    }
    for name, parameter in quantised.named_parameters():
        if name not in few:
            assert torch.equal(parameter, plain_model.get_parameter(name)), name
    assert models_.parameter_counts(quantised)[1] == models_.parameter_counts(plain_model)[1]


@needs_library
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("task, family", FAMILIES)
def test_adapters_learn_on_it_and_only_they_move(task, family, mode, trained):
    ready, before, events, _ = trained(task, family, mode)
    after = dict(ready.model.named_parameters())
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert moved == {name for name, parameter in after.items() if parameter.requires_grad}
    assert all("lora_" in name or "modules_to_save" in name for name in moved)
    assert all(after[name].dtype == torch.float32 for name in moved)
    assert events[-1].step.loss < events[0].step.loss


@needs_library
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("task, family", FAMILIES)
def test_without_the_adapter_the_quantised_base_answers_bit_for_bit(task, family, mode, trained):
    ready, _, _, _ = trained(task, family, mode)
    kind, arguments = ready.task.kind, ready.task.load_arguments()
    base = models_.load(ready.recipe.model, kind, **arguments, seed=ready.recipe.seed).model
    if task == "classification":  # the head learns with the adapters
        base = dict(base.named_modules())[base.base_model_prefix].eval()
        with ready.model.disable_adapter():
            inner = ready.model.get_base_model()
            mine = dict(inner.named_modules())[inner.base_model_prefix].eval()
            tokens = torch.arange(20, 60).reshape(2, 20)
            with torch.inference_mode():
                assert torch.equal(mine(input_ids=tokens)[0], base(input_ids=tokens)[0])
        return
    with ready.model.disable_adapter():
        assert torch.equal(ask(ready, ready.model), ask(ready, base))
    assert not torch.equal(ask(ready, ready.model), ask(ready, base))


@needs_library
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("task, family", FAMILIES)
def test_saved_and_reloaded_answers_as_in_memory(task, family, mode, trained):
    ready, _, _, folder = trained(task, family, mode)
    loaded = predictor.load(folder, device="cpu", dtype="float32").loaded
    assert quantize.is_quantised(loaded.model)
    assert torch.equal(ask(ready, loaded.model), ask(ready, ready.model))
    assert json.loads((folder / predictor.CARD).read_text())["model"]["quantize"] == mode


@needs_library
@pytest.mark.parametrize("mode, near", [("nf4", 1e-5), ("int8", 2e-2)])  # int8 rounds the activations too
@pytest.mark.parametrize("task, family", FAMILIES)
def test_merged_is_plain_and_answers_as_unmerged(task, family, mode, near, trained):
    ready, _, _, folder = trained(task, family, mode)
    loaded = predictor.load(folder, device="cpu", dtype="float32").loaded
    unmerged = ask(ready, loaded.model)
    merged = ready.method.merge(loaded.model).eval()
    assert not quantize.is_quantised(merged)
    assert {p.dtype for p in merged.parameters()} == {torch.float32}
    torch.testing.assert_close(ask(ready, merged), unmerged, rtol=near, atol=near)


@needs_library
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_validation_changes_nothing_in_the_training_after_it(dtype, rows, models):
    """bitsandbytes packs a layer anew in eval mode on some processors, and no gradient passes from then on."""
    gradients = []
    for validated in (False, True):
        ready, _ = small.build(recipe(rows, models, "generation", "llama", "nf4", model={"dtype": dtype}))
        for name, parameter in ready.model.named_parameters():
            if "lora_B" in name:
                torch.nn.init.normal_(parameter.data, generator=torch.Generator().manual_seed(1))
        if validated:
            ask(ready, ready.model)
        step = next(small.loop_steps(ready, total=1))
        gradients.append((step.loss, step.gradient_norm, small.weights(ready.model)))
    assert gradients[0][:2] == gradients[1][:2]
    assert small.equal(gradients[0][2], gradients[1][2])


@needs_library
def test_the_gradient_through_the_base_is_that_of_its_values(rows, models):
    """Against the same adapters on a plain model with the dequantised values."""
    ready, _ = small.build(recipe(rows, models, "generation", "llama", "nf4"))
    plain_model = ready.method._on_plain_base(small.build(ready.recipe)[0].model)
    for model in (ready.model, plain_model):
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                torch.nn.init.normal_(parameter.data, std=0.1, generator=torch.Generator().manual_seed(1))
    found = []
    for model in (ready.model, plain_model):
        batch = small.collate(ready.data[:4], ready.loaded.tokenizer.pad_token_id, "cpu")
        loss, _ = ready.task.loss(model.train(), batch)
        loss.backward()
        found.append({name: p.grad for name, p in model.named_parameters() if p.requires_grad})
    for name, gradient in found[0].items():
        torch.testing.assert_close(gradient, found[1][name], rtol=1e-4, atol=1e-5)


class StopAt(Watcher):
    """Ctrl-C after a step."""

    def __init__(self, step):
        self.at, self.now = step, 0

    def step(self, step, total, scores, best):
        self.now = step.index

    def should_stop(self):
        return self.now == self.at


@needs_library
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("task", ["generation", "classification"])
def test_a_whole_run_says_it_and_goes_on_bit_for_bit(task, mode, rows, models, tmp_path):
    asked = recipe(rows, models, task, "llama", mode)
    whole = run.tune(asked.replace(out=str(tmp_path / "whole")))
    with pytest.raises(Interrupted):
        run.tune(asked.replace(out=str(tmp_path / "cut")), watcher=StopAt(3))
    resumed = run.resume(tmp_path / "cut")
    weights = [(r.path / "model/adapter_model.safetensors").read_bytes() for r in (whole, resumed)]
    assert weights[0] == weights[1]
    first, second = (plain.as_json(r.evidence) for r in (whole, resumed))
    assert first["systems"] == second["systems"]
    folder = RunFolder(whole.path)
    assert folder.read_json("manifest.json")["quantize"] == mode
    card = (whole.path / "README.md").read_text()
    assert f"the frozen base is quantised to {mode}" in card and f"on its base quantised to {mode}" in card
    assert whole.recipe.model.quantize == mode


def test_the_extra_is_named_where_the_library_is_missing(rows, models, monkeypatch):
    monkeypatch.setattr(quantize, "_LIBRARY", None)
    with pytest.raises(MissingExtraError, match=r"model.quantize: nf4 needs.*\n.*finesmith\[bitsandbytes\]"):
        small.build(recipe(rows, models, "generation", "llama", "nf4"))


@pytest.mark.parametrize("method", ["full", "last_layers", "head"])
def test_a_method_that_moves_the_base_is_refused(method, rows, models):
    with pytest.raises(RecipeError, match=f"model.quantize needs adapters: method '{method}'"):
        small.make_recipe(rows["generation"], models("llama"), method=method, model={"quantize": "nf4"})


@needs_library
def test_a_checkpoint_that_is_quantised_already_is_refused(tmp_path):
    config = make_model(tmp_path / "model") / "config.json"
    written = json.loads(config.read_text()) | {"quantization_config": {"quant_method": "bitsandbytes"}}
    config.write_text(json.dumps(written))
    with pytest.raises(ModelError, match="the checkpoint is quantised already"):
        models_.load(ModelSettings(name=str(config.parent), device="cpu", quantize="nf4"), "causal-lm")


def test_the_library_may_not_fetch_code_while_it_is_imported(tmp_path, monkeypatch):
    """It asks `kernels` for compiled code from a hub where that is installed; here it must look as if it were not."""
    (tmp_path / "bitsandbytes.py").write_text(
        "try:\n    import kernels\n    found = True\nexcept ImportError:\n    found = False\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "bitsandbytes", raising=False)
    installed = types.ModuleType("kernels")
    monkeypatch.setitem(sys.modules, "kernels", installed)
    level = logging.getLogger("bitsandbytes").level
    try:
        assert quantize._guarded_import().found is False
        assert importlib.import_module("kernels") is installed
    finally:
        logging.getLogger("bitsandbytes").setLevel(level)
        sys.modules.pop("bitsandbytes", None)


def test_it_is_imported_before_peft_imports_it():
    code = "import finesmith.predictor, sys; print('peft' in sys.modules, 'finesmith.models.quantize' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120)
    assert (done.stdout.split(), done.stderr) == (["False", "True"], "")


def wide_model(folder, task):
    """64 inputs to every layer: with fewer than a block of 64, bitsandbytes fails in eval mode on some processors."""
    make_model(folder, "bert" if task == "classification" else "llama")
    config = AutoConfig.from_pretrained(folder)
    config.update({"hidden_size": 64, "intermediate_size": 128, "head_dim": 16})
    auto = AutoModelForMaskedLM if task == "classification" else AutoModelForCausalLM
    auto.from_config(config).save_pretrained(folder)
    return lambda family: str(folder)


@needs_library
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("task", ["generation", "classification"])
def test_the_card_shows_how_to_load_it_with_peft_alone(task, mode, rows, tmp_path, capsys):
    asked = recipe(rows, wide_model(tmp_path / "model", task), task, "", mode)
    done = run.tune(asked.replace(out=str(tmp_path / "run")))
    card = (done.path / "README.md").read_text().replace("path/to/run", str(done.path))
    code = next(block for block in re.findall(r"```python\n(.*?)```", card, re.DOTALL) if "PeftModel" in block)
    load, question = code.split("model = pipeline")
    with models_.quiet():
        exec(load, names := {})
    delivered = predictor.load(done.path, device="cpu", dtype="float32").loaded.model.get_base_model()
    theirs = dict(names["tuned"].named_parameters())
    used = {name: p for name, p in delivered.named_parameters() if "original_module" not in name}
    for name, parameter in used.items():  # the original of a head is random, and the saved head stands in its place
        assert type(theirs[name]) is type(parameter) and torch.equal(theirs[name], parameter), name
    capsys.readouterr()
    exec("model = pipeline" + question, names)
    assert capsys.readouterr().out.strip()


@needs_library
@pytest.mark.parametrize("mode", MODES)
def test_layers_on_a_quantised_base_are_computed_by_peft(mode, rows, models):
    """The fused adapter layer reads the base's weight as a matrix, which a quantised one is not."""
    fused = []
    for quantised in ("none", mode):
        ready, _ = small.build(recipe(rows, models, "generation", "llama", quantised))
        fused.append([name for name, module in ready.model.named_modules() if "forward" in vars(module)])
    assert fused[0] and not fused[1]


@needs_library
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_packed_documents_and_loss_in_chunks_change_nothing(dtype, rows, models):
    """The ways to train fast that are proved on the model hold on a quantised one too."""
    found = []
    for fast_ in (False, True):
        speed = {"packing": fast_, "chunked_loss": fast_}
        ready, _ = small.build(recipe(rows, models, "generation", "llama", "nf4", model={"dtype": dtype}, speed=speed))
        assert fast.of(ready.model).packed is fast_ and (fast.of(ready.model).output is not None) is fast_
        found.append([step.loss for step in small.loop_steps(ready, total=4)])
    assert found[1] == pytest.approx(found[0], rel=1e-4 if dtype == "float32" else 1e-2)
