"""Models as they come from others: with code of their own, in pickles, with settings that contradict each other."""

import json
import shutil

import pytest
import torch
import transformers
from safetensors.torch import load_file

from finesmith import predictor, recipe, run
from finesmith.errors import ModelError, RunError
from finesmith.models import load as models_of
from finesmith.models.settings import ModelSettings
from tests.conftest import clause_rows, ticket_rows, write_csv, write_jsonl
from tests.runs.test_settings_have_effect import own_code
from tests.runs.test_whole_runs import command


def tuned(data, model, out, *, train=None, **more):
    asked = {"data": {"path": str(data)}, "train": {"max_steps": 2, "evaluations": 1, **(train or {})}, "out": str(out)}
    return run.tune(recipe.make({**asked, "model": {"name": str(model), "dtype": "float32", "device": "cpu", **more}}))


def test_what_a_folder_says_of_itself_does_not_make_its_code_run(models, tmp_path):
    base = tmp_path / "own"
    base.mkdir()
    own_code(models("llama"), base)
    made = tuned(write_jsonl(tmp_path / "rows.jsonl", clause_rows(40)), base, tmp_path / "run", trust_remote_code=True)
    shutil.copytree(made.path / "model", tmp_path / "received")
    for folder in (made.path, tmp_path / "received"):
        with pytest.raises(RunError, match="needs Python code that comes with its base"):
            predictor.load(folder)
        code, _, err = command("predict", folder, tmp_path / "rows.jsonl")
        assert code == 2 and "add --trust-remote-code" in err
    unfinished = shutil.copytree(made.path, tmp_path / "unfinished")
    (unfinished / "evidence.json").unlink()
    asked = [["export", made.path, tmp_path / "out"], ["compare", made.path, "--only", "prompting"]]
    for words in (*asked, ["set-scale", made.path, "0.5"], ["resume", unfinished]):
        code, _, err = command(*words)
        assert code == 2 and "add --trust-remote-code" in err
    for words in (*asked, ["set-scale", made.path, "0.5"]):
        code, _, err = command(*words, "--trust-remote-code")
        assert code == 0, err
    with pytest.raises(RunError):
        made.predict(["who?"])
    assert made.predict(["who?"], trust_remote_code=True)[0].output is not None
    code, _, err = command("predict", made.path, tmp_path / "rows.jsonl", "--trust-remote-code", "--json")
    assert code == 0, err


@pytest.mark.parametrize(
    "settings",
    [
        {"temperature": 0.9, "top_p": 0.6},
        {"top_k": 7, "do_sample": False},
        {"early_stopping": True, "output_scores": True},
        {"stop_strings": ["."], "prompt_lookup_num_tokens": 2},
    ],
    ids=lambda settings: next(iter(settings)),
)
def test_a_base_whose_settings_for_writing_contradict_each_other_is_trained_to_the_end(models, tmp_path, settings):
    base = shutil.copytree(models("llama"), tmp_path / "base")
    (base / "generation_config.json").write_text(json.dumps({"eos_token_id": 1, **settings}))
    made = tuned(write_jsonl(tmp_path / "rows.jsonl", clause_rows(40)), base, tmp_path / "run")
    assert isinstance(made.predict(["who?"])[0].output, str) and made.evidence.verdict


def test_settings_that_cannot_be_kept_are_refused_before_the_first_step(models, tmp_path):
    base = shutil.copytree(models("llama"), tmp_path / "base")
    (base / "generation_config.json").write_text(json.dumps({"use_cache": False, "cache_implementation": "static"}))
    with pytest.raises(ModelError, match=r"generation_config\.json contradicts itself"):
        models_of.load(ModelSettings(name=str(base), device="cpu"), "causal-lm")


def test_a_decoder_without_an_output_layer_is_tuned_and_only_its_prompting_is_missing(models, tmp_path):
    config = transformers.AutoConfig.from_pretrained(models("llama"))
    config.tie_word_embeddings = False
    base = tmp_path / "trunk"
    transformers.LlamaModel(config).save_pretrained(base)
    transformers.AutoTokenizer.from_pretrained(models("llama")).save_pretrained(base)
    made = tuned(write_csv(tmp_path / "rows.csv", ticket_rows(60)), base, tmp_path / "run")
    assert "cannot be prompted" in made.evidence.not_measured["zero-shot"] and made.evidence.systems["base"]


def pickled(weights, name):
    """Writes a safetensors file anew as PyTorch pickles it, under another name."""
    torch.save(load_file(weights), weights.with_name(name))
    weights.unlink()


def test_a_base_in_a_pickle_is_not_read(models, tmp_path):
    base = shutil.copytree(models("llama"), tmp_path / "base")
    pickled(base / "model.safetensors", "pytorch_model.bin")
    with pytest.raises(ModelError, match=r"Cannot load the weights of .* no file named model\.safetensors"):
        models_of.load(ModelSettings(name=str(base), device="cpu"), "causal-lm")


def test_an_adapter_in_a_pickle_is_not_read(models, tmp_path):
    rows = write_jsonl(tmp_path / "rows.jsonl", clause_rows(40))
    model = tuned(rows, models("llama"), tmp_path / "run").path / "model"
    pickled(model / "adapter_model.safetensors", "adapter_model.bin")
    for folder in (model.parent, model):
        with pytest.raises(RunError, match=r"has no adapter_model\.safetensors") as caught:
            predictor.load(folder)
        assert "\n" not in str(caught.value)
    code, _, err = command("predict", model.parent, rows)
    assert code == 2 and "adapter_model.safetensors" in err and "Traceback" not in err
    base = shutil.copytree(models("llama"), tmp_path / "base")
    for name in ("adapter_config.json", "adapter_model.bin"):
        shutil.copy(model / name, base)
    with pytest.raises(ModelError, match=r"an adapter without adapter_model\.safetensors"):
        models_of.load(ModelSettings(name=str(base), device="cpu"), "causal-lm")
    (model / "adapter_model.bin").unlink()
    with pytest.raises(RunError, match=r"has no adapter_model\.safetensors"):
        predictor.load(model)
