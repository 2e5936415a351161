"""What `finesmith check` finds on public data, how good its detectors are, and what 100,000 rows take.

    python bench/check.py DATA [--only counts planted large] [--rows 100000]

DATA holds the folders `banking77` and `clinc150` with train, validation and test JSONL. Reference counts are those of a
MinHash index of 128 hashes in 14 bands of 9 (datasketch's choice for 0.7), which misses about every fourth pair at 0.7;
the check uses 25 bands of 5. Both are counted here, and all pairs without any index. Prints Markdown.
"""

import argparse
import json
import random
import resource
import subprocess
import sys
import tempfile
import time
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path
from statistics import mean

import numpy as np
import scipy.sparse as sp

from finesmith import recipe as recipes
from finesmith.checks import contradictions, exact_duplicates, leakage, near_duplicates, self_test
from finesmith.checks._confident import judge
from finesmith.checks.base import Checked, label_of
from finesmith.data import near
from finesmith.examine import _look

REFERENCE = {  # science: data doctor, table of reference values
    "banking77": {"exact": 31, "contradictory": 1, "near": 537, "cross": 24, "leak": 25, "near leak": 384},
    "clinc150": {"exact": 28, "contradictory": 0, "near": 1151, "cross": 34, "leak": 19, "near leak": 320},
}
SEEDS = range(5)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--only", nargs="*", default=["counts", "planted", "large"])
    parser.add_argument("--rows", type=int, default=100_000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        folders = {name: folder(options.data / name, Path(place) / name) for name in REFERENCE}
        if "counts" in options.only:
            show_counts(folders)
        if "planted" in options.only:
            show_planted(folders["banking77"])
        if "large" in options.only:
            show_large(folders["banking77"], Path(place), options.rows)


def folder(source: Path, place: Path) -> Path:
    """The original training file (train and validation joined) and the test file, without out-of-scope rows."""
    place.mkdir()
    for part, files in {"train": ("train", "validation"), "test": ("test",)}.items():
        if source.name == "clinc150":
            files = files[:1]
        lines = [line for file in files for line in (source / f"{file}.jsonl").read_text(encoding="utf-8").splitlines()]
        kept = [line for line in lines if json.loads(line)["label"] != "oos"]
        (place / f"{part}.jsonl").write_text("\n".join(kept) + "\n", encoding="utf-8")
    return place


def look(place: Path) -> Checked:
    return _look(recipes.from_source(str(place)), (), False)[0]


def counts(data: Checked, pairs: near.Pairs) -> dict[str, int]:
    """The six counts of the reference, with the near pairs given."""
    data._found["near"] = pairs
    train = np.flatnonzero(data.given == "train")
    targets = [label_of(row) for row in data.rows]
    groups = [g for g in contradictions._different(data, targets) if data.given[g[0]] == "train"]
    cross = contradictions.crossings(data, targets, lambda done: None)
    same = sum(targets[a] != targets[b] for group in groups for a, b in pairwise(group))
    leak = leakage.leaks(data, "test")
    return {
        "exact": len(exact_duplicates.repeats(data.unique[train])),
        "contradictory": len(groups),
        "near": len(near_duplicates.within(data.unique[train], pairs.places)[0]),
        "cross": cross.counts["train"] + same,
        "leak": len(leak.exact),
        "near leak": len(leak.near),
    }


def show_counts(folders: dict[str, Path]) -> None:
    print("| data | how | exact | contradictory | near | cross-label | test leak | near test leak |")
    print("|---|---|---|---|---|---|---|---|")
    for name, place in folders.items():
        data = look(place)
        texts = [data.contents[row] for row in data.first_rows]
        found = [counts(data, near.near_pairs(texts, bands=(14, 9), seed=seed)) for seed in SEEDS]
        line(name, "reference", REFERENCE[name])
        line(name, "14 bands of 9, mean of 5 seeds", {key: mean(each[key] for each in found) for key in found[0]})
        if find_spec("datasketch"):
            line(name, "datasketch's own index, verified", counts(data, indexed(texts)))
        line(name, "the check (25 bands of 5)", counts(data, look(place).near()))
        line(name, "every pair compared", counts(data, every_pair(texts)))
    print()


def line(name: str, how: str, values: dict) -> None:
    print(f"| {name} | {how} | " + " | ".join(f"{values[key]:g}" for key in REFERENCE[name]) + " |")


def indexed(texts: list[str]) -> near.Pairs:
    """The pairs that datasketch finds with 128 hashes at 0.7, verified: how the reference was counted."""
    from datasketch import MinHash, MinHashLSH

    index, found = MinHashLSH(threshold=0.7, num_perm=128), []
    grams = [{text[at : at + 4] for at in range(max(1, len(text) - 3))} for text in texts]
    for place, own in enumerate(grams):
        sketch = MinHash(128)
        sketch.update_batch([gram.encode() for gram in own])
        found += [
            (at, place) for at in index.query(sketch) if len(own & grams[at]) >= 0.7 * len(own | grams[at]) - 1e-9
        ]
        index.insert(place, sketch)
    places = np.array(sorted(found), np.int64).reshape(-1, 2)
    return near.Pairs(places, np.ones(len(places)))


def every_pair(texts: list[str]) -> near.Pairs:
    """All pairs at 0.7 or more by comparing all with all, on the grams as text and not as hashes."""
    number: dict[str, int] = {}
    rows = [
        [number.setdefault(gram, len(number)) for gram in {text[at : at + 4] for at in range(max(1, len(text) - 3))}]
        for text in texts
    ]
    starts = np.cumsum([0, *map(len, rows)])
    matrix = sp.csr_matrix((np.ones(starts[-1], np.float32), np.concatenate(rows), starts), (len(texts), len(number)))
    sizes, found = np.diff(starts), []
    for begin in range(0, len(texts), 500):
        shared = (matrix[begin : begin + 500] @ matrix.T).tocoo()
        value = shared.data / (sizes[begin + shared.row] + sizes[shared.col] - shared.data)
        keep = (value >= 0.7 - 1e-6) & (begin + shared.row < shared.col)
        found.append(np.stack([begin + shared.row[keep], shared.col[keep]], axis=1))
    places = np.concatenate(found)
    return near.Pairs(places, np.ones(len(places)))


def show_planted(place: Path) -> None:
    """5 % of the labels of the 10,003 training rows flipped, five times."""
    data = look(place)
    train = np.flatnonzero(data.given == "train")
    rows = [data.rows[at] for at in train]
    print("| flips | flagged as it is | flagged | recall | precision at 500 | accuracy of the cheap model |")
    print("|---|---|---|---|---|---|")
    for seed in SEEDS:
        recipe = data.recipe.replace(seed=seed)
        part = Checked(rows, data.given[train], data.parts[train], recipe, "classification")
        labels = np.array([label_of(row) for row in rows], object)
        asis = judge(part, labels.tolist(), lambda done: None, seed=seed)
        flipped = self_test.flip(labels, seed=seed)
        labels[list(flipped)] = list(flipped.values())
        found = judge(part, labels.tolist(), lambda done: None, seed=seed)
        recall = np.isin(found.places[found.flagged], list(flipped)).sum() / len(flipped)
        top = np.isin(found.places[np.argsort(found.confidence, kind="stable")[:500]], list(flipped)).mean()
        print(
            f"| seed {seed} | {len(asis.flagged)} | {len(found.flagged)} | {recall:.3f} | {top:.3f} |"
            f" {asis.accuracy:.3f} |"
        )
    print()


def show_large(source: Path, place: Path, rows: int) -> None:
    """Time and peak memory of the whole command on many rows: halves of sentences of one class put together anew."""
    by_label: dict[str, list[str]] = {}
    for text in (source / "train.jsonl").read_text(encoding="utf-8").splitlines():
        row = json.loads(text)
        by_label.setdefault(row["label"], []).append(row["text"])
    draw, labels = random.Random(0), sorted(by_label)
    with (place / "large.jsonl").open("w", encoding="utf-8") as file:
        for number in range(rows):
            label = labels[number % len(labels)]
            first, second = (draw.choice(by_label[label]).split() for _ in range(2))
            text = " ".join([*first[: -(-len(first) // 2)], *second[len(second) // 2 :]])
            file.write(json.dumps({"text": text, "label": label}) + "\n")
    began = time.perf_counter()
    command = [
        sys.executable,
        "-m",
        "finesmith",
        "check",
        str(place / "large.jsonl"),
        "--json",
        "--html",
        str(place / "p.html"),
    ]
    done = subprocess.run(command, capture_output=True, text=True)
    seconds, used = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    found = json.loads(done.stdout)
    slow = sorted(found["seconds"].items(), key=lambda item: -item[1])[:6]
    print(
        f"{rows:,} rows: {seconds:.0f} s ({used.ru_utime + used.ru_stime:.0f} s of processor time), peak memory "
        f"{used.ru_maxrss / 2**20:.2f} GiB, {len(found['findings'])} findings."
    )
    print("Slowest checks: " + ", ".join(f"{name} {value:.1f} s" for name, value in slow) + ".")


if __name__ == "__main__":
    main()
