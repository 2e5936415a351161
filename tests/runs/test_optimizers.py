"""What every optimizer promises: it moves the right weights by its rule, and its state goes on bit for bit."""

from importlib.util import find_spec

import pytest
import torch
from safetensors import safe_open

from finesmith.errors import MissingExtraError, RecipeError
from finesmith.models import quantize
from finesmith.train import optim, state
from tests import small
from tests.conftest import clause_rows, ticket_rows, write_jsonl

BITS = pytest.param(
    "adamw_8bit",
    marks=pytest.mark.skipif(not find_spec("bitsandbytes"), reason="needs bitsandbytes (the extra of that name)"),
)
NAMES = ("adamw", "muon", BITS)


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    folder = tmp_path_factory.mktemp("rows")
    return {
        "clauses": write_jsonl(folder / "clauses.jsonl", clause_rows(40)),
        "tickets": write_jsonl(folder / "tickets.jsonl", ticket_rows(40)),
    }


def build(rows, models, optimizer, *, data="clauses", family="llama", method="full", **more):
    train = {"max_steps": 15, "batch_size": 64, "learning_rate": 4e-3, "evaluations": 1, "optimizer": optimizer}
    return small.build(small.make_recipe(rows[data], models(family), method=method, train=train, **more))


def make(model, name, **more):
    return optim.optimizer(model, **{"learning_rate": 2e-3, "weight_decay": 0.1, **more}, name=name)


def with_gradients(models, seed=0):
    """A model whose gradients are random and the same each time."""
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(models("llama"), dtype=torch.float32)
    generator = torch.Generator().manual_seed(seed)
    for parameter in model.parameters():
        parameter.grad = torch.randn(parameter.shape, generator=generator)
    return model


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("data, family", [("clauses", "llama_tied"), ("tickets", "bert")])
def test_the_loss_falls(name, data, family, rows, models):
    more = {"classification": {"head_first": False}} if data == "tickets" else {}
    ready, splits = build(rows, models, name, data=data, family=family, **more)
    events = list(small.fit(ready, splits))
    assert events[-1].step.loss < events[0].step.loss


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("method", ["full", "last_layers"])
def test_a_state_that_was_saved_goes_on_bit_for_bit(name, method, rows, models, tmp_path):
    """After three steps: the same three more, in a new model and a new optimizer."""
    settings = {"last_layers": {"count": 1}} if method == "last_layers" else {}
    whole, _ = build(rows, models, name, method=method, **settings)
    trained = make(whole.model, name)
    fresh, _ = build(rows, models, name, method=method, **settings)
    again = make(fresh.model, name)
    _move(whole.model, trained, range(3))
    state.save_state(tmp_path / "state", whole.model, trained, {"step": 3})
    assert state.load_state(tmp_path / "state", fresh.model, again) == {"step": 3}
    _move(whole.model, trained, range(3, 6))
    _move(fresh.model, again, range(3, 6))
    assert small.equal(small.weights(whole.model), small.weights(fresh.model))
    for weight, other in zip(optim.trainable(whole.model).values(), optim.trainable(fresh.model).values(), strict=True):
        left, right = trained.state[weight], again.state[other]
        assert left.keys() == right.keys()
        assert all(torch.equal(torch.as_tensor(left[key]), torch.as_tensor(right[key])) for key in left)


def _move(model, optimizer, seeds):
    for seed in seeds:
        generator = torch.Generator().manual_seed(seed)
        for parameter in optim.trainable(model).values():
            parameter.grad = torch.randn(parameter.shape, generator=generator)
        for group in optimizer.param_groups:  # as the loop does
            group["lr"] = 2e-3 / (1 + seed)
        optimizer.step()


def test_the_state_of_adamw_has_the_names_it_always_had(rows, models, tmp_path):
    ready, splits = build(rows, models, "adamw", method="lora")
    list(small.fit(ready, splits, tmp_path))
    with safe_open(tmp_path / "state.safetensors", framework="pt") as file:
        kinds = {name.split(".")[1] for name in file.keys() if name.startswith("optimizer.")}  # noqa: SIM118
    assert kinds == {"step", "exp_avg", "exp_avg_sq"}


@pytest.mark.parametrize("family", ["llama", "llama_tied", "gpt2", "bert"])
def test_muon_moves_the_hidden_matrices_and_adamw_the_rest(family, rows, models):
    ready, _ = build(rows, models, "muon", data="tickets" if family == "bert" else "clauses", family=family)
    optimizer = make(ready.model, "muon")
    names = {id(parameter): name for name, parameter in ready.model.named_parameters()}
    by_rule = {"muon": set(), "adamw": set()}
    for group in optimizer.param_groups:
        by_rule[group["rule"]] |= {names[id(parameter)] for parameter in group["params"]}
    inside = {n for n, p in ready.model.named_parameters() if (".layer" in n or ".h." in n) and p.ndim == 2}
    assert by_rule["muon"] == inside
    assert by_rule["adamw"] == set(names.values()) - inside
    vectors = [p for g in optimizer.param_groups if g["weight_decay"] == 0 for p in g["params"]]
    assert vectors and all(parameter.ndim == 1 for parameter in vectors)


def test_muon_and_adamw_move_as_they_do_alone(models):
    together, apart = with_gradients(models), with_gradients(models)
    inside = [p for n, p in apart.named_parameters() if ".layers." in n and p.ndim == 2]
    matrices = [p for n, p in apart.named_parameters() if ".layers." not in n and p.ndim == 2]
    vectors = [p for p in apart.parameters() if p.ndim == 1]
    muon = torch.optim.Muon(inside, lr=2e-3, weight_decay=0.1, adjust_lr_fn="match_rms_adamw")
    decayed = torch.optim.AdamW(matrices, lr=2e-3, weight_decay=0.1, fused=True)
    plain = torch.optim.AdamW(vectors, lr=2e-3, weight_decay=0.0, fused=True)
    optimizer = make(together, "muon")
    for _ in range(3):
        for each in (optimizer, muon, decayed, plain):
            each.step()
    assert small.equal(small.weights(together), small.weights(apart))


def test_an_update_of_muon_is_as_large_as_one_of_adamw(models):
    """Root mean square 0.2 of the learning rate, whatever the shape (Liu et al. 2025); Newton-Schulz is not exact."""
    model = with_gradients(models)
    before = small.weights(model)
    make(model, "muon", weight_decay=0.0).step()
    for name, parameter in model.named_parameters():
        if ".layers." in name and parameter.ndim == 2:
            size = (parameter - before[name]).square().mean().sqrt().item()
            assert size == pytest.approx(0.2 * 2e-3, rel=0.3), name


@pytest.mark.parametrize("name", [BITS])
def test_eight_bits_hold_the_moments_in_a_quarter_and_move_nearly_alike(name, models):
    exact, rounded = with_gradients(models), with_gradients(models)
    sizes = []
    for model, kind in ((exact, "adamw"), (rounded, name)):
        optimizer = make(model, kind)
        for _ in range(3):
            optimizer.step()
        large = [p for p in model.parameters() if p.numel() >= 4096]
        entries = [v for p in large for key, v in optimizer.state[p].items() if torch.is_tensor(v) and "map" not in key]
        sizes.append(sum(v.nbytes for v in entries))
    assert sizes[1] < 0.27 * sizes[0]
    start = with_gradients(models)
    for before, left, right in zip(start.parameters(), exact.parameters(), rounded.parameters(), strict=True):
        assert float((left - right).norm() / (left - before).norm()) < 0.1


@pytest.mark.parametrize("method", ["lora", "head"])
def test_muon_is_refused_where_no_hidden_matrix_moves(method, rows, models):
    with pytest.raises(RecipeError, match=f"method '{method}' moves none. Use method: full or last_layers"):
        build(rows, models, "muon", data="tickets", method=method)


def test_a_torch_without_muon_is_named(models, monkeypatch):
    monkeypatch.delattr(torch.optim, "Muon")
    with pytest.raises(RecipeError, match=r"muon needs torch 2\.9 or newer; this is"):
        make(with_gradients(models), "muon")


def test_eight_bits_without_the_library_name_the_extra(models, monkeypatch):
    monkeypatch.setattr(quantize, "_LIBRARY", None)
    with pytest.raises(MissingExtraError, match=r"adamw_8bit needs.*\n.*finesmith\[bitsandbytes\]"):
        make(with_gradients(models), "adamw_8bit")
