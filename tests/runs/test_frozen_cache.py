"""What frozen layers give is kept: losses, gradients and weights are those of a training that computes it each time."""

import os
import random
import shutil
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import transformers
from safetensors.torch import load_file
from torch.utils._pytree import tree_leaves

from finesmith import run
from finesmith.methods._frozen import frozen_part
from finesmith.runfolder import RunFolder
from finesmith.train import fill as filling
from finesmith.train import fit as fitting
from finesmith.train import memory
from finesmith.train.batches import Plan
from finesmith.train.cache import Cache
from finesmith.train.state import saved_facts
from finesmith.watch import Interrupted, Watcher
from tests import small
from tests.conftest import chat_rows, clause_rows, make_tokenizer, sentence, ticket_rows, write_jsonl
from tests.runs.test_loop import what_came_of

LAYERS = 4
LAST = {"method": "last_layers", "last_layers": {"count": 2}}
LORA = {"method": "lora", "lora": {"last_layers": 1, "rank": 4}}
HEAD = {"method": "head"}
HEAD_LATE = {**HEAD, "classification": {"head_first": False}}


class Notes(Watcher):
    def __init__(self):
        self.notes = []

    def note(self, text):
        self.notes.append(text)


@pytest.fixture(scope="module")
def deep(tmp_path_factory):
    """`deep("bert")`: the folder of a model with four blocks."""
    made = {}

    def get(family: str) -> str:
        if family not in made:
            folder = tmp_path_factory.mktemp(family)
            made[family] = make(folder, family)
        return str(made[family])

    return get


def make(folder: Path, family: str, width: int = 32) -> Path:
    tokenizer = make_tokenizer(folder)
    size = {
        "vocab_size": len(tokenizer),
        "pad_token_id": tokenizer.pad_token_id,
        "max_position_embeddings": 128,
        "num_hidden_layers": LAYERS,
        "hidden_size": width,
        "intermediate_size": 48,
        "num_attention_heads": 4,
    }
    llama = {**size, "num_key_value_heads": 2, "bos_token_id": 1, "eos_token_id": 2}
    gpt2 = {"vocab_size": len(tokenizer), "n_embd": 32, "n_layer": LAYERS, "n_head": 4, "n_positions": 128,
            "bos_token_id": 1, "eos_token_id": 2}  # fmt: skip
    makers = {
        "llama": lambda: transformers.LlamaForCausalLM(transformers.LlamaConfig(**llama)),
        "qwen3": lambda: transformers.Qwen3ForCausalLM(transformers.Qwen3Config(**llama, head_dim=8)),
        "gemma3": lambda: transformers.Gemma3ForCausalLM(
            transformers.Gemma3TextConfig(**llama, head_dim=8, sliding_window=5)
        ),
        "gpt2": lambda: transformers.GPT2LMHeadModel(transformers.GPT2Config(**gpt2)),  # dropout 0.1
        "bert": lambda: transformers.BertForMaskedLM(transformers.BertConfig(**size)),  # dropout 0.1
        "distilbert": lambda: transformers.DistilBertForMaskedLM(
            transformers.DistilBertConfig(vocab_size=len(tokenizer), pad_token_id=tokenizer.pad_token_id, dim=32,
                                          n_layers=LAYERS, n_heads=4, hidden_dim=48, max_position_embeddings=128)
        ),
        "albert": lambda: transformers.AlbertForMaskedLM(transformers.AlbertConfig(**size, embedding_size=16)),
    }  # fmt: skip
    torch.manual_seed(0)
    model = makers[family]()
    with torch.no_grad():  # far from the near-constant outputs of fresh weights, so that a wrong state shows
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.mul_(4)
    model.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    folder = tmp_path_factory.mktemp("rows")
    random_ = random.Random(1)
    return {
        "tickets": write_jsonl(folder / "tickets.jsonl", ticket_rows(60)),
        "clauses": write_jsonl(folder / "clauses.jsonl", clause_rows(40)),
        "chats": write_jsonl(folder / "chats.jsonl", chat_rows(30)),
        "texts": write_jsonl(folder / "texts.jsonl", [{"text": sentence(random_, 8 + n)} for n in range(40)]),
    }


def build(data, model, /, **settings):
    train = {"batch_size": 8, "max_steps": 12, "learning_rate": 1e-3, "evaluations": 3, **settings.pop("train", {})}
    return small.build(small.make_recipe(data, model, train=train, **settings))


def filled(ready, folder, *, gigabytes=1.0, total=12, watcher=None, before=None):
    """The cache of a training, as `stages.train` makes it, and its notes."""
    return filling.fill(
        ready.task, replace(ready.loaded, model=ready.model), ready.data, ready.recipe.train, gigabytes=gigabytes,
        folder=folder, seed=ready.recipe.seed, total=total, watcher=watcher or Watcher(), before=before,
    )  # fmt: skip


def trained(data, model, folder, /, *, gigabytes, **settings):
    """Losses, gradient norms, validation scores and weights of a whole training, and its cache."""
    ready, splits = build(data, model, **settings)
    cache, notes = filled(ready, folder, gigabytes=gigabytes)
    with closing(cache):
        events = list(small.fit(ready, splits, cache=cache))
    numbers = [[event.step.loss, event.step.gradient_norm, *event.scores.values()] for event in events]
    return numbers, small.weights(ready.model), cache, notes


def same(one, other):
    for left, right in zip(one[0], other[0], strict=True):
        np.testing.assert_allclose(left, right, rtol=1e-5)
    for name, tensor in one[1].items():
        tensors = [felt(name, weights).double() for weights in (tensor, other[1][name])]
        assert float((tensors[0] - tensors[1]).norm()) <= 1e-5 * float(tensors[0].norm()), name


def felt(name, tensor):
    """A weight without the keys' bias: it moves all scores of a query alike, so its gradient is rounding alone."""
    if name.endswith(("key.bias", "k_lin.bias")):
        return tensor[:0]
    return torch.cat([tensor[:32], tensor[64:]]) if name.endswith("c_attn.bias") else tensor


CASES = {
    f"{data}-{family}-{settings['method']}": (data, family, settings)
    for data, family, settings in [
        ("clauses", "llama", LAST),
        ("clauses", "qwen3", LORA),
        ("chats", "gemma3", LAST),
        ("texts", "llama", LORA),
        ("texts", "gpt2", LAST),
        ("clauses", "gpt2", LORA),
        ("tickets", "bert", LAST),
        ("tickets", "bert", HEAD_LATE),
        ("tickets", "distilbert", LORA),
        ("tickets", "distilbert", HEAD_LATE),
        ("tickets", "llama", LAST),
        ("tickets", "llama", HEAD_LATE),
        ("tickets", "qwen3", LORA),
        ("tickets", "gpt2", HEAD_LATE),
    ]
}
BLOCKS = {"last_layers": LAYERS - 2, "lora": LAYERS - 1, "head": LAYERS}


@pytest.mark.parametrize("name", CASES)
def test_a_training_with_kept_states_is_the_same(name, rows, deep, tmp_path):
    data, family, settings = CASES[name]
    plain = trained(rows[data], deep(family), tmp_path, gigabytes=0, **settings)
    kept = trained(rows[data], deep(family), tmp_path, gigabytes=1, **settings)
    assert not plain[2].count and not plain[3]
    assert kept[2].count == len(kept[2].lengths) and "frozen layers give is kept" in kept[3][0]
    assert len(kept[2].frozen.blocks) == BLOCKS[settings["method"]]
    assert kept[2].kept == ("all" if settings["method"] != "head" else "first" if "bert" in family else "last")
    same(plain, kept)


@pytest.mark.parametrize("data, family, settings", [("clauses", "llama", LAST), ("tickets", "llama", HEAD_LATE)])
def test_in_bfloat16_kept_states_are_within_the_noise_of_two_orders(rows, deep, tmp_path, data, family, settings):
    """Beside float32, a training with kept states is at most 1.5 times as far as one in the same arithmetic without."""
    narrow = {"model": {"dtype": "bfloat16"}, **settings}
    truth = np.array(steps_of(trained(rows[data], deep(family), tmp_path, gigabytes=0, **settings)))
    plain, kept = (trained(rows[data], deep(family), tmp_path, gigabytes=size, **narrow) for size in (0, 1))
    assert kept[2].count and not plain[2].count
    errors = [np.abs(np.array(steps_of(found)) / truth - 1).mean(axis=0) for found in (plain, kept)]
    assert (errors[1] > 0).all() and (errors[1] <= np.maximum(1.5 * errors[0], 0.01)).all()


def steps_of(found):
    """Loss and gradient norm of each step of a training."""
    return [numbers[:2] for numbers in found[0]]


def test_dropout_above_the_frozen_part_draws_the_same_numbers(rows, deep, tmp_path):
    """GPT-2's blocks and the adapters have dropout 0.1; with the blocks frozen only what moves has it."""
    settings = {**LORA, "lora": {"last_layers": 2, "dropout": 0.1}}
    plain, kept = (trained(rows["clauses"], deep("gpt2"), tmp_path, gigabytes=size, **settings) for size in (0, 1))
    same(plain, kept)
    still = trained(rows["clauses"], deep("gpt2"), tmp_path, gigabytes=1, method="lora", lora={"last_layers": 2})
    assert still[0][0][0] != kept[0][0][0]


@pytest.mark.parametrize("packing", [True, False])
def test_rows_that_hold_several_sequences(rows, deep, tmp_path, packing):
    settings = {**LAST, "train": {"packing": True, "batch_size": 2, "max_length": 90}, "speed": {"packing": packing}}
    plain, kept = (trained(rows["texts"], deep("llama"), tmp_path, gigabytes=size, **settings) for size in (0, 1))
    assert kept[2].count
    same(plain, kept)


def test_passes_of_one_row_and_of_many(rows, deep, tmp_path):
    settings = {**LAST, "train": {"micro_batch_tokens": 40}}
    plain, kept = (trained(rows["clauses"], deep("llama"), tmp_path, gigabytes=size, **settings) for size in (0, 1))
    same(plain, kept)


@pytest.mark.parametrize("data, settings", [("clauses", LAST), ("tickets", HEAD_LATE)])
def test_rows_beyond_the_bound_are_computed(rows, deep, tmp_path, data, settings):
    whole = trained(rows[data], deep("llama"), tmp_path, gigabytes=1, **settings)
    size = float(whole[2].starts[-1]) * 0.6e-9
    part = trained(rows[data], deep("llama"), tmp_path, gigabytes=size, **settings)
    assert 0 < part[2].count < whole[2].count and part[2].starts[-1] <= size * 1e9
    assert f"for {part[2].count} of {whole[2].count} sequences" in part[3][0]
    plain = trained(rows[data], deep("llama"), tmp_path, gigabytes=0, **settings)
    same(plain, part)


@pytest.mark.parametrize("data, family", [("clauses", "llama"), ("texts", "gpt2"), ("tickets", "bert")])
def test_a_kept_state_is_that_of_the_same_pass_to_the_last_bit(rows, deep, tmp_path, data, family):
    ready, _ = build(rows[data], deep(family), **LAST)
    cache, _ = filled(ready, tmp_path)
    part = frozen_part(ready.model)
    plan, seen = Plan(cache.lengths, 8, 0), []
    run_ = filling._Passes(ready.task, replace(ready.loaded, model=ready.model), ready.data, part, plan, 2048)
    run_.mode(dropout=True)
    for positions in replace(plan, lengths=ready.data.lengths).micro_batches(
        range(len(ready.data)), 2048, packed=run_.packed
    ):
        with torch.no_grad():
            states = run_.states(positions)
        items = cache.items(ready.data, positions)
        kept = filling.rows_of(cache.read(positions, items, packed=run_.packed), items, packed=run_.packed)
        seen += [torch.equal(one, other) for one, other in zip(states, kept, strict=True)]
    assert len(seen) == len(ready.data) and all(seen)


def test_the_frozen_part_runs_without_dropout_with_and_without_a_cache(rows, deep):
    ready, _ = build(rows["tickets"], deep("bert"), **LAST)
    part = frozen_part(ready.model)
    ready.model.train()
    part.quiet()
    trunk = ready.model.bert
    dropouts = [module for module in trunk.modules() if isinstance(module, torch.nn.Dropout)]
    quiet = {id(module) for module in [*trunk.embeddings.modules(), *trunk.encoder.layer[:2].modules()]}
    assert all(module.training == (id(module) not in quiet) for module in dropouts)
    assert ready.model.dropout.training


def test_nothing_is_kept_where_something_below_moves(rows, deep, tmp_path):
    for settings in ({"method": "full"}, {"method": "lora"}, {"method": "last_layers", "last_layers": {"count": 4}}):
        ready, _ = build(rows["clauses"], deep("llama"), **settings)
        cache, notes = filled(ready, tmp_path)
        assert not cache.count and notes == ("speed.cache_gigabytes has no effect: the lowest layer moves",)
        assert not frozen_part(ready.model).blocks


def test_nothing_is_kept_for_one_epoch(rows, deep, tmp_path):
    ready, _ = build(rows["clauses"], deep("llama"), **LAST)
    assert not filled(ready, tmp_path, total=2)[0].count


def test_shared_layers_are_left_alone_with_a_note(rows, deep, tmp_path):
    """ALBERT runs one block several times: what stands in for it would stand in for all."""
    ready, splits = build(rows["tickets"], deep("albert"), **HEAD_LATE)
    watcher = Notes()
    cache, notes = filled(ready, tmp_path, watcher=watcher)
    assert not cache.count and notes == tuple(watcher.notes)
    assert "computed in every epoch" in notes[0]
    assert len(list(small.fit(ready, splits, cache=cache))) == 12


def test_states_that_are_wrong_are_found_before_step_1(rows, deep, tmp_path, monkeypatch):
    ready, _ = build(rows["clauses"], deep("llama"), **LAST)
    right = Cache.write
    monkeypatch.setattr(Cache, "write", lambda cache, place, states: right(cache, place, states * 1.001))
    cache, notes = filled(ready, tmp_path)
    assert not cache.count and "their states would differ" in notes[0]


class Counted(memory.Ledger):
    """Notes what operations on real numbers take."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(out):
            if isinstance(tensor, torch.Tensor):
                self._note(tensor)
        return out


def most_of(work):
    """Bytes that some work takes at its peak."""
    with Counted() as ledger:
        work()
    return sum(memory.Trace(tuple(ledger.events), {}).parts().values())


@pytest.mark.parametrize("checkpointing", ["off", "on"])
def test_the_proof_takes_no_more_memory_than_the_training(rows, tmp_path, monkeypatch, checkpointing):
    folder = make(tmp_path / "wide", "llama", width=128)
    tokens = 64 if checkpointing == "off" else 512  # where weights are most of it, and where activations are
    speed, train = {"checkpointing": checkpointing}, {"micro_batch_tokens": tokens}
    ready, _ = build(rows["clauses"], str(folder), speed=speed, train=train, **LAST)
    prove, taken = filling._prove, []
    monkeypatch.setattr(filling, "_prove", lambda *given: taken.append(most_of(lambda: prove(*given))))
    cache, _ = filled(ready, tmp_path)
    with closing(cache):
        training = most_of(lambda: list(small.loop_steps(ready, total=2, cache=cache)))
    assert cache.count and taken[0] <= training


@pytest.mark.parametrize("error", [OSError("no space left"), RuntimeError("a shape")])
def test_a_failing_disk_costs_the_cache_and_not_the_run(rows, deep, tmp_path, monkeypatch, error):
    ready, _ = build(rows["clauses"], deep("llama"), **LAST)

    def fail(*arguments):
        raise error

    monkeypatch.setattr(Cache, "write", fail)
    cache, notes = filled(ready, tmp_path)
    assert not cache.count and str(error) in notes[0]


def test_a_compiled_model_keeps_them_too(rows, deep, tmp_path):
    plain = trained(rows["clauses"], deep("llama"), tmp_path, gigabytes=0, **LAST)
    kept = trained(rows["clauses"], deep("llama"), tmp_path, gigabytes=1, speed={"compile": True}, **LAST)
    assert kept[2].count
    same(plain, kept)


RUN = {**LAST, "train": {"batch_size": 8, "max_steps": 9, "learning_rate": 2e-3, "evaluations": 3}}


def recipe(rows, deep, out, **more):
    return small.make_recipe(
        rows["clauses"], deep("gpt2"), generation={"max_new_tokens": 2}, **{**RUN, **more}
    ).replace(out=str(out))


@pytest.mark.parametrize(
    ("settings", "total", "why"),
    [
        (LAST, 1, "no sequence is read a second time"),
        ({"method": "lora", "lora": {"last_layers": LAYERS}}, 50, "the lowest layer moves"),
    ],
)
def test_a_size_without_effect_is_said(rows, deep, tmp_path, settings, total, why):
    ready, _ = build(rows["clauses"], deep("gpt2"), **settings)
    for gigabytes, left, wanted in ((9.0, total, [f"speed.cache_gigabytes has no effect: {why}"]), (4.0, total, []),
                                    (9.0, 0, [])):  # fmt: skip
        watcher = Notes()
        cache, notes = filled(ready, tmp_path, gigabytes=gigabytes, total=left, watcher=watcher)
        assert cache.count == 0 and list(notes) == watcher.notes == wanted


@pytest.mark.parametrize("at", [3, 6])
def test_a_run_goes_on_bit_for_bit(rows, deep, tmp_path, at):
    whole = run.tune(recipe(rows, deep, tmp_path / "whole"))
    assert any(
        "frozen layers give is kept" in note for note in RunFolder(whole.path).read_json("manifest.json")["notes"]
    )
    with pytest.raises(Interrupted):
        run.tune(recipe(rows, deep, tmp_path / "part"), watcher=small.Stop(at))
    run.resume(tmp_path / "part")
    left, right = what_came_of(whole.path), what_came_of(tmp_path / "part")
    assert all(left[key] == right[key] for key in left)


def test_a_resumed_run_keeps_as_many_as_before_whatever_the_disk_has_room_for(rows, deep, tmp_path, monkeypatch):
    """How batches are made depends on how many are kept, and their last bits on that."""
    size = float(filled(build(rows["clauses"], deep("gpt2"), **RUN)[0], tmp_path)[0].starts[-1])
    usage, half = shutil.disk_usage, SimpleNamespace(free=1.2 * size)  # half of that is for six tenths of the states
    monkeypatch.setattr(filling.shutil, "disk_usage", lambda place: half)
    with pytest.raises(Interrupted):
        run.tune(recipe(rows, deep, tmp_path / "part"), watcher=small.Stop(3))
    before = saved_facts(tmp_path / "part" / "checkpoint" / "state.safetensors")["kept"]
    monkeypatch.setattr(filling.shutil, "disk_usage", usage)
    watcher = Notes()
    run.resume(tmp_path / "part", watcher=watcher)
    data = len(build(rows["clauses"], deep("gpt2"), **RUN)[0].data)
    assert 0 < before < data and any(f"kept for {before} of {data} sequences" in note for note in watcher.notes)
    assert not any("before the resume" in note for note in watcher.notes)


def test_fewer_than_before_the_resume_are_said(rows, deep, tmp_path):
    ready, _ = build(rows["clauses"], deep("llama"), **LAST)
    whole = filled(ready, tmp_path)[0]
    part, notes = filled(ready, tmp_path, gigabytes=float(whole.starts[-1]) * 0.6e-9, before=whole.count)
    assert 0 < part.count < whole.count and f"before the resume {whole.count:,} were kept" in notes[0]
    assert not filled(ready, tmp_path, before=0)[0].count, "none before, none now"


def test_the_whole_model_is_delivered_and_judged(rows, deep, tmp_path):
    """Validation, test and the saved model run all blocks: they are what they are without a cache."""
    with_, without = (
        run.tune(recipe(rows, deep, tmp_path / str(size), speed={"cache_gigabytes": size})) for size in (1.0, 0.0)
    )
    scores = [
        [row.get("validation") for row in RunFolder(one.path).read_lines("steps.jsonl")] for one in (with_, without)
    ]
    for left, right in zip(*scores, strict=True):
        assert (left is None) == (right is None)
        if left:
            np.testing.assert_allclose(list(left.values()), list(right.values()), rtol=1e-5)
    left, right = (list(RunFolder(one.path).read_lines("predictions/tuned.jsonl")) for one in (with_, without))
    assert left and [row["output"] for row in left] == [row["output"] for row in right]
    kept, plain = (load_file(one.path / "model" / "model.safetensors") for one in (with_, without))
    assert kept.keys() == plain.keys()
    assert all(torch.equal(kept[name], plain[name]) for name in kept if ".h.0." in name or ".h.1." in name)


def open_files():
    return {
        os.readlink(link) for link in Path("/proc/self/fd").iterdir() if link.is_symlink() and os.path.lexists(link)
    }


class Break(Watcher):
    def __init__(self, error):
        self.error = error

    def step(self, step, total, scores, best):
        if step.index == 4:
            raise self.error


def test_ctrl_c_while_the_states_are_computed_gives_the_disk_back(rows, deep, tmp_path, monkeypatch):
    ready, _ = build(rows["clauses"], deep("llama"), **LAST)
    made, opened = [], Cache.opened
    monkeypatch.setattr(Cache, "opened", lambda cache, folder: made.append(opened(cache, folder)) or made[0])

    def interrupt(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(Cache, "write", interrupt)
    with pytest.raises(KeyboardInterrupt):
        filled(ready, tmp_path)
    assert made[0].file.closed


def test_no_disk_is_taken_where_no_step_is_left(rows, deep, tmp_path, monkeypatch):
    class Die(Watcher):
        def progress(self, title, total):
            if title.startswith("testing the tuned"):
                raise RuntimeError
            return super().progress(title, total)

    with pytest.raises(RuntimeError):
        run.tune(recipe(rows, deep, tmp_path / "run"), watcher=Die())
    monkeypatch.setattr(Cache, "opened", None)
    watcher = Notes()
    run.resume(tmp_path / "run", watcher=watcher)
    assert not any("frozen layers" in note for note in watcher.notes)


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="asks Linux which files are open")
@pytest.mark.parametrize("error", [None, KeyboardInterrupt, RuntimeError])
def test_the_file_is_gone_when_the_run_is_over(rows, deep, tmp_path, error, monkeypatch):
    seen = []
    fit = fitting.fit
    monkeypatch.setattr(
        fitting, "fit", lambda *a, **k: (seen.append((k["cache"], k["cache"].file.tell() >= 0)), fit(*a, **k))[1]
    )
    out = tmp_path / "run"
    if error:
        with pytest.raises((KeyboardInterrupt, RuntimeError, Interrupted)):
            run.tune(recipe(rows, deep, out), watcher=Break(error))
    else:
        run.tune(recipe(rows, deep, out))
    ((cache, was_open),) = seen
    assert was_open and cache.count and cache.file.closed
    assert not [name for name in open_files() if name.startswith(str(out))]
    names = {path.name for path in out.rglob("*") if path.parent.name == "checkpoint"}
    assert names <= {"state.safetensors", "best.safetensors"}
