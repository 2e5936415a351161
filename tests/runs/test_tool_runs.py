"""Rows that call tools, through whole runs: what is written down is the call, and what was seen when it is reopened."""

import json
import shutil

import pytest

from finesmith import reopening
from finesmith import run as runs
from finesmith.watch import Watcher
from tests import small
from tests.conftest import write_jsonl

SPECIAL = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}{% for c in m.tool_calls or [] %}"
    "[INST]{{ c.function | tojson }}[/INST]{% endfor %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def tool_rows(count=40):
    """A call, and every fourth time an answer in words."""
    rows = []
    for number in range(count):
        made = {"type": "function", "function": {"name": "f", "arguments": json.dumps({"n": number})}}
        answer = {"content": f"no {number}"} if number % 4 == 0 else {"content": None, "tool_calls": [made]}
        rows.append({"messages": [{"role": "user", "content": f"ask {number}"}, {"role": "assistant", **answer}]})
    return rows


@pytest.mark.parametrize("template", ["plain", "special"])
def test_predictions_hold_the_calls_and_a_reopened_run_knows_them(models, tmp_path, template):
    recipe = small.make_recipe(
        write_jsonl(tmp_path / "calls.jsonl", tool_rows()), models("llama"), train={"max_steps": 1}
    ).replace(out=str(tmp_path / "run"))
    if template == "special":
        own = tmp_path / "model"
        shutil.copytree(models("llama"), own)
        (own / "chat_template.jinja").write_text(SPECIAL)
        recipe = recipe.replace(model={"name": str(own)})
    run = runs.tune(recipe)
    opened, closed = ("[INST]", "[/INST]") if template == "special" else ("[", "]")
    found = {}
    for path in sorted((run.path / "predictions").iterdir()):
        for line in path.read_text().splitlines():
            row = json.loads(line)
            found.setdefault(path.stem, {})[row["id"]] = row
    tuned = found["tuned"]
    calls = {name: row["target"] for name, row in tuned.items() if not row["target"].startswith("no ")}
    assert calls and all(text.startswith(opened) and text.endswith(closed) for text in calls.values())
    assert all('"name": "f"' in text for text in calls.values())
    assert all(tuned[name]["scores"]["bytes"] == len(row["target"].encode()) for name, row in tuned.items())
    assert all(row["output"] != "" for row in found["nearest"].values())
    study = reopening.open_study(run.path, effort="quick", options={}, watcher=Watcher())
    assert {row.id: row.target.text for row in study.splits.test} == {n: row["target"] for n, row in tuned.items()}
    assert study.task.primary == "exact_match" and study.task.metrics == run_metrics(run)


def run_metrics(run):
    return tuple(run.evidence.systems["tuned"])
