"""Runs that the benchmarks make: a finished one is taken, a stopped one goes on, and another model is another run."""

import argparse
import json
import sys
from pathlib import Path

import pytest
from bench import real_data, runs, verdicts

sys.path.insert(0, str(Path(__file__).parents[2] / "examples" / "pretrain"))
import transfer

STANDS_FOR_FINESMITH = """
import pathlib, sys
command, words = sys.argv[1], sys.argv[2:]
folder = pathlib.Path(words[0] if command == "resume" else words[words.index("--out") + 1])
print("error: no such setting 'wrong'.") if "wrong" in words else None
if "wrong" in words or (command == "tune" and folder.exists()):
    sys.exit(2)
folder.mkdir(exist_ok=True)
(folder / "recipe.yaml").touch()
with (folder / "commands").open("a") as file:
    print(command, *(words if command == "tune" else []), file=file)
if command == "tune" and "slow" in words:
    sys.exit(130)
(folder / "evidence.json").write_text('{"accuracy": 1}')
"""


@pytest.fixture(autouse=True)
def program(tmp_path, monkeypatch):
    """In the place of `python -m finesmith`; with the word `slow` a training is stopped before its end."""
    path = tmp_path / "program.py"
    path.write_text(STANDS_FOR_FINESMITH)
    monkeypatch.setattr(runs, "PROGRAM", (sys.executable, str(path)))


@pytest.fixture
def rows(tmp_path):
    folder = tmp_path / "rows"
    folder.mkdir()
    for part in ("train", "validation", "test"):
        (folder / f"{part}.jsonl").write_text('{"text": "a", "label": "b"}\n')
    return folder


def commands(folder):
    return [line.split()[0] for line in (folder / "commands").read_text().splitlines()]


def test_a_finished_run_is_not_made_again(rows, tmp_path):
    first = runs.finished("case", [rows, "--method", "full"], tmp_path / "out")
    assert runs.finished("case", [rows, "--method", "full"], tmp_path / "out") == first
    assert commands(first) == ["tune"] and first.name.startswith("case-")


def test_a_stopped_run_goes_on(rows, tmp_path):
    with pytest.raises(SystemExit, match="stopped; the same command goes on"):
        runs.finished("case", [rows, "slow"], tmp_path / "out")
    assert commands(runs.finished("case", [rows, "slow"], tmp_path / "out")) == ["tune", "resume"]


def test_what_went_wrong_is_one_line(rows, tmp_path):
    with pytest.raises(
        SystemExit, match="error: finesmith tune ended with 2: error: no such setting 'wrong'"
    ) as caught:
        runs.finished("case", [rows, "wrong"], tmp_path / "out")
    assert "\n" not in str(caught.value)
    with pytest.raises(SystemExit, match="there is no"):
        runs.finished("case", [tmp_path / "nothing"], tmp_path / "out")


def test_other_settings_and_other_content_are_other_runs(rows, tmp_path):
    before = runs.key([rows, "train.epochs=1"])
    assert before == runs.key([rows.rename(tmp_path / "moved"), "train.epochs=1"])
    (tmp_path / "moved" / "README.md").write_text("A card.")
    assert before == runs.key([tmp_path / "moved", "train.epochs=1"])
    assert before != runs.key([tmp_path / "moved", "train.epochs=2"])
    (tmp_path / "moved" / "train.jsonl").write_text('{"text": "a", "label": "c"}\n')
    assert before != runs.key([tmp_path / "moved", "train.epochs=1"])


def test_the_main_job_on_real_data_takes_up_stopped_runs(rows, tmp_path):
    options = argparse.Namespace(data=tmp_path, out=tmp_path / "out", encoder="embedded", set=["slow"])
    rows.rename(tmp_path / "banking77")
    with pytest.raises(SystemExit):
        real_data.run("banking77-embedded-full", options)
    assert commands(real_data.run("banking77-embedded-full", options)) == ["tune", "resume"]
    options.set = []
    assert commands(real_data.run("banking77-embedded-full", options)) == ["tune"]


def test_the_verdicts_take_up_stopped_runs(tmp_path):
    case = verdicts.Case("support-tickets/tickets.csv", ("slow",))
    options = argparse.Namespace(data=None, out=tmp_path / "out", efforts=[])
    with pytest.raises(SystemExit):
        verdicts.measure("tickets", case, options)
    assert verdicts.measure("tickets", case, options) == {"efforts": {}}
    (folder,) = (path for path in options.out.iterdir() if path.is_dir())
    assert commands(folder) == ["tune", "resume"]


@pytest.fixture
def transferred(rows, tmp_path, monkeypatch):
    """Runs transfer.py on a stand-in model and gives transfer.json; `right` is the accuracy that is measured."""
    model = tmp_path / "model"
    model.mkdir()
    monkeypatch.setattr(transfer, "few", lambda *_: rows)
    monkeypatch.setattr(transfer, "tickets", lambda *_: rows)

    def go(*words, weights="first", right=0.5):
        (model / "model.safetensors").write_text(weights)
        monkeypatch.setattr(transfer, "compare", lambda name, data, options: {"accuracy": right})
        words = ["transfer.py", str(model), str(tmp_path / "out"), "--banking77", str(rows), *words]
        monkeypatch.setattr(sys, "argv", words)
        (tmp_path / "out").mkdir(exist_ok=True)
        transfer.main()
        return json.loads((tmp_path / "out" / "transfer.json").read_text())

    return go


def test_one_set_alone_keeps_the_other(transferred):
    transferred()
    found = transferred("--only", "tickets", right=0.7)
    assert {name: each["accuracy"] for name, each in found.items()} == {"banking77": 0.5, "tickets": 0.7}


def test_what_another_model_gave_is_not_kept(transferred):
    transferred()
    assert transferred("--only", "tickets", weights="second").keys() == {"tickets"}


def test_a_run_of_another_model_in_the_same_place_is_another_run(rows, tmp_path):
    model = tmp_path / "model"
    model.mkdir()
    options = argparse.Namespace(model=str(model), out=tmp_path / "out", epochs=2.0, set=[])
    asked = ("tickets", rows, "base", 1e-3, 0, options)
    (model / "model.safetensors").write_text("first")
    first = transfer.tune(*asked)
    assert transfer.tune(*asked) == first and commands(first) == ["tune"]
    (model / "model.safetensors").write_text("second")
    second = transfer.tune(*asked)
    options.epochs = 3.0
    assert len({first, second, transfer.tune(*asked)}) == 3
