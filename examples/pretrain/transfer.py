"""What the embedded base is worth for fine-tuning: tuned from it, against the same architecture from random weights.

    python transfer.py MODEL OUT --banking77 FOLDER [--only tickets]

Few labels (banking77 with 10 labels a class: original test split, 3 seeds, each its own draw) and the project's own
tickets (one split, 3 seeds of the training). Both starts choose their learning rate from the same three, on the
validation rows of the first seed. Each run is `finesmith tune` in a process of its own; one of the same model, rows and
settings is not repeated when it is finished, and gone on with when it is not. Writes OUT/transfer.json with paired
intervals over the test rows; with --only, what is there of the other set stays if it is of the same model.
"""

import argparse
import json
import random
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

sys.path.append(str(Path(__file__).parents[2]))  # the repository
from bench import runs

from finesmith import recipe, registry, run
from finesmith.evidence import stats
from finesmith.types import Estimate

SEEDS = (0, 1, 2)
RATES = (3e-4, 1e-3, 3e-3)
STARTS = {"base": "false", "scratch": "true"}
LABELS, VALIDATION_LABELS = 10, 5  # a class
EPOCHS = 30
ACCURACY = registry.resolve("metrics", "accuracy")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("out", type=Path)
    parser.add_argument("--banking77", type=Path, required=True)
    parser.add_argument("--only", choices=("banking77", "tickets"))
    parser.add_argument("--seeds", type=int, default=len(SEEDS))
    parser.add_argument("--epochs", type=float, default=EPOCHS)
    parser.add_argument("--set", nargs="*", default=[], help="further settings for every run")
    options = parser.parse_args()
    sets = {
        "banking77": [few(options.banking77, options.out, seed) for seed in SEEDS],
        "tickets": [tickets(options.out)] * len(SEEDS),
    }
    mine, path = identity(options.model), options.out / "transfer.json"
    old = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    result = {name: found for name, found in old.items() if found.get("model") == mine}
    for name, data in sets.items():
        if options.only in (None, name):
            result[name] = {**compare(name, data, options), "model": mine}
    path.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(result, indent=1))


def identity(model: str) -> str:
    """What a model folder holds, wherever it lies; of a model on a hub the name."""
    return runs.content(Path(model)) if Path(model).exists() else model


def few(folder: Path, out: Path, seed: int) -> Path:
    """10 training and 5 validation rows a class, the first of a shuffle by seed (so smaller draws are nested in it)."""
    place = out / "data" / f"banking77-{seed}"
    place.mkdir(parents=True, exist_ok=True)
    for part, most in (("train", LABELS), ("validation", VALIDATION_LABELS), ("test", None)):
        rows = [json.loads(line) for line in (folder / f"{part}.jsonl").open(encoding="utf-8")]
        write(place / f"{part}.jsonl", rows if most is None else first(rows, most, seed))
    return place


def first(rows: list[dict], most: int, seed: int) -> list[dict]:
    random.Random(seed).shuffle(rows)
    taken: Counter[str] = Counter()
    chosen = []
    for row in rows:
        if taken[row["label"]] < most:
            taken[row["label"]] += 1
            chosen.append(row)
    return chosen


def tickets(out: Path) -> Path:
    """The shipped tickets with the split that Finesmith makes by itself, written out so that seeds share it."""
    place = out / "data" / "tickets"
    place.mkdir(parents=True, exist_ok=True)
    source = Path(__file__).parents[1] / "support-tickets" / "tickets.csv"
    splits = run.prepare(recipe.from_source(str(source))).splits
    for part in ("train", "validation", "test"):
        write(place / f"{part}.jsonl", [{"text": row.input, "label": row.target} for row in getattr(splits, part)])
    return place


def write(path: Path, rows: list[dict]) -> None:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")


def compare(name: str, data: list[Path], options: argparse.Namespace) -> dict[str, Any]:
    """Accuracy of both starts over all seeds, and the paired gain."""
    rates, right = {}, {}
    for start in STARTS:
        tried = {rate: validation(tune(name, data[0], start, rate, 0, options)) for rate in RATES}
        rates[start] = max(tried, key=lambda rate: tried[rate])
        runs = [tune(name, data[seed], start, rates[start], seed, options) for seed in SEEDS[: options.seeds]]
        right[start] = np.stack([answers(folder) for folder in runs], axis=1)
    sums = {start: np.stack([found.sum(1), np.full(len(found), found.shape[1])], 1) for start, found in right.items()}
    return {
        "rates": rates,
        "seeds": options.seeds,
        "accuracy": {start: plain(stats.bootstrap(ACCURACY, found, seed=0)) for start, found in sums.items()},
        "by_seed": {start: found.mean(0).tolist() for start, found in right.items()},
        "gain": plain(stats.paired_bootstrap(ACCURACY, sums["base"], sums["scratch"], seed=0)),
        "settings": [f"train.epochs={options.epochs:g}", *options.set],
    }


def tune(name: str, data: Path, start: str, rate: float, seed: int, options: argparse.Namespace) -> Path:
    model = Path(options.model) if Path(options.model).exists() else options.model
    settings = [f"model.from_scratch={STARTS[start]}", f"train.learning_rate={rate}", f"seed={seed}"]
    settings += [f"train.epochs={options.epochs:g}", "train.patience=null", *options.set]
    words = [data, "--model", model, "--method", "full", *settings]
    return runs.finished(f"{name}-{start}-{rate:g}-{seed}", words, options.out / "runs")


def validation(folder: Path) -> float:
    """The best validation accuracy of a run."""
    steps = [json.loads(line) for line in (folder / "steps.jsonl").open(encoding="utf-8")]
    return max(step["validation"]["accuracy"] for step in steps if "validation" in step)


def answers(folder: Path) -> np.ndarray:
    """1 for each test row that the tuned model got right, in the order of the rows' ids."""
    lines = (folder / "predictions" / "tuned.jsonl").open(encoding="utf-8")
    rows = sorted((json.loads(line) for line in lines), key=lambda row: row["id"])
    return np.array([row["output"] == row["target"] for row in rows], float)


def plain(estimate: Estimate) -> dict[str, float]:
    return {"value": estimate.value, "low": estimate.low, "high": estimate.high, "n": estimate.n}


if __name__ == "__main__":
    main()
