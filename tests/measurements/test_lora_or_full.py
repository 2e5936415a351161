"""LoRA against full, and the model from scratch: own learning rates, the numbers, the margin."""

from dataclasses import replace
from types import SimpleNamespace

import pytest

from finesmith import comparing, recipe, registry, run, stages
from finesmith.evidence import claims
from finesmith.measurements import _arms, _general, _knowledge, base, lora_or_full, scratch
from finesmith.metrics.accuracy import PLUGIN as ACCURACY
from finesmith.types import Estimate
from finesmith.watch import Watcher
from tests.measurements import kept


@pytest.fixture
def study(tickets, models, tmp_path):
    made = run.tune(
        recipe.make(
            {"data": str(tickets), "model": {"name": models("llama"), "dtype": "float32", "device": "cpu"},
             "out": str(tmp_path / "run"), "train": {"max_steps": 3}, "speed": {"block_attention": 0},
             "lora": {"rank": 4}}
        )
    )  # fmt: skip
    return comparing.open_study(made.path, effort="full", options={}, watcher=Watcher())


def test_both_methods_are_swept_and_compared(study, monkeypatch):
    plugin, rows, read = lora_or_full.PLUGIN, [], []
    look = _knowledge.look

    def looking(study, loaded):
        known = look(study, loaded)
        read.append((loaded is not study._models.get("base", SimpleNamespace(loaded=None)).loaded, known))
        return known

    monkeypatch.setattr(_knowledge, "look", looking)
    answering = base.Retrained.predict
    monkeypatch.setattr(
        base.Retrained, "predict", lambda self, asked: rows.append(len(asked)) or answering(self, asked)
    )
    assert plugin.skips(study) == ""
    trainings, a_row = (replace(study, answer_seconds=seconds) for seconds in (0.0, 1.0))
    assert 5.99 * study.train_seconds <= plugin.cost(trainings) <= 7.51 * study.train_seconds, "full ones take longer"
    with kept.few_passages():
        found = plugin(study, Watcher())
    every = 6 * (len(study.splits.validation) + len(study.splits.test)) + 7 * _general.READING[study.task.kind]
    assert sum(rows) + 7 * _general.READING[study.task.kind] <= plugin.cost(a_row) - plugin.cost(trainings), (
        "no arm's answers are left out"
    )
    assert plugin.cost(a_row) - plugin.cost(trainings) == pytest.approx(every)
    numbers = found.numbers
    assert found.systems.keys() == {"lora", "full"} and "full fine-tuning minus LoRA: " in found.says
    middles = [sorted(numbers[name]["learning_rates"])[1] for name in ("lora", "full")]
    assert middles == [pytest.approx(float(study.recipe.train.learning_rate)), 5e-4]
    assert numbers["lora"]["trainable_parameters"] < numbers["full"]["trainable_parameters"] / 3
    saved = (study.tuned_folder / "adapter_model.safetensors").stat().st_size / 1e6
    assert 0.5 * saved < numbers["lora"]["megabytes"] < saved < 0.5 * numbers["full"]["megabytes"]
    gap = numbers["difference"]
    assert gap.low <= numbers["low90"] <= gap.value <= numbers["high90"] <= gap.high
    assert gap.value == pytest.approx(numbers["full"]["score"] - numbers["lora"]["score"])
    assert numbers["delta"] >= 0.01 and not found.missing
    knowledge, passages = numbers["knowledge"], len(next(iter(read))[1].passages)
    assert all(knowledge[name].n == passages for name in ("lora", "full", "difference"))
    assert knowledge["full"].value != knowledge["lora"].value
    assert knowledge["difference"].value == pytest.approx(knowledge["full"].value - knowledge["lora"].value)
    start, arms = read[-1][1], [each for _, each in read[:-1]]
    assert not read[-1][0] and all(trained for trained, _ in read[:-1]) and 2 <= len(arms) <= 6
    lost = {_knowledge.lost(start, each, seed=0).value for each in arms}
    assert {knowledge["lora"].value, knowledge["full"].value} <= lost, "each at its best rate"
    assert f"{knowledge['full'].value:+.1%} after full fine-tuning" in found.says
    best = max(numbers["full"]["learning_rates"].values())
    assert numbers["full"]["learning_rates"][numbers["full"]["learning_rate"]] == best


def test_the_margin_is_a_point_or_what_is_of_use_and_does_not_grow_with_the_noise(study):
    assert lora_or_full.margin(ACCURACY, 0.9, 0.0) == 0.01 and lora_or_full.margin(ACCURACY, 0.9, 0.03) == 0.03
    loss = registry.resolve("metrics", "held_out_loss")
    assert lora_or_full.margin(loss, 2.0, 0.0) == pytest.approx(0.02)
    arm = {"score": 0.9}
    noisy = {"difference": Estimate(0.0, -0.08, 0.08, 100), "low90": -0.067, "high90": 0.067, "full": arm, "lora": arm}
    study.metrics = {study.task.primary: ACCURACY}
    found = lora_or_full.PLUGIN.retold(study, {"numbers": noisy}).numbers
    assert found["delta"] == 0.01 and found["detectable"] == pytest.approx(0.114, abs=1e-3)
    claim = claims._lora(ACCURACY, found)
    assert claim.outcome == "inconclusive" and claim.p > 0.3
    assert "Only 0.114 or more would most likely show in these test rows." in claim.sentence
    study.minimum_gain = 0.07
    wide = lora_or_full.PLUGIN.retold(study, {"numbers": noisy}).numbers
    assert wide["delta"] == 0.07 and claims._lora(ACCURACY, wide).outcome == "supported"


def test_from_scratch_of_a_lora_run_with_the_label_multiplier_and_its_control(study, monkeypatch):
    study.found["learning_curve"] = {"points": [{"rows": 10, "score": -1.0}, {"rows": 63, "score": 2.0}]}
    made, asked = [], stages.build
    monkeypatch.setattr(stages, "build", lambda recipe, *rest: made.append(recipe) or asked(recipe, *rest))
    study.recipe = study.recipe.replace(train={"max_steps": None, "epochs": 3.0, "patience": 1, "evaluations": 3})
    found = scratch.PLUGIN(study, Watcher())
    assert [(each.train.max_steps, each.train.patience) for each in made] == [(3, None)] * 3, "as long as the run was"
    assert [each.train.learning_rate for each in made] == [1e-4, 3e-4, 1e-3] and made[0].model.from_scratch
    assert {(each.train.micro_batch_tokens, each.speed.checkpointing, each.speed.processes) for each in made} == {
        ("auto", "auto", "auto")
    }, "a run with adapters settled its passes for them"
    assert found.numbers["costs"]["steps"] == 3 and "after 3 steps, as many as the tuned model made" in found.says
    assert len(found.numbers["learning_rates"]) == 3 and found.numbers["control"] == "tfidf"
    assert 1 <= found.numbers["label_multiplier"] <= len(study.splits.train) / 10


@pytest.mark.parametrize(
    ("score", "lower", "found"),
    [
        (0.6, False, {"label_multiplier": 8.0}),
        (0.4, False, {"label_multiplier_at_least": 16.0}),
        (0.9, False, {"label_multiplier_at_most": 1.0}),
        (0.8, False, {"label_multiplier": 1.0}),
        (0.1, True, {"label_multiplier_at_most": 1.0}),
    ],
)
def test_what_pretraining_is_worth_has_an_end_where_the_curve_has(score, lower, found):
    points = [{"rows": rows, "score": value} for rows, value in ((100, 0.5), (400, 0.7), (1600, 0.8))]
    if lower:
        points = [{**point, "score": 1 - point["score"]} for point in points]
    asked = SimpleNamespace(
        found={"learning_curve": {"points": points}},
        primary=SimpleNamespace(higher_is_better=not lower),
        splits=SimpleNamespace(train=range(1600)),
    )
    assert scratch._labels(asked, score) == pytest.approx(found)


def test_rows_at_which_a_curve_reaches_a_score():
    curve = [(100.0, 0.5), (400.0, 0.7), (1600.0, 0.8)]
    assert scratch.multiplier(curve, 0.6) == pytest.approx(200.0)
    assert scratch.multiplier(curve, 0.4) == 100.0 and scratch.multiplier(curve, 0.9) == 1600.0
    losses = [(100.0, 3.0), (400.0, 2.0)]
    assert scratch.multiplier(losses, -2.5, -1.0) == pytest.approx(200.0)


def test_passes_that_were_settled_for_one_method_are_settled_anew_for_the_other():
    tokens = {"micro_batch_tokens": 128}
    asked = recipe.make({"data": {"path": "a"}, "train": tokens, "speed": {"checkpointing": "on"}})
    study = SimpleNamespace(recipe=asked)
    assert _arms.settings(study, "lora", learning_rate=1e-3) == {"method": "lora", "train": {"learning_rate": 1e-3}}
    full = asked.replace(**_arms.settings(study, "full", learning_rate=1e-4))
    found = full.train.micro_batch_tokens, full.speed.checkpointing, full.speed.processes
    assert found == ("auto", "auto", "auto") and full.train.learning_rate == 1e-4


def test_a_run_with_muon_is_not_compared_with_adapters():
    asked = recipe.make({"data": {"path": "a"}, "method": "full", "train": {"optimizer": "muon"}})
    assert "muon" in lora_or_full.PLUGIN.skips(SimpleNamespace(recipe=asked))
    assert lora_or_full.PLUGIN.skips(SimpleNamespace(recipe=asked.replace(train={"optimizer": "adamw"}))) == ""
