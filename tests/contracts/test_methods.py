"""What every tuning method promises, over every file in `methods/` and several architectures.

A new method is tested without an edit here; `OPEN` and `SETTINGS` only say more about those that ship.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

from finesmith import predictor, recipe, registry, stages
from finesmith.errors import RecipeError
from finesmith.methods.base import layer_list
from finesmith.models import load as models
from finesmith.stages import Ready
from finesmith.tasks.base import collate
from tests import small
from tests.conftest import clause_rows, ticket_rows, write_csv, write_jsonl

METHODS = registry.available("methods")
DECODERS = ("llama", "llama_tied", "qwen3", "gpt2")
ENCODERS = ("bert", "roberta", "distilbert")
CASES = [("classification", family) for family in (*DECODERS, *ENCODERS)]
CASES += [("generation", family) for family in DECODERS]
SETTINGS: dict[str, dict[str, Any]] = {"last_layers": {"count": 1}, "lora": {"rank": 4, "alpha": 8.0}}


def _last_layers(name: str, model: Any, head: tuple[str, ...]) -> bool:
    last = next(n for n, module in model.named_modules() if module is layer_list(model)[-1])
    final_norm = name.rpartition(".")[0].endswith((".norm", ".ln_f"))
    return name.startswith(f"{last}.") or final_norm or _in_head(name, head)


def _in_head(name: str, head: tuple[str, ...]) -> bool:
    return any(part in head for part in name.split("."))


OPEN = {
    "full": lambda name, model, head: True,
    "head": lambda name, model, head: _in_head(name, head),
    "last_layers": _last_layers,
    "lora": lambda name, model, head: "lora_" in name or ("modules_to_save" in name and _in_head(name, head)),
}
"""Which parameters each shipped method names."""


@dataclass
class Case:
    """One method on one architecture: before, after two steps, after twenty, saved."""

    method: str
    ready: Ready
    base: Any
    head: tuple[str, ...]
    before: dict[str, torch.Tensor]
    after_two: dict[str, torch.Tensor]
    losses: tuple[float, float]
    base_logits: torch.Tensor
    start_logits: torch.Tensor
    end_logits: torch.Tensor
    folder: Path

    def ask(self, model: Any) -> torch.Tensor:
        return _ask(self.ready, model)


def _ask(ready: Ready, model: Any) -> torch.Tensor:
    return small.logits(model, ready.data[:5], ready.loaded.tokenizer.pad_token_id)


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    folder = tmp_path_factory.mktemp("rows")
    # one class is common: random features can at least learn that, so that the loss of a frozen trunk falls too
    tickets = [row for place, row in enumerate(ticket_rows(90)) if row["queue"] == "refund" or place % 5 == 0]
    return {
        "classification": write_csv(folder / "tickets.csv", tickets),
        "generation": write_jsonl(folder / "clauses.jsonl", clause_rows(20)),
    }


def _recipe(rows: dict[str, Path], models: Any, method: str, task: str, family: str) -> recipe.Recipe:
    # all rows in each step, so that a falling loss is not the luck of a batch; the head starts as it was drawn
    more: dict[str, Any] = {"classification": {"head_first": False}} if task == "classification" else {}
    if SETTINGS.get(method):
        more[method] = SETTINGS[method]
    train = {"learning_rate": 4e-3, "max_steps": 20, "batch_size": 64, "evaluations": 1, "keep": "last"}
    return small.make_recipe(rows[task], models(family), method=method, task=task, train=train, **more)


@pytest.fixture(scope="module", params=[(m, *case) for m in METHODS for case in CASES], ids="-".join)
def case(request, rows, models, tmp_path_factory):
    method, task, family = request.param
    asked = _recipe(rows, models, method, task, family)
    try:
        ready, splits = small.build(asked)
    except RecipeError as error:  # a method may refuse a task, but only for this reason
        assert "nothing to train" in str(error)
        pytest.skip(str(error))
    base = _load_base(ready)
    before = small.weights(ready.model)
    base_logits, start_logits = _ask(ready, base), _ask(ready, ready.model)
    first_loss, after_two = _loss(ready), {}
    for event in small.fit(ready, splits):
        if event.step.index == 2:
            after_two = small.weights(ready.model)
    folder = tmp_path_factory.mktemp("saved") / "model"
    end_logits = _ask(ready, ready.model)
    predictor.save(
        folder,
        ready.model,
        ready.loaded,
        ready.task,
        task_name=task,
        base=ready.recipe.model,
        adapter=ready.method.adapter,
    )
    head = ready.task.head(base)
    return Case(
        method,
        ready,
        base,
        head,
        before,
        after_two,
        (first_loss, _loss(ready)),
        base_logits,
        start_logits,
        end_logits,
        folder,
    )


def _loss(ready: Ready) -> float:
    """The mean loss of the training rows, without dropout."""
    ready.model.eval()
    with torch.inference_mode():
        total, count = ready.task.loss(ready.model, collate(ready.data[:], ready.loaded.tokenizer.pad_token_id, "cpu"))
    return float(total / count)


def _load_base(ready: Ready) -> Any:
    loaded = models.load(ready.recipe.model, ready.task.kind, **ready.task.load_arguments(), seed=ready.recipe.seed)
    return loaded.model.eval()


def test_starts_as_the_base(case):
    assert torch.equal(case.start_logits, case.base_logits)


def test_only_the_named_parameters_move(case):
    opened = {name for name, parameter in case.ready.model.named_parameters() if parameter.requires_grad}
    everything = dict(case.ready.model.named_parameters(remove_duplicate=False))
    shared = {name for name, parameter in everything.items() if any(parameter is everything[o] for o in opened)}
    assert opened
    moved = {name for name in case.before if not torch.equal(case.before[name], case.after_two[name])}
    assert moved <= shared
    unmoved = {name for name in opened if name in case.before} - moved
    assert not unmoved
    if case.method in OPEN:
        fresh = ("pooler",) if any("pooler" in note for note in case.ready.loaded.notes) else ()
        wanted = {
            name
            for name, _ in case.ready.model.named_parameters()
            if OPEN[case.method](name, case.ready.model, (*case.head, *fresh))
        }
        assert opened == wanted


def test_the_head_is_trained_by_every_method(case):
    for module in case.head:
        assert [
            name
            for name, parameter in case.ready.model.named_parameters()
            if module in name.split(".") and parameter.requires_grad
        ]


def test_without_the_adapter_the_base_answers_bit_for_bit(case):
    if not case.ready.method.adapter:
        pytest.skip("no adapter to switch off")
    with case.ready.model.disable_adapter():
        assert torch.equal(case.ask(case.ready.model), case.base_logits)
    assert not torch.equal(case.end_logits, case.base_logits)


def test_saved_and_reloaded_answers_as_in_memory(case):
    loaded = predictor.load(case.folder, device="cpu", dtype="float32").loaded
    assert torch.equal(case.ask(loaded.model), case.end_logits)
    files = {path.name for path in case.folder.iterdir()}
    assert ("adapter_model.safetensors" in files) == case.ready.method.adapter
    assert ("model.safetensors" in files) == (not case.ready.method.adapter)


def test_the_head_survives_the_save(case):
    reloaded = dict(predictor.load(case.folder, device="cpu", dtype="float32").loaded.model.named_parameters())
    trained = dict(case.ready.model.named_parameters())
    in_head = [n for n, p in trained.items() if _in_head(n, case.head) and p.requires_grad]
    assert bool(in_head) == bool(case.head)
    for name in in_head:
        assert torch.equal(reloaded[name], trained[name])
        assert not torch.equal(trained[name], case.before[name])


def test_merged_answers_as_unmerged(case):
    loaded = predictor.load(case.folder, device="cpu", dtype="float32").loaded
    merged = case.ready.method.merge(loaded.model).eval()
    torch.testing.assert_close(case.ask(merged), case.end_logits, rtol=1e-4, atol=1e-5)
    assert type(merged) is type(case.base)
    assert set(merged.state_dict()) == set(case.base.state_dict())


def test_the_loss_falls(case):
    first, last = case.losses
    assert last < 0.97 * first


@pytest.mark.parametrize("task, family", CASES)
def test_the_default_settings_work(task, family, rows, models):
    for method in METHODS:
        asked = small.make_recipe(rows[task], models(family), method=method, task=task)
        try:
            ready, _ = small.build(asked)
        except RecipeError as error:
            assert "nothing to train" in str(error)
            continue
        rate = ready.method.learning_rate(10_000_000)
        assert 0 < ready.method.learning_rate(7_000_000_000) <= rate < 1


@pytest.mark.parametrize("family", DECODERS)
def test_head_has_nothing_to_train_where_the_task_adds_no_head(family, rows, models):
    with pytest.raises(RecipeError, match="method 'head' has nothing to train: this task adds no head"):
        small.build(_recipe(rows, models, "head", "generation", family))


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("family, given, near", [("llama", "q_prj", "q_proj"), ("gpt2", "c_atn", "c_attn")])
def test_a_target_that_matches_nothing_is_an_error_that_names_the_nearest(method, family, given, near, rows, models):
    settings = registry.resolve("methods", method).Settings
    if "target_modules" not in settings.model_fields:
        pytest.skip("this method has no targets")
    asked = small.make_recipe(
        rows["generation"], models(family), method=method, **{method: {"target_modules": [given]}}
    )
    with pytest.raises(RecipeError, match=f"no linear layer is called '{given}'. Did you mean '{near}'"):
        small.build(asked)


@pytest.mark.parametrize("targets", [["q_proj", "v_proj"], ["down_proj"]])
def test_lora_goes_to_the_named_targets_and_nowhere_else(targets, rows, models):
    asked = small.make_recipe(rows["generation"], models("llama"), method="lora", lora={"target_modules": targets})
    ready, _ = small.build(asked)
    wrapped = {
        name.split(".lora_A")[0].rpartition(".")[2] for name, _ in ready.model.named_parameters() if "lora_A" in name
    }
    assert wrapped == set(targets)


def test_more_last_layers_than_there_are_is_an_error(rows, models):
    asked = small.make_recipe(rows["generation"], models("llama"), method="last_layers", last_layers={"count": 3})
    with pytest.raises(RecipeError, match=r"last_layers.count is 3, but the model has 2 blocks"):
        small.build(asked)


def test_lora_reaches_every_linear_layer_but_the_output(rows, models):
    ready, _ = small.build(small.make_recipe(rows["generation"], models("gpt2"), method="lora"))
    wrapped = {
        name.split(".lora_A")[0].rpartition(".")[2] for name, _ in ready.model.named_parameters() if "lora_A" in name
    }
    assert wrapped == {"c_attn", "c_proj", "c_fc"}
    assert stages.models.parameter_counts(ready.model)[0] < 40_000
