"""`finesmith set-scale`: what is delivered, right to the logits, that it can be taken back, what is refused."""

import hashlib
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from peft import AutoPeftModelForCausalLM
from transformers import AutoModelForSequenceClassification

from finesmith import predictor, scaling
from finesmith.errors import RecipeError, RunError
from finesmith.measurements import _line, frontier
from finesmith.measurements.base import Measured
from finesmith.predictor import Predictor
from finesmith.runfolder import RunFolder
from finesmith.types import Splits
from finesmith.watch import Watcher
from tests.measurements import kept
from tests.runs.test_whole_runs import command

TOKENS = [list(range(20, 40)), list(range(60, 75))]


@pytest.fixture(scope="module")
def made(models, tmp_path_factory):
    return kept.runs(models, tmp_path_factory)


@pytest.fixture
def run(made, tmp_path):
    return lambda *key: shutil.copytree(made(*key), tmp_path / "run")


def said(model: Predictor) -> np.ndarray:
    return np.concatenate(_line.logits(model.loaded, TOKENS))


def digests(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}


@pytest.mark.parametrize(
    ("family", "method", "data"),
    [
        ("llama", "lora", "clauses"),
        ("llama_tied", "full", "clauses"),
        ("llama", "lora", "tickets"),
        ("bert", "full", "tickets"),
    ],
)
def test_the_delivered_model_is_at_the_scale_and_comes_back_to_the_bit(run, family, method, data):
    path = run(family, method, data)
    study = kept.study(path)
    line = _line.of(study)
    line.between.at(0.5)
    wanted = said(line.predictor)
    before, tuned = digests(path / "model"), said(predictor.load(path))
    done = scaling.set_scale(path, 0.5)
    assert (done.scale, done.before) == (0.5, 1.0)
    found = said(predictor.load(path))
    assert np.abs(found - wanted).max() <= 1e-5 * np.abs(wanted).max()
    assert np.abs(found - tuned).max() > 1e-3 * np.abs(tuned).max()
    if method == "lora" and data == "clauses":
        names = ("adapter_model.safetensors", "tokenizer.json")
        assert all(digests(path / "model")[name] == before[name] for name in names), "no tensor is touched"
        assert json.loads((path / "model/adapter_config.json").read_text())["lora_alpha"] == 16.0
    assert json.loads((path / "manifest.json").read_text())["scale"] == {"scale": 0.5}
    assert "at scale 0.5" in (path / "README.md").read_text()
    assert scaling.set_scale(path, 1).before == 0.5
    assert digests(path / "model") == before and not (path / "tuned").exists()
    assert "scale" not in json.loads((path / "manifest.json").read_text())
    assert "scale 0.5" not in (path / "README.md").read_text()


def test_scale_0_is_the_base_in_peft_without_finesmith(run, models):
    path = run("llama", "lora", "clauses")
    card = (path / "README.md").read_text()
    scaling.set_scale(path, "0")
    scaling.set_scale(path, 0.25)
    scaling.set_scale(path, 0)
    model = AutoPeftModelForCausalLM.from_pretrained(path / "model").eval()
    base = kept.study(path).base()
    loaded = predictor.load(path).loaded
    ours = _line.logits(base.loaded, TOKENS)
    for merged in (False, True):
        theirs = model.merge_and_unload() if merged else model
        found = _line.logits(type(loaded)(theirs, loaded.tokenizer, loaded.device, loaded.dtype), TOKENS)
        assert all(np.abs(a - b).max() < 1e-6 for a, b in zip(ours, found, strict=True))
    scaling.set_scale(path, 1)
    assert (path / "README.md").read_text() == card


def test_a_classifier_loads_in_transformers_at_the_scale(run):
    path = run("bert", "full", "tickets")
    scaling.set_scale(path, 0.3)
    ours = predictor.load(path).loaded
    theirs = AutoModelForSequenceClassification.from_pretrained(path / "model").eval()
    found = _line.logits(type(ours)(theirs, ours.tokenizer, ours.device, ours.dtype), TOKENS)
    assert all(np.abs(a - b).max() < 1e-6 for a, b in zip(_line.logits(ours, TOKENS), found, strict=True))


def test_what_is_measured_afterwards_is_still_the_tuned_model(run):
    path = run("llama", "lora", "tickets")
    tuned = said(predictor.load(path))
    scaling.set_scale(path, 0.4)
    assert "model/ is at scale 0.4" in command("show", path)[1]
    study = kept.study(path)
    assert np.array_equal(said(study.tuned()), tuned)
    assert isinstance(study.splits, Splits)


def test_a_point_is_taken_from_what_was_measured(run):
    path = run("llama", "lora", "clauses")
    with pytest.raises(RunError, match="no measured points") as caught:
        scaling.set_scale(path, "keep")
    assert "--only frontier" in caught.value.hint
    with kept.few_passages(5):
        result = frontier.PLUGIN(kept.study(path), Watcher())
    assert isinstance(result, Measured)
    from finesmith.evidence import plain

    RunFolder(path).write_json("measured/frontier.json", plain.values_of({"numbers": result.numbers}))
    wanted = result.numbers["operating_points"]["knee"]
    code, out, _ = command("set-scale", path, "knee")
    assert code == 0 and f"scale {wanted['scale']:g}" in out
    card = json.loads((path / "model/finesmith.json").read_text())
    assert card.get("scale", 1) == wanted["scale"]
    if wanted["scale"] != 1:
        assert f"at scale {wanted['scale']:g}" in command("show", path)[1]
    code, out, _ = command("set-scale", path, "1", "--json")
    assert code == 0 and json.loads(out)["scale"] == 1


def test_what_is_impossible_is_refused_and_changes_nothing(run, tmp_path):
    path = run("llama", "lora", "clauses")
    before = digests(path / "model")
    for wanted, why in (
        ("kep", "keep"),
        ("-1", "between 0 and 2"),
        ("nan", "between 0 and 2"),
        ("3", "between 0 and 2"),
    ):
        code, _, err = command("set-scale", path, wanted)
        assert code == 2 and why in err
    with pytest.raises(RunError):
        scaling.set_scale(tmp_path / "nothing", 0.5)
    config = json.loads((path / "model/adapter_config.json").read_text())
    (path / "model/adapter_config.json").write_text(json.dumps({**config, "use_dora": True}))
    with pytest.raises(RecipeError, match="DoRA"):
        scaling.set_scale(path, 0.5)
    (path / "model/adapter_config.json").write_text(json.dumps(config, indent=2))
    assert digests(path / "model").keys() == before.keys() and not (path / "tuned").exists()
    assert not (path / "lock").exists()


def test_a_model_folder_that_was_lost_comes_back(run):
    path = run("llama", "lora", "clauses")
    before = digests(path / "model")
    scaling.set_scale(path, 0.5)
    shutil.rmtree(path / "model")
    (path / "README.md").unlink()
    scaling.set_scale(path, 0.25)
    assert not (path / "README.md").exists()
    shutil.rmtree(path / "model")
    scaling.set_scale(path, 1)
    assert digests(path / "model") == before and not (path / "tuned").exists()
    shutil.rmtree(path / "model")
    with pytest.raises(RunError, match="is not whole: it has no model"):
        scaling.set_scale(path, 1)


def test_the_abstention_threshold_is_the_tuned_models_own(run):
    path = run("bert", "full", "tickets")
    found = predictor.Abstention(1.5, 0.7, 0.05, True, 40, False)
    predictor.keep_abstention(kept.study(path).tuned_folder, found)
    assert predictor.load(path).abstention == found
    scaling.set_scale(path, "0.5")
    assert predictor.load(path).abstention is None, "it was set for another model"
    later = predictor.Abstention(1.2, 0.8, 0.05, True, 40, False)
    predictor.keep_abstention(kept.study(path).tuned_folder, later)
    assert predictor.load(path).abstention is None, "measured of the tuned model"
    scaling.set_scale(path, "1")
    assert predictor.load(path).abstention == later
