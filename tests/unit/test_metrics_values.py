"""Metrics against the libraries that define them, on random inputs."""

import math
import subprocess
import sys
import warnings

import numpy as np
import pytest
from sacrebleu.metrics import CHRF
from sklearn import metrics as reference
from sklearn.preprocessing import MultiLabelBinarizer

from finesmith import registry
from finesmith.metrics._confusion import confusions, matrix, per_class
from finesmith.types import Message, Prediction

SEEDS = range(5)


def value(name, targets, outputs):
    return registry.resolve("metrics", name).value(targets, [Prediction(str(i), o) for i, o in enumerate(outputs)])


def single(seed):
    random = np.random.default_rng(seed)
    labels = np.array([f"label {i}" for i in range(12)])
    return labels[random.integers(0, 9, 150)].tolist(), labels[random.integers(2, 12, 150)].tolist()


def several(seed):
    random = np.random.default_rng(seed)
    draw = [[tuple(f"l{i}" for i in np.flatnonzero(row)) for row in random.random((80, 7)) < 0.3] for _ in range(2)]
    binarizer = MultiLabelBinarizer().fit(draw[0] + draw[1])
    return draw[0], draw[1], binarizer.transform(draw[0]), binarizer.transform(draw[1])


@pytest.mark.parametrize("seed", SEEDS)
def test_single_label_metrics_equal_scikit_learn(seed):
    targets, outputs = single(seed)
    assert value("accuracy", targets, outputs) == pytest.approx(reference.accuracy_score(targets, outputs))
    assert value("micro_f1", targets, outputs) == pytest.approx(reference.f1_score(targets, outputs, average="micro"))
    assert value("macro_f1", targets, outputs) == pytest.approx(
        reference.f1_score(targets, outputs, average="macro", zero_division=0)
    )


@pytest.mark.parametrize("seed", SEEDS)
def test_several_label_metrics_equal_scikit_learn(seed):
    targets, outputs, y, z = several(seed)
    assert value("accuracy", targets, outputs) == pytest.approx(reference.accuracy_score(y, z))
    for average in ("micro", "macro"):
        expected = reference.f1_score(y, z, average=average, zero_division=0)
        assert value(f"{average}_f1", targets, outputs) == pytest.approx(expected)


def test_the_order_of_several_labels_does_not_matter():
    assert value("accuracy", [("a", "b")], [("b", "a")]) == 1.0


def test_no_labels_at_all_is_zero_as_in_scikit_learn():
    assert value("micro_f1", [(), ()], [(), ()]) == 0.0
    assert value("macro_f1", [(), ()], [(), ()]) == 0.0
    assert value("accuracy", [(), ()], [(), ()]) == 1.0


@pytest.mark.parametrize("seed", SEEDS)
def test_per_class_equals_scikit_learn(seed):
    targets, outputs = single(seed)
    rows = per_class(targets, outputs)
    precision, recall, f1, support = reference.precision_recall_fscore_support(targets, outputs, zero_division=0)
    assert [row["label"] for row in rows] == sorted(set(targets) | set(outputs))
    assert [row["precision"] for row in rows] == pytest.approx(precision)
    assert [row["recall"] for row in rows] == pytest.approx(recall)
    assert [row["f1"] for row in rows] == pytest.approx(f1)
    assert [row["support"] for row in rows] == support.tolist()


def test_confusions_are_ranked_and_limited():
    targets, outputs = ["a", "a", "a", "b", "b", "c"], ["b", "b", "a", "a", "c", "a"]
    assert confusions(targets, outputs, limit=2) == [
        {"target": "a", "output": "b", "count": 2},
        {"target": "b", "output": "a", "count": 1},
    ]
    assert confusions([("a",)], [("b",)]) == []


def test_the_matrix_counts_true_labels_down_and_answers_across():
    targets, outputs = ["a", "a", "a", "b", "b", "c"], ["b", "b", "a", "a", "c", "a"]
    assert matrix(targets, outputs) == {"labels": ["a", "b", "c"], "values": [[1, 2, 0], [1, 0, 1], [1, 0, 0]]}
    assert matrix(targets, outputs, most=2) == matrix([("a",)], [("b",)]) == matrix(["a"], [None]) == {}


WORDS = ["the", "Größe", "cat", "sat,", "on", "a", "mat.", "42", "naïve", "x", "日本語", "emoji 🎉", "\tand\n"]


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("longest", [2, 12])
def test_chrf_equals_sacrebleu(seed, longest):
    random = np.random.default_rng(seed)
    texts = [[" ".join(random.choice(WORDS, random.integers(0, longest))) for _ in range(25)] for _ in range(2)]
    texts[0][:10] = texts[1][:10]
    expected = CHRF().corpus_score(texts[0], [texts[1]]).score
    assert value("chrf", [Message("assistant", text) for text in texts[1]], texts[0]) == pytest.approx(expected)


def test_chrf_of_nothing_is_zero():
    assert value("chrf", [Message("assistant", "")], [""]) == 0.0
    assert value("chrf", [Message("assistant", "text")], [""]) == 0.0


def test_exact_match_ignores_blanks_around_and_nothing_else():
    target = Message("assistant", "Yes.\n")
    assert value("exact_match", [target] * 4, [" Yes.", "yes.", "Yes", "Yes."]) == 0.5


@pytest.mark.parametrize("text", ['{"a": [1, 2]}', " [] ", "12", '"x"', "null"])
def test_valid_json(text):
    assert value("json_valid", [Message("assistant", "")], [text]) == 1.0


@pytest.mark.parametrize(
    "text", ["", "{'a': 1}", "```json\n{}\n```", "NaN", "[Infinity]", '{"a": 1', "{} {}", "[" * 100_000]
)
def test_invalid_json(text):
    assert value("json_valid", [Message("assistant", "")], [text]) == 0.0


def test_likelihood_metrics_are_ratios_of_sums():
    rows = [
        Prediction("0", None, {"nats": 10.0, "tokens": 4, "bytes": 20}),
        Prediction("1", None, {"nats": 2.0, "tokens": 2, "bytes": 4}),
    ]
    assert registry.resolve("metrics", "held_out_loss").value([None, None], rows) == pytest.approx(2.0)
    assert registry.resolve("metrics", "bits_per_byte").value([None, None], rows) == pytest.approx(
        12 / math.log(2) / 24
    )


def test_nothing_to_divide_by_is_not_a_perfect_score():
    empty = [Prediction("0", None, {"nats": 1.0, "tokens": 0, "bytes": 0})]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert math.isnan(registry.resolve("metrics", "bits_per_byte").value([None], empty))


def test_no_deep_learning_library_is_imported():
    kinds = "for kind in ('metrics', 'baselines'): [registry.resolve(kind, name) for name in registry.available(kind)]"
    code = (
        f"import sys\nfrom finesmith import registry\n{kinds}\n"
        "import finesmith.evidence.compare, finesmith.evidence.plain, finesmith.report.table, finesmith.report.card\n"
        "print([m for m in ('torch', 'transformers', 'peft', 'sklearn', 'sacrebleu') if m in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
