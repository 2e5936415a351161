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
from finesmith.errors import DataError, RowError, RunError, TrainingError
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


def test_stdin_has_no_columns_unless_its_lines_are_objects(finished, monkeypatch):
    monkeypatch.setattr("sys.stdin", io.StringIO("a parcel\n"))
    code, _, err = command("predict", finished, "-", "--column", "text")
    assert code == 2 and "--column has no effect" in err
    texts = ["a parcel", "a refund"]
    wanted = [(answer.output, answer.scores) for answer in finesmith.load(finished).predict(texts)]
    rows = [{"what they wrote": text, "number": 1} for text in texts]
    named = [{"said": text, "number": 1} for text in texts]
    table = "what they wrote,number\na parcel,1\na refund,1\n"
    given = {"": rows, "--column said": named, "--format csv": table}
    for words, stream in given.items():
        lines = stream if isinstance(stream, str) else "".join(json.dumps(row) + "\n" for row in stream)
        monkeypatch.setattr("sys.stdin", io.StringIO(lines))
        code, out, err = command("predict", finished, "-", *words.split())
        assert code == 0, err
        assert [(line["output"], line["scores"]) for line in map(json.loads, out.splitlines())] == wanted
    code, _, err = command("predict", finished, "-", "--format", "cvs")
    assert code == 2 and "unknown format 'cvs'. Did you mean 'csv'?" in err


def test_several_labels_in_a_table():
    lines = [{"id": "1", "output": ("a", "b"), "scores": {"a": 0.9, "b": 0.8}}, {"id": "2", "output": "x, y"}]
    assert WRITERS[".csv"](lines) == 'id,output,score a,score b\n1,"[""a"", ""b""]",0.9,0.8\n2,"x, y",,\n'


def test_rows_in_jsonl_may_hold_conversations_that_a_classifier_refuses(finished, tmp_path):
    path = write_jsonl(tmp_path / "new.jsonl", [{"messages": [{"role": "user", "content": "a"}]}])
    code, _, err = command("predict", finished, path)
    assert code == 2 and "This run classifies texts" in err


def test_a_conversation_goes_on_after_an_empty_answer(monkeypatch, capsys):
    from finesmith.cli.chat import _talk
    from finesmith.data.asked import as_inputs
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
    code, out, err = command("predict", tmp_path / "run", asked)
    lines = [json.loads(line) for line in out.splitlines()]
    said = "2 of 2 answers cut off at the limit of 2 tokens (generation.max_new_tokens) or of the context"
    assert code == 0 and said in " ".join(err.split())
    assert [set(line) for line in lines] == [{"id", "output", "cut"}] * 2
    assert WRITERS[".csv"]([*lines[:1], {"id": "3", "output": "b"}]).endswith(",true\n3,b,\n")
    assert caplog.messages == []
    assert finesmith.load(tmp_path / "run").predict(["clause"] * 2)[0].cut
    assert caplog.messages == [f"{said}: 1, 2"]


def test_a_writer_cannot_abstain_and_compare_would_not_help(models, clauses, tmp_path):
    words = ["--model", models("llama"), "--out", tmp_path / "run", "train.max_steps=1", "generation.max_new_tokens=2"]
    code, out, err = command("tune", clauses, *words, "--json")
    assert code == 0 and json.loads(out)["verdict"] and "step 1 of 1: loss" in err, "progress stands on stderr"
    code, _, err = command("predict", tmp_path / "run", clauses, "--abstain")
    assert code == 2 and "Only classifiers abstain" in err and "compare" not in err


@pytest.fixture
def chatty(models, tmp_path):
    """A run whose template refuses two user turns behind one another."""
    strict = (
        "{% for m in messages %}{% if (m['role'] == 'user') != (loop.index0 % 2 == 0) %}"
        "{{ raise_exception('roles must alternate') }}{% endif %}[{{ m['role'] }}] {{ m['content'] }}{{ eos_token }}"
        "{% endfor %}{% if add_generation_prompt %}[assistant] {% endif %}"
    )
    base = tmp_path / "base"
    shutil.copytree(models("llama"), base)
    (base / "chat_template.jinja").write_text(strict)  # counts before the one in the configuration
    config = json.loads((base / "tokenizer_config.json").read_text())
    other = {"chat_template": "{{ raise_exception('another') }}"}
    (base / "tokenizer_config.json").write_text(json.dumps({**config, **other}))
    rows = [
        {"messages": [{"role": "user", "content": f"say {n}"}, {"role": "assistant", "content": "yes"}]}
        for n in range(20)
    ]
    data = write_jsonl(tmp_path / "chats.jsonl", rows)
    settings = {"train": {"max_steps": 1}, "generation": {"max_new_tokens": 2}}
    return runs.tune(small.make_recipe(data, str(base), **settings).replace(out=str(tmp_path / "run"))).path


def user(*texts):
    return {"messages": [{"role": "user", "content": text} for text in texts]}


def test_every_row_that_a_writer_cannot_answer_is_named_before_the_first_answer(chatty, tmp_path):
    long = {"id": "n7", **user("please " * 600)}
    path = write_jsonl(tmp_path / "new.jsonl", [user("a"), user("a", "b"), long, user("c"), user("d", "e")])
    code, out, err = command("predict", chatty, path)
    assert (code, out) == (2, "") and "3 rows cannot be answered:" in err and "generation.template" not in err
    assert f"{path}:2: The chat template refuses a conversation with the turns user, user: roles must alternate" in err
    assert f"{path}:3 (id n7): " in err and "leave no room for an answer in the context of" in err
    assert f"{path}:5: " in err and "--skip-bad-rows" in err and "answering" not in err
    model = finesmith.predictor.load(chatty)
    with pytest.raises(DataError, match="1 input cannot be answered:") as caught:
        model.predict([user("a")["messages"], user("a", "b")["messages"]])
    assert caught.value.problems[0].startswith("input 2: The chat template refuses")
    out = tmp_path / "answers.csv"
    code, _, err = command("predict", chatty, path, "--skip-bad-rows", "--out", out)
    assert code == 0 and "3 of 5 rows without an answer (error), the first is" in err
    with out.open(newline="") as file:
        table = list(csv.DictReader(file))
    assert [row["id"] for row in table] == [f"{path}:1", f"{path}:2", "n7", f"{path}:4", f"{path}:5"]
    assert [bool(row["error"]) for row in table] == [False, True, True, False, True]
    alone = model.predict([user("c")["messages"]])[0].output
    assert table[3]["output"] == alone and table[1]["output"] == ""


def test_a_row_that_cannot_be_read_is_skipped_too(finished, tmp_path):
    rows = [{"text": "a parcel"}, {"text": 3}, {"messages": [{"role": "user", "content": "a"}]}]
    path = write_jsonl(tmp_path / "new.jsonl", rows)
    code, out, _ = command("predict", finished, path, "--column", "text", "--skip-bad-rows", "--json")
    lines = json.loads(out)["answers"]
    assert code == 0 and [line.get("error", "")[:8] for line in lines] == ["", "the text", "the colu"]
    assert lines[0]["output"] and lines[1]["output"] is None
    code, out, _ = command("predict", finished, write_jsonl(tmp_path / "spoken.jsonl", rows[2:]), "--skip-bad-rows")
    assert code == 0 and "This run classifies texts" in json.loads(out)["error"]


def test_the_ways_out_are_those_of_the_command(finished, tmp_path):
    (tmp_path / "rows").write_text("what they wrote\na card\n")
    (tmp_path / "list.jsonl").write_text('[{"text": "a"}]')
    bad = write_jsonl(tmp_path / "bad.jsonl", [{"text": "a"}, {"text": 3}])
    ways = {"rows": "Give --format csv, ", "list.jsonl": "give --format json.", "bad.jsonl": "others: --skip-bad-rows."}
    for name, way in ways.items():
        code, _, err = command("predict", finished, tmp_path / name)
        assert code == 2 and way in err and "data.format" not in err, bad
    code, out, _ = command("predict", finished, tmp_path / "rows", "--format", "csv")
    assert code == 0 and json.loads(out)["id"] == f"{tmp_path / 'rows'}:2"


def test_texts_that_are_cut_are_named_by_their_place(finished, tmp_path, caplog):
    path = write_jsonl(tmp_path / "new.jsonl", [{"text": "a"}, {"id": "n2", "text": "please " * 900}])
    assert command("predict", finished, path)[0] == 0
    assert caplog.messages[0].endswith(f"only the beginning counted: {path}:2 (id n2)")


@pytest.fixture
def rows(tmp_path):
    texts = ["a parcel", "where is the refund of my old card", "login", "the card", "no refund", "my card is gone", "x"]
    return write_jsonl(tmp_path / "rows.jsonl", [{"text": text} for text in texts])


def stopping(monkeypatch, error, *, at):
    """Ends the command in its block number `at`; returns how many rows each block had."""
    asked, whole = [], predictor.Predictor.answer

    def answer(self, rows, **more):
        asked.append(len(rows))
        if len(asked) == at:
            raise error
        return whole(self, rows, **more)

    monkeypatch.setattr("finesmith.answering.BLOCK", 3)
    monkeypatch.setattr(predictor.Predictor, "answer", answer)
    return asked


@pytest.mark.parametrize("error", [KeyboardInterrupt(), RuntimeError("CUDA error: an illegal memory access")])
def test_a_command_that_ends_early_keeps_its_answers_and_goes_on(finished, rows, tmp_path, monkeypatch, error):
    whole, out = tmp_path / "whole.jsonl", tmp_path / "answers.jsonl"
    assert command("predict", finished, rows, "--out", whole)[0] == 0
    words, partial = ["predict", finished, rows, "--out", out], tmp_path / "answers.jsonl.partial"
    with monkeypatch.context() as patched:
        stopping(patched, error, at=2)
        if isinstance(error, KeyboardInterrupt):
            code, _, err = command(*words)
            assert code == 130 and f"3 answers of 7 kept in {partial}; the same command goes on from there" in err
        else:
            with pytest.raises(RuntimeError, match="CUDA"):
                command(*words)
    assert partial.exists() and not out.exists()
    with partial.open("a") as file:
        file.write('{"place": 3, "li')  # killed while it wrote
    with monkeypatch.context() as patched:
        asked = stopping(patched, error, at=0)
        code, _, err = command(*words)
    assert code == 0 and f"going on from 3 answers in {partial}" in err and asked == [3, 1]
    assert not partial.exists()
    lines, wanted = ([json.loads(line) for line in file.read_text().splitlines()] for file in (out, whole))
    assert [(line["id"], line["output"]) for line in lines] == [(line["id"], line["output"]) for line in wanted]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["answers.jsonl", "rows.jsonl", "whole.jsonl"]


def test_answers_to_something_else_are_not_gone_on_from(finished, rows, tmp_path, monkeypatch):
    out = tmp_path / "answers.jsonl"
    with monkeypatch.context() as patched:
        stopping(patched, KeyboardInterrupt(), at=2)
        assert command("predict", finished, rows, "--out", out)[0] == 130
    other = write_jsonl(tmp_path / "other.jsonl", [{"text": "b"}] * 7)
    for words in ([other, "--out", out], [rows, "--out", out, "--abstain"]):
        code, _, err = command("predict", finished, *words)
        assert code == 2 and f"'{out}.partial' holds answers of another model, to other rows or with other" in err
    assert len((tmp_path / "answers.jsonl.partial").read_text().splitlines()) == 4
    code, _, err = command("predict", finished, other, "--out", out, "--force")
    assert code == 0 and "going on" not in err and len(out.read_text().splitlines()) == 7
    assert not (tmp_path / "answers.jsonl.partial").exists()


def test_stdout_has_the_answers_of_what_was_done(finished, rows, monkeypatch):
    with monkeypatch.context() as patched:
        stopping(patched, KeyboardInterrupt(), at=2)
        code, out, _ = command("predict", finished, rows)
    assert code == 130 and [json.loads(line)["id"] for line in out.splitlines()] == [f"{rows}:{n}" for n in (1, 2, 3)]


def test_a_row_for_which_memory_is_too_small_is_named_or_skipped(finished, rows, tmp_path, monkeypatch):
    whole = predictor.Predictor.answer

    def answer(self, rows, **more):
        if "my card is gone" in rows:
            raise RowError(rows.index("my card is gone"))
        return whole(self, rows, **more)

    monkeypatch.setattr("finesmith.answering.BLOCK", 3)
    monkeypatch.setattr(predictor.Predictor, "answer", answer)
    out = tmp_path / "answers.jsonl"
    code, _, err = command("predict", finished, rows, "--out", out)
    assert code == 2 and f"{rows}:6: memory is too small to answer even this row alone." in err
    assert "train.max_length" not in err and "--skip-bad-rows" in err
    code, _, err = command("predict", finished, rows, "--out", out, "--skip-bad-rows")
    lines = [json.loads(line) for line in out.read_text().splitlines()]
    assert code == 0 and "going on from 3 answers" in err, "what was answered counts with the option too"
    assert [line["id"] for line in lines] == [f"{rows}:{n}" for n in range(1, 8)]
    assert [line["output"] is None for line in lines] == [False] * 5 + [True, False]
    with pytest.raises(TrainingError, match="Input 2: memory is too small to answer even this row alone") as caught:
        finesmith.load(finished).predict(["a", "my card is gone"])
    assert "train.max_length" not in str(caught.value)
