"""Training speed and memory of Finesmith against its peers, side by side in one run.

    python bench/train.py --quick                          # two cases, about three minutes
    python bench/train.py --data DATA --out bench/results  # all cases, about forty minutes
    python bench/train.py --cases mixed-30m-32k-lora --systems trl-default trl-best --rounds 8
    python bench/train.py --sweep --cases mixed-30m-152k-lora   # which settings of TRL are its strongest here

Each library runs in a process of its own and they take turns (A B A B) on the same steps. The peers are installed into
an environment of their own (--env). Writes a JSON with every number and a Markdown table.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path[0] = str(Path(__file__).parents[1])  # the repository, not this folder

from bench import cases, cost, environment, show, systems  # noqa: E402
from bench.calibrate import machine, peak  # noqa: E402
from bench.measure import Plan, elapsed, measure  # noqa: E402

BEGAN = time.monotonic()
NUMBERS = {
    "rounds": "blocks of each system",
    "steps": "steps in a block",
    "warm-up": "steps that are left out",
    "seeds": "runs whose loss curves are compared",
    "loss-steps": "steps of the further seeds",
    "memory-steps": "steps of the memory pass; 0: none",
}


def main(words: list[str] | None = None) -> None:
    options = _options(words)
    threads = options.threads or os.cpu_count() or 1
    asked = [cases.BY_NAME[name] for name in options.cases or cases.PROFILES[options.profile]]
    chosen = {case.name: _systems(case, options) for case in asked}
    needed = {system.environment for group in chosen.values() for system in group} - {"own"}
    interpreters = {"own": Path(sys.executable), **{name: _interpreter(name, options) for name in sorted(needed)}}
    result: dict[str, Any] = {
        "date": str(datetime.date.today()), "profile": options.profile, "threads": threads, "order": options.order,
        "machine": machine(options.device), "peak": peak(options.device, threads), "peers": _versions(interpreters),
        "cases": [], "costs": [],
    }  # fmt: skip
    with tempfile.TemporaryDirectory(prefix="finesmith-bench-") as temporary:
        plan = _plan(options, threads, options.work or Path(temporary))
        for case in asked:
            tell(f"{case.name}: {', '.join(system.name for system in chosen[case.name])}")
            done = list(result["cases"])
            for found in measure(case, chosen[case.name], interpreters, plan, result["peak"], tell):
                result["cases"] = [*done, found]
                write(result, options)
        if options.costs:
            result["costs"] = cost.measure(interpreters, plan, tell)
            write(result, options)
    print(show.markdown(result))


def write(result: dict[str, Any], options: argparse.Namespace) -> None:
    """The results so far; what is done stays when a later case fails."""
    options.out.mkdir(parents=True, exist_ok=True)
    stem = f"{result['date']}-{options.name}"
    (options.out / f"{stem}.json").write_text(json.dumps(result, indent=1), encoding="utf-8")
    (options.out / f"{stem}.md").write_text(show.markdown(result), encoding="utf-8")


def tell(text: str) -> None:
    """Progress goes to standard error."""
    print(f"[{elapsed(BEGAN)}] {text}", file=sys.stderr, flush=True)


def _systems(case: cases.Case, options: argparse.Namespace) -> list[systems.System]:
    peers = case.peers[:2] if options.profile == "quick" and not options.cases else case.peers
    names = options.systems or (systems.SWEEP if options.sweep else peers)
    return [systems.BY_NAME[name] for name in dict.fromkeys(["finesmith", *names])]


def _interpreter(name: str, options: argparse.Namespace) -> Path:
    if options.here:
        return Path(sys.executable)
    return environment.python(options.env, name, install=not options.no_install)


def _versions(interpreters: dict[str, Path]) -> str:
    code = (
        "from importlib.metadata import distributions as d; import torch; n={x.name.lower(): x.version for x in d()};"
        "n['torch']=torch.__version__;"
        "print(', '.join(f'{k} {n[k]}' for k in ('trl','peft','transformers','accelerate','litgpt','torch') if k in n))"
    )
    return "; ".join(environment.output(path, code) for name, path in interpreters.items() if name != "own")


def _plan(options: argparse.Namespace, threads: int, work: Path) -> Plan:
    quick = options.profile in ("quick", "dry")
    standard = {"rounds": 4 if quick else 12, "steps": 2, "warm_up": 2 if quick else 3, "seeds": 1 if quick else 3,
                "loss_steps": 6 if quick else 12, "memory_steps": 2 if quick else 4}  # fmt: skip
    given = {key: getattr(options, key) for key in standard if getattr(options, key) is not None}
    return Plan(**{**standard, **given}, minutes=options.minutes, threads=threads, device=options.device,
                data=options.data, work=work, order=options.order, keep=options.work is not None)  # fmt: skip


def _options(words: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--profile", choices=list(cases.PROFILES), default="standard", help="which cases and how many rounds")
    add("--quick", dest="profile", action="store_const", const="quick", help="the same as --profile quick")
    add("--cases", nargs="+", choices=list(cases.BY_NAME), metavar="CASE", help=", ".join(cases.BY_NAME))
    add("--systems", nargs="+", choices=list(systems.BY_NAME), metavar="SYSTEM", help=", ".join(systems.BY_NAME))
    add("--sweep", action="store_true", help="TRL with each of its settings that may be its strongest")
    add("--costs", action="store_true", help="also cost against length, batch and rows, with fitted exponents")
    add("--data", type=Path, help="folder with banking77, self_instruct_human, gsm8k, mts_dialog, corpus_contracts")
    add("--env", type=Path, default=environment.default_folder(), help="where the peers are installed")
    add("--no-install", action="store_true", help="stop where an environment is missing")
    add("--here", action="store_true", help="the peers run in this interpreter's environment")
    add("--device", default="cpu", choices=["cpu", "cuda"])
    add("--order", default="grouped", choices=["grouped", "shuffled"], help="rows of a step: of like length, or any")
    add("--threads", type=int, help="default: all cores")
    for name, text in NUMBERS.items():
        add(f"--{name}", type=int, help=text)
    add("--minutes", type=float, default=4.0, help="rounds of a case end after so long, but not before the third")
    add("--out", type=Path, default=Path(__file__).parent / "results")
    add("--name", default="train", help="the results are OUT/DATE-NAME.json and .md")
    add("--work", type=Path, help="keep the jobs and logs in this folder")
    return parser.parse_args(words)


if __name__ == "__main__":
    main()
