"""No flag that nothing reads: every setting of the recipe changes a run, in the way that the table says.

`CASES` has an entry for every setting that there is, in tasks and methods too; a new setting without one fails here.
"""

import hashlib
import json
import os
import platform
import re
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from itertools import combinations
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import torch
from torch._dynamo.utils import counters
from torch.nn import Embedding, Linear
from torch.nn.modules.module import register_module_forward_pre_hook

from finesmith import recipe as recipes
from finesmith import run
from finesmith.errors import FinesmithError
from finesmith.models import allocator
from finesmith.models import attention as attention_
from finesmith.models import load as loading
from finesmith.models.settings import ModelSettings
from finesmith.runfolder import RunFolder
from finesmith.settings import Settings
from finesmith.watch import Watcher
from tests import small
from tests.conftest import clause_rows, ticket_rows, write_jsonl

BITS = find_spec("bitsandbytes") is not None
BASE = {
    "data.path": "<clauses>",
    "model.name": "<llama>",
    "model.dtype": "float32",
    "model.device": "cpu",
    "train.max_steps": 4,
    "train.batch_size": 4,
    "train.evaluations": 1,
    "generation.max_new_tokens": 2,
}
CLASSES = {"data.path": "<tickets>", "task": "classification", "generation.max_new_tokens": "<unset>"}
TEXTS = {"data.path": "<notes>", "task": "text", "generation.max_new_tokens": "<unset>"}
LONG = {"train.max_length": 60, "data.path": "<some long rows>", "data.over_length": "drop"}
WILD = {
    "method": "full",
    "train.learning_rate": 0.3,
    "train.schedule": "constant",
    "train.max_steps": 8,
    "train.evaluations": 8,
}
"""A learning rate at which the validation score soon gets worse."""


@dataclass(frozen=True)
class Case:
    """`values` of one setting, each tried with the settings `under`.

    The runs must be pairwise different in each part of the outcome named in `differs` and equal in each of `same`.
    `errors` has, for a value that is refused, a part of the message.
    """

    values: tuple[Any, ...]
    differs: tuple[str, ...] = ()
    same: tuple[str, ...] = ()
    under: Any = None
    errors: Any = None


def case(*values: Any, differs: str = "", same: str = "", under: Any = None, errors: Any = None) -> Case:
    return Case(values, tuple(differs.split()), tuple(same.split()), under or {}, errors or {})


CASES: dict[str, Case] = {
    "data.path": case("<clauses>", "<other clauses>", differs="sources losses"),
    "data.columns": case(
        {}, {"completion": "note"}, differs="supervised", same="split", under={"data.path": "<noted>"}
    ),
    "data.format": case("auto", "jsonl", under={"data.path": "<no ending>"}, errors={"auto": "Cannot tell the format"}),
    "data.max_bad_rows": case(
        0, 1, under={"data.path": "<one bad row>"}, errors={0: "1 of 41 rows cannot be used"}, differs="rejected"
    ),
    "data.over_length": case(
        "error",
        "drop",
        "truncate",
        under={**LONG, "train.max_steps": None, "train.epochs": 1.0},
        errors={"error": "longer than 60 tokens"},
        differs="tokens rejected",
    ),
    "data.checks": case(
        "stop",
        "warn",
        "off",
        under={"data.path": "<with a key>"},
        errors={"stop": "would spoil the result"},
        differs="notes",
        same="losses split",
    ),
    "data.validation": case(0.1, 0.3, differs="split"),
    "data.test": case(0.2, 0.4, differs="split answers"),
    "task": case("classification", "text", differs="metric losses", under={"data.path": "<tickets>", **CLASSES}),
    "model.name": case("<llama>", "<qwen3>", differs="losses", same="split rates"),
    "model.revision": case(None, "v1", errors={"v1": "model.revision has no effect"}),  # on the hub: see below
    "model.dtype": case("float32", "bfloat16", "float16", differs="losses", same="split rates"),
    "model.device": case("cpu", "cuda:99", errors={"cuda:99": "There is no device 'cuda:99'"}),
    "model.quantize": case("none", "nf4", "int8", differs="losses", same="split rates trainable") if BITS else case(
        "none", "nf4", errors={"nf4": "finesmith[bitsandbytes]"}),
    "model.attention": case(
        "eager", "flash_attention_2", errors={"flash_attention_2": "needs a CUDA device; this run is on 'cpu'"}
    ),  # eager and sdpa give the same numbers but for rounding: see below
    "model.from_scratch": case(False, True, differs="losses", same="split rates", under={"method": "full", "seed": 1}),
    "model.trust_remote_code": case(
        False, True, under={"model.name": "<own code>"}, errors={False: "set model.trust_remote_code=true"}
    ),
    "method": case("lora", "full", "last_layers", differs="trainable losses weights", same="split"),
    "train.learning_rate": case(1e-3, 2e-3, differs="rates losses", same="split first_loss"),
    "train.epochs": case(1.0, 2.0, differs="steps", same="first_loss", under={"train.max_steps": None}),
    "train.max_steps": case(2, 4, differs="steps", same="first_loss"),
    "train.batch_size": case(4, 8, differs="tokens losses", same="split"),
    "train.micro_batch_tokens": case(64, 4096, differs="passes", same="losses tokens"),
    "train.max_length": case(16, 64, differs="tokens losses", same="split", under=TEXTS),
    "train.optimizer": case(
        "adamw", "muon", "adamw_8bit", differs="losses", same="rates first_loss", under={"method": "full"},
        errors={} if BITS else {"adamw_8bit": "finesmith[bitsandbytes]"}),
    "train.packing": case(False, True, differs="tokens losses", same="split"),
    "train.schedule": case("linear", "cosine", "constant", differs="rates losses", same="first_loss"),
    "train.warmup": case(0.0, 0.5, differs="rates losses", same="first_loss"),
    "train.weight_decay": case(0.0, 10.0, differs="losses", same="rates first_loss"),
    "train.beta2": case(0.9, 0.999, differs="losses", same="rates first_loss"),
    "train.clip": case(0.01, None, differs="losses", same="rates first_loss"),
    "train.evaluations": case(1, 4, differs="evaluations", same="losses"),
    "train.patience": case(1, None, differs="steps", same="first_loss", under=WILD),
    "train.keep": case("best", "last", differs="weights", same="losses", under={**WILD, "train.patience": None}),
    "speed.packing": case(True, False, differs="rows", same="losses tokens"),
    "speed.chunked_loss": case(True, False, differs="all_logits", same="losses tokens"),
    "speed.block_attention": case(0, 512, differs="weights", same="tokens rates", under={"model.dtype": "bfloat16"}),
    "speed.adapter": case("float32", "compute", "peft", differs="weights", same="rates tokens",
                          under={"model.dtype": "bfloat16"}),
    "speed.cache_gigabytes": case(
        0.0, 1e-5, 1.0, differs="layer_calls notes", same="losses tokens",
        under={"method": "last_layers", "last_layers.count": 1, "train.max_steps": 15},
    ),
    "speed.checkpointing": case("off", "on", differs="blocks", same="losses tokens"),
    "speed.processes": case(1, 2, differs="notes weights", same="rates tokens", under={"lora.dropout": 0.3}),
    "speed.compile": case(False, True, differs="compiled", same="losses"),
    "speed.kernels": case("torch", "liger", errors={"liger": "needs a CUDA device; this run is on 'cpu'"}),
    "speed.keep_memory": case(True, False, differs="keeps_blocks", same="losses weights"),  # what that does: see below
    "train.save_minutes": case(10.0, 1e-9, differs="saved_on_the_way", same="losses weights"),
    "out": case("<out>/first", "<out>/second", differs="out", same="losses weights"),
    "seed": case(0, 1, differs="split losses"),
    "track": case([], ["tensorboard"], differs="" if not find_spec("tensorboard") else "files", same="",
                  errors={} if find_spec("tensorboard") else {"['tensorboard']": "finesmith[tensorboard]"}),
    "classification.head_first": case(True, False, differs="first_loss", same="split rates", under=CLASSES),
    "generation.template": case(
        "chat", "plain", differs="tokens losses", same="split", under={"model.name": "<chatml>"}
    ),
    "generation.date": case(
        "2026-11-22", "2025-01-01", differs="losses", same="split supervised", under={"model.name": "<dated>"}
    ),
    "generation.max_new_tokens": case(1, 24, differs="longest_answer", same="losses"),
    "lora.rank": case(2, 4, differs="trainable weights", same="rates first_loss"),
    "lora.alpha": case(8.0, 64.0, differs="losses", same="rates first_loss trainable"),
    "lora.dropout": case(0.0, 0.5, differs="losses", same="rates trainable"),
    "lora.target_modules": case([], ["q_proj"], differs="trainable losses", same="rates first_loss"),
    "lora.last_layers": case(1, None, differs="trainable losses", same="rates first_loss"),
    "last_layers.count": case(1, 2, differs="trainable losses", same="rates", under={"method": "last_layers"}),
}  # fmt: skip


def settings_of(owner: type[Settings], prefix: str = "") -> Iterator[str]:
    """Dotted names of all settings of a class and of the sections in it."""
    for name, field in owner.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, Settings):
            yield from settings_of(field.annotation, f"{prefix}{name}.")
        else:
            yield prefix + name


SETTINGS = list(settings_of(recipes.recipe_class()))


def test_the_table_has_every_setting_and_no_other():
    assert sorted(CASES) == sorted(SETTINGS)
    assert [name for name, case in CASES.items() if not (case.differs or case.errors)] == []


@pytest.mark.parametrize("setting", SETTINGS)
def test_the_setting_has_an_effect(setting, outcome):
    case = CASES[setting]
    found = {str(value): outcome({**BASE, **case.under, setting: value}) for value in case.values}
    assert len(found) >= 2
    for value, result in found.items():
        wanted = {str(key): text for key, text in case.errors.items()}.get(value)
        assert (wanted in result["error"]) if wanted else not result["error"], (value, result["error"])
    good = {value: result for value, result in found.items() if not result["error"]}
    for (left, first), (right, second) in combinations(good.items(), 2):
        for part in case.differs:
            assert first[part] != second[part], f"{setting}: {part} is the same for {left} and {right}"
        for part in case.same:
            assert first[part] == second[part], f"{setting}: {part} differs between {left} and {right}"


def test_the_same_settings_give_the_same_run(outcome):
    first, second = (dict(outcome({**BASE, "out": f"<out>/same-{number}"})) for number in (1, 2))
    for each in (first, second):  # by how much the faster way won is timed anew
        each["notes"] = [re.sub(r"[\d.]+ times as fast", "faster", note) for note in each["notes"]]
    assert {key: value for key, value in first.items() if key != "out"} == {
        key: value for key, value in second.items() if key != "out"
    }


def test_a_tracker_is_told_of_every_step(places, tmp_path):
    """What TensorBoard reads from its file is what the run's own log says."""
    reader = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    settings = {name: _put(value, places) for name, value in BASE.items()}
    made = run.tune(recipes.make(_nested({**settings, "track": ["tensorboard"], "train.evaluations": 2}, tmp_path)))
    told = reader.EventAccumulator(str(next(made.path.rglob("*tfevents*")).parent)).Reload()
    steps = list(RunFolder(made.path).read_lines("steps.jsonl"))
    wanted = {name: {row["step"]: row[name] for row in steps} for name in ("loss", "learning_rate", "gradient_norm")}
    for row in steps:
        for name, value in row.get("validation", {}).items():
            wanted.setdefault(f"validation_{name}", {})[row["step"]] = value
    assert len(steps) == 4 and len(wanted) > 3 and all(len(wanted[name]) == 2 for name in list(wanted)[3:])
    for name, values in wanted.items():
        assert {event.step: event.value for event in told.Scalars(name)} == pytest.approx(values), name


FAULTS = """
import resource, sys, torch
from finesmith.models import allocator
if sys.argv[1] == "true":
    assert allocator.keep_blocks()
for _ in range(3):
    torch.zeros(1 << 23) + 1
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(20):
    torch.zeros(1 << 23) + 1
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="malloc can be told so in glibc only")
def test_kept_memory_is_not_asked_for_again():
    """Pages that the system has to hand out while 20 times two tensors of 32 MB are made and dropped."""
    kept, given_back = (
        int(subprocess.run([sys.executable, "-c", FAULTS, keep], capture_output=True, text=True, check=True).stdout)
        for keep in ("true", "false")
    )
    assert kept < given_back / 5


def test_auto_is_one_of_the_choices(outcome):
    chat, auto = (
        outcome({**BASE, "model.name": "<chatml>", "generation.template": template}) for template in ("chat", "auto")
    )
    assert chat["losses"] == auto["losses"]
    named, auto = (outcome({**BASE, **CLASSES, "task": task}) for task in ("classification", "auto"))
    assert named["losses"] == auto["losses"] and named["metric"] == auto["metric"]


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_attention_is_as_asked(models, attention):
    for from_scratch in (False, True):
        settings = ModelSettings(name=models("llama"), device="cpu", attention=attention, from_scratch=from_scratch)
        assert loading.load(settings, "causal-lm").model.config._attn_implementation == attention


@pytest.mark.parametrize("attention", ["auto", "eager", "sdpa"])
def test_attention_is_as_asked_in_training_too(models, attention, request):
    """Finesmith's own stands in for `auto` only; whatever else is asked for computes every step."""
    model = {"attention": attention}
    ready, _ = small.build(small.make_recipe(request.getfixturevalue("clauses"), models("llama"), model=model))
    used = ready.model.get_base_model().config._attn_implementation
    assert used == ("finesmith" if attention == "auto" else attention)
    said = "attention is computed as asked: sequences are padded"
    assert (said in ready.notes) is (attention != "auto")


def test_flash_attention_that_is_not_installed_names_its_extra(monkeypatch):
    monkeypatch.setattr(attention_, "find_spec", lambda name: None)
    with pytest.raises(FinesmithError, match=r"needs the library 'flash_attn'.*\n.*finesmith\[flash\]"):
        attention_.argument(ModelSettings(attention="flash_attention_2"), torch.device("cuda"))


@pytest.mark.parametrize(
    ("device", "dtype", "installed", "used"),
    [("cuda", "bfloat16", True, True), ("cuda", "bfloat16", False, False), ("cuda", "float32", True, False),
     ("cpu", "bfloat16", True, False)],
)  # fmt: skip
def test_flash_attention_answers_where_it_can_run(device, dtype, installed, used, monkeypatch):
    monkeypatch.setattr(attention_, "find_spec", lambda name: installed or None)
    monkeypatch.setattr(attention_, "choose_device", torch.device)
    asked = ModelSettings(attention="flash_attention_2", device=device, dtype=dtype)
    assert attention_.to_answer(asked) == (asked if used else asked.model_copy(update={"attention": "auto"}))
    eager = ModelSettings(attention="eager", device=device, dtype=dtype)
    assert attention_.to_answer(eager) == eager


class Eye(Watcher):
    """Sees whether the state was saved while training went on."""

    def __init__(self, out):
        self.state = Path(out) / "checkpoint" / "state.safetensors"
        self.saved = False

    def step(self, step, total, scores, best):
        self.saved = self.saved or self.state.exists()


@pytest.fixture(scope="module")
def places(models, tmp_path_factory):
    """What the names in angle brackets mean."""
    folder = tmp_path_factory.mktemp("data")
    rows = clause_rows(40)
    long = [{"prompt": f"row {n}", "completion": f"{n}" + " late" * 80} for n in range(6)]
    documents = [{"text": " ".join(row["prompt"] for row in rows[n : n + 4])} for n in range(36)]
    files = {
        "clauses": rows,
        "other clauses": clause_rows(40, seed=5),
        "noted": [{**row, "note": f"a much longer note than that, {n}"} for n, row in enumerate(rows)],
        "no ending": rows,
        "one bad row": [*rows, {"prompt": "no completion"}],
        "some long rows": [*rows, *long],
        "with a key": [{**rows[0], "completion": f"it is ghp_{'a1B2c3D4e5' * 4}"}, *rows[1:]],
        "tickets": ticket_rows(45),
        "notes": documents,
    }
    found = {
        name: str(write_jsonl(folder / f"{name.replace(' ', '-')}.jsonl", content)) for name, content in files.items()
    }
    found["no ending"] = str(Path(found["no ending"]).rename(folder / "rows"))
    found["own code"] = str(own_code(models("llama"), tmp_path_factory.mktemp("own")))
    found |= {"llama": models("llama"), "qwen3": models("qwen3"), "chatml": models("llama", "chatml")}
    found["dated"] = str(shutil.copytree(found["chatml"], tmp_path_factory.mktemp("dated") / "model"))
    template = Path(found["dated"], "chat_template.jinja")
    template.write_text("{{ strftime_now('%d %b %Y') }}\n" + template.read_text())
    return {f"<{name}>": place for name, place in found.items()} | {"<out>": str(folder)}


@pytest.fixture(scope="module")
def outcome(places, tmp_path_factory):
    """`outcome(dotted settings)`: what came of a run, by parts; the same settings are run once only."""
    done: dict[str, dict[str, Any]] = {}

    def get(settings: dict[str, Any]) -> dict[str, Any]:
        key = json.dumps(settings, sort_keys=True)
        if key not in done:
            values = {name: _put(value, places) for name, value in settings.items() if value != "<unset>"}
            done[key] = _run(values, tmp_path_factory.mktemp("run"))
        return done[key]

    return get


def _put(value: Any, places: dict[str, str]) -> Any:
    if not isinstance(value, str) or not value.startswith("<"):
        return value
    name, end, rest = value.partition(">")
    return places[name + end] + rest


def _nested(settings: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Dotted settings as a recipe file has them, into a folder unless they name one."""
    nested: dict[str, Any] = {"out": str(folder / "out")}
    for name, value in settings.items():
        section, dot, key = name.partition(".")
        if dot:
            nested.setdefault(section, {})[key] = value
        else:
            nested[section] = value
    return nested


def _run(settings: dict[str, Any], folder: Path) -> dict[str, Any]:
    nested = _nested(settings, folder)
    calls: Counter[str] = Counter()

    def count(module: Any, inputs: Any) -> None:
        if module.training and isinstance(module, Embedding):
            calls["passes"] += 1
            calls["rows"] += len(inputs[0])
        calls["layers"] += isinstance(module, Linear)
        if module.training and isinstance(module, Linear):
            calls["all logits"] += module.out_features > 60 and module.in_features == 32
            calls["adapters"] += module.out_features <= 16
        calls["blocks"] += module.training and type(module).__name__ == "LlamaMLP"

    handle = register_module_forward_pre_hook(count)
    eye = Eye(nested["out"])
    compiled = counters["frames"]["total"]
    try:
        with mock.patch.object(allocator, "keep_blocks", wraps=allocator.keep_blocks) as kept:
            return _outcome(run.tune(recipes.make(nested), watcher=eye)) | {
                "passes": calls["passes"],
                "rows": calls["rows"],
                "layer_calls": calls["layers"],
                "compiled": counters["frames"]["total"] > compiled,
                "all_logits": calls["all logits"] > 0,
                "adapters": calls["adapters"] > 0,
                "blocks": calls["blocks"],
                "saved_on_the_way": eye.saved,
                "keeps_blocks": kept.call_count,
            }
    except FinesmithError as error:
        return {"error": str(error)}
    finally:
        handle.remove()


def _outcome(result: run.Run) -> dict[str, Any]:
    folder = RunFolder(result.path)
    steps = list(folder.read_lines("steps.jsonl"))
    answers = [row["output"] for row in folder.read_lines("predictions/tuned.jsonl")]
    manifest = folder.read_json("manifest.json")
    weights = sorted((result.path / "model").glob("*.safetensors"))
    rejected = result.path / "rejected.jsonl"
    return {
        "error": "",
        "out": str(result.path),
        "sources": tuple(manifest["data"]["sources"].values()),
        "split": folder.read_json("splits.json")["hash"],
        "rejected": rejected.read_text() if rejected.exists() else "",
        "metric": result.evidence.metric,
        "notes": tuple(re.sub(r"[\d.]+ [GM]B free|[\d.]+ [GM]B is free", "free", note) for note in manifest["notes"]),
        "steps": len(steps),
        "losses": tuple(round(row["loss"], 5) for row in steps),
        "first_loss": round(steps[0]["loss"], 5),
        "rates": tuple(row["learning_rate"] for row in steps),
        "tokens": tuple(row["tokens"] for row in steps),
        "supervised": tuple(row["supervised"] for row in steps),
        "evaluations": sum("validation" in row for row in steps),
        "trainable": result.evidence.costs["trainable_parameters"],
        "weights": tuple(hashlib.sha256(path.read_bytes()).hexdigest() for path in weights),
        "answers": len(answers),
        "longest_answer": max(len(str(answer)) for answer in answers),
        "files": tuple(sorted(path.name for path in result.path.rglob("*tfevents*"))),
    }  # fmt: skip


CODE = """
from transformers import LlamaConfig, LlamaForCausalLM
class OwnConfig(LlamaConfig):
    model_type = "own-architecture"
class OwnForCausalLM(LlamaForCausalLM):
    config_class = OwnConfig
"""
HUB = """
import json
from finesmith.errors import FinesmithError
from finesmith.models import load as models
from finesmith.models.settings import ModelSettings
def total(revision):
    try:
        loaded = models.load(ModelSettings(name="owner/name", revision=revision, device="cpu"), "causal-lm")
    except FinesmithError as error:
        return str(error)
    return sum(float(weight.double().sum()) for weight in loaded.model.parameters())
print(json.dumps({revision: total(revision) for revision in ("v1", "v2", "v3")}))
"""


def own_code(model: str, target: Path) -> Path:
    """A copy of a model whose architecture comes as Python code beside the weights."""
    own = _varied(Path(model), target, scale=3.0)
    (own / "own.py").write_text(CODE)
    config = json.loads((own / "config.json").read_text())
    config["model_type"], config["architectures"] = "own-architecture", ["OwnForCausalLM"]
    config["auto_map"] = {"AutoConfig": "own.OwnConfig", "AutoModelForCausalLM": "own.OwnForCausalLM"}
    (own / "config.json").write_text(json.dumps(config))
    return own


def test_a_revision_of_a_hub_model(models, tmp_path):
    """From a hub cache made by hand, in a process of its own: the library reads the cache's place when imported."""
    repository = tmp_path / "home" / "hub" / "models--owner--name"
    for folder in ("snapshots", "refs"):
        (repository / folder).mkdir(parents=True)
    for number, revision in enumerate(("v1", "v2"), 1):
        snapshot = repository / "snapshots" / (str(number) * 40)
        snapshot.mkdir()
        _varied(Path(models("llama")), snapshot, scale=float(number))
        (repository / "refs" / revision).write_text(snapshot.name)
    environment = {**os.environ, "HF_HOME": str(tmp_path / "home"), "HF_HUB_OFFLINE": "1"}
    done = subprocess.run([sys.executable, "-c", HUB], env=environment, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr
    sums = json.loads(done.stdout.splitlines()[-1])
    assert sums["v2"] == pytest.approx(2 * sums["v1"], rel=1e-6)
    assert "Cannot load the model 'owner/name'" in sums["v3"]


def _varied(source: Path, target: Path, *, scale: float) -> Path:
    """A copy of a model folder with all weights multiplied."""
    from safetensors.torch import load_file, save_file

    for file in source.iterdir():
        (target / file.name).write_bytes(file.read_bytes())
    weights = load_file(source / "model.safetensors")
    save_file({k: v * scale for k, v in weights.items()}, target / "model.safetensors", metadata={"format": "pt"})
    return target
