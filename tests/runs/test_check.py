"""`finesmith check` from the command line and the library, `--fix`, and what `tune` makes of it."""

import csv
import dataclasses
import hashlib
import json
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

import finesmith
from finesmith import comparing, examine, registry, run
from finesmith import recipe as recipes
from finesmith.__main__ import main
from finesmith.data import near
from finesmith.data.clean import Changes, clean
from finesmith.errors import DataError, MissingExtraError
from finesmith.report import findings as plainly
from finesmith.types import Finding
from finesmith.watch import Watcher
from tests.conftest import ticket_rows, write_csv, write_jsonl

KEY = "ghp_" + "a1B2c3D4e5" * 4
SMALL = {"dtype": "float32", "device": "cpu"}


def messy():
    rows = [{"id": str(n), "text": row["text"], "queue": row["queue"]} for n, row in enumerate(ticket_rows(90))]
    rows[3]["text"] += " cafÃ© <br> &amp; more"
    rows[4]["text"] += f" my key is {KEY}"
    rows[5]["queue"] = rows[5]["queue"].upper()
    rows[6]["text"] += " ada@example.com"
    return [*rows, {**rows[7], "id": "90"}, {**rows[8], "id": "91", "text": " "}]


@pytest.fixture
def command(capsys):
    def get(*arguments):
        code = main([str(argument) for argument in arguments])
        out, err = capsys.readouterr()
        return code, out, err

    return get


def test_a_summary_fits_one_screen_and_the_exit_code_says_blocking(command, tmp_path, models):
    data = write_csv(tmp_path / "messy.csv", messy())
    code, out, err = command("check", data, "--model", models("llama"))
    assert code == 2 and "Traceback" not in err
    assert len(out.splitlines()) <= 40 and "blocking" in out
    assert "Blocking findings stop tune." in " ".join(out.split())
    assert KEY not in out + err


def test_json_is_one_object_with_every_row(command, tmp_path, models):
    data = write_csv(tmp_path / "messy.csv", messy())
    code, out, _ = command("check", data, "--model", models("llama"), "--json", "--html", tmp_path / "page.html")
    found = json.loads(out)
    assert code == 2 and found["blocking"] == 2
    by_check = {finding["check"]: finding for finding in found["findings"]}
    assert {
        "unusable",
        "encoding",
        "markup",
        "private_data",
        "label_names",
        "exact_duplicates",
        "self_test",
    } <= by_check.keys()
    assert by_check["unusable"]["rows"] == [f"{data}:93"] and by_check["encoding"]["rows"] == [f"{data}:5"]
    page = (tmp_path / "page.html").read_text()
    assert KEY not in out + page and "ada@example.com" not in out + page
    assert "<svg" in page and "src=" not in page and "http://" not in page.replace("http://www.w3.org", "")
    assert "<script" not in page and 'href="http' not in page


def test_clean_rows_end_with_0_and_the_library_gives_the_same(command, tickets, models):
    found = finesmith.check(tickets, model={"name": models("llama"), **SMALL}, task="classification")
    code, out, _ = command(
        "check", tickets, "--model", models("llama"), "--json", "model.dtype=float32", "model.device=cpu"
    )
    assert code == 0 and not found.blocking
    assert [finding.what for finding in found.findings if finding.check not in ("lengths", "distance")] == [
        finding["what"] for finding in json.loads(out)["findings"] if finding["check"] not in ("lengths", "distance")
    ]
    assert found.rows == {"train": 63, "validation": 9, "test": 18}


def test_fix_writes_a_copy_and_a_log_and_leaves_the_input(command, tmp_path, models):
    data = write_csv(tmp_path / "messy.csv", messy())
    before = hashlib.sha256(data.read_bytes()).hexdigest()
    _, out, _ = command("check", data, "--model", models("llama"), "--fix", "--json")
    assert hashlib.sha256(data.read_bytes()).hexdigest() == before
    with (tmp_path / "messy.cleaned.csv").open(newline="") as file:
        rows = {row["id"]: row for row in csv.DictReader(file)}
    assert len(rows) == 90 and not {"90", "91"} & rows.keys()
    assert rows["3"]["text"].endswith("café \n & more") and rows["4"]["text"].endswith("my key is [key or token]")
    assert rows["5"]["queue"] == messy()[4 if messy()[4]["queue"] == messy()[5]["queue"].lower() else 8]["queue"]
    assert rows["6"]["text"].endswith("ada@example.com"), "addresses stay"
    log = [json.loads(line) for line in (tmp_path / "messy.cleaned.log.jsonl").read_text().splitlines()]
    touched = {(entry["row"].rpartition(":")[2], entry["action"], entry["check"]) for entry in log}
    assert {
        ("92", "left out", "exact_duplicates"),
        ("93", "left out", "unusable"),
        ("7", "changed", "label_names"),
    } <= touched
    assert json.loads(out)["fixed"]["left_out"] == 2 and KEY not in (tmp_path / "messy.cleaned.log.jsonl").read_text()
    code, _, err = command("check", data, "--model", models("llama"), "--fix")
    assert code == 2 and "exists already" in err
    assert command("check", tmp_path / "messy.cleaned.csv", "--model", models("llama"))[0] == 0


def test_fix_renames_labels_that_stand_as_lists_in_a_table(tmp_path):
    rows = [{"text": "one", "label": '["Late", "paid "]'}, {"text": "two", "label": '["other"]'}]
    changes = Changes(labels={"paid ": "paid", "Late": "late"})
    made = clean(str(write_csv(tmp_path / "rows.csv", rows)), changes, columns={"text": "text", "label": "label"})
    with made.copy.open(newline="") as file:
        assert [row["label"] for row in csv.DictReader(file)] == ['["late", "paid"]', '["other"]']
    assert made.changed == 1


def leaking(folder, count):
    folder.mkdir()
    rows, test = ticket_rows(90), ticket_rows(30, seed=5)
    write_jsonl(folder / "train.jsonl", rows)
    write_jsonl(folder / "test.jsonl", [*test, *rows[:count]])
    return folder


def test_fix_takes_leaks_out_of_training_and_not_out_of_the_test(command, tmp_path, models):
    data = leaking(tmp_path / "data", 10)
    assert command("check", data, "--model", models("llama"), "--fix")[0] == 2
    copy = tmp_path / "data.cleaned"
    counts = {part: len((copy / f"{part}.jsonl").read_text().splitlines()) for part in ("train", "test")}
    assert counts["test"] == 40 and counts["train"] <= 80
    found = finesmith.check(copy, model={"name": models("llama"), **SMALL})
    assert not [
        finding for finding in found.findings if finding.check == "leakage" and finding.detail["part"] == "test"
    ]


def test_tune_stops_on_blocking_findings_and_leaves_nothing(command, tmp_path, models, monkeypatch):
    monkeypatch.chdir(tmp_path)
    data = leaking(tmp_path / "data", 10)
    code, out, err = command("tune", data, "--model", models("llama"))
    assert (code, out) == (2, "")
    assert "would spoil the result" in err and "test.jsonl:31" in err and "data.checks=warn" in err
    assert [path.name for path in tmp_path.iterdir()] == ["data"]


def test_a_run_gives_scores_with_and_without_leaked_rows(command, tmp_path, models):
    data = leaking(tmp_path / "data", 3)
    recipe = recipes.make({
        "data": {"path": str(data)}, "model": {"name": models("llama"), **SMALL}, "method": "full",
        "train": {"max_steps": 2}, "out": str(tmp_path / "run"),
    })  # fmt: skip
    evidence = run.tune(recipe).evidence
    found = evidence.details["without_leaks"]
    assert (found["leaked"], found["rows"]) == (3, 30)
    assert evidence.systems["tuned"]["accuracy"].n == evidence.gains["tfidf"].n == found["systems"]["tuned"]["n"] == 30
    assert found["systems"].keys() == found["all_rows"].keys() == evidence.systems.keys()
    assert found["all_rows"]["tuned"]["n"] == 33 and len(found["ids"]) == 3
    assert len((tmp_path / "run/predictions/tuned.jsonl").read_text().splitlines()) == 33, "all of them are answered"
    told = comparing.compare(tmp_path / "run", only=["calibration"])
    study = comparing.open_study(tmp_path / "run", effort="quick", options={}, watcher=Watcher())
    assert len(study.splits.test) == 30 and not {row.id for row in study.splits.test} & set(found["ids"])
    assert {len(rows) for rows in study.predictions.values()} == {30}
    assert told.evidence.gains["tfidf"].n == 30 and "n = 30" in told.decision
    assert "They are left out of everything here; with them accuracy is" in (tmp_path / "run/report.html").read_text()
    card = (tmp_path / "run" / "README.md").read_text()
    assert "3 of 33 test rows are equal or nearly equal to rows that were trained on" in card
    assert "3 of 33 test rows" in " ".join(command("show", tmp_path / "run")[1].split())


def test_names_need_their_extra(tickets, models, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "presidio_analyzer", None)
    recipe = recipes.from_source(str(tickets), {"model": {"name": models("llama"), **SMALL}})
    with pytest.raises(MissingExtraError, match="presidio-analyzer"):
        examine.examine(recipe, names=True)


@pytest.mark.parametrize("text", ["{}", "[]", "nothing", '[{"preferred": "a"}]'])
def test_a_file_that_is_no_glossary_is_named(command, tickets, tmp_path, text):
    (tmp_path / "terms.json").write_text(text)
    code, _, err = command("check", tickets, "--glossary", tmp_path / "terms.json")
    assert code == 2 and "terms.json" in err and "glossary" in err and "Traceback" not in err


def test_progress_is_shown_for_every_slow_check(tickets, models):
    titles = []

    class Eye(Watcher):
        def progress(self, title, total):
            titles.append(title)
            return super().progress(title, total)

    examine.examine(recipes.from_source(str(tickets), {"model": {"name": models("llama"), **SMALL}}), watcher=Eye())
    assert {"checking the data", "checking: label errors", "checking: self test", "checking: lengths"} <= set(titles)


def test_many_findings_still_fit_one_screen():
    from finesmith.report import findings as plainly

    one = Finding(
        "markup", "note", "A sentence of the usual length about the rows that were found here.", 3, ("a:1",), "W.", "A."
    )
    many = examine.Examined("a.csv", "classification", {"train": 9}, (one,) * 60, {}, {"markup": 1.0})
    worst = dataclasses.replace(one, severity="blocking", what="This one must be seen.")
    text = plainly.text(dataclasses.replace(many, findings=(*many.findings, worst)))
    assert len(text.splitlines()) <= plainly.SCREEN and "This one must be seen." in text and "more" in text


def test_nothing_to_read_is_an_error(tmp_path):
    (tmp_path / "empty.csv").write_text("")
    with pytest.raises(DataError, match="empty"):
        finesmith.check(tmp_path / "empty.csv")


def fixed(command, models, data, *more):
    """Runs `check --fix` and gives the rows of the copy."""
    _, out, _ = command("check", data, "--model", models("llama"), "--fix", "--json", *more)
    copy = Path(json.loads(out)["fixed"]["copy"])
    assert command("check", copy, "--model", models("llama"), *more)[0] == 0, "the copy can be read"
    return [json.loads(line) for line in copy.read_text().splitlines()] if copy.suffix == ".jsonl" else copy.read_text()


def test_fix_leaves_nothing_out_for_a_test_that_will_be_cut_anew(command, tmp_path, models):
    rows = [
        {
            "text": f"the {word} of my order number {n % 9} did not arrive at the {word} yet, please help",
            "label": "ab"[n % 2],
        }
        for n, word in enumerate(word for word in ("parcel", "letter", "voucher", "invoice") * 5 for _ in range(8))
    ]
    rows = [{**row, "text": f"{row['text']} {n}"} for n, row in enumerate(rows)]
    data = write_jsonl(tmp_path / "rows.jsonl", rows)
    found = finesmith.check(data, model={"name": models("llama"), **SMALL}).findings
    leak = next(finding for finding in found if finding.check == "leakage" and finding.detail["part"] == "test")
    assert leak.count > 10 and "same group" in leak.advice and "--fix" not in leak.advice
    assert len(fixed(command, models, data)) == len(rows)


def calls(number, arguments):
    function = {"name": "find", "arguments": arguments}
    return {
        "messages": [
            {
                "role": "user",
                "content": f"Where is <b>parcel</b> {number} of {number * 13}?",
            },
            {"role": "assistant", "tool_calls": [{"type": "function", "function": function}]},
        ]
    }


def test_fix_changes_texts_inside_json_and_keeps_it_json(command, tmp_path, models):
    rows = [calls(n, f'{{"what": "a<br>b &quot;{n}&quot;",  "price": 1.50, "<b>": 1}}') for n in range(30)]
    got = fixed(command, models, write_jsonl(tmp_path / "calls.jsonl", rows))
    arguments = [row["messages"][1]["tool_calls"][0]["function"]["arguments"] for row in got]
    assert arguments[4] == r'{"what": "a\nb \"4\"",  "price": 1.50, "<b>": 1}'
    (tmp_path / "table").mkdir()
    table = [{"messages": json.dumps(calls(n, json.dumps({"what": f"<br>{n}"}))["messages"])} for n in range(30)]
    text = fixed(command, models, write_csv(tmp_path / "table" / "calls.csv", table))
    turns = json.loads(list(csv.reader(text.splitlines()))[1][0])
    assert turns[1]["tool_calls"][0]["function"]["arguments"] == r'{"what": "\n0"}'


def test_fix_writes_null_for_what_is_no_number(command, tmp_path, models):
    import pyarrow as pa
    from pyarrow import parquet

    rows = [{**row, "price": float("nan") if n % 2 else 1.5} for n, row in enumerate(ticket_rows(90))]
    rows[3]["text"] += " <br>"
    parquet.write_table(pa.Table.from_pylist(rows), tmp_path / "rows.parquet")
    assert [row["price"] for row in fixed(command, models, tmp_path / "rows.parquet")][:4] == [1.5, None, 1.5, None]


def test_fix_keeps_rows_whose_tool_calls_differ(command, tmp_path, models):
    rows = [calls(n, json.dumps({"what": what})) for n in range(30) for what in ("parcel", "letter")]
    rows += [calls(0, '{"what": "parcel"}')]
    assert len(fixed(command, models, write_jsonl(tmp_path / "calls.jsonl", rows))) == 60


def test_fix_of_the_folder_one_stands_in_writes_beside_it(command, tmp_path, models, monkeypatch):
    monkeypatch.chdir(leaking(tmp_path / "data", 2))
    before = sorted(path.name for path in (tmp_path / "data").iterdir())
    command("check", ".", "--model", models("llama"), "--fix")
    assert sorted(path.name for path in (tmp_path / "data").iterdir()) == before
    assert (tmp_path / "data.cleaned" / "train.jsonl").exists() and (tmp_path / "data.cleaned.log.jsonl").exists()


def test_copies_of_two_near_texts_are_counted_and_not_paired(tmp_path):
    text = "my parcel with the blue kettle did not arrive yet"
    rows = [{"text": text, "label": "late"} for _ in range(3000)] + [
        {"text": f"{text} ok", "label": "lost"} for _ in range(3000)
    ]
    recipe = recipes.from_source(
        str(write_jsonl(tmp_path / "rows.jsonl", rows)), {"data": {"columns": {"text": "text"}}}
    )
    data = examine._look(recipe, (), False)[0]
    check = registry.resolve("checks", "contradictions")
    data.near()
    tracemalloc.start()
    (finding,) = [finding for finding in check(data, lambda done: None) if "nearly equal" in finding.what]
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert finding.count == 9_000_000 and len(finding.rows) == 6000 and len(finding.detail["pairs"]) == 20
    assert peak < 20e6


def test_leaks_are_found_in_all_rows_of_data_that_is_too_large_for_all(tmp_path, monkeypatch):
    rows, test = ticket_rows(90), ticket_rows(60, seed=5)
    train = [{**row, "group": f"g{n}"} for n, row in enumerate(rows)]
    leaked = [{**row, "group": f"t{n}"} for n, row in enumerate(rows[:9])]
    own = [{**row, "group": "g41" if n == 3 else f"o{n}"} for n, row in enumerate(test)]
    write_jsonl(tmp_path / "train.jsonl", train)
    write_jsonl(tmp_path / "test.jsonl", [*own, *leaked])
    recipe = recipes.from_source(str(tmp_path), {"data": {"checks": "warn"}})
    monkeypatch.setattr(near, "near_pairs", lambda *_, **__: near.Pairs(np.zeros((0, 2), np.int64), np.zeros(0)))
    prepared = run.prepare(recipe)
    whole = examine.before_training(prepared.recipe, prepared.splits, "classification", Watcher())
    assert len(whole[1]) == 10 and whole[2] == ""
    for most in (70, 20):
        monkeypatch.setattr(examine, "MOST_ROWS", most)
        findings, ids, note = examine.before_training(prepared.recipe, prepared.splits, "classification", Watcher())
        assert sorted(ids) == sorted(whole[1]) and "rows were looked at: evenly spread" in note
        if most == 70:  # the test is looked at as a whole: the shares are those of all rows
            assert [f.what for f in findings if f.check == "leakage"] == [
                f.what for f in whole[0] if f.check == "leakage"
            ]
    assert note in run._check(prepared, Watcher()).notes()
    monkeypatch.setattr(examine, "MOST_ROWS", 70)
    found = examine.examine(recipes.from_source(str(tmp_path), {"model": {"name": "embedded", **SMALL}}))[0]
    assert any("rows were looked at: evenly spread" in line for line in found.notes)
    assert any(f.check == "leakage" and f.what.startswith("9 of 69") for f in found.findings)


def test_a_task_that_the_data_is_not_for(command, tickets):
    code, out, err = command("check", tickets, "--task", "generation")
    assert (code, out) == (2, "") and "Traceback" not in err
    assert "task is 'generation', but the data has the shape 'labels', which is for classification" in err


def test_a_page_never_replaces_the_data(tmp_path, command):
    data = write_csv(tmp_path / "tickets.csv", ticket_rows(30))
    before = data.read_bytes()
    code, _, err = command("check", data, "--html", data)
    assert code == 2 and "A page cannot be written as '.csv'" in err and data.read_bytes() == before
    code, _, err = command("check", data, "--html", tmp_path / "none/page.html")
    assert code == 2 and "there is no folder" in err and not (tmp_path / "none").exists()
    (tmp_path / "page.html").write_text("mine")
    code, _, err = command("check", tmp_path / "not-there.csv", "--html", tmp_path / "page.html")
    assert code == 2 and "exists already" in err, "said before anything is read"
    assert command("check", data, "--html", tmp_path / "page.html", "--force")[0] == 0
    assert "mine" not in (tmp_path / "page.html").read_text()
    assert "no effect" in command("check", data, "--force")[2]


def test_an_unusable_row_is_quoted_as_it_was(tmp_path, command):
    data = tmp_path / "chats.jsonl"
    turns = '[{"role": "user", "content": "a", "weigth": 0}, {"role": "assistant", "content": "b"}]'
    good = turns.replace("weigth", "weight")
    data.write_text("".join(f'{{"messages": {good}}}\n' for _ in range(12)) + f'{{"messages": {turns}}}\n' * 2)
    _, out, _ = command("check", data)
    said = " ".join(out.split())
    assert "'weigth'" in said and "(2 rows)" in said


def test_columns_that_are_not_used_are_said_where_people_look(tmp_path, command):
    rows = [{"text": f"{row['text']}", "score": f"{n}.5"} for n, row in enumerate(ticket_rows(60))]
    data = write_csv(tmp_path / "scores.csv", rows)
    hint = "Columns not used: score. Only texts are learnt; if one of those is the label: data.columns.label=score"
    assert hint in " ".join(command("check", data)[1].split())
    assert hint in " ".join(command("show-tokens", data)[2].split())
    code, _, err = command("tune", data, "--task", "regression")
    assert code == 2 and "Regression is not supported" in err and "generation" not in err
    code, out, _ = command("check", data, "data.columns.label=score")
    assert "regression is not supported" in " ".join(out.split())


def test_several_labels_come_out_of_a_csv(tmp_path, command):
    rows = [
        {"text": row["text"], "label": json.dumps([row["queue"], "all"][: 1 + n % 2])}
        for n, row in enumerate(ticket_rows(60))
    ]
    data = write_csv(tmp_path / "several.csv", rows)
    assert "several labels a row" in " ".join(command("check", data)[1].split())
    read = run.prepare(recipes.make({"data": str(data)}))
    assert {target for row in read.splits.train for target in row.target} == {"all", "delivery", "login", "refund"}
    rows[3]["label"] = "refund"
    write_csv(data, rows)
    assert "the label is text where the rows before have a list of labels" in " ".join(
        command("check", data)[1].split()
    )
    joined = [{**row, "label": ";".join(json.loads(row["label"]))} for row in rows if row["label"] != "refund"]
    _, out, _ = command("check", write_csv(tmp_path / "joined.csv", joined))
    assert "several in one, joined by ';'" in " ".join(out.split())


def test_fix_cleans_every_row_of_data_that_is_too_large_to_look_at_all(command, tmp_path, models, monkeypatch):
    rows = ticket_rows(60)
    rows[41]["text"] += " <br> more"  # none of the rows that a sample of six has
    rows[42]["queue"] = rows[42]["queue"].upper()
    data = write_jsonl(tmp_path / "rows.jsonl", [*rows, *rows])
    monkeypatch.setattr(examine, "MOST_ROWS", 6)
    _, out, _ = command("check", data, "--model", models("llama"), "--fix", "--json")
    cleaned = [json.loads(line) for line in (tmp_path / "rows.cleaned.jsonl").read_text().splitlines()]
    assert len(cleaned) == 60 and json.loads(out)["fixed"]["left_out"] == 60
    assert not any("<br>" in row["text"] for row in cleaned)
    assert {row["queue"] for row in cleaned} == {row["queue"] for row in ticket_rows(60)}
    assert not any("looked at" in note for note in json.loads(out)["notes"])


def test_sizes_are_those_of_all_rows_where_some_are_looked_at(tmp_path, models, monkeypatch):
    data = write_jsonl(tmp_path / "rows.jsonl", ticket_rows(400))
    recipe = recipes.from_source(str(data), {"model": {"name": models("llama"), **SMALL}, "train": {"batch_size": 4}})
    told = {}
    for most in (1000, 80):
        monkeypatch.setattr(examine, "MOST_ROWS", most)
        found = examine.examine(recipe)[0]
        told[most] = {f.check: f for f in found.findings if f.check in ("test_size", "label_balance", "lengths")}
        assert found.rows == {"train": 280, "validation": 40, "test": 80} and found.looked == min(most, 400)
        said = plainly.text(found, width=200)
        assert "400 rows (280 train, 40 validation, 80 test" in said and ("80 of them looked at" in said) == (
            most == 80
        )
    for name in ("test_size", "label_balance"):
        assert told[80][name].what == told[1000][name].what
    assert told[80]["lengths"].detail["steps"] == told[1000]["lengths"].detail["steps"]
    prepared = run.prepare(recipe)
    findings, _, note = examine.before_training(prepared.recipe, prepared.splits, "classification", Watcher())
    assert note and next(f for f in findings if f.check == "test_size").what == told[1000]["test_size"].what
