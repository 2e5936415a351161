"""Writes docs/reference/recipe.md from the JSON Schema of a recipe: every setting, its values, its default, one line.

python docs/make_reference.py
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from finesmith.recipe import schema

TARGET = Path(__file__).parent / "reference" / "recipe.md"
HEAD = """\
# Every setting of a recipe

Made from the JSON Schema by `docs/make_reference.py`; do not edit. Editors complete recipes from the schema itself:
`finesmith schema > recipe.schema.json`.

A setting that is unknown, of another type, or without effect is an error. `auto` values are settled before the first
step and written into the run's `recipe.yaml`. On the command line the same settings are `key=value`:
`train.epochs=3 lora.rank=8 data.columns.text=body`. A value with spaces, brackets or braces needs quotes there:
`'lora.target_modules=[q_proj, v_proj]'`.
"""
LIMITS = {"minimum": "≥ {}", "exclusiveMinimum": "> {}", "maximum": "≤ {}", "exclusiveMaximum": "< {}"}


def render() -> str:
    """The whole page."""
    found = schema()
    sections = {name: _resolved(node, found) for name, node in found["properties"].items()}
    plain = {name: node for name, node in sections.items() if "properties" not in node}
    lines = [HEAD, *_section("The recipe", "What stands at the top.", plain, "", found)]
    for name, node in sections.items():
        if "properties" in node:
            lines += _section(f"`{name}`", _one_line(node["description"]), node["properties"], f"{name}.", found)
    return "\n".join(lines)


def _section(title: str, about: str, settings: dict[str, Any], prefix: str, found: dict[str, Any]) -> Iterator[str]:
    yield f"## {title}\n\n{about}\n"
    if settings:
        yield "| setting | values | default | |\n|---|---|---|---|"
    required = () if not prefix else _resolved(found["properties"][prefix[:-1]], found).get("required", ())
    for name, node in settings.items():
        default = "required" if name in required else f"`{json.dumps(node['default'])}`".replace('"', "")
        yield f"| `{prefix}{name}` | {_values(node)} | {default} | {_one_line(node['description'])} |"
    yield ""


def _values(node: dict[str, Any]) -> str:
    if "anyOf" in node:
        return " or ".join(_values(branch) for branch in node["anyOf"])
    if "const" in node or "enum" in node:
        return ", ".join(f"`{value}`" for value in node.get("enum", [node.get("const")]))
    if node["type"] == "array":
        return f"list of {_values(node['items'])}"
    limits = ", ".join(text.format(_number(node[key])) for key, text in LIMITS.items() if key in node)
    kind = {"object": "mapping", "null": "`null`", "boolean": "`true`, `false`"}.get(node["type"], node["type"])
    return f"{kind} {limits}".strip()


def _number(value: float) -> str:
    """A limit in full: 4294967296 is 4,294,967,296."""
    return f"{int(value):,}" if value == int(value) else f"{value:g}"


def _resolved(node: dict[str, Any], found: dict[str, Any]) -> dict[str, Any]:
    return found["$defs"][node["$ref"].rpartition("/")[2]] if "$ref" in node else node


def _one_line(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


if __name__ == "__main__":
    TARGET.write_text(render(), encoding="utf-8")
