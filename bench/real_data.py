"""The main job on real data: banking77 and contract clauses, full and LoRA, an encoder and the embedded decoder.

    python bench/real_data.py DATA --encoder FOLDER --out RUNS [--only NAME ...]

DATA holds the folders `banking77` and `cuad_clause_draft` with train, validation, test JSONL. Each run is a process
(`finesmith tune`), so that peak memory is its own. Prints a Markdown table. A finished run of the same rows, encoder
and settings is not repeated, one that was stopped goes on.
"""

import argparse
import json
import shutil
import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1]))  # the repository

from bench import runs

CASES = {
    "banking77-encoder-full": ("banking77", "encoder", "full", []),
    "banking77-encoder-lora": ("banking77", "encoder", "lora", []),
    "banking77-embedded-full": ("banking77", "embedded", "full", []),
    "banking77-embedded-lora": ("banking77", "embedded", "lora", []),
    "clauses-embedded-full": ("cuad_clause_draft", "embedded", "full", ["data.over_length=drop"]),
    "clauses-embedded-lora": ("cuad_clause_draft", "embedded", "lora", ["data.over_length=drop"]),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--encoder", required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--only", nargs="*", default=list(CASES))
    parser.add_argument("--set", nargs="*", default=[], help="further settings for every run")
    options = parser.parse_args()
    made = {name: run(name, options) for name in options.only}
    print("| run | tuned | base | best cheap opponent | training, s | peak memory, MB | saved, MB |")
    print("|---|---|---|---|---|---|---|")
    for name, folder in made.items():
        print(row(name, json.loads((folder / "evidence.json").read_text(encoding="utf-8"))))


def run(name: str, options: argparse.Namespace) -> Path:
    data, model, method, settings = CASES[name]
    place = parts(options.data / data, options.out / "data" / data)
    encoder = Path(options.encoder) if Path(options.encoder).exists() else options.encoder
    asked = ["--model", encoder if model == "encoder" else model, "--method", method, *settings, *options.set]
    return runs.finished(name, [place, *asked], options.out)


def parts(source: Path, place: Path) -> Path:
    """The three parts alone: some sets bring further training files (10-shot) that are no part of the task."""
    place.mkdir(parents=True, exist_ok=True)
    for part in ("train", "validation", "test"):
        shutil.copy(source / f"{part}.jsonl", place / f"{part}.jsonl")
    return place


def row(name: str, evidence: dict) -> str:
    systems, metric, costs = evidence["systems"], evidence["metric"], evidence["costs"]
    scores = {system: values[metric] for system, values in systems.items() if metric in values}
    scores |= evidence["details"].get("without_leaks", {}).get("all_rows", {})  # published numbers count all rows
    cheap = max((system for system in scores if system not in ("tuned", "base")), key=lambda s: scores[s]["value"])
    cells = [f"{show(scores['tuned'])}", show(scores["base"]), f"{cheap} {show(scores[cheap])}"]
    numbers = [
        f"{costs['seconds']:.0f}",
        f"{costs['peak_memory_bytes'] / 1e6:.0f}",
        f"{costs['saved_bytes'] / 1e6:.1f}",
    ]
    return f"| {name} ({metric}) | " + " | ".join(cells + numbers) + " |"


def show(estimate: dict) -> str:
    return f"{estimate['value']:.3f} [{estimate['low']:.3f}, {estimate['high']:.3f}] n={estimate['n']}"


if __name__ == "__main__":
    main()
