"""How often the range of a learning curve holds what twice and four times the labels really gave.

    python bench/curves.py DATA/banking77 DATA/clinc150 ...

Each folder has train.jsonl and test.jsonl with text and label. TF-IDF (words 1-2) under a linear SVM is trained on
nested parts that double; from each four of them in a row the range at twice and four times is made and looked up.
"""

import argparse
import json
from pathlib import Path

import numpy as np
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.svm import LinearSVC

from finesmith.evidence import curve
from finesmith.measurements.learning_curve import FEW, nested
from finesmith.types import Example, Origin


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path, nargs="+")
    parser.add_argument("--seeds", type=int, default=2)
    options = parser.parse_args()
    found = [row for data in options.data for seed in range(options.seeds) for row in foretold(data, seed)]
    print("| start | times | n | held | mean miss, points | mean half-width, points | more was expected by |")
    print("|---|---|---|---|---|---|---|")
    for few in (True, False):
        for times in (2, 4):
            rows = np.array([row[2:] for row in found if row[:2] == (few, times)])
            if len(rows):
                held, miss, half, bias = rows.mean(axis=0)
                start = "few-shot" if few else f"{FEW} labels a class or more"
                numbers = f"{100 * miss:.1f} | {100 * half:.1f} | {100 * bias:+.1f}"
                print(f"| {start} | {times} | {len(rows)} | {held:.0%} | {numbers} |")


def foretold(data: Path, seed: int) -> list[tuple[bool, int, bool, float, float, float]]:
    """Few-shot or not, times, whether the range held, how far the median was off, the half-width, its bias."""
    sizes, errors, classes = points(data, seed)
    out = []
    for end in range(4, len(sizes)):
        fitted = curve.fit(
            sizes[end - 4 : end],
            errors[end - 4 : end],
            few_shot=sizes[end - 1] / classes < FEW,
            noise=0.01,
            seed=seed,
        )
        for ahead in (1, 2):
            if end - 1 + ahead < len(sizes):
                truth, found = errors[end - 1 + ahead], fitted.at(2.0**ahead)
                held = found.low <= truth <= found.high
                half = (found.high - found.low) / 2
                out.append((fitted.few_shot, 2**ahead, held, abs(truth - found.value), half, truth - found.value))
    return out


def points(data: Path, seed: int) -> tuple[list[int], list[float], int]:
    """Sizes that double up to all rows, the error at each on the test rows, and the number of classes."""
    train, test = (
        [json.loads(line) for line in (data / f"{part}.jsonl").read_text(encoding="utf-8").splitlines()]
        for part in ("train", "test")
    )
    examples = [Example(str(at), row["text"], str(row["label"]), Origin("", at)) for at, row in enumerate(train)]
    order, classes = nested(examples, seed=seed), len({row.target for row in examples})
    sizes = [len(train)]
    while sizes[0] // 2 >= max(2 * classes, 100):
        sizes.insert(0, sizes[0] // 2)
    errors = []
    for size in sizes:
        texts, labels = zip(*[(train[at]["text"], str(train[at]["label"])) for at in order[:size]], strict=True)
        vectors = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True).fit(texts)
        model = LinearSVC().fit(vectors.transform(texts), labels)
        told = model.predict(vectors.transform([row["text"] for row in test]))
        errors.append(float(np.mean(told != np.array([str(row["label"]) for row in test]))))
    return sizes, errors, classes


if __name__ == "__main__":
    main()
