"""Calibration, abstention and conformal sets of a TF-IDF logistic regression on BANKING77, beside reference numbers.

    python bench/published_calibration.py DATA/banking77

Words 1-2, logistic regression with C = 10; the last 1,500 of the shuffled training rows give the temperature and the
quantile. The reference numbers were measured with another implementation; half a point is the tolerance.
"""

import argparse
import json
from pathlib import Path

import numpy as np
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression

from finesmith.evidence import calibration, ece

REFERENCE = {
    "accuracy": 88.6,
    "ECE": 17.7,
    "ECE, tempered": 1.1,
    "temperature x 100": 57.0,
    "accuracy at coverage 90 %": 93.9,
    "accuracy at coverage 80 %": 96.9,
    "accuracy at coverage 70 %": 98.1,
    "accuracy at coverage 50 %": 99.4,
    "sets at 10 %: hold the truth": 90.2,
    "sets at 10 %: mean size x 100": 103.0,
    "sets at 10 %: empty": 1.8,
    "sets at 5 %: hold the truth": 95.7,
    "sets at 5 %: mean size x 100": 143.0,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--seeds", type=int, default=1)
    options = parser.parse_args()
    found = [measure(options.data, seed) for seed in range(options.seeds)]
    print("| number | reference | here | difference |\n|---|---|---|---|")
    for name, wanted in REFERENCE.items():
        here = float(np.mean([each[name] for each in found]))
        print(f"| {name} | {wanted:.1f} | {here:.1f} | {here - wanted:+.1f} |")


def rows(path: Path) -> tuple[list[str], list[str]]:
    read = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    return [row["text"] for row in read], [row["label"] for row in read]


def measure(data: Path, seed: int) -> dict[str, float]:
    pool = [rows(data / f"{part}.jsonl") for part in ("train", "validation")]
    texts, labels = (np.array(pool[0][at] + pool[1][at], dtype=object) for at in (0, 1))
    order = np.random.default_rng(seed).permutation(len(texts))
    train, held = order[:-1500], order[-1500:]
    vectors = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True).fit(texts[train])
    model = LogisticRegression(C=10, max_iter=1000).fit(vectors.transform(texts[train]), labels[train].astype(str))
    column = {label: place for place, label in enumerate(model.classes_)}
    test_texts, test_labels = rows(data / "test.jsonl")
    dev, test = (model.predict_proba(vectors.transform(part)) for part in (texts[held], test_texts))
    known, truth = (np.array([column[label] for label in part]) for part in (labels[held], test_labels))
    t = calibration.temperature(dev, known)
    sharp_dev, sharp = calibration.tempered(dev, t), calibration.tempered(test, t)
    right = (test.argmax(1) == truth).astype(float)
    coverage, risk = calibration.risk_coverage(sharp.max(1), right)
    out = {
        "accuracy": right.mean(),
        "ECE": ece.ece(test.max(1), right).raw,
        "ECE, tempered": ece.ece(sharp.max(1), right).raw,
        "temperature x 100": t,
    }
    for share in (0.9, 0.8, 0.7, 0.5):
        out[f"accuracy at coverage {share:.0%}".replace("%", " %")] = 1 - risk[np.searchsorted(coverage, share)]
    for alpha, name in ((0.1, "sets at 10 %"), (0.05, "sets at 5 %")):
        members = calibration.sets(sharp, calibration.conformal(sharp_dev, known, alpha))
        out[f"{name}: hold the truth"] = members[np.arange(len(truth)), truth].mean()
        out[f"{name}: mean size x 100"] = members.sum(1).mean()
        out[f"{name}: empty"] = (members.sum(1) == 0).mean()
    return {name: 100 * float(value) for name, value in out.items()}


if __name__ == "__main__":
    main()
