"""Writes the model card of the embedded base from what was measured: no number in it is typed by hand.

    python card.py READY RUN [RUN ...] MEASURED CARD

Reads READY/manifest.json, the runs' folders (each went on from the one before), MEASURED/quality.json and
MEASURED/transfer.json. A measurement that is missing is named as missing.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import jinja2

from finesmith import recipe as recipes
from finesmith.runfolder import RunFolder

TEMPLATE = Path(__file__).with_name("card.md.j2")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("ready", type=Path)
    parser.add_argument("runs", type=Path, nargs="+")
    parser.add_argument("measured", type=Path)
    parser.add_argument("card", type=Path)
    options = parser.parse_args()
    options.card.write_text(render(facts(options)), encoding="utf-8")


def facts(options: argparse.Namespace) -> dict[str, Any]:
    """Everything that the template names."""
    return {
        "prepared": read(options.ready / "manifest.json"),
        "parts": [part(path) for path in options.runs],
        "quality": read(options.measured / "quality.json"),
        "transfer": read(options.measured / "transfer.json"),
    }


def part(path: Path) -> dict[str, Any]:
    """What one run says of itself."""
    folder = RunFolder(path)
    steps = list(folder.read_lines("steps.jsonl"))
    return {
        "recipe": recipes.load(folder.require("recipe.yaml")).train,
        "run": folder.read_json("manifest.json"),
        "tokens": sum(step["tokens"] for step in steps),
        "hours": sum(step["seconds"] for step in steps) / 3600,
        "steps": len(steps),
    }


def read(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


def render(values: dict[str, Any]) -> str:
    environment = jinja2.Environment(undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters |= {"estimate": estimate, "quoted": quoted}
    corpora = values["prepared"]["corpora"].values()
    environment.globals["dropped"] = lambda what: sum(corpus.get(what, 0) for corpus in corpora)
    return environment.from_string(TEMPLATE.read_text(encoding="utf-8")).render(**values) + "\n"


def estimate(found: dict[str, float], digits: int = 3) -> str:
    """`1.234 [1.200, 1.268]`."""
    return f"{found['value']:.{digits}f} [{found['low']:.{digits}f}, {found['high']:.{digits}f}]"


def quoted(text: str) -> str:
    """A sample on one line, with its line ends visible."""
    return "`" + text.replace("`", "'").replace("\n", " / ").strip() + "`"


if __name__ == "__main__":
    main()
