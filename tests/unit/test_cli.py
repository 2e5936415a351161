"""The command line without a model: what is unknown names the nearest, exit codes, one JSON object on stdout."""

import io
import json
import os
import subprocess
import sys

import pytest

from finesmith import __version__, registry
from finesmith.__main__ import main
from finesmith.cli import _parser, predict
from finesmith.cli._show import Terminal, print_json
from finesmith.errors import RecipeError, counted
from finesmith.runfolder import write_file

COMMANDS = [name.replace("_", "-") for name in registry.available("commands")]


@pytest.fixture
def run(capsys):
    """`run("list", "tasks")`: exit code, stdout, stderr."""

    def get(*arguments):
        try:
            code = main(list(arguments))
        except SystemExit as stop:
            code = stop.code
        out, err = capsys.readouterr()
        return code, out, err

    return get


@pytest.mark.parametrize("arguments", [[], ["--help"], ["-h"]])
def test_the_overview_names_every_command(run, arguments):
    code, out, err = run(*arguments)
    assert (code, err) == (0, "")
    for command in COMMANDS:
        assert f"  {command} " in out


def test_the_version(run):
    assert run("--version") == (0, f"finesmith {__version__}\n", "")


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(run, command):
    code, out, err = run(command, "--help")
    assert (code, err) == (0, "") and out.startswith(f"usage: finesmith {command}")
    assert registry.summary("commands", command.replace("-", "_")).split()[0] in out


def test_answers_in_a_csv_are_read_back_as_they_were(tmp_path):
    outputs = ["one", "a\rb", "a\r\nb", ' "', None, ("x", "y"), "a,b;c", "\r"]
    scores = {"a;b;c;d": 0.25, "e, f": 0.75}
    lines = [{"id": f"{n}", "output": output, "scores": scores} for n, output in enumerate(outputs)]
    path = tmp_path / "answers.csv"
    write_file(path, predict.WRITERS[".csv"](lines))
    with path.open("rb") as file:
        got = [row for _, row in registry.resolve("formats", "csv").rows(file, "answers.csv")]
    assert [row["output"] for row in got] == ["one", "a\rb", "a\r\nb", ' "', "", '["x", "y"]', "a,b;c", "\r"]
    assert {row["score a;b;c;d"] for row in got} == {"0.25"} and {row["score e, f"] for row in got} == {"0.75"}


def test_an_unknown_command_names_the_nearest(run):
    code, out, err = run("tun")
    assert (code, out) == (2, "")
    assert err == f"error: Unknown command 'tun'. Did you mean 'tune'? Known: {', '.join(COMMANDS)}.\n"


def test_an_unknown_option_names_the_nearest(run):
    code, out, err = run("tune", "a.csv", "--modl", "x")
    assert (code, out) == (2, "")
    assert err.startswith("error: Unknown option '--modl' of finesmith tune. Did you mean '--model'? Known: --evidence")
    assert "Did you mean '--seed'?" in run("tune", "a.csv", "--sed=3")[2]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["tune"], "finesmith tune: the following arguments are required: source.\n"),
        (
            ["compare", "nothing", "--only", "calibraton"],
            "Unknown measurement 'calibraton'. Did you mean 'calibration'?",
        ),
        (["compare", "--effort", "quick"], "finesmith compare: the following arguments are required: run.\n"),
        (["tune", "a.csv", "--seed", "x"], "finesmith tune: argument --seed: invalid int value: 'x'"),
        (["tune", "a.csv", "--model"], "finesmith tune: argument --model: expected one argument"),
        (["list", "modles"], "Nothing is listed as 'modles'. Did you mean 'models'?"),
        (["tune", "nothing.csv"], "There is no file or folder 'nothing.csv'"),
        (["tune", "nothing.yaml"], "Cannot read the recipe nothing.yaml"),
        (["tune", "a.csv", "train.epoch=3"], "unknown setting 'train.epoch'. Did you mean 'epochs'?"),
        (["tune", "a.csv", "epochs"], "'epochs' is not a setting: write key=value"),
        (["tune", "a.csv", "data=b.csv"], "The data is named twice: 'a.csv' and data 'b.csv'."),
        (["show", "nothing"], "There is no run folder 'nothing'"),
        (["resume", "nothing"], "There is no run folder 'nothing'"),
    ],
)
def test_mistakes_end_with_2_and_without_a_traceback(run, tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    code, out, err = run(*arguments)
    assert (code, out) == (2, "")
    assert err.startswith("error: ") and message in err and "Traceback" not in err
    assert not list(tmp_path.iterdir()), "a mistake leaves nothing behind"


def test_a_mistake_as_json_is_one_object_on_stdout(run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, out, err = run("tune", "a.csv", "train.epoch=3", "seed=x", "--json")
    assert (code, err) == (2, "")
    value = json.loads(out)
    assert value["error"] == "The recipe cannot be used:" and len(value["problems"]) == 2 and value["hint"] == ""
    value = json.loads(run("show", "nothing", "--json")[1])
    assert value == {
        "error": "There is no run folder 'nothing'.",
        "problems": [],
        "hint": "`finesmith tune` makes one.",
    }


def test_many_problems_are_cut_on_the_terminal_and_whole_in_json(run, tmp_path):
    rows = tmp_path / "rows.jsonl"
    rows.write_text('{"text": 3}\n' * 60 + '{"text": "a", "label": "b"}\n')
    _, _, err = run("tune", str(rows), "--out", str(tmp_path / "out"))
    assert "... and 20 more (all with --json)" in err and err.count("\n  - ") == 40
    _, out, _ = run("tune", str(rows), "--out", str(tmp_path / "out"), "--json")
    assert len(json.loads(out)["problems"]) == 60
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("kind", ["tasks", "methods", "formats", "metrics", "baselines"])
def test_list_shows_every_plug_in_of_a_kind(run, kind):
    code, out, _ = run("list", kind)
    lines = out.splitlines()
    assert code == 0 and lines[0] == kind
    assert [line.split()[0] for line in lines[1:]] == registry.available(kind)
    assert list(json.loads(run("list", kind, "--json")[1])[kind]) == registry.available(kind)


def test_list_shows_all_kinds(run):
    from finesmith.cli.list import KINDS

    found = json.loads(run("list", "--json")[1])
    assert tuple(found) == KINDS and "embedded" in found["models"] and all(found.values())


def test_the_schema_is_json(run):
    code, out, err = run("schema")
    assert (code, err) == (0, "") and json.loads(out)["properties"]["data"]


@pytest.mark.parametrize(
    "given, wanted",
    [
        (["--epochs", "3"], "train.epochs=3"),
        (["--epochs=3"], "train.epochs=3"),
        (["--max-length"], "train.max_length=..."),
        (["--lora-rank", "8"], "lora.rank=8"),
        (["--lora.rank=8"], "lora.rank=8"),
        (["--dropout", "0.1", "--json"], "lora.dropout=0.1"),
        (["--n-epochs", "3"], "train.epochs=3"),
        (["--num_train_epochs=3"], "train.epochs=3"),
        (["--validation", "v.jsonl"], "data.validation=v.jsonl"),
        (["--validation-file", "v.jsonl"], "data.validation=v.jsonl (a share of the rows, or a file)"),
        (["--lr", "1e-4"], "train.learning_rate=1e-4 (the rate itself)"),
        (["--lora-r=8"], "lora.rank=8"),
        (["--learning-rat", "1e-4"], "train.learning_rate=1e-4"),
    ],
)
@pytest.mark.parametrize("command", ["tune", "show-tokens"])
def test_an_option_that_is_called_like_a_setting_says_how_to_write_it(command, given, wanted):
    with pytest.raises(RecipeError) as caught:
        _parser.parse([command, "a.csv", *given])
    assert caught.value.message == f"Unknown option '{given[0]}' of finesmith {command}."
    assert caught.value.hint == f"Settings are written without dashes: {wanted}"


def test_an_option_that_resembles_nothing_suggests_nothing():
    with pytest.raises(RecipeError) as caught:
        _parser.parse(["tune", "a.csv", "--num-gpus", "2"])
    assert "Did you mean" not in caught.value.message and "Known: --evidence" in caught.value.message
    assert caught.value.hint == "Settings are written without dashes, as in train.epochs=3."


def test_a_command_without_settings_suggests_none(run):
    code, _, err = run("predict", "run", "a.csv", "--epochs", "3")
    assert code == 2 and err.startswith("error: Unknown option '--epochs'") and "train.epochs" not in err


@pytest.mark.parametrize(
    ("given", "message", "hint"),
    [
        (
            ("predict", "runs/x", "new.csv", "answers.csv"),
            "'answers.csv' is one word too many: finesmith predict takes RUN and INPUT.",
            "Did you mean --out answers.csv (.jsonl or .csv file for the answers)?",
        ),
        (
            ("demo", "there"),
            "'there' is one word too many: finesmith demo takes options alone.",
            "Did you mean --out there (folder for the two runs)?",
        ),
        (
            ("show", "runs/a", "--json", "runs/b", "runs/c"),
            "'runs/b', 'runs/c' are 2 words too many: finesmith show takes RUN.",
            "See: finesmith show --help",
        ),
    ],
)
def test_a_word_too_many_is_not_called_an_option(given, message, hint):
    with pytest.raises(RecipeError) as caught:
        _parser.parse(given)
    assert (caught.value.message, caught.value.hint) == (message, hint)


def test_the_help_names_the_version(run):
    assert "finesmith --version" in run("--help")[1]


def values(*arguments):
    command, options = _parser.parse(["tune", *arguments])
    assert type(command).__name__ == "Tune"
    return options.source, _parser.recipe_values(options)


def test_settings_and_flags_become_a_recipe():
    source, given = values(
        "a.csv", "train.epochs=3", "--model", "owner/name", "lora.rank=8", "--seed", "7", "--out", "x: y"
    )
    assert source == "a.csv"
    assert given == {
        "train": {"epochs": 3},
        "lora": {"rank": 8},
        "model": {"name": "owner/name"},
        "seed": 7,
        "out": "x: y",
    }


def test_flags_win_over_settings():
    assert values("a.csv", "--method", "full", "method=lora", "model=a")[1] == {"method": "full", "model": "a"}
    assert values("a.csv", "model=a", "--model", "b", "--from-scratch")[1]["model"] == {
        "name": "b",
        "from_scratch": True,
    }


@pytest.mark.parametrize("name", ["true", "1e-5", "null", "it's", "a: b", "#", "-x", "[1]", "runs\\x", "é"])
def test_text_of_a_flag_stays_text(name):
    assert values("a.csv", f"--out={name}")[1] == {"out": name}
    assert values("a.csv", f"--model={name}")[1] == {"model": {"name": name}}


@pytest.mark.parametrize("number, text", [(0, "0 rows"), (1, "1 row"), (2, "2 rows"), (3000, "3,000 rows")])
def test_numbers_with_their_noun(number, text):
    assert counted(number, "row") == text


def test_a_complaint_is_an_error_of_ours():
    with pytest.raises(RecipeError) as error:
        _parser.parse(["tune"])
    assert error.value.hint == "See: finesmith tune --help"


def test_measurements_are_listed(run):
    _, out, _ = run("list", "measurements")
    assert "calibration" in out and "learning_curve" in out
    assert "finesmith list measurements" in " ".join(run("compare", "--help")[1].split())


def test_ctrl_c_with_json_is_one_object(run, monkeypatch):
    def stopped(options):
        raise KeyboardInterrupt

    monkeypatch.setattr("finesmith.cli.show.PLUGIN.main", stopped)
    code, out, err = run("show", "run", "--json")
    assert code == 130 and json.loads(out)["error"] == "stopped" and err == "stopped\n"


@pytest.mark.parametrize("code_page", ["cp1252", "ascii"])
def test_answers_of_any_script_are_written_whatever_the_code_page(monkeypatch, code_page):
    def show(options):
        print_json({"output": "請求書 ⟦a⟧ \ud800"})

    out = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(out, encoding=code_page))
    monkeypatch.setattr("finesmith.cli.show.PLUGIN.main", show)
    assert main(["show", "run"]) == 0
    sys.stdout.flush()
    assert json.loads(out.getvalue().decode("utf-8"))["output"] == "請求書 ⟦a⟧ \ud800"


def test_a_terminal_shows_what_it_can(monkeypatch):
    class Tty(io.TextIOWrapper):
        def isatty(self):
            return True

    out = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", Tty(out, encoding="cp1252", newline=""))
    monkeypatch.setattr("finesmith.cli.show.PLUGIN.main", lambda options: print_json("é 請"))
    assert main(["show", "run"]) == 0
    sys.stdout.flush()
    assert out.getvalue() == '"é ?"\n'.encode("cp1252")


WORK = """
import sys
from finesmith.__main__ import main
from finesmith.cli import show
from finesmith.cli._show import Terminal

def work(options):
    with Terminal() as watcher:
        for step in range(200):
            watcher.note("x" * 1000)
    open(sys.argv[1], "w").write("done")
    {last}

show.PLUGIN.__class__.main = lambda self, options: work(options)
sys.exit(main(["show", "run"]))
"""
RESULTS = {
    "rich": "from rich.console import Console; [Console().print('y' * 1000) for _ in range(200)]",
    "stdout": "sys.stdout.write('y' * 200_000)",
    "nothing": "return 2",
}


@pytest.mark.skipif(os.name != "posix", reason="pipes of this kind")
@pytest.mark.parametrize(("last", "closed"), [("rich", 3), ("stdout", 3), ("stdout", 1), ("rich", 1), ("nothing", 2)])
def test_a_closed_pipe_ends_no_work_and_no_result_is_an_error(tmp_path, last, closed):
    """`closed`: which of stdout (1) and stderr (2) nobody reads any more."""
    read, write = os.pipe()
    os.close(read)
    streams = {name: write for bit, name in ((1, "stdout"), (2, "stderr")) if closed & bit}
    kept = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **streams}
    code = WORK.format(last=RESULTS[last])
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path / "done")], **kept, timeout=100)
    os.close(write)
    assert (tmp_path / "done").read_text() == "done"
    assert done.returncode == (2 if last == "nothing" else 0)
    assert "Traceback" not in (done.stderr or b"").decode() and "BrokenPipe" not in (done.stderr or b"").decode()


def test_a_stage_says_what_it_counts(capsys):
    terminal = Terminal()
    for arguments in (("answering", 2), ("knowledge", 13, "strength")):
        with terminal.progress(*arguments):
            pass
    assert capsys.readouterr().err == "· answering (2 rows)\n· knowledge (13 strengths)\n"


def test_a_broken_pipe_that_is_not_ours_is_an_error(monkeypatch):
    def worker(options):
        raise BrokenPipeError

    monkeypatch.setattr("finesmith.cli.show.PLUGIN.main", worker)
    with pytest.raises(BrokenPipeError):
        main(["show", "run"])
