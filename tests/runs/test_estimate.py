"""What is said before a run is what the run then takes; what is chosen by it fits and is said."""

import dataclasses
import json
import subprocess
import sys
import time
from contextlib import contextmanager
from types import SimpleNamespace

import pytest
import torch
import transformers
from bench import memory as grid

from finesmith import estimate, replacing, run
from finesmith import recipe as recipes
from finesmith.__main__ import main
from finesmith.cli import estimate as command
from finesmith.cli.estimate import PARTS
from finesmith.models import allocator, device, recompute
from finesmith.runfolder import RunFolder
from finesmith.train import budget, divide, optim
from finesmith.train.cache import Cache
from finesmith.types import Step
from finesmith.watch import Watcher
from tests import small
from tests.conftest import clause_rows, make_tokenizer, ticket_rows, write_csv, write_jsonl

IN_THE_SUITE = (
    "qwen3-lora-float32",
    "llama-lora-bfloat16",
    "bert-full-float32-again",
    "qwen3-last_layers-float32-kept",
    "llama-lora-float32-packed",
)
"""Of the grid of bench/memory.py, which holds all of them: each takes a minute or more of two processes."""


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    folder = tmp_path_factory.mktemp("grid")
    grid.prepare(folder)
    return folder


@pytest.mark.parametrize("name", IN_THE_SUITE)
def test_peak_memory_is_as_estimated(name, prepared):
    estimated, measured = grid.compare(name, prepared)
    assert abs(estimated / measured - 1) <= 0.15


@pytest.fixture
def clauses(tmp_path):
    return write_jsonl(tmp_path / "clauses.jsonl", clause_rows(60))


@pytest.fixture
def ready(clauses, models):
    return small.build(small.make_recipe(clauses, models("llama"), method="full", train={"max_steps": 4}))[0]


def choose(ready, free, monkeypatch, **speed):
    monkeypatch.setattr(budget, "free_memory", lambda device: free)
    monkeypatch.setattr(budget, "AMPLE", speed.pop("ample", 0.0))
    settings = ready.recipe.train.model_copy(update={"micro_batch_tokens": speed.pop("tokens", "auto")})
    asked = ready.recipe.speed.model_copy(update={"checkpointing": "auto", "keep_memory": False, **speed})
    return budget.choose(ready.model, ready.task, ready.loaded, ready.data, settings, asked, seed=0)


def test_memory_decides_on_the_forward_passes_and_then_on_checkpointing(ready, monkeypatch):
    assert choose(ready, 1 << 40, monkeypatch, ample=0.25).needed is None, "nothing is rehearsed where it cannot matter"
    plenty = choose(ready, 1 << 40, monkeypatch)
    assert (plenty.tokens, plenty.checkpointing, plenty.fits) == (2048, False, True)
    least = choose(ready, 1 << 40, monkeypatch, tokens=128)
    tight = choose(ready, int((plenty.needed + least.needed) / 2 / budget.ROOM), monkeypatch)
    assert tight.tokens < 2048 and not tight.checkpointing
    again = choose(ready, 1 << 40, monkeypatch, tokens=128, checkpointing="on")
    assert again.checkpointing
    never = choose(ready, 1, monkeypatch)
    assert (never.checkpointing, never.fits) == (True, False)
    off = choose(ready, 1, monkeypatch, checkpointing="off")
    assert (off.checkpointing, off.fits) == (False, False)
    assert not any(type(vars(module).get("forward")) is recompute._Again for module in ready.model.modules())


def test_memory_decides_on_two_processes_also_where_the_passes_are_fixed(ready, monkeypatch):
    monkeypatch.setattr(divide, "chosen", lambda asked, *_: 2 if asked == "auto" else asked)
    fixed = {"tokens": 512, "checkpointing": "off", "processes": "auto"}
    plenty = choose(ready, 1 << 40, monkeypatch, **fixed)
    assert plenty.processes == 2 and plenty.fits
    tight = choose(ready, int((plenty.needed - divide.OWN / 2) / budget.ROOM), monkeypatch, **fixed)
    assert tight.processes == 1 and tight.fits and tight.needed < plenty.needed - divide.OWN
    asked = choose(ready, int((plenty.needed - divide.OWN / 2) / budget.ROOM), monkeypatch, **{**fixed, "processes": 2})
    assert asked.processes == 2, "what is asked for by number stays"


def test_one_process_where_frozen_states_are_kept(clauses, models, monkeypatch):
    monkeypatch.setattr(divide, "chosen", lambda asked, *_: 2 if asked == "auto" else asked)
    settings = {"method": "last_layers", "last_layers": {"count": 1}, "train": {"max_steps": 9}}
    ready = small.build(small.make_recipe(clauses, models("llama"), **settings))[0]
    assert choose(ready, 1 << 40, monkeypatch, processes="auto").processes == 1
    assert choose(ready, 1 << 40, monkeypatch, processes="auto", cache_gigabytes=0.0).processes == 2
    once = dataclasses.replace(ready, recipe=ready.recipe.replace(train={"max_steps": 3}))
    assert choose(once, 1 << 40, monkeypatch, processes="auto").processes == 2, "one epoch: nothing is kept"


def test_checkpointing_takes_less(ready):
    def activations() -> int:
        return budget.forecast(
            ready.model, ready.task, ready.loaded, ready.data, ready.recipe.train, 2048, seed=0, keep_memory=False
        ).activations

    plain = activations()
    recompute.begin(ready.model, budget.layer_list(ready.model))
    assert activations() < 0.6 * plain


def test_a_rehearsal_leaves_the_model_as_it_was(ready):
    weights = {name: (id(weight), weight.clone()) for name, weight in ready.model.named_parameters()}
    state = torch.get_rng_state()
    found = budget.forecast(
        ready.model, ready.task, ready.loaded, ready.data, ready.recipe.train, 2048, seed=0, keep_memory=False
    )
    numbers = sum(weight.numel() for weight in ready.model.parameters())
    assert found.moments == pytest.approx(8 * numbers, rel=0.01)
    assert found.weights >= 4 * numbers
    assert torch.equal(torch.get_rng_state(), state)
    for name, weight in ready.model.named_parameters():
        assert id(weight) == weights[name][0] and torch.equal(weight, weights[name][1]) and weight.grad is None


@pytest.mark.parametrize("name", ["adamw", "muon", "adamw_8bit"])
def test_the_optimizer_of_the_recipe_is_rehearsed(ready, name):
    settings = ready.recipe.train.model_copy(update={"optimizer": name})
    found = budget.forecast(
        ready.model, ready.task, ready.loaded, ready.data, settings, 2048, seed=0, keep_memory=False
    )
    assert found.moments == pytest.approx(optim.state_bytes(ready.model, name), rel=0.01)
    if name == "adamw_8bit":  # its kernels are another library's: the sum alone is held
        assert optim.state_bytes(ready.model, name) < 0.6 * optim.state_bytes(ready.model, "adamw")
        return
    real = optim.optimizer(ready.model, learning_rate=1e-3, weight_decay=0.0, name=name)
    for weight in ready.model.parameters():
        weight.grad = torch.ones_like(weight)
    real.step()
    held = sum(value.nbytes for state in real.state.values() for value in state.values() if torch.is_tensor(value))
    assert found.moments == pytest.approx(held, rel=0.01)
    assert estimate._disk(
        dataclasses.replace(ready, recipe=ready.recipe.replace(train={"optimizer": name}))
    ).checkpoint == pytest.approx(2 * held + 3 * sum(weight.nbytes for weight in ready.model.parameters()), rel=0.01)


def test_the_time_of_a_head_counts_the_layers_that_are_computed_once(tmp_path, models, monkeypatch):
    seen = []
    monkeypatch.setattr(estimate.loop, "train", lambda *args, cache, **more: seen.append(cache.count) or iter(STEPS))
    recipe = small.make_recipe(
        write_csv(tmp_path / "tickets.csv", ticket_rows(60)), models("bert"), method="head", train={"max_steps": 300}
    )
    ready, _ = small.build(recipe)
    found = estimate._seconds(ready, 300, Watcher())
    assert seen == [len(ready.data)] and found.low > 0
    assert estimate._seconds(ready, 2, Watcher()) and seen[1] == 0, "in one epoch nothing is kept"


def test_the_time_is_that_of_all_tokens_and_of_every_look_at_the_validation_rows(ready, monkeypatch):
    """On a clock that only these two move: a step takes what its tokens take, a validation row half a second."""
    now = [0.0]
    monkeypatch.setattr(estimate, "time", SimpleNamespace(perf_counter=lambda: now[0]))
    monkeypatch.setattr(estimate, "VALIDATED", 2)
    monkeypatch.setattr(estimate, "validate", lambda task, loaded, rows: now.__setitem__(0, now[0] + len(rows) / 2))
    slow = [dataclasses.replace(step, seconds=0.02) for step in STEPS[:3]]
    monkeypatch.setattr(estimate.loop, "train", lambda *args, **more: iter([*slow, *STEPS[3:]]))
    epoch = -(-len(ready.data) // ready.recipe.train.batch_size)
    found = estimate._seconds(ready, 10 * epoch, Watcher())
    tokens, looks = 10 * sum(ready.data.lengths), 2  # of four steps, two in an epoch
    validating = looks * len(ready.splits.validation) / 2
    assert len(ready.splits.validation) > 2 and epoch == 3
    assert found.low == pytest.approx(1e-4 * tokens + validating)
    assert found.high == pytest.approx(2e-4 * tokens + validating)
    assert found.how == "7 real steps (700 tokens) and 2 validation rows"


def head_of_tickets(tmp_path, models, **settings):
    """A run in which all but the head is frozen, of more batches than the estimate takes."""
    data = write_csv(tmp_path / "tickets.csv", ticket_rows(80))
    train = {"max_steps": 300, "batch_size": 2}
    return small.make_recipe(data, models("bert"), method="head", train=train, **settings)


def test_as_large_a_share_of_the_frozen_states_is_kept_as_the_run_keeps(tmp_path, models, monkeypatch):
    ready, _ = small.build(head_of_tickets(tmp_path, models))
    needed, limit = estimate._states(ready, ready.data, 300)
    assert 0 < needed < limit
    third = dataclasses.replace(ready, recipe=ready.recipe.replace(speed={"cache_gigabytes": needed / 3e9}))
    few, cache, _ = estimate._cached(third, 300)
    assert len(few.data) == 16 < len(ready.data) / 3 and 4 <= cache.count <= 6
    cache.close()
    prove = estimate.filling._prove
    monkeypatch.setattr(estimate.filling, "_prove", lambda *given: (time.sleep(2), prove(*given)))
    few, cache, kept = estimate._cached(ready, 300)
    cache.close()
    assert cache.count == 16 and 2 <= kept < 2 * len(ready.data) / 16, "what happens once is not multiplied"


def test_the_file_of_the_frozen_states_is_on_the_disk(tmp_path, models):
    recipe = head_of_tickets(tmp_path, models).replace(out="auto")
    found = estimate.estimate(recipe, probe=False)
    ready, _ = small.build(recipe)
    assert found.disk.frozen_states == int(min(estimate._states(ready, ready.data, 300))) > 0
    assert any("what the frozen layers give" in line for line in command._lines(found))
    none = estimate.estimate(recipe.replace(speed={"cache_gigabytes": 0.0}), probe=False)
    assert none.disk.frozen_states == 0


STEPS = [Step(index, 1.0, 1.0, 1e-3, 1.0, 8, 100, 0.01) for index in range(1, 9)]


def test_the_probe_counts_rows(ready):
    """A line without a terminal says of every progress how many rows it has."""
    told = []

    class Told(Watcher):
        @contextmanager
        def progress(self, title, total):
            told.append([title, total, 0])
            yield lambda done: told[-1].__setitem__(2, told[-1][2] + done)

    steps = list(estimate._probe(ready, Cache(ready.data.lengths), Told()))
    assert told == [["timing 8 real steps", 8 * 16, len(steps) * 16]]


def test_the_disk_has_room_for_the_state_that_is_written_beside_the_last_one(ready, tmp_path, monkeypatch):
    """All that lies in the folder of the checkpoint at its fullest, with a state saved after every step."""
    folder, most, rename = tmp_path / "checkpoint", [], replacing.os.replace

    def seen(part, target):
        most.append(sum(file.stat().st_size for file in folder.iterdir()))
        rename(part, target)

    monkeypatch.setattr(replacing.os, "replace", seen)
    again = dataclasses.replace(ready, recipe=ready.recipe.replace(train={"save_minutes": 1e-9}))
    list(small.fit(again, ready.splits, folder))
    assert max(most) == pytest.approx(estimate._disk(ready).checkpoint, rel=0.1)


def test_compiled_blocks_are_neither_planned_nor_timed_and_that_is_said(ready, monkeypatch):
    built = []
    monkeypatch.setattr(estimate.stages, "build", lambda recipe, *_: built.append(recipe.speed) or ready)
    asked = SimpleNamespace(recipe=ready.recipe.replace(speed={"compile": True, "processes": "auto"}), splits=None)
    told = estimate._uncompiled(asked, Watcher())
    assert (built[0].compile, built[0].processes) == (False, 1) and told.recipe.speed.compile
    found = estimate.Estimate(told.recipe, None, None, None, estimate._disk(ready), 4)
    assert any("without speed.compile" in line for line in command._lines(found))
    plain = dataclasses.replace(found, recipe=ready.recipe)
    assert not any("speed.compile" in line for line in command._lines(plain))
    assert found.plain()["compiled"] is False


def make_mixtral(folder):
    """Experts whose product of matrices in groups PyTorch cannot run without numbers in float32 on a CPU."""
    tokenizer = make_tokenizer(folder)
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    fits = {**sizes, "num_key_value_heads": 2, "num_local_experts": 4, "max_position_embeddings": 128}
    ids = {name: getattr(tokenizer, name) for name in ("pad_token_id", "bos_token_id", "eos_token_id")}
    transformers.MixtralForCausalLM(
        transformers.MixtralConfig(vocab_size=len(tokenizer), **fits, **ids)
    ).save_pretrained(folder)
    return str(folder)


def test_memory_that_cannot_be_rehearsed_is_said_and_the_rest_is_estimated(clauses, tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    model = make_mixtral(tmp_path / "mixtral")
    asked = [str(clauses), "--model", model, "--method", "lora", "train.max_steps=4", "--no-probe"]
    asked += ["model.device=cpu", "model.dtype=float32", "speed.processes=1"]
    assert main(["estimate", *asked]) == 0
    shown = capfd.readouterr()
    assert "memory  cannot be predicted for this model: " in shown.out and "disk" in shown.out
    assert "Traceback" not in shown.err
    assert main(["estimate", *asked, "--json"]) == 0
    found = json.loads(capfd.readouterr().out)
    assert found["memory"] is found["peak_memory_bytes"] is None and found["memory_problem"]
    assert found["disk"]["model"] > 0


def test_the_estimate_fits_by_the_rule_that_passes_are_chosen_by(ready, monkeypatch):
    found = estimate._memory(ready)[0]
    for free in (int(found.growth / budget.ROOM) - 1, int(found.growth / budget.ROOM) + 1):
        said = estimate.Estimate(ready.recipe, found, free, None, estimate._disk(ready), 4)
        assert said.fits == budget.Choice(128, False, found.growth, free).fits == (free > found.growth / budget.ROOM)
        assert ("it fits" in "\n".join(command._memory(said))) == said.fits
    assert any("IT DOES NOT FIT" in line for line in command._memory(dataclasses.replace(said, free=1)))


def test_every_part_of_the_memory_has_a_line():
    parts = {field.name for field in dataclasses.fields(budget.Forecast)}
    assert parts == PARTS.keys()


@pytest.mark.skipif(allocator.growth([]) is None, reason="glibc only")
def test_the_allocator_is_asked_without_a_trace():
    """In a process of its own: what earlier tests have freed and kept would be used again, and counted as no growth."""
    code = """
import torch
from finesmith.models import allocator, device
before = device.used_memory(torch.device("cpu"))
assert (grown := allocator.growth([(1, 300 << 20), (1, 0), (2, 200 << 20)])) >= 250 << 20, grown
assert (left := device.used_memory(torch.device("cpu")) - before) < 20 << 20, left
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_limits_of_control_groups(tmp_path):
    group = tmp_path / "group"
    group.mkdir()
    for name, text in {
        "memory.max": "1000\n",
        "memory.current": "600\n",
        "memory.stat": "x 1\ninactive_file 50\n",
    }.items():
        (group / name).write_text(text)
    assert device._room(["0::/group"], tmp_path) == [450]
    (group / "memory.max").write_text("max\n")
    assert device._room(["0::/group"], tmp_path) == []


def test_the_command_says_memory_time_and_disk(clauses, models, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    asked = [str(clauses), "--model", models("llama"), "train.max_steps=4", "model.device=cpu", "--method", "full"]
    assert main(["estimate", *asked, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["peak_memory_bytes"] == sum(found["memory"].values())
    assert 0 < found["seconds"]["low"] <= found["seconds"]["high"] < 60
    assert not (tmp_path / "runs").exists()
    assert main(["estimate", *asked, "--no-probe"]) == 0
    shown = capsys.readouterr().out
    assert all(
        word in shown for word in ("memory", "weights", "activations", "time    not measured", "disk", "it fits")
    )
    assert main(["estimate", str(tmp_path / "none.jsonl")]) == 2

    result = run.tune(recipes.from_source(str(clauses), recipes.parse_assignments(
        [f"model.name={models('llama')}", "train.max_steps=4", "model.device=cpu", "method=full"]
    )))  # fmt: skip
    model = sum(file.stat().st_size for file in (result.path / "model").iterdir())
    assert found["disk"]["model"] == pytest.approx(model, rel=0.1)
    assert result.recipe.train.micro_batch_tokens == 2048 and result.recipe.speed.checkpointing == "off"
    assert any(
        "2,048 tokens in a forward pass" in note for note in RunFolder(result.path).read_json("manifest.json")["notes"]
    )
