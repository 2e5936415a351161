"""How a run was made, for those who want to make it again: recipe, seeds, versions, hashes, times."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import Any

from finesmith.report import names, words
from finesmith.report._html import folded, listed, table, text


def section(run: str, about: Mapping[str, Any], comparison: Mapping[str, Any]) -> str:
    """The recipe, and everything that the manifest of the run holds."""
    manifest = about["manifest"]
    data = manifest.get("data", {})
    plainly = {names.key(key): value for key, value in manifest.items() if isinstance(value, str | int | float)}
    seeds = comparison["measured"].get("seeds", {}).get("numbers", {}).get("seeds")
    facts = {
        **plainly,
        **({"seeds that were compared": ", ".join(map(str, seeds))} if seeds else {}),
        "rows": ", ".join(f"{part} {count:,}" for part, count in data.get("rows", {}).items()),
        "training cost": ", ".join(words.costs(comparison["evidence"]["costs"])),
        "packages": ", ".join(f"{name} {version}" for name, version in manifest.get("packages", {}).items()),
    }
    hashes = {name: digest for name, digest in data.get("sources", {}).items()}
    if data.get("split"):
        hashes["the split (ids of the rows in each part)"] = data["split"]
    parts = [
        table([{"what": key, "value": str(value)} for key, value in facts.items() if value != ""], kind="facts"),
        table([{"SHA-256 of": key, "hash": value} for key, value in hashes.items()], kind="facts") if hashes else "",
        _times(comparison),
        f"<p>Again: <code>finesmith tune recipe.yaml</code> with this recipe, then "
        f"<code>{text(_command(run, comparison.get('asked', {})))}</code>. The same numbers as data: "
        "<code>comparison.json</code> in the run. Paper gets the parts that are open on the screen.</p>",
        folded("the recipe", f"<pre>{text(about['recipe'])}</pre>", "paper"),
        folded("what was noticed while training", listed("dim", manifest.get("notes", ()))),
    ]
    return "".join(parts)


def _command(run: str, asked: Mapping[str, Any]) -> str:
    """What to type for this comparison; what a caller from Python gave as values (a mapping here) cannot be typed."""
    words = ["finesmith", "compare", run]
    for name, value in asked.items():
        for each in value if isinstance(value, list) else [value] * (not isinstance(value, Mapping)):
            words += [f"--{name.replace('_', '-')}", str(each)]
    return shlex.join(words)


def _times(comparison: Mapping[str, Any]) -> str:
    """What each measurement took, and what it was thought to take where that is known."""
    planned = comparison.get("planned", {})
    rows = []
    for name, spent in comparison["seconds"].items():
        row = {"measurement": names.measurement(name), "took": words.duration(spent)}
        if name in planned:
            row["planned"] = words.duration(planned[name])
        rows.append(row)
    if rows:
        rows.append({"measurement": "all", "took": words.duration(sum(comparison["seconds"].values()))})
    return table(rows, "Time of each measurement", "facts") if rows else ""
