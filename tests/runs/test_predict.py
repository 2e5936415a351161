"""Answers from a finished run, by the library and by `finesmith predict`; what is refused before a model is loaded."""

import csv
import io
import json
import shutil
from types import SimpleNamespace

import pytest

import finesmith
from finesmith import predictor
from finesmith import run as runs
from finesmith.cli.predict import WRITERS
from finesmith.errors import DataError, RunError
from tests import small
from tests.conftest import ticket_rows, write_csv, write_jsonl
from tests.runs.test_whole_runs import command


@pytest.fixture(scope="module")
def finished(models, tmp_path_factory):
    """A run on columns whose names say nothing."""
    folder = tmp_path_factory.mktemp("finished")
    rows = [{"what they wrote": row["text"], "desk": row["queue"]} for row in ticket_rows(60)]
    recipe = small.make_recipe(write_csv(folder / "tickets.csv", rows), models("bert"), train={"max_steps": 1})
    return runs.tune(recipe.replace(out=str(folder / "run"))).path


@pytest.fixture
def new(tmp_path):
    return write_csv(tmp_path / "new.csv", [{"what they wrote": "where is my parcel"}, {"what they wrote": "refund"}])


@pytest.mark.parametrize(
    "given, message",
    [
        ("a text", "predict takes a list of inputs, not one text.\nFor one answer write: [text]."),
        ({"role": "user", "content": "a"}, "not one conversation.\nFor one answer write: [conversation]."),
        ([{"role": "user", "content": "a"}], "Input 1 is one message or row, not a text or a list of messages."),
        (["a", None], "Input 2 is neither a text nor a list of messages: NoneType."),
        ([["a"]], "Input 1 is neither a text nor a list of messages: list."),
    ],
)
def test_one_input_is_not_taken_for_many(finished, given, message):
    with pytest.raises(DataError) as caught:
        finesmith.load(finished).predict(given)
    assert message in str(caught.value)


def test_any_iterable_of_texts_is_answered(finished):
    texts = ["a parcel", "a refund"]
    run = finesmith.load(finished)
    assert run.predict(text for text in texts) == run.predict(texts)


def test_the_columns_of_the_run_are_known_and_ids_are_places(finished, new):
    code, out, err = command("predict", finished, new)
    assert code == 0 and [json.loads(line)["id"] for line in out.splitlines()] == [f"{new}:2", f"{new}:3"]
    assert "answering (2 rows)" in err and "column" not in err
    assert command("predict", finished / "model", new)[1] == out


def test_the_column_that_was_chosen_stands_on_stderr(finished, tmp_path):
    path = write_csv(tmp_path / "other.csv", [{"body": "refund", "review": "no"}])
    code, out, err = command("predict", finished, path)
    assert code == 0 and out.count("\n") == 1
    assert "the input is the column 'body' (not review); --column says otherwise" in err
    code, _, err = command("predict", finished, path, "--column", "review")
    assert code == 0 and "says otherwise" not in err and "answering (1 row)" in err


def test_the_ending_gives_the_format(finished, new, tmp_path):
    for name in ("a.jsonl", "a.csv"):
        assert command("predict", finished, new, "--out", tmp_path / name)[:2] == (0, "")
    lines = [json.loads(line) for line in (tmp_path / "a.jsonl").read_text().splitlines()]
    with (tmp_path / "a.csv").open(newline="") as file:
        table = list(csv.DictReader(file))
    assert list(table[0]) == ["id", "output", "score delivery", "score login", "score refund"]
    for row, line in zip(table, lines, strict=True):
        assert (row["id"], row["output"]) == (line["id"], line["output"])
        assert {label: float(row[f"score {label}"]) for label in line["scores"]} == line["scores"]


@pytest.mark.parametrize(
    "name, message",
    [
        ("a.json", "Answers cannot be written as '.json' ("),
        ("a.json", "Did you mean '.jsonl'? Known: .csv, .jsonl."),
        ("a", "Answers cannot be written as ''"),
        ("nowhere/a.csv", "there is no folder '"),
    ],
)
def test_a_place_where_nothing_can_be_written_is_said_first(finished, new, tmp_path, name, message):
    code, out, err = command("predict", finished, new, "--out", tmp_path / name)
    assert (code, out) == (2, "") and message in err and "answering" not in err
    assert list(tmp_path.iterdir()) == [new]


def test_a_file_is_written_over_only_when_asked(finished, new, tmp_path):
    mine = tmp_path / "mine.csv"
    mine.write_text("years of work")
    code, _, err = command("predict", finished, new, "--out", mine)
    assert code == 2 and f"'{mine}' exists already." in err and "--force" in err
    assert mine.read_text() == "years of work"
    assert command("predict", finished, new, "--out", mine, "--force")[0] == 0
    assert mine.read_text().startswith("id,output,")


def test_the_run_is_looked_for_before_the_rows(finished, tmp_path):
    code, _, err = command("predict", finished.with_name("rum"), tmp_path / "nothing.csv")
    assert code == 2 and err.startswith(f"error: There is no run folder '{finished.with_name('rum')}'.")
    assert f"Did you mean '{finished}'?" in err and "nothing.csv" not in err
    code, _, err = command("predict", tmp_path, tmp_path / "nothing.csv")
    assert code == 2 and f"'{tmp_path}' holds no finished model." in err


def test_stdin_has_no_columns(finished):
    code, _, err = command("predict", finished, "-", "--column", "text")
    assert code == 2 and "--column has no effect" in err


def test_several_labels_in_a_table():
    lines = [{"id": "1", "output": ("a", "b"), "scores": {"a": 0.9, "b": 0.8}}, {"id": "2", "output": "x, y"}]
    assert WRITERS[".csv"](lines) == 'id,output,score a,score b\n1,"[""a"", ""b""]",0.9,0.8\n2,"x, y",,\n'


def test_rows_in_jsonl_may_hold_conversations_that_a_classifier_refuses(finished, tmp_path):
    path = write_jsonl(tmp_path / "new.jsonl", [{"messages": [{"role": "user", "content": "a"}]}])
    code, _, err = command("predict", finished, path)
    assert code == 2 and "This run classifies texts" in err


def test_a_conversation_goes_on_after_an_empty_answer(monkeypatch, capsys):
    from finesmith.cli.chat import _talk
    from finesmith.predictor import as_inputs
    from finesmith.types import Prediction

    asked = []

    class Silent:
        def predict(self, inputs):
            asked.extend(as_inputs(inputs))
            return [Prediction("0", "")]

    monkeypatch.setattr("sys.stdin", io.StringIO("one\ntwo\n"))
    _talk({"tuned": Silent()}, [])
    assert [turn.content for turn in asked[-1].messages] == ["one", "", "two"]


def test_a_conversation_that_cannot_go_on_gives_way_to_a_new_one(monkeypatch, capsys):
    from finesmith.cli.chat import _talk
    from finesmith.types import Prediction

    class Small:
        def predict(self, inputs):
            if len(inputs[0].messages) > 3:
                raise DataError("Input 1 has 9 tokens.", hint="The model reads 8.")
            return [Prediction("0", f"answer to {inputs[0].messages[-1].content}")]

    monkeypatch.setattr("sys.stdin", io.StringIO("one\ntwo\nthree\nfour\n"))
    _talk({"base": Small(), "tuned": Small()}, [])
    told = capsys.readouterr()
    assert [line.split()[-1] for line in told.out.splitlines()] == ["one", "one", "two", "two", "four", "four"]
    assert told.err == "error: Input 1 has 9 tokens.\nThe model reads 8.\nA new conversation begins.\n"


def test_a_model_of_plain_documents_answers_nothing():
    task = SimpleNamespace(kind="causal-lm", answer=lambda *given, **more: [None])
    with pytest.raises(RunError, match="plain documents: it has no answers") as caught:
        predictor.Predictor(task, None).predict(["a"])
    assert caught.value.hint == "See what it gained with: finesmith show RUN"


def test_a_run_on_a_local_base_answers_from_every_folder(models, clauses, tmp_path, monkeypatch):
    shutil.copytree(models("llama"), tmp_path / "here/base")
    (tmp_path / "there").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    words = ["--model", "./base", "--out", tmp_path / "run", "train.max_steps=1", "generation.max_new_tokens=2"]
    assert command("tune", clauses, *words)[0] == 0
    monkeypatch.chdir(tmp_path / "there")
    asked = write_jsonl(tmp_path / "new.jsonl", [{"prompt": "clause"}])
    assert command("predict", tmp_path / "run", asked)[0] == 0
    place = str(tmp_path / "here/base")
    assert json.loads((tmp_path / "run/model/adapter_config.json").read_text())["base_model_name_or_path"] == place
    assert finesmith.load(tmp_path / "run").recipe.model.name == place
    (tmp_path / "here/base").rename(tmp_path / "moved")
    for words in (["predict", tmp_path / "run", asked], ["compare", tmp_path / "run"]):
        code, _, err = command(*words)
        assert code == 2 and f"The base of this run, the folder '{place}', is not there." in err
        assert f"write its new folder as the model's name into {tmp_path / 'run/model/finesmith.json'}" in err
    for file in (tmp_path / "run/model/finesmith.json", tmp_path / "run/recipe.yaml"):
        file.write_text(file.read_text().replace(place, str(tmp_path / "moved")))
    assert command("predict", tmp_path / "run", asked)[0] == 0


def test_answers_that_end_at_the_limit_are_not_given_as_whole(models, clauses, tmp_path, caplog):
    words = ["--model", models("llama"), "--out", tmp_path / "run", "train.max_steps=1", "generation.max_new_tokens=2"]
    code, _, err = command("tune", clauses, *words)
    rows = len(json.loads((tmp_path / "run/splits.json").read_text())["test"])
    told = f"test rows, tuned: {rows} of {rows} answers cut off at the limit of 2 tokens (generation.max_new_tokens)"
    assert code == 0 and told in " ".join(err.split())
    assert [note for note in json.loads((tmp_path / "run/manifest.json").read_text())["notes"] if note.startswith(told)]
    kept = [json.loads(line) for line in (tmp_path / "run/predictions/tuned.jsonl").read_text().splitlines()]
    assert all(line["cut"] is True for line in kept)
    asked = write_jsonl(tmp_path / "new.jsonl", [{"prompt": "clause"}, {"prompt": "late"}])
    code, out, _ = command("predict", tmp_path / "run", asked)
    lines = [json.loads(line) for line in out.splitlines()]
    assert code == 0 and [set(line) for line in lines] == [{"id", "output", "cut"}] * 2
    said = "2 of 2 answers cut off at the limit of 2 tokens (generation.max_new_tokens) or of the context: 1, 2"
    assert caplog.messages == [said]
    assert WRITERS[".csv"]([*lines[:1], {"id": "3", "output": "b"}]).endswith(",true\n3,b,\n")
    caplog.clear()
    assert finesmith.load(tmp_path / "run").predict(["clause"])[0].cut
    assert caplog.messages == [said.replace("2 of 2 answers", "1 of 1 answer").removesuffix(", 2")]


def test_a_writer_cannot_abstain_and_compare_would_not_help(models, clauses, tmp_path):
    words = ["--model", models("llama"), "--out", tmp_path / "run", "train.max_steps=1", "generation.max_new_tokens=2"]
    code, out, err = command("tune", clauses, *words, "--json")
    assert code == 0 and json.loads(out)["verdict"] and "step 1 of 1: loss" in err, "progress stands on stderr"
    code, _, err = command("predict", tmp_path / "run", clauses, "--abstain")
    assert code == 2 and "Only classifiers abstain" in err and "compare" not in err
