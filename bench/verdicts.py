"""The verdicts on real data, and what each effort costs: fine-tunes, then compares with one effort after the other.

    python bench/verdicts.py OUT --data DATA [--cases tickets banking77-10 ...] [--efforts quick standard full]

A later effort keeps what an earlier one has measured. Times are the clock's, and in trainings of the same run. Runs
stay in OUT: a finished one of the same rows and settings is not made again, one that was stopped goes on. Prints
Markdown.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).parents[1]))  # the repository

from bench import runs

EXAMPLES = Path(__file__).parents[1] / "examples"
PARTS = {"train": "train", "validation": "validation", "test": "test"}


@dataclass(frozen=True)
class Case:
    """Rows and settings. `source` is a folder of `--data`, or a file of the examples; `parts` are its files."""

    source: str
    settings: tuple[str, ...]
    parts: tuple[tuple[str, str], ...] = tuple(PARTS.items())
    most: int = 10**9
    row: Callable[[dict[str, Any]], dict[str, Any]] = dict


def _labelled(row: dict[str, Any]) -> dict[str, Any]:
    return {"text": row.get("text") or row["prompt"], "label": row["label"]}


TEN = (("train_10shot", "train"), ("validation", "validation"), ("test", "test"))
CASES = {
    "tickets": Case("support-tickets/tickets.csv", ()),
    "clauses": Case("contract-clauses/clauses.jsonl", ()),
    "banking77-10": Case("banking77", (), TEN, most=1000, row=_labelled),
    "banking77": Case("banking77", ("train.epochs=3",), most=10_003, row=_labelled),
    "contract clauses": Case(
        "contract_provisions", ("train.epochs=2", "data.over_length=truncate"), most=2000, row=_labelled
    ),
    "medical abstracts": Case("pubmedqa", ("train.epochs=3", "data.over_length=truncate"), row=_labelled),
}
"""`most` bounds each part; the embedded base answers all."""


def prepare(case: Case, data: Path | None, folder: Path) -> Path:
    """The rows as a folder of parts; every so many of a part where there are too many."""
    if (EXAMPLES / case.source).exists():
        return EXAMPLES / case.source
    if data is None:
        raise SystemExit(f"error: '{case.source}' needs --data.")
    folder.mkdir(parents=True, exist_ok=True)
    for name, part in case.parts:
        lines = (data / case.source / f"{name}.jsonl").read_text(encoding="utf-8").strip().split("\n")
        step = -(-len(lines) // case.most)
        rows = [case.row(json.loads(line)) for line in lines[::step]]
        text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        (folder / f"{part}.jsonl").write_text(text, encoding="utf-8")
    return folder


def finesmith(*words: str) -> tuple[dict[str, Any], float]:
    """What a command answers, and its seconds."""
    began = time.monotonic()
    done = subprocess.run([sys.executable, "-m", "finesmith", *words, "--json"], stdout=subprocess.PIPE)
    if done.returncode:
        raise SystemExit(done.stdout.decode()[:2000])
    return json.loads(done.stdout), time.monotonic() - began


def measure(name: str, case: Case, options: argparse.Namespace) -> dict[str, Any]:
    """Trains once and compares with each effort; what is there already is taken."""
    short = name.replace(" ", "-")
    rows = prepare(case, options.data, options.out / "rows" / short)
    place = runs.finished(short, [rows, *case.settings, "data.checks=warn"], options.out)
    result: dict[str, Any] = {"efforts": {}}
    kept = place / "efforts.json"
    if kept.exists():
        result = json.loads(kept.read_text(encoding="utf-8"))
    for effort in options.efforts:
        if effort not in result["efforts"]:
            found, seconds = finesmith("compare", str(place), "--effort", effort)
            result["efforts"][effort] = {"seconds": seconds, "costs": found["costs"], "found": _short(found)}
            kept.write_text(json.dumps(result, indent=1), encoding="utf-8")
    return result


def _short(found: dict[str, Any]) -> dict[str, Any]:
    metric = found["evidence"]["metric"]
    systems = {name: values[metric]["value"] for name, values in found["evidence"]["systems"].items()}
    keys = ("name", "outcome", "grade", "sentence")
    claims = [{key: claim[key] for key in keys} for claim in found["claims"]]
    missing = {**found["not_measured"]}
    return {"decision": found["decision"], "claims": claims, "metric": metric, "systems": systems, "missing": missing}


def show(results: dict[str, dict[str, Any]]) -> str:
    """Two tables: what each effort costs and decides, and the claims of the last one."""
    lines = ["| data | effort | trainings | seconds | planned | decision |", "|---|---|---|---|---|---|"]
    for name, result in results.items():
        for effort, each in result["efforts"].items():
            costs, before = each["costs"], each["costs"]["training_seconds"]
            lines.append(
                f"| {name} | {effort} | {costs['seconds'] / before:.1f} | {costs['seconds']:.0f} | "
                f"{costs['planned']:.0f} | {each['found']['decision']} |"
            )
    lines += ["", "| data | claim | outcome | |", "|---|---|---|---|"]
    for name, result in results.items():
        for claim in list(result["efforts"].values())[-1]["found"]["claims"]:
            grade = f" ({claim['grade']})" if claim["grade"] else ""
            lines.append(f"| {name} | {claim['name']} | {claim['outcome']}{grade} | {claim['sentence']} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--data", type=Path, help="folder with banking77, contract_provisions, pubmedqa")
    parser.add_argument("--cases", nargs="+", choices=list(CASES), default=list(CASES))
    parser.add_argument("--efforts", nargs="+", choices=("quick", "standard", "full"), default=["quick"])
    options = parser.parse_args()
    print(show({name: measure(name, CASES[name], options) for name in options.cases}))


if __name__ == "__main__":
    main()
