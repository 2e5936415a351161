"""`finesmith advise`: the rule, whole answers on tiny models, and the case where the answer is no."""

import json

import pytest

import finesmith
from finesmith import advising
from finesmith.__main__ import main
from finesmith.errors import RecipeError
from finesmith.metrics.accuracy import PLUGIN as ACCURACY
from finesmith.metrics.base import refuse_impossible
from finesmith.metrics.bits_per_byte import PLUGIN as BITS
from finesmith.types import Estimate, Example, Finding, Origin, Prediction
from tests.conftest import ticket_rows, write_jsonl

TITLES = {"tfidf": "TF-IDF + linear SVM", "frozen": "A linear head"}


def said(value, low, high, *, metric=ACCURACY, gains=None, target=None, minimum_gain=0.01, **more):
    systems = {"tfidf": Estimate(value, low, high, 100)}
    told = {"target": target, "minimum_gain": minimum_gain, **more}
    return advising.decide(metric, systems, gains or {}, "tfidf", TITLES, **told)


def test_the_rule():
    decision, sentence = said(0.9, 0.86, 0.93, target=0.85)
    assert decision == "do not fine-tune"
    assert sentence == (
        "Do not fine-tune: TF-IDF + linear SVM reaches accuracy 0.900 (95 % interval 0.860 to 0.930, n = 100) without "
        "fine-tuning, and that is the target of 0.850; ship that."
    )
    assert said(0.9, 0.86, 0.93, target=0.88)[0] == "fine-tuning may be worth it"
    assert said(0.995, 0.991, 0.999)[0] == said(0.9, 0.86, 0.93, minimum_gain=0.2)[0] == "do not fine-tune"
    assert said(0.995, 0.97, 0.999)[0] == "fine-tuning may be worth it", "three points may be left, one is of use"
    assert said(0.9, 0.86, 0.93)[0] == "fine-tuning may be worth it"
    assert said(1.2, 1.1, 1.3, metric=BITS, target=1.35)[0] == "do not fine-tune"
    assert said(1.2, 1.1, 1.3, metric=BITS, target=1.15)[0] == "fine-tuning may be worth it"
    assert advising.decide(ACCURACY, {}, {}, "", {}, target=None, minimum_gain=0.0)[0] == "open"


def test_a_handful_of_rows_does_not_end_it():
    decision, sentence = said(1.0, 0.61, 1.0)
    assert decision == "fine-tuning may be worth it"
    assert (
        "the test rows are too few to know" in sentence
        and "would gain 0.000 on them, on others up to 0.390" in sentence
    )
    assert "too few" not in said(0.9, 0.86, 0.93)[1] and said(0.1, 0.0, 0.3, metric=BITS)[0] == decision
    systems = {"retrieved": Estimate(1.0, 0.96, 1.0, 100), "tfidf": Estimate(0.998, 0.995, 0.999, 3000)}
    told = advising.decide(
        ACCURACY, systems, {}, "retrieved", {**TITLES, "retrieved": "A"}, target=None, minimum_gain=0.01
    )
    assert told[0] == "do not fine-tune" and "TF-IDF + linear SVM reaches accuracy 0.998" in told[1], (
        "it is surely near"
    )


def test_the_target_is_reached_where_some_system_is_surely_above_it():
    systems = {"retrieved": Estimate(0.93, 0.89, 0.955, 300), "tfidf": Estimate(0.925, 0.915, 0.934, 3000)}
    titles = {**TITLES, "retrieved": "A prompt"}
    told = {"target": 0.91, "minimum_gain": 0.01}
    decision, sentence = advising.decide(ACCURACY, systems, {}, "retrieved", titles, **told)
    assert decision == "do not fine-tune" and "TF-IDF + linear SVM reaches accuracy 0.925" in sentence
    assert advising.decide(ACCURACY, systems, {}, "retrieved", titles, **{**told, "target": 0.92})[0] != decision


@pytest.mark.parametrize(
    "asked", [{"target": 75.0}, {"target": float("nan")}, {"minimum_gain": 5.0}, {"minimum_gain": -1}]
)
def test_what_the_metric_cannot_be_is_no_target(asked):
    with pytest.raises(RecipeError, match=r"--(target|minimum-gain) is .*; for accuracy it must be between 0 and 1"):
        refuse_impossible(ACCURACY, asked.get("target"), asked.get("minimum_gain"))
    refuse_impossible(BITS, 1.2, 0.1)


def test_the_best_is_best_on_the_rows_that_both_answered():
    test = [Example(f"t:{n}", f"text {n}", "ab"[n % 2], Origin("t", n)) for n in range(100)]
    right = [Prediction(row.id, row.target) for row in test]
    wrong = [Prediction(row.id, "ab"[row.target == "a"]) for row in test]
    found = {"tfidf": [*right[:90], *wrong[90:]], "retrieved": [*wrong[:1], *right[1:20]]}
    systems, gains, best = advising._weigh(ACCURACY, test, found, 0)
    assert systems["retrieved"].value > systems["tfidf"].value and best == "tfidf" and gains["retrieved"].value > 0
    found["retrieved"] = right[85:]
    assert advising._weigh(ACCURACY, test, found, 0)[2] == "retrieved"


def test_the_rule_names_a_base_that_is_behind_and_data_to_mend():
    behind = {"frozen": Estimate(0.3, 0.2, 0.4, 100)}
    assert "bad sign for this base" in said(0.5, 0.4, 0.6, gains=behind)[1]
    assert "bad sign" not in said(0.5, 0.4, 0.6, gains={"frozen": Estimate(0.1, -0.1, 0.2, 100)})[1]
    finding = Finding("labels", "blocking", "All rows are alike.", 9, (), "", "Mend them.")
    assert said(1.0, 0.9, 1.0, findings=[finding]) == (
        "mend the data first",
        "Mend the data first: All rows are alike. Mend them.",
    )


def test_copies_of_training_rows_reach_no_target(tmp_path, models):
    rows, test = ticket_rows(90), ticket_rows(30, seed=5)
    (tmp_path / "data").mkdir()
    write_jsonl(tmp_path / "data/train.jsonl", rows)
    write_jsonl(tmp_path / "data/test.jsonl", [*test, *rows[:3]])
    settings = {"name": models("bert"), "device": "cpu", "dtype": "float32"}
    found = finesmith.advise(tmp_path / "data", model=settings)
    assert found.rows["test"] == 30 and {value.n for value in found.systems.values()} == {30}
    assert "were trained on" in found.not_measured["3 of 33 test rows"]
    decision, sentence = said(1.0, 0.99, 1.0, target=0.5, blind=True)
    assert decision == "mend the data first" and "training has seen every test row" in sentence


def test_labels_that_can_be_read_off_a_word_need_no_fine_tuning(tickets, models, capsys):
    given = ["advise", str(tickets), "--model", models("llama"), "model.device=cpu", "model.dtype=float32"]
    assert main([*given, "--minimum-gain", "0.2"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("Do not fine-tune: ") and "accuracy 1.000" in out and "n = 18" in out
    assert "prompted" in out and "times: check" in out


def test_json_has_every_number(tickets, models, capsys):
    given = ["--model", models("llama"), "model.device=cpu", "model.dtype=float32", "--target", "0.5", "--json"]
    assert main(["advise", str(tickets), *given]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["decision"] == "do not fine-tune" and found["metric"] == "accuracy"
    assert {"majority", "tfidf", "knn", "frozen", "prompt-zero-shot", "prompt-examples"} <= found["systems"].keys()
    assert found["systems"].keys() - {found["best"]} == found["gains"].keys()
    assert {"check", "tfidf", "frozen", "prompting"} <= found["seconds"].keys()


def test_an_encoder_is_not_prompted_but_its_features_are_tried(tickets, models):
    found = finesmith.advise(tickets, model={"name": models("bert"), "device": "cpu", "dtype": "float32"})
    assert "encoder" in found.not_measured["prompt"] and "frozen" in found.systems


def test_generation_is_advised_on_too(clauses, models, monkeypatch):
    from finesmith.measurements import prompting

    monkeypatch.setattr(prompting, "MOST_VALIDATION", {"generation": 2})
    found = finesmith.advise(
        clauses, model={"name": models("llama"), "device": "cpu", "dtype": "float32"}, generation={"max_new_tokens": 4}
    )
    assert {"nearest", "prompt-zero-shot", "prompt-retrieved"} <= found.systems.keys()
    assert found.prompting["best_template"] and found.decision in ("fine-tuning may be worth it", "do not fine-tune")


def test_plain_documents_have_nothing_to_compare(notes, models):
    found = finesmith.advise(notes, model={"name": models("llama"), "device": "cpu", "dtype": "float32"})
    assert found.decision == "open" and "plain documents" in found.not_measured["prompt"]


def test_a_target_that_is_no_number_is_refused(tickets, capsys):
    assert main(["advise", str(tickets), "--target", "good"]) == 2
    with pytest.raises(RecipeError, match="metod"):
        finesmith.advise(tickets, metod="lora")
