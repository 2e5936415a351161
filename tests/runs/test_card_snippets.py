"""The lines that a run's README shows run as they stand there, and print the answers that the run gives."""

import re

import pytest

from finesmith.__main__ import main
from tests.conftest import write_jsonl


@pytest.fixture
def several(tmp_path):
    rows = [{"text": f"{word} {n}", "labels": [word] * (n % 3 > 0)} for n in range(30) for word in ("refund", "login")]
    return write_jsonl(tmp_path / "several.jsonl", rows)


@pytest.mark.parametrize(
    "data, family, method",
    [
        ("tickets", "embedded", "lora"),
        ("tickets", "bert", "full"),
        ("several", "distilbert", "lora"),
        ("several", "llama", "full"),
        ("clauses", "llama", "lora"),
        ("clauses", "embedded", "full"),
    ],
)
def test_every_snippet_runs_and_prints_the_same_answer(
    data, family, method, models, request, tmp_path, monkeypatch, capsys
):
    rows = request.getfixturevalue(data)
    monkeypatch.chdir(tmp_path)
    model = family if family == "embedded" else models(family)
    words = [str(rows), "--model", model, "--method", method, "train.max_steps=1", "model.dtype=float32"]
    assert main(["tune", *words, "--out", "runs/it"]) == 0, capsys.readouterr().err
    card = (tmp_path / "runs" / "it" / "README.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```python\n(.*?)```", card, flags=re.S)
    assert len(blocks) == 2
    capsys.readouterr()
    ours, theirs = (printed(block, capsys) for block in blocks)
    if data == "tickets":
        assert ours in ("delivery", "login", "refund") and f"'label': '{ours}'" in theirs
    elif data == "several":
        found = {row["label"]: row["score"] for row in eval(theirs)}
        assert found.keys() == {"refund", "login"} and sum(found.values()) != pytest.approx(1, abs=1e-6)
        assert ours == str(tuple(sorted(label for label, share in found.items() if share > 0.5)))
    else:
        assert ours and theirs == ours  # as long, too: a pipeline by itself ends every answer at 256 tokens


def printed(block, capsys):
    exec(block, {})
    return capsys.readouterr().out.strip()
