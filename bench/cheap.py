"""The cheap opponents on BANKING77 and CLINC150 against the known numbers (TF-IDF + linear SVM, kNN by vote).

    python bench/cheap.py DATA [--draws 5]

DATA holds the folders `banking77` and `clinc150`. Rows a class are drawn as often as asked for, and
the mean is shown. Prints a Markdown table; ends with 1 where a number is off.
"""

import argparse
import json
import random
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np

from finesmith import registry
from finesmith.types import Example, Origin

SIZES = (1, 3, 5, 10, 30, 100, 0)  # rows a class; 0: all
KNOWN = {
    "banking77": (32.7, 52.5, 61.9, 72.5, 84.6, 90.6, 91.2),
    "clinc150": (44.8, 66.7, 74.1, 82.6, 89.1, None, 92.7),
}
SPREAD = {"banking77": (2.4, 1.5, 0.9, 0.6, 0.3, 0.3, 0.3), "clinc150": (2.4, 1.5, 0.9, 0.6, 0.3, 0.3, 0.3)}
PARTS = {"banking77": ("train", "validation"), "clinc150": ("train",)}
"""What was trained on: all 10,003 rows, and the 15,000 in-scope ones."""
NEIGHBOURS = {1: 73.7, 15: 79.9}
"""Accuracy in percent, and the spread it is known with (of the draws; CLINC150 is given none, so BANKING77's)."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--draws", type=int, default=5)
    parser.add_argument("--only", nargs="*", default=list(KNOWN))
    options = parser.parse_args()
    print("| data | opponent | rows a class | here | known | off |")
    print("|---|---|---|---|---|---|")
    off = 0
    for name in options.only:
        train = [row for part in PARTS[name] for row in rows(options.data / name, part)]
        test = rows(options.data / name, "test")
        for size, known, spread in zip(SIZES, KNOWN[name], SPREAD[name], strict=True):
            if known is not None:
                scores = [linear(draw(train, size, seed), test) for seed in range(options.draws if size else 1)]
                off += tell(name, "TF-IDF + linear SVM", str(size or "all"), scores, known, spread)
        for count, known in NEIGHBOURS.items() if name == "banking77" else ():
            plugin = replace(registry.resolve("baselines", "knn"), neighbours=count)
            off += tell(name, f"{count} nearest, by vote", "all", [accuracy(plugin, train, test)], known, 0.3)
        chosen = accuracy(registry.resolve("baselines", "knn"), train, test)
        print(f"| {name} | nearest, number chosen on training rows | all | {chosen:.1f} | - | - |", flush=True)
    return 1 if off else 0


def tell(name: str, title: str, size: str, scores: list[float], known: float, spread: float) -> int:
    mean, error = float(np.mean(scores)), float(np.std(scores) / max(1, len(scores)) ** 0.5)
    away = abs(mean - known) > spread + 2 * error + 0.05
    here = f"{mean:.1f}" + (f" (sd {np.std(scores):.1f}, {len(scores)} draws)" if len(scores) > 1 else "")
    print(f"| {name} | {title} | {size} | {here} | {known} +- {spread} | {'OFF' if away else ''} |", flush=True)
    return int(away)


def linear(train: list[Example], test: list[Example]) -> float:
    return accuracy(registry.resolve("baselines", "tfidf"), train, test)


def accuracy(plugin: object, train: list[Example], test: list[Example]) -> float:
    answers = plugin(train, [(row.id, str(row.input)) for row in test], seed=0)
    return 100 * float(np.mean([answer.output == row.target for answer, row in zip(answers, test, strict=True)]))


def draw(train: list[Example], size: int, seed: int) -> list[Example]:
    if not size:
        return train
    by_label: dict[str, list[Example]] = {}
    for row in random.Random(seed).sample(train, len(train)):
        by_label.setdefault(str(row.target), []).append(row)
    return [row for label in sorted(by_label) for row in by_label[label][:size]]


def rows(folder: Path, part: str) -> list[Example]:
    """The rows of a part; out-of-scope rows of CLINC150 are no class here."""
    lines = [json.loads(line) for line in (folder / f"{part}.jsonl").read_text(encoding="utf-8").splitlines()]
    kept = [line for line in lines if line["label"] not in ("oos",)]
    return [Example(f"{part}-{n}", line["text"], line["label"], Origin(part, n)) for n, line in enumerate(kept)]


if __name__ == "__main__":
    sys.exit(main())
