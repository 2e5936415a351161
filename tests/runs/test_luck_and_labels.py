"""Calibration and abstention, controls, seeds, learning curve, what to label next: on tiny runs."""

import csv
import dataclasses
import json
import math
from types import SimpleNamespace

import numpy as np
import pytest
from statsmodels.stats.power import NormalIndPower

import finesmith
from finesmith import comparing, predictor, registry
from finesmith import run as runs
from finesmith.errors import DataError, RecipeError, RunError
from finesmith.measurements import _probe, label_next, learning_curve, seeds
from finesmith.types import Example, Origin
from finesmith.watch import Watcher
from tests import small
from tests.conftest import clause_rows, ticket_rows, write_csv, write_jsonl
from tests.runs.test_whole_runs import command


def opened(path, **options):
    return comparing.open_study(path, effort="standard", options=options, watcher=Watcher())


def measured(name, study):
    plugin = registry.resolve("measurements", name)
    assert plugin.skips(study) == "" and 0 < plugin.cost(study) < 600
    return plugin(study, Watcher())


@pytest.fixture(scope="module")
def tickets_run(models, tmp_path_factory):
    folder = tmp_path_factory.mktemp("luck")
    data = write_csv(folder / "tickets.csv", ticket_rows(400))
    train = {"max_steps": 30, "learning_rate": 3e-3, "evaluations": 1}
    recipe = small.make_recipe(data, models("bert"), train=train)
    return runs.tune(recipe.replace(data={"validation": 0.25}, out=str(folder / "run"))).path


@pytest.fixture(scope="module")
def full_run(models, tmp_path_factory):
    """All weights of the tiny model: adapters on random weights cannot learn by heart."""
    folder = tmp_path_factory.mktemp("luck-full")
    train = {"max_steps": 2, "learning_rate": 1e-3, "evaluations": 1}
    data = write_csv(folder / "tickets.csv", ticket_rows(400))
    recipe = small.make_recipe(data, models("bert"), method="full", train=train)
    return runs.tune(recipe.replace(out=str(folder / "run"))).path


@pytest.fixture(scope="module")
def clauses_run(models, tmp_path_factory):
    folder = tmp_path_factory.mktemp("luck-clauses")
    data = write_jsonl(folder / "clauses.jsonl", clause_rows(100))
    train = {"max_steps": 4, "learning_rate": 3e-3, "evaluations": 1}
    recipe = small.make_recipe(data, models("llama"), method="full", train=train)
    return runs.tune(recipe.replace(out=str(folder / "run"))).path


def test_calibration_sets_on_validation_rows_and_says_what_holds_on_test_rows(tickets_run):
    found = measured("calibration", opened(tickets_run, risk=0.5))
    numbers = found.numbers
    drawn = found.plots[0]["values"]["with the temperature"]  # fewer groups, the same rows and right answers
    assert len(drawn) <= 6 and sum(row[2] for row in drawn) == sum(row[2] for row in numbers["after"]["bins"])
    right = sum(share * rows for _, share, rows, *_ in drawn)
    assert all(0 <= low <= share <= high <= 1 and low < high for _, share, _, low, high in drawn)
    assert f"{100 * numbers['after']['ece_corrected'].high:.3g} %)" in found.says
    assert right == pytest.approx(sum(share * rows for _, share, rows in numbers["after"]["bins"]))
    assert numbers["rows"]["temperature"] + numbers["rows"]["threshold"] == 100
    assert 0.05 <= numbers["temperature"] <= 20
    for each in (numbers["before"], numbers["after"]):
        assert 0 <= each["ece"] <= 1 and 0 <= each["brier"] <= 2 and each["nll"] >= 0
    assert [each["alpha"] for each in numbers["sets"]] == [0.1, 0.05]
    assert numbers["sets"][0]["size"] <= numbers["sets"][1]["size"] <= 3
    assert numbers["coverage"][0]["share"] == 1.0
    kept = json.loads((tickets_run / "model" / "abstain.json").read_text())
    assert kept["threshold"] == numbers["abstain"]["threshold"] and kept["risk"] == 0.5


def test_predict_leaves_out_what_is_below_the_threshold(tickets_run, tmp_path):
    place = tickets_run / "model" / "abstain.json"
    rows = write_csv(tmp_path / "new.csv", [{"text": row["text"]} for row in ticket_rows(30, seed=5)])
    plain = [json.loads(line) for line in command("predict", tickets_run, rows)[1].splitlines()]
    confidence = sorted(max(line["scores"].values()) for line in plain)
    middle = (confidence[14] + confidence[15]) / 2
    place.write_text(json.dumps({"temperature": 1.0, "threshold": middle, "risk": 0.05, "shown": True, "rows": 50}))
    code, out, err = command("predict", tickets_run, rows, "--abstain", "--out", tmp_path / "a.csv")
    assert code == 0 and "15 of 30 answers left out (null): less sure than" in err
    with (tmp_path / "a.csv").open(newline="") as file:
        assert sum(row["output"] == "" for row in csv.DictReader(file)) == 15
    code, out, err = command("predict", tickets_run, rows, "--abstain", "--json")
    found = json.loads(out)
    assert found["left_out"] == 15
    for before, after in zip(plain, found["answers"], strict=True):
        sure = max(before["scores"].values()) >= middle
        assert after["output"] == (before["output"] if sure else None) and after["scores"] == before["scores"]
    texts = [row["text"] for row in ticket_rows(30, seed=5)]
    answers = finesmith.load(tickets_run).predict(texts, abstain=True)
    assert sum(answer.output is None for answer in answers) == 15
    copy = tmp_path / "copy"
    copy.mkdir()
    for file in (tickets_run / "model").iterdir():
        (copy / file.name).write_bytes(file.read_bytes())
    assert json.loads(command("predict", copy, rows, "--abstain", "--json")[1])["left_out"] == 15
    place.unlink()
    code, _, err = command("predict", tickets_run, rows, "--abstain")
    assert code == 2 and "This model has no abstention threshold" in err and "compare RUN --only calibration" in err
    with pytest.raises(RunError):
        finesmith.load(tickets_run).predict(texts, abstain=True)


def test_a_model_that_is_never_good_enough_gets_no_threshold(tickets_run):
    study = opened(tickets_run, risk=0.001)  # so few rows cannot show it
    older = predictor.Abstention(temperature=1.0, threshold=0.5, risk=0.5, shown=True, rows=50)
    predictor.keep_abstention(tickets_run / "model", older)
    assert (tickets_run / "model" / "abstain.json").exists()
    found = measured("calibration", study)
    assert found.numbers["abstain"] == {"risk": 0.001, "threshold": None}
    assert not (tickets_run / "model" / "abstain.json").exists() and "good enough for 0.1 %" in found.says
    with pytest.raises(RecipeError, match="--risk must be between 0 and 1, not 5"):
        measured("calibration", opened(tickets_run, risk=5))


def test_controls_pass_on_a_sound_pipeline(full_run, clauses_run, monkeypatch):
    monkeypatch.setattr("finesmith.measurements.controls.ATTEMPTS", ((2, 1.0), (300, 1.0), (1, 1.0)))
    numbers = measured("controls", opened(full_run)).numbers
    assert (
        numbers["passed"]
        and numbers["overfit"]["learnt"] == numbers["overfit"]["rows"] == 20
        and numbers["overfit"]["steps"] == 300
    )
    assert numbers["shuffled"]["score"] < 0.6 and numbers["shuffled"]["above_chance"].low <= 0
    found = measured("controls", opened(clauses_run))
    assert found.numbers["passed"] and found.numbers["overfit"]["loss"] < 0.5 * found.numbers["overfit"]["loss_before"]
    assert list(found.missing) == ["controls: shuffled labels"]


def test_controls_fail_where_nothing_can_be_learnt(full_run, monkeypatch):
    monkeypatch.setattr("finesmith.measurements.controls.ATTEMPTS", ((3, 1.0), (6, 3.0)))
    study = opened(full_run)
    study.recipe = study.recipe.replace(train={"learning_rate": 1e-9})
    found = measured("controls", study)
    assert not found.numbers["passed"] and "SOMETHING IS WRONG, the model does not learn" in found.says


def test_seeds_give_a_spread_an_interval_and_a_soup(tickets_run):
    study = opened(tickets_run)
    numbers = measured("seeds", study).numbers
    assert numbers["seeds"] == [0, 1, 2] and len(numbers["values"]) == 3
    assert numbers["values"][0] == pytest.approx(study.score(study.splits.test, study.predictions["tuned"]))
    assert numbers["sd"] == pytest.approx(np.std(numbers["values"], ddof=1))
    assert numbers["score"].low <= np.mean(numbers["values"]) <= numbers["score"].high
    assert {"base", "tfidf", "majority"} <= numbers["gains"].keys()
    gain = numbers["gains"]["majority"]
    majority = study.score(study.splits.test, study.predictions["majority"])
    assert gain["value"] == pytest.approx(np.mean(numbers["values"]) - majority)
    assert 0 <= numbers["soup"]["score"] <= 1 and numbers["seeds_needed"] == seeds._needed(study, numbers["sd"])
    loss = numbers["knowledge"]["loss_probe_accuracy"]
    assert -1 <= loss.low <= loss.value <= loss.high <= 1
    soup = numbers["soup"]
    assert soup["kept"] == (soup["validation"] >= soup["validation_of_tuned"]) == (tickets_run / "soup").is_dir()
    if soup["kept"]:
        card = json.loads((tickets_run / "soup" / "finesmith.json").read_text())
        config = json.loads((tickets_run / "soup" / "adapter_config.json").read_text())
        assert card["soup_of_seeds"] == [0, 1, 2] and config["r"] == 3 * 16 and config["lora_alpha"] == 3 * 32


@pytest.mark.parametrize(("sd", "gain"), [(0.02, 0.01), (0.05, 0.01), (0.013, 0.02), (0.2, 0.5)])
def test_the_seeds_that_would_show_a_gain_have_the_power_of_statsmodels(sd, gain):
    study = SimpleNamespace(primary=registry.resolve("metrics", "accuracy"), minimum_gain=gain)
    wanted = NormalIndPower().solve_power(effect_size=gain / sd, alpha=0.05, power=0.8)
    assert seeds._needed(study, sd) == max(2, math.ceil(wanted))
    study.minimum_gain = 0.0  # a hundredth of what accuracy can be, and of a loss without an end a hundredth of 1
    for name in ("accuracy", "held_out_loss"):
        study.primary = registry.resolve("metrics", name)
        assert seeds._needed(study, 0.02) == 63


@pytest.mark.parametrize("kind", ["tickets_run", "full_run", "clauses_run"])
def test_the_soup_of_one_model_is_that_model(kind, request, tmp_path):
    from finesmith.measurements import _soup
    from finesmith.tasks.base import predict

    study = opened(request.getfixturevalue(kind))
    tuned, soup = study.tuned(), _soup.Soup()
    before = predict(tuned.task, tuned.loaded, study.splits.test)
    for _ in range(3):
        soup.add(tuned.loaded.model)
    study.folder.write_with("soup", lambda part: soup.write(part, study.tuned_folder, tuned, [0, 1, 2]))
    mixed = predictor.load(study.folder.file("soup"), dtype="float32", device="cpu")
    after = predict(mixed.task, mixed.loaded, study.splits.test)
    for one, other in zip(before, after, strict=True):
        assert list(one.scores.values()) == pytest.approx(list(other.scores.values()), abs=1e-4)
    study.folder.remove("soup")


def test_the_soup_of_adapters_is_the_mean_of_their_updates():
    import torch

    from finesmith.measurements import _soup

    torch.manual_seed(0)
    parts = [{"x.lora_A.weight": torch.randn(2, 5), "x.lora_B.weight": torch.randn(3, 2), "head": torch.randn(4)}
             for _ in range(3)]  # fmt: skip
    found = _soup.joined(parts)
    mean = sum(part["x.lora_B.weight"] @ part["x.lora_A.weight"] for part in parts) / 3
    torch.testing.assert_close(found["x.lora_B.weight"] @ found["x.lora_A.weight"], mean)
    torch.testing.assert_close(found["head"], sum(part["head"] for part in parts) / 3)


def test_the_soup_is_kept_where_it_is_no_worse_on_the_validation_rows(clauses_run, tmp_path):
    study = opened(clauses_run)
    soup = measured("seeds", study).numbers["soup"]
    assert soup["kept"] == (soup["validation"] >= soup["validation_of_tuned"])
    assert (clauses_run / "soup").is_dir() == soup["kept"]
    study.metrics = {study.task.primary: registry.resolve("metrics", "held_out_loss")}
    found = registry.resolve("measurements", "seeds")(study, Watcher())
    soup = found.numbers["soup"]
    assert soup["kept"] == (soup["validation"] <= soup["validation_of_tuned"]) == (clauses_run / "soup").is_dir()
    change = found.numbers["knowledge"]["change_bits_per_byte"]
    assert change.low <= change.value <= change.high and change.n > 200
    if soup["kept"]:
        asked = write_jsonl(tmp_path / "asked.jsonl", [{"prompt": "who"}])
        code, out, err = command("predict", clauses_run / "soup", asked)
        assert code == 0 and json.loads(out.splitlines()[0])["output"] is not None, err


def rows_of(labels):
    return [Example(str(at), f"text {at}", label, Origin("f", at)) for at, label in enumerate(labels)]


def test_parts_are_nested_and_stratified():
    rows = rows_of(["a"] * 80 + ["b"] * 16 + ["c"] * 4)
    order = learning_curve.nested(rows, seed=0)
    assert sorted(order) == list(range(100))
    for share in (0.125, 0.25, 0.5):
        part = [rows[at].target for at in order[: int(100 * share)]]
        assert {label: part.count(label) for label in "abc"} == pytest.approx(
            {"a": 80 * share, "b": 16 * share, "c": 4 * share}, abs=2.1
        )
    assert set(rows[at].target for at in order[:3]) == {"a", "b", "c"}
    several = rows_of([("a", "b"), ("a",), ("c",), ("b", "c")] * 10)
    first = [rows for rows in learning_curve.nested(several, seed=0)[:3]]
    assert {label for at in first for label in several[at].target} == {"a", "b", "c"}


def test_the_learning_curve_trains_on_parts_and_looks_ahead(tickets_run):
    study = opened(tickets_run, target=0.99)
    found = measured("learning_curve", study)
    numbers = found.numbers
    assert [point["rows"] for point in numbers["points"]] == [28, 55, 110, 220]
    assert [point["steps"] for point in numbers["points"]] == [30] * 4  # max_steps holds for the parts
    whole = study.score(study.splits.test, study.predictions["tuned"])
    assert numbers["points"][-1]["score"] == pytest.approx(whole)
    lines = found.plots[0]["values"]
    assert [row[0] for row in lines["tuned model"]] == [point["rows"] for point in numbers["points"]]
    assert lines["forecast"][0][1] == numbers["points"][-1]["score"] and len(lines["forecast"]) == 3
    assert {"tfidf", "probe"} <= numbers["free"].keys() and "majority" not in numbers["free"]
    assert numbers["free"]["tfidf"][-1]["score"] == pytest.approx(
        study.score(study.splits.test, study.predictions["tfidf"])
    )
    assert numbers["x2"]["low"] <= numbers["x2"]["value"] <= numbers["x2"]["high"] <= 1
    assert numbers["x4"]["high"] - numbers["x4"]["low"] > 0
    assert numbers["gain_2x"]["low"] <= numbers["gain_2x"]["high"] and numbers["target"] == 0.99
    assert set(numbers["more_labels"]) == {"low", "value", "high"}


def test_small_parts_get_the_steps_of_the_whole_run(tickets_run):
    study = opened(tickets_run)
    study.recipe = study.recipe.replace(train={"max_steps": None, "epochs": 2.0, "batch_size": 16})
    rows = list(study.splits.train)
    assert study.planned_steps == 30
    assert learning_curve._trained(study, Watcher(), rows[:40])["steps"] == 30


def test_a_loss_is_foretold_too(clauses_run):
    study = opened(clauses_run)
    numbers = measured("learning_curve", study).numbers
    assert [point["rows"] for point in numbers["points"]] == [9, 18, 35, 70] and "nearest" in numbers["free"]
    study.splits = dataclasses.replace(study.splits, train=list(study.splits.train)[:56])
    why = registry.resolve("measurements", "learning_curve").skips(study)
    assert why == "56 training rows are too few for parts of them; 64 are needed"
    metric = registry.resolve("metrics", "held_out_loss")
    study.metrics = {study.task.primary: metric}
    points = [{"rows": n, "score": 6 * n**-0.2} for n in (100, 200, 400, 800)]
    numbers = learning_curve.foretell(study, points)
    assert numbers["x2"]["value"] == pytest.approx(6 * 1600**-0.2, rel=0.02)
    assert numbers["gain_2x"]["value"] > 0 and not numbers["flat"]


def test_which_rows_to_label_next(tickets_run, tmp_path):
    known = [{"text": row["text"]} for row in ticket_rows(400)[:20]]
    new = [{"text": row["text"]} for row in ticket_rows(800, seed=9)]
    path = write_csv(tmp_path / "pool.csv", known + new + new[:10])
    study = opened(tickets_run, unlabelled=str(path))
    numbers = measured("label_next", study).numbers
    picked = numbers["picked"]
    assert len(picked) == 100 and [row["why"] for row in picked].count("random") == 20
    texts = [row["text"] for row in picked]
    assert len(set(texts)) == 100 and not {row["text"] for row in known} & set(texts)
    unsure = [row["margin"] for row in picked if row["why"] == "unsure"]
    assert unsure == sorted(unsure) and np.mean(unsure) <= np.mean(
        [r["margin"] for r in picked if r["why"] == "random"]
    )
    lines = (tickets_run / "measured" / "label_next.jsonl").read_text().splitlines()
    assert [json.loads(line)["id"] for line in lines] == [row["id"] for row in picked]
    advantage = numbers["advantage"]
    assert advantage["low"] <= advantage["value"] <= advantage["high"] and len(advantage["chosen"]) == 4
    gap = np.mean(np.subtract(advantage["chosen"], advantage["random"]))
    assert advantage["value"] == pytest.approx(gap) and advantage["n"] == len(study.splits.validation)
    with pytest.raises(DataError, match=r"No row of .* is new"):
        measured("label_next", opened(tickets_run, unlabelled=str(write_csv(tmp_path / "old.csv", known))))


def test_without_unlabelled_rows_only_the_simulation_is_made(tickets_run):
    found = measured("label_next", opened(tickets_run))
    assert found.numbers["picked"] == [] and "--unlabelled FILE" in next(iter(found.missing.values()))


def test_unsure_rows_are_chosen_where_they_are_and_spread_out():
    random = np.random.default_rng(0)
    features = np.concatenate([random.normal(0, 0.1, (200, 2)), random.normal(5, 0.1, (200, 2))])
    margins = np.concatenate([np.tile([0.1, 0.9], 100), np.tile([0.1, 0.9], 100)])
    chosen, drawn = label_next.choose(features, margins, 50, seed=0)
    assert len(chosen) == 40 and len(drawn) == 10 and not set(chosen) & set(drawn)
    assert (margins[chosen] == 0.1).all() and 10 <= (chosen < 200).sum() <= 30


def test_the_probe_reads_a_label_and_knows_one_class():
    random = np.random.default_rng(0)
    rows = random.normal(size=(200, 4))
    labels = np.where(rows[:, 0] > 0, "up", "down")
    assert (_probe.fit(rows[:100], labels[:100]).answers(rows[100:]) == labels[100:]).mean() > 0.9
    assert set(_probe.fit(rows, ["same"] * 200).answers(rows)) == {"same"}
    assert _probe.margins(np.array([[0.7, 0.2, 0.1], [0.5, 0.5, 0.0]])) == pytest.approx([0.5, 0.0])


@pytest.fixture(scope="module")
def several_run(models, tmp_path_factory):
    """Rows of which two thirds have two labels."""
    folder = tmp_path_factory.mktemp("several")
    rows = ticket_rows(300)
    both = [
        {"text": f"{one['text']} {other['text']}", "labels": sorted({one["queue"], other["queue"]})}
        for one, other in zip(rows, rows[1:] + rows[:1], strict=True)
    ]
    both[::3] = [{"text": row["text"], "labels": [row["queue"]]} for row in rows[::3]]
    data = write_jsonl(folder / "rows.jsonl", both)
    train = {"max_steps": 30, "learning_rate": 3e-3, "evaluations": 1}
    recipe = small.make_recipe(data, models("bert"), train=train)
    return runs.tune(recipe.replace(data={"validation": 0.25}, out=str(folder / "run"))).path


def test_several_labels_are_calibrated_and_left_out_as_a_whole(several_run, tmp_path):
    study = opened(several_run, risk=0.9)
    assert study.task.multi_label
    numbers = measured("calibration", study).numbers
    assert numbers["several_labels"] and numbers["temperature"] > 0
    sets = numbers["sets"]
    assert 0 <= sets[0]["size"] <= sets[1]["size"] <= 3 and 0 <= sets[0]["holds"] <= 1
    model = predictor.load(several_run)
    abstention = model.abstention
    assert abstention is not None
    assert abstention.several and abstention.threshold == numbers["abstain"]["threshold"]
    answers = model.predict([row.input for row in study.splits.test])
    sure = [abstention.confidence(answer) for answer in answers]
    assert numbers["abstain"]["answered"] == pytest.approx(np.mean(np.array(sure) >= abstention.threshold), abs=0.03)
    chances = np.array(list(answers[0].scores.values()))
    logits = np.log(chances / (1 - chances)) / abstention.temperature
    each = np.maximum(1 / (1 + np.exp(-logits)), 1 / (1 + np.exp(logits)))
    assert sure[0] == pytest.approx(each.prod(), rel=1e-6)
    left = model.predict([row.input for row in study.splits.test], abstain=True)
    assert [answer.output is None for answer in left] == [each < abstention.threshold for each in sure]


def test_which_rows_with_several_labels_to_label_next(several_run, tmp_path):
    pool = write_csv(tmp_path / "pool.csv", [{"text": row["text"]} for row in ticket_rows(400, seed=9)])
    found = measured("label_next", opened(several_run, unlabelled=str(pool)))
    picked, advantage = found.numbers["picked"], found.numbers["advantage"]
    assert len(picked) == 100 and all(0 <= row["margin"] <= 1 for row in picked)
    assert advantage["several_labels"] and all(0 <= each <= 1 for each in advantage["chosen"])
    assert "changes micro-F1 by" in found.says and "over 5 draws and" in found.says


def test_an_advantage_is_not_clear_on_the_luck_of_a_few_rows():
    """Two rows of 40 that all five draws get right by choosing and wrong at random, in every round."""

    def told(rows, lucky, together=None):
        right = np.zeros((5, 2, 4, rows))
        right[:, 0, :, :lucky] = 1
        counts = np.stack([right, np.ones(right.shape)], axis=-1)
        return label_next._over_draws_and_rows(counts, together, seed=0)

    few, many, one = told(40, 2), told(4000, 200), told(40, 40, [0] * 40)
    assert few.value == many.value == 0.05 and (few.n, many.n) == (40, 4000)
    assert few.low < 0 < many.low, "the draws agree, the rows do not settle it"
    assert (one.low, one.high, one.groups) == (-1, 1, 1)


def test_the_probe_reads_several_labels():
    random = np.random.default_rng(0)
    rows = random.normal(size=(400, 4))
    held = rows[:, :2] > 0
    found = _probe.fit_several(rows[:300], held[:300]).scores(rows[300:]) > 0
    assert (found == held[300:]).mean() > 0.9
    assert _probe.margins_of_several(np.array([[0.9, 0.45], [0.99, 0.01]])) == pytest.approx([0.1, 0.98])


@pytest.mark.parametrize("name", ["calibration", "label_next"])
def test_what_is_about_labels_is_skipped_where_texts_are_written(clauses_run, name):
    assert "writes texts" in registry.resolve("measurements", name).skips(opened(clauses_run))


def test_compare_makes_them_judges_and_decides(tickets_run):
    only = [word for name in ("calibration", "label_next", "seeds") for word in ("--only", name)]
    code, out, err = command("compare", tickets_run, *only, "--risk", "0.3", "--json")
    assert code == 0, err
    found = json.loads(out)
    assert set(found["measured"]) == {"calibration", "label_next", "seeds"}
    assert found["measured"]["calibration"]["numbers"]["abstain"]["risk"] == 0.3
    outcomes = {claim["name"]: claim["outcome"] for claim in found["claims"]}
    assert outcomes["fine-tuning beats prompting alone"] == outcomes["there are labels enough"] == "not measured"
    assert found["decision"].startswith(("Use TF-IDF + linear SVM: it is clearly better", "Fine-tune"))
    code, out, _ = command("compare", tickets_run, *only)
    assert code == 0 and out.splitlines()[0] == found["decision"]
    page = (tickets_run / "report.html").read_text(encoding="utf-8")
    for heading in (
        "Was fine-tuning worth it?",
        "How often it is right, by how sure it is",
        "What the tuned model took",
    ):
        assert heading in page
