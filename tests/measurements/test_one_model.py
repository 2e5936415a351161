"""One model in memory: while a measurement trains anew there is no other, and systems are asked one after the other."""

import shutil
import weakref
from types import SimpleNamespace

import pytest
import torch
import transformers
from safetensors.torch import load_file

from finesmith import comparing, predictor, registry, stages
from finesmith.measurements import lora_or_full, prompting, seeds
from finesmith.measurements.base import Study
from finesmith.models import device, load
from finesmith.types import Evidence, Splits
from finesmith.watch import Watcher
from tests.conftest import ticket_rows, write_csv
from tests.measurements import kept


@pytest.fixture(scope="module")
def runs(models, tmp_path_factory):
    return kept.runs(models, tmp_path_factory)


@pytest.fixture
def alive(monkeypatch):
    """`alive(model, ...)`: how many of these and of those trained since are there whenever another training begins."""

    def watch(*models):
        watched, found = [weakref.ref(model.loaded.model) for model in models], []
        build = stages.build

        def building(recipe, splits, watcher):
            found.append(sum(one() is not None for one in watched))
            ready = build(recipe, splits, watcher)
            watched.append(weakref.ref(ready.model))
            return ready

        monkeypatch.setattr(stages, "build", building)
        return found

    return watch


@pytest.mark.parametrize(("name", "trainings"), [("scratch", 3), ("seeds", 2)])
def test_no_model_is_there_when_the_next_is_trained(runs, alive, name, trainings):
    study = kept.study(runs("llama", "lora", "tickets"))
    found = alive(study.tuned())  # open_study timed some answers with it
    with kept.few_passages():
        registry.resolve("measurements", name)(study, Watcher())
    assert found == [0] * trainings


def test_nor_is_the_base_while_a_generator_learns_rows_by_heart(runs, alive, monkeypatch):
    monkeypatch.setattr("finesmith.measurements.controls.ATTEMPTS", ((1, 1e-9), (1, 1e-9)))
    study = kept.study(runs("llama", "full", "clauses"))
    found = alive(study.tuned(), study.base())
    registry.resolve("measurements", "controls")(study, Watcher())
    assert found == [0, 0]


@pytest.fixture
def loads(monkeypatch):
    """`loads()`: how many of the models that are loaded from now on are there whenever another is."""

    def watch():
        watched, found, real = [], [], load.load

        def loading(*given, **more):
            found.append(sum(one() is not None for one in watched))
            loaded = real(*given, **more)
            watched.append(weakref.ref(loaded.model))
            return loaded

        monkeypatch.setattr(load, "load", loading)
        return found

    return watch


@pytest.mark.parametrize("data", ["clauses", "tickets"])
def test_tuned_model_base_and_prompted_base_are_asked_one_after_the_other(runs, loads, monkeypatch, data):
    monkeypatch.setattr(prompting, "MOST_VALIDATION", {"generation": 2, "classification": 4})
    run, names = runs("llama", "lora", data), ["prompting", "consistency"]
    more = {"glossary": [{"preferred": "late", "forbidden": ["overdue"]}]} if data == "clauses" else {}
    names += ["adherence"] if more else []
    found = loads()
    assert comparing.compare(run, only=names, options=more).measured.keys() >= {*names}
    # tuned, to be timed; prompting: the prompted base (timed, asked), the tuned one (and the base); then three each
    assert len(found) == (1 + 2 + 3 if data == "tickets" else 1 + 4 + 3 + 3) and set(found) == {0}


@pytest.mark.parametrize("data", ["clauses", "tickets"])
def test_a_soup_and_the_base_are_asked_one_after_the_other(runs, loads, monkeypatch, data):
    monkeypatch.setattr(seeds, "MORE", 1)
    run = runs("llama", "lora", data)
    found = loads()
    with kept.few_passages():
        seeds.PLUGIN(kept.study(run), Watcher())
    own = 1 if data == "tickets" else 0  # the output layer under which a classifier's trunk speaks
    assert len(found) == 5 + own, "to be timed, another seed, the run's own, the soup, the base"
    assert set(found) == {0}


def test_so_are_adapters_all_weights_and_the_base(runs, loads, monkeypatch):
    monkeypatch.setattr(lora_or_full, "STEPS", (1.0,))
    run = runs("llama", "lora", "tickets")
    found = loads()
    with kept.few_passages():
        lora_or_full.PLUGIN(kept.study(run), Watcher())
    assert len(found) == 5 and set(found) == {0}, "to be timed, the output layer, two arms, the base"


def test_what_is_let_go_is_given_back_to_the_device_and_the_system(monkeypatch):
    given, none = [], Evidence("classification", "accuracy", {}, {}, "", {}, {})
    study = Study(None, None, Splits((), (), (), ""), None, {}, none, {}, train_seconds=1.0, answer_seconds=0.0)
    study._models["tuned"] = object()
    monkeypatch.setattr(device, "gc", SimpleNamespace(collect=lambda: given.append("circles")))
    monkeypatch.setattr(device.allocator, "give_back", lambda: given.append("blocks"))
    monkeypatch.setattr(device.torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(device.torch.cuda, "empty_cache", lambda: given.append("cache"))
    study.forget()
    assert given == ["circles", "cache", "blocks"] and not study._models


@pytest.mark.parametrize("method", ["lora", "full"])
def test_what_is_kept_is_as_large_as_the_files_that_are_written(models, tmp_path, method):
    """Of a base in bfloat16: adapters are written as they were trained, whole weights as wide as they were stored."""
    kind, base = transformers.AutoModelForCausalLM, tmp_path / "base"
    kind.from_pretrained(shutil.copytree(models("llama"), base), dtype=torch.bfloat16).save_pretrained(base)
    rows = write_csv(tmp_path / "rows.csv", ticket_rows(60))
    study = kept.study(kept.tuned(rows, str(base), tmp_path / "run", train={"max_steps": 1}))
    with study.retrained(Watcher(), method=method) as arm:
        predictor.save_weights(tmp_path / "saved", arm.model.loaded.model, arm.model.loaded, adapter=method == "lora")
    (file,) = (tmp_path / "saved").glob("*.safetensors")
    assert sum(weight.nbytes for weight in load_file(file).values()) == arm.costs["kept_bytes"]
