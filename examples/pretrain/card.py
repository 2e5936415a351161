"""Writes the model card of the embedded base from what was measured: no number in it is typed by hand.

    python card.py READY RUN [RUN ...] MEASURED CARD [--force]

Reads READY/manifest.json, the runs' folders (each went on from the one before), MEASURED/quality.json and
MEASURED/transfer.json. A measurement that is missing is named as missing, and so is what fine-tuning from another model
than the last run's gave. Writes over a card only with --force.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jinja2

sys.path.append(str(Path(__file__).parents[2]))  # the repository
from bench import runs

from finesmith import recipe as recipes
from finesmith.errors import FinesmithError
from finesmith.runfolder import RunFolder

TEMPLATE = Path(__file__).with_name("card.md.j2")
SETS = ("banking77", "tickets")
"""What `transfer.py` measures."""
SEARCH = {"shortest_words": 6, "item_words": 60, "piece_characters": 200}
"""How the held-out rows were searched for, where a manifest is too old to say so."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("ready", type=Path)
    parser.add_argument("runs", type=Path, nargs="+")
    parser.add_argument("measured", type=Path)
    parser.add_argument("card", type=Path)
    parser.add_argument("--force", action="store_true", help="write over CARD")
    options = parser.parse_args()
    if options.card.exists() and not options.force:
        raise SystemExit(f"error: '{options.card}' exists already: name another file, or add --force to write over it.")
    try:
        options.card.write_text(render(facts(options)), encoding="utf-8")
    except (FinesmithError, OSError) as error:
        raise SystemExit(f"error: {error}") from None


def facts(options: argparse.Namespace) -> dict[str, Any]:
    """Everything that the template names; of the measurements what there is."""
    prepared = json.loads((options.ready / "manifest.json").read_text(encoding="utf-8"))
    parts = [part(path) for path in options.runs]
    return {
        "prepared": prepared,
        "search": {**SEARCH, **prepared["searched"]},
        "held": held(prepared["searched"]["sets"]),
        "dropped": dropped(list(prepared["corpora"].values())),
        "parts": parts,
        "tokens": sum(part["tokens"] for part in parts),
        "seen": None if any(part["seen"] is None for part in parts) else sum(part["seen"] for part in parts),
        "quality": {"model": None, "samples": [], "bits_per_byte": {}, **read(options.measured / "quality.json")},
        "transfer": transferred(options.measured / "transfer.json", options.runs[-1] / "model"),
    }


def transferred(path: Path, model: Path) -> dict[str, dict[str, Any] | None]:
    """What fine-tuning from this very model gave, by set; None where that was not measured."""
    found = read(path)
    mine = runs.content(model) if found else ""
    old = [name for name, each in found.items() if each.get("model") != mine]
    if old:
        print(f"left out of the card: {', '.join(old)} in {path}, of another model than {model}", file=sys.stderr)
    return {name: found[name] if name in found and name not in old else None for name in SETS}


def held(sets: dict[str, int]) -> dict[str, int]:
    """How much was searched for: texts, the sets that they are from, the project's own examples among them."""
    own = sum(name.startswith("examples/") for name in sets)
    return {"texts": sum(sets.values()), "sets": len(sets) - own, "examples": own}


def dropped(corpora: Sequence[dict[str, Any]]) -> dict[str, int]:
    """What the search took out. Long texts lost lines; a short item with a run, or like a held-out row, went whole."""
    prose = [corpus for corpus in corpora if corpus["form"] == "prose"]
    short = [corpus for corpus in corpora if corpus["form"] != "prose"]
    return {
        "texts": total(prose, "texts_with_a_held_out_run"),
        "characters": total(prose, "characters_dropped_for_runs"),
        "items_with_a_run": total(short, "texts_with_a_held_out_run"),
        "items_like_a_row": total(short, "items_like_a_held_out_row"),
    }


def total(corpora: Sequence[dict[str, Any]], what: str) -> int:
    return sum(corpus.get(what, 0) for corpus in corpora)


def part(path: Path) -> dict[str, Any]:
    """What one run says of itself. `seen` are the tokens up to the step whose weights it delivered."""
    folder = RunFolder(path)
    recipe = recipes.load(folder.require("recipe.yaml"))
    steps = list(folder.read_lines("steps.jsonl"))
    step = delivered(steps, recipe.train.keep)
    return {
        "recipe": recipe.train,
        "seed": recipe.seed,
        "run": folder.read_json("manifest.json"),
        "tokens": sum(row["tokens"] for row in steps),
        "seen": None if step is None else sum(row["tokens"] for row in steps if row["step"] <= step),
        "hours": sum(row["seconds"] for row in steps) / 3600,
        "steps": len(steps),
        "delivered": step,
    }


def delivered(steps: Sequence[dict[str, Any]], keep: str) -> int | None:
    """The step whose weights are in model/: the best on validation rows, or the last; None where the log lacks it."""
    kept = [row["step"] for row in steps if keep == "last" or row.get("best")]
    return kept[-1] if kept else None


def read(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


def render(values: dict[str, Any]) -> str:
    environment = jinja2.Environment(undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters |= {"estimate": estimate, "quoted": quoted}
    return environment.from_string(TEMPLATE.read_text(encoding="utf-8")).render(**values) + "\n"


def estimate(found: dict[str, float] | None, digits: int = 3) -> str:
    """`1.234 [1.200, 1.268]`."""
    if not found:
        return "not measured"
    return f"{found['value']:.{digits}f} [{found['low']:.{digits}f}, {found['high']:.{digits}f}]"


def quoted(text: str) -> str:
    """A sample on one line, with its line ends visible."""
    return "`" + text.replace("`", "'").replace("\n", " / ").strip() + "`"


if __name__ == "__main__":
    main()
