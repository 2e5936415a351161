"""The lines that a run's README shows run as they stand there, and print the answers that the run gives."""

import json
import re

import pytest

from finesmith.__main__ import main
from tests.conftest import THINKING, make_model, write_jsonl


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
    words += ["generation.max_new_tokens=5"] * (data == "clauses")
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
        assert ours and theirs == ours  # as long, too: a pipeline by itself writes up to 256 tokens


OFF = "{% if enable_thinking is defined and not enable_thinking %}<think>\n\n</think>\n\n{% endif %}"
QUIET = THINKING.replace("assistant\n{% endif %}", "assistant\n" + OFF + "{% endif %}")


def test_empty_thoughts_are_no_part_of_the_printed_answer(tmp_path, monkeypatch, capsys):
    """As with Qwen3, whose template writes them before every answer: `content` has them, a score does not."""
    base = make_model(tmp_path / "base", "llama", "thinking")
    (base / "chat_template.jinja").write_text(QUIET)
    rows = [{"prompt": f"clause {number}", "completion": '{"late": true}'} for number in range(40)]
    monkeypatch.chdir(tmp_path)
    words = [str(write_jsonl(tmp_path / "rows.jsonl", rows)), "--model", str(base), "--method", "full"]
    words += ["train.max_steps=40", "train.learning_rate=0.01", "train.batch_size=8", "model.dtype=float32"]
    assert main(["tune", *words, "--out", "runs/it"]) == 0, capsys.readouterr().err
    card = (tmp_path / "runs" / "it" / "README.md").read_text(encoding="utf-8")
    ours, theirs = re.findall(r"```python\n(.*?)```", card, flags=re.S)
    capsys.readouterr()
    assert printed(ours, capsys) == '{"late": true}'
    names = {}
    assert printed(theirs, capsys, names) == '{"late": true}'
    assert names["answer"][0]["generated_text"][-1]["content"] == '<think>\n\n</think>\n\n{"late": true}'
    (told,) = re.findall(r'`"chat_template_kwargs": (.*?)`', card)
    asked = [{"role": "user", "content": "..."}]
    quiet = names["model"](asked, do_sample=False, max_new_tokens=20, tokenizer_encode_kwargs=json.loads(told))
    assert quiet[0]["generated_text"][-1]["content"] == '{"late": true}'


def printed(block, capsys, names=None):
    exec(block, {} if names is None else names)
    return capsys.readouterr().out.strip()
