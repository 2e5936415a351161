"""The lines that a run's README shows run as they stand there."""

import re

import pytest

from finesmith.__main__ import main


@pytest.mark.parametrize(
    "data, family, method",
    [
        ("tickets", "embedded", "lora"),
        ("tickets", "bert", "full"),
        ("clauses", "llama", "lora"),
        ("clauses", "embedded", "full"),
    ],
)
def test_every_snippet_runs(data, family, method, models, request, tmp_path, monkeypatch, capsys):
    rows = request.getfixturevalue(data)
    monkeypatch.chdir(tmp_path)
    model = family if family == "embedded" else models(family)
    words = [str(rows), "--model", model, "--method", method, "train.max_steps=1", "generation.max_new_tokens=4"]
    words = words if data == "clauses" else words[:-1]
    assert main(["tune", *words, "--out", "runs/it"]) == 0, capsys.readouterr().err
    card = (tmp_path / "runs" / "it" / "README.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```python\n(.*?)```", card, flags=re.S)
    assert len(blocks) == 2
    for block in blocks:
        exec(block, {})
