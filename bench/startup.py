"""From `finesmith tune` to the end of the first step, warm cache, embedded base; and what the imports cost.

    python bench/startup.py [--times 3]

Each start is a process of its own; the clock runs from its birth to the first step's report. Prints Markdown.
"""

import argparse
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

EXAMPLES = Path(__file__).parents[1] / "examples"
CASES = {
    "tickets": EXAMPLES / "support-tickets" / "tickets.csv",
    "clauses": EXAMPLES / "contract-clauses" / "clauses.jsonl",
}
START = """
import os, sys, time
import finesmith.watch
class Watcher(finesmith.watch.Watcher):
    def step(self, *_):
        print(time.time(), flush=True)
        os._exit(0)
import finesmith
finesmith.tune(sys.argv[1], watcher=Watcher(), out=sys.argv[2], train={"max_steps": 1, "evaluations": 1})
"""
LIBRARIES = ("torch", "transformers", "peft", "accelerate", "sklearn", "scipy", "pydantic")


def first_step(data: Path) -> float:
    """Seconds from the birth of the process to the first step."""
    with tempfile.TemporaryDirectory() as folder:
        began = time.time()
        done = subprocess.run(
            [sys.executable, "-c", START, str(data), f"{folder}/run"], capture_output=True, text=True, check=True
        )
    return float(done.stdout.split()[-1]) - began


def imports() -> dict[str, float]:
    """Milliseconds that each library takes, with what it imports first."""
    code = "import finesmith.stages, sklearn.linear_model"
    told = subprocess.run([sys.executable, "-X", "importtime", "-c", code], capture_output=True, text=True, check=True)
    found = re.findall(r"\|\s+(\d+) \|\s+(\S+)", told.stderr)
    return {name: int(spent) / 1000 for spent, name in found if name in LIBRARIES}


def main() -> None:
    """Prints both tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--times", type=int, default=3)
    times = parser.parse_args().times
    print("| data | to the first step, s (least, median, most) |\n|---|---|")
    for name, data in CASES.items():
        taken = sorted(first_step(data) for _ in range(times))
        print(f"| {name} | {taken[0]:.1f}, **{median(taken):.1f}**, {taken[-1]:.1f} |", flush=True)
    spent = sorted(imports().items(), key=lambda item: -item[1])
    print("\n| import | ms |\n|---|---|\n" + "\n".join(f"| {name} | {ms:.0f} |" for name, ms in spent))


if __name__ == "__main__":
    main()
