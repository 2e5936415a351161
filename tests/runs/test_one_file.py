"""The library is the flat file and what surrounds it: the same losses, step by step."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from finesmith import recipe, run
from finesmith.runfolder import RunFolder
from tests.conftest import clause_rows, write_jsonl

ONE_FILE = Path(__file__).parents[2] / "examples" / "one_file.py"
STEPS = 12


def losses_of_the_file(model: str, data: Path, *more: str) -> list[float]:
    command = [sys.executable, str(ONE_FILE), model, str(data), "--steps", str(STEPS), "--batch-size", "8", *more]
    done = subprocess.run(command, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr
    return [float(loss) for loss in re.findall(r"^step \d+ of \d+: loss (\S+)$", done.stdout, re.MULTILINE)]


@pytest.fixture(scope="module")
def library(models, tmp_path_factory):
    """A run of the library, and a file with its training rows."""
    folder = tmp_path_factory.mktemp("library")
    asked = {
        "data": str(write_jsonl(folder / "clauses.jsonl", clause_rows(60))),
        "model": {"name": models("llama"), "dtype": "float32", "device": "cpu"},
        "generation": {"max_new_tokens": 2},
        "train": {"max_steps": STEPS, "batch_size": 8, "learning_rate": 5e-3, "weight_decay": 0.1, "clip": 0.5},
        "lora": {"rank": 4, "alpha": 8.0},
        "out": str(folder / "run"),
    }
    prepared = run.prepare(recipe.make(asked))
    rows = [
        {"prompt": example.input.messages[0].content, "completion": example.target.content}
        for example in prepared.splits.train
    ]
    result = run.tune(recipe.make(asked))
    return [row["loss"] for row in RunFolder(result.path).read_lines("steps.jsonl")], write_jsonl(
        folder / "train.jsonl", rows
    )


SETTINGS = "--learning-rate 5e-3 --weight-decay 0.1 --clip 0.5 --rank 4 --alpha 8".split()


@pytest.mark.parametrize("micro_batch", ["8", "3"])
def test_the_flat_file_gives_the_same_losses(library, models, tmp_path, micro_batch):
    losses, rows = library
    flat = losses_of_the_file(
        models("llama"), rows, "--micro-batch", micro_batch, "--out", str(tmp_path / "adapter"), *SETTINGS
    )
    assert len(flat) == len(losses) == STEPS
    assert flat == pytest.approx(losses, abs=1e-5)
    assert losses[-1] < losses[0] - 0.05  # it learns, so equality is no accident of standing still
    config = json.loads((tmp_path / "adapter" / "adapter_config.json").read_text())
    assert config["r"] == 4 and (tmp_path / "adapter" / "adapter_model.safetensors").exists()


def test_it_stands_alone_and_is_short():
    text = ONE_FILE.read_text(encoding="utf-8")
    assert "import finesmith" not in text and "from finesmith" not in text
    assert text.count("\n") <= 140
