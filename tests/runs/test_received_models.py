"""Models as they come from others: with code of their own, in pickles, with settings that contradict each other."""

import importlib
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


PAYLOAD = """
import pathlib
from finesmith.{kind}.{name} import PLUGIN
pathlib.Path(__file__).with_suffix(".ran").touch()
"""


def hostile(folder, file, kind, name):
    """A received run one of whose plug-ins is a file that it brings; gives the file that shows that this ran."""
    place = folder / "model" / f"payload_{kind}.py"
    place.write_text(PAYLOAD.format(kind=kind, name=name))
    text = (folder / file).read_text()
    old = f'"task": "{name}"' if file.endswith("json") else f"{kind[:-1]}: {name}"
    assert old in text
    text = text.replace(f"\n{name}:", f"\n{place.stem}:")  # its section
    (folder / file).write_text(text.replace(old, old.replace(name, f"received.{folder.name}.model.{place.stem}")))
    return place.with_suffix(".ran")


def test_a_received_run_cannot_name_a_file_of_its_own_as_task_or_method(models, tmp_path, monkeypatch):
    rows = write_jsonl(tmp_path / "rows.jsonl", clause_rows(40))
    made = tuned(rows, models("llama"), tmp_path / "run")
    monkeypatch.syspath_prepend(str(tmp_path))  # as `python -m finesmith` and a notebook have their folder
    importlib.invalidate_caches()
    got = shutil.copytree(made.path, tmp_path / "received" / "card")
    ran = hostile(got, "model/finesmith.json", "tasks", "generation")
    for folder in (got, got / "model"):
        for ask in (predictor.load, predictor.answering):
            with pytest.raises(RunError, match=r"names the task 'received\.card\.model\.payload_tasks'"):
                ask(folder)
    with pytest.raises(RunError):
        run.Run(got).predict(["who?"])
    asked = [["compare", "--only", "prompting"], ["export"], ["set-scale"], ["chat"], ["predict"]]
    more = {"export": [tmp_path / "out"], "set-scale": ["0.5"], "predict": [rows]}
    for command_, *words in (asked[0], asked[1], asked[3], asked[4]):  # set-scale asks the recipe's task alone
        code, _, err = command(command_, got, *more.get(command_, ()), *words)
        assert code == 2 and "add --trust-remote-code" in err, command_
    assert not ran.exists()
    assert predictor.load(got, trust_remote_code=True).predict(["who?"]) and ran.exists()
    for kind, name in (("tasks", "generation"), ("methods", "lora")):
        got = shutil.copytree(made.path, tmp_path / "received" / f"recipe_{kind}")
        ran = hostile(got, "recipe.yaml", kind, name)
        with pytest.raises(RunError, match=f"names the {kind[:-1]} 'received"):
            _ = run.Run(got).recipe
        for command_, *words in asked[:4]:
            code, _, err = command(command_, got, *more.get(command_, ()), *words)
            assert code == 2 and "add --trust-remote-code" in err, command_
        (got / "evidence.json").unlink()
        code, _, err = command("resume", got)
        assert code == 2 and "add --trust-remote-code" in err
        assert not ran.exists()
        recipe.load(got / "recipe.yaml")
        assert ran.exists() and run.Run(got).recipe, "what this process has imported has run"


def test_a_received_evidence_cannot_name_a_file_of_its_own_as_metric(models, tmp_path, monkeypatch):
    made = tuned(write_jsonl(tmp_path / "rows.jsonl", clause_rows(40)), models("llama"), tmp_path / "run")
    (made.path / "model" / "metric.py").write_text(PAYLOAD.format(kind="metrics", name="chrf"))
    text = (made.path / "evidence.json").read_text()
    (made.path / "evidence.json").write_text(text.replace(made.evidence.metric, "run.model.metric"))
    monkeypatch.syspath_prepend(str(tmp_path))
    importlib.invalidate_caches()
    code, _, err = command("show", made.path)
    assert code == 2 and "Unknown metric 'run.model.metric'" in err
    assert not (made.path / "model" / "metric.ran").exists()


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
