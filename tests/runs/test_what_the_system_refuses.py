"""Odd files, folders and values at the command line: one line of error, exit code 2, nothing deleted."""

import io
import json
import os
from types import SimpleNamespace

import numpy as np
import pytest

from finesmith.cli import _outputs
from finesmith.data import stdin
from finesmith.data.asked import as_inputs
from finesmith.errors import DataError, RunError
from finesmith.metrics.accuracy import PLUGIN as ACCURACY
from finesmith.report import names, plots
from tests.conftest import ticket_rows, write_csv
from tests.runs.test_whole_runs import command


def test_force_writes_over_a_file_and_never_a_folder(tmp_path):
    folder = tmp_path / "answers.csv"
    folder.mkdir()
    (folder / "part-0").write_text("kept")
    with pytest.raises(RunError, match="is a folder"):
        _outputs.free(str(folder), [".csv"], "Answers", force=True)
    code, _, err = command("check", write_csv(tmp_path / "rows.csv", ticket_rows(40)), "--html", folder, "--force")
    assert code == 2 and (folder / "part-0").read_text() == "kept", err


def test_what_the_system_refuses_is_said_in_one_line(tmp_path, powerless):
    code, out, err = command("check", tmp_path / ("long" * 80 + ".csv"), "--json")
    assert code == 2 and "Traceback" not in err
    assert "File name too long" in json.loads(out)["error"]
    place, somebody = powerless
    secret = write_csv(place / "secret.csv", ticket_rows(40))
    assert command("check", secret)[0] == 0
    os.chmod(secret, 0)
    with somebody():
        code, _, err = command("check", secret)
    assert code == 2 and f"{secret}" in err and "Permission denied" in err and "Traceback" not in err


@pytest.mark.parametrize(
    ("option", "value"),
    [("--minutes", "-5"), ("--minutes", "nan"), ("--risk", "2"), ("--retention-margin", "-1"), ("--minutes", "inf")],
)
def test_a_value_that_cannot_be_is_refused(option, value, tmp_path):
    code, _, err = command("compare", tmp_path, option, value)
    assert code == 2 and f"{option} must be" in err and value in err


def test_what_would_stop_tune_stops_check_too(tmp_path):
    data = write_csv(tmp_path / "rows.csv", ticket_rows(40))
    code, out, err = command("check", data, "data.test=null")
    assert code == 2 and "data.test is null" in out + err


def test_one_unusable_row_is_no_absurd_number(tmp_path):
    data = write_csv(tmp_path / "rows.csv", ticket_rows(40))
    with data.open("a") as file:
        file.write("only text,\n")
    code, out, err = command("check", data)
    assert code == 2 and "9,223" not in out + err


@pytest.mark.parametrize("label", ["a $\\bad{$ b", "$var_$id", "cost $5 to $10"])
def test_labels_with_dollar_signs_are_drawn_as_they_are(label):
    values = np.eye(2).tolist()
    drawn = plots.svg(
        {"kind": "matrix", "title": "t", "x": "a", "y": "b", "labels": [label, "other"], "values": values}
    )
    assert label.split()[0].replace("&", "&amp;") in drawn


def test_rounding_never_says_all_or_nothing_of_what_is_neither():
    assert names.phrase(ACCURACY, 0.9964) == "right in 99.6 % of the test rows"
    assert names.phrase(ACCURACY, 0.004) == "right in 0.4 % of the test rows"
    assert names.phrase(ACCURACY, 1.0) == "right in 100 % of the test rows" and "74 %" in names.phrase(ACCURACY, 0.741)
    assert names.apart(ACCURACY, 0.003) == "0.3 points better" and names.apart(ACCURACY, 0.12) == "12 points better"


def test_a_reason_reads_well():
    assert names.reason("it is part of --effort standard") == "it is only made with --effort standard or more"


def typed(text):
    return list(stdin.decoded(SimpleNamespace(buffer=io.BytesIO(text))))


def test_stdin_is_utf_8_with_or_without_a_mark():
    assert typed("\ufeffcaf\xe9\nb\n".encode()) == ["caf\xe9\n", "b\n"]
    with pytest.raises(DataError, match="Line 2 of stdin is not UTF-8"):
        typed(b"a\ncaf\xe9\n")


@pytest.mark.parametrize("item", ["a \ud800", [{"role": "user", "content": "a \ud800"}]], ids=["text", "messages"])
def test_half_a_character_is_no_input(item):
    with pytest.raises(DataError, match=r"Input 2 holds half a character \(\\ud800 without its pair\)"):
        as_inputs(["whole", item])
    with pytest.raises(DataError, match="Line 1 of stdin holds half a character"):
        list(stdin.decoded(io.StringIO("a \ud800")))
