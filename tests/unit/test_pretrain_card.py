"""The card of the embedded base says what the manifest and the runs know, and writes over nothing; the archive."""

import json
import re
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "examples" / "pretrain"))
import card

PRETRAIN = Path(card.__file__).parent
BETTER = {"value": 1.5, "low": 1.4, "high": 1.6, "n": 100}
RECIPE = """\
data: {path: text, checks: 'off'}
task: text
model: {name: start, from_scratch: true}
method: full
train: {learning_rate: 2e-3, max_steps: 4, batch_size: 64, max_length: 256, keep: KEEP}
seed: 7
"""


def corpus(form, **counts):
    return {"source": form, "form": form, "licence": "CC0", "documents": 1, "tokens": 1_000_000, **counts}


def manifest(**searched):
    """As `prepare.py` wrote it first; `searched` is what later ones say too."""
    return {
        "seed": 3,
        "tokens": 2_000_000,
        "characters": 8_000_000,
        "corpora": {
            "books": corpus("prose", texts_with_a_held_out_run=20, characters_dropped_for_runs=3000),
            "questions": corpus("asked", texts_with_a_held_out_run=7, characters_dropped_for_runs=500),
            "labels": corpus("labelled", texts_with_a_held_out_run=3, items_like_a_held_out_row=40),
        },
        "searched": {
            "sets": {"a": 100, "b": 50, "examples/tickets": 5},
            "run_words": 13,
            "near_jaccard": 0.7,
            **searched,
        },
    }


@pytest.fixture
def made(tmp_path):
    """Writes the folders that card.py reads, and gives its words; the best of four steps is the third."""
    ready, run, measured = (tmp_path / name for name in ("ready", "run", "measured"))
    for folder in (ready, run, measured, run / "model"):
        folder.mkdir()
    (run / "model" / "model.safetensors").write_text("weights")
    steps = [{"step": at, "tokens": 1_000_000, "seconds": 900.0} for at in range(1, 5)]
    steps[1] |= {"validation": {"log_probability": -3.0}, "best": True}
    steps[2] |= {"validation": {"log_probability": -2.0}, "best": True}
    steps[3] |= {"validation": {"log_probability": -2.5}, "best": False}

    def make(keep="best", quality=None, transfer=None, **searched):
        (ready / "manifest.json").write_text(json.dumps(manifest(**searched)))
        (run / "recipe.yaml").write_text(RECIPE.replace("KEEP", keep))
        (run / "steps.jsonl").write_text("".join(json.dumps(step) + "\n" for step in steps))
        (run / "manifest.json").write_text(json.dumps({"dtype": "bfloat16", "device": "a machine"}))
        for name, found in (("quality", quality), ("transfer", transfer)):
            if found:
                (measured / f"{name}.json").write_text(json.dumps(found))
        return [str(ready), str(run), str(measured), str(tmp_path / "card.md")]

    return make


@pytest.fixture
def written(made, monkeypatch):
    """The card on one line."""

    def write(**facts):
        words = made(**facts)
        monkeypatch.setattr(sys, "argv", ["card.py", *words, "--force"])
        card.main()
        return " ".join(Path(words[-1]).read_text(encoding="utf-8").split())

    return write


def test_a_file_that_exists_is_not_written_over(made, monkeypatch):
    words = made()
    place = Path(words[-1])
    place.write_text("Somebody's own.")
    monkeypatch.setattr(sys, "argv", ["card.py", *words])
    with pytest.raises(SystemExit) as caught:
        card.main()
    assert str(caught.value).startswith(f"error: '{place}' exists already") and "\n" not in str(caught.value)
    assert place.read_text() == "Somebody's own."


def test_the_recipe_of_the_readme_does_not_write_over_the_readme():
    (line,) = re.findall(r"^python card\.py (.*?) *#", (PRETRAIN / "README.md").read_text(encoding="utf-8"), re.M)
    target = Path(line.split()[-1])
    assert target.parts[0] == "DECAY" and not (PRETRAIN / target).exists()


def test_what_the_search_took_out_is_said_by_the_form_of_the_text(written):
    text = written()
    assert "searched for 155 held-out ones: the validation and test rows of 2 sets and all rows of 1 of" in text
    assert "13 words in a row that stand in one of them, and those of 6 to 12 words as a whole." in text
    assert "the pieces of fewer than 200 characters that this left: 3,000 characters of 20 texts." in text
    assert "Of the short items 50 were dropped whole: 10 with such words, 40 like a held-out row." in text
    assert "those of 4 to 12 words" in written(shortest_words=4)


def test_what_it_saw_ends_with_the_step_that_was_delivered(written):
    text = written()
    assert "It saw 3 M tokens, 1.5 passes over 2.0 M" in text and "with them it is 4 M" in text
    assert "| 4 | 3 | 64 of 256 | 4.0 | 1.0 |" in text and "(seed 7)" in text
    last = written(keep="last")
    assert "It saw 4 M tokens, 2.0 passes" in last and "| 4 | 4 |" in last and "with them it is" not in last


def test_a_step_that_the_log_does_not_name_is_not_known():
    assert card.delivered([{"step": 1}, {"step": 2}], "best") is None


def test_measurements_that_are_missing_are_named(written):
    text = written()
    assert "Size and architecture: not measured." in text and "Bits per byte: not measured." in text
    assert "### What it is worth for fine-tuning Not measured. ### Samples, unselected Not measured." in text


def test_the_5_gram_alone_is_shown_beside_what_is_not_measured(written):
    text = written(quality={"bits_per_byte": {"books": {"5-gram": BETTER, "gains": {}}}})
    assert "| books | 100 | not measured | 1.500 [1.400, 1.600] | not measured | not measured |" in text


def test_a_set_without_transfer_is_named(written, tmp_path):
    model = card.runs.content(tmp_path / "run" / "model")
    one = {"seeds": 3, "gain": BETTER, "accuracy": {"base": BETTER, "scratch": BETTER}, "model": model}
    text = written(transfer={"tickets": one})
    assert "| banking77 | | not measured | not measured | not measured |" in text
    assert "| tickets (3 seeds) | 100 | 1.500 [1.400, 1.600] |" in text


def test_transfer_of_another_model_is_not_on_the_card(written, tmp_path, capsys):
    one = {"seeds": 3, "gain": BETTER, "accuracy": {"base": BETTER, "scratch": BETTER}, "model": "another"}
    assert "### What it is worth for fine-tuning Not measured." in written(transfer={"tickets": one})
    assert "left out of the card: tickets in" in capsys.readouterr().err


def test_an_archive_that_is_named_from_here_is_written_here(tmp_path):
    ready = tmp_path / "ready"
    for name in ("data", "start", "held_out", "measured"):
        (ready / name).mkdir(parents=True)
    (ready / "manifest.json").write_text("{}")
    done = subprocess.run(
        ["bash", PRETRAIN / "pack.sh", "ready", "archive"], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    with tarfile.open(tmp_path / "archive") as archive:
        assert set(archive.getnames()) == {"data", "start", "held_out", "measured", "manifest.json"}
    assert not (ready / "archive").exists()
