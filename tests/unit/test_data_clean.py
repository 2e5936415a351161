"""The cleaned copy of data: no row is lost on the way, it reads back as it was, and ids, groups and labels stay."""

import io
import json

import pytest

from finesmith import registry
from finesmith.checks import encoding, markup, private_data
from finesmith.data import hub, tables
from finesmith.data.clean import Changes, clean
from finesmith.data.read import read
from tests.conftest import write_csv, write_jsonl

CARDS = ["4111 1111 1111 1111", "5555555555554444", "3782-822463-10005", "6011111111111117"]
ALL = {"encoding": encoding.repaired, "markup": markup.stripped, "private_data": private_data.certain}


def labelled(num, prefix):
    return [{"text": f"{prefix} number {n}", "label": "ab"[n % 2]} for n in range(num)]


def counts(path):
    return {part: len(rows) for part, rows in read(path).parts.items()}


def test_files_of_one_stem_do_not_overwrite_one_another(tmp_path):
    import pyarrow as pa
    from pyarrow import parquet

    data = tmp_path / "data"
    (data / "sub").mkdir(parents=True)
    write_jsonl(data / "my_train.jsonl", labelled(5, "lines"))
    (data / "my_train.json").write_text(json.dumps(labelled(7, "list")))
    (data / "my_train.json.json").write_text(json.dumps(labelled(3, "twice")))
    parquet.write_table(pa.Table.from_pylist(labelled(9, "table")), data / "my_train.parquet")
    (data / "sub/my_test.json").write_text(json.dumps(labelled(4, "test")))
    parquet.write_table(pa.Table.from_pylist(labelled(2, "tested")), data / "sub/my_test.parquet")
    made = clean(str(data), Changes(), columns={"text": "text", "label": "label"})
    assert sorted(path.relative_to(made.copy).as_posix() for path in made.copy.rglob("*.*")) == [
        "my_train.json.json.jsonl",
        "my_train.json.jsonl",
        "my_train.jsonl",
        "my_train.parquet.jsonl",
        "sub/my_test.json.jsonl",
        "sub/my_test.parquet.jsonl",
    ]
    assert counts(made.copy) == counts(data) == {"train": 24, "test": 6}
    assert [row.input for row in read(made.copy).parts["train"]].count("list number 6") == 1


def test_a_name_that_is_taken_gets_its_ending_once_more(tmp_path):
    data = tmp_path / "data"
    data.mkdir()
    for name in ("train.jsonl", "train.json.jsonl"):
        write_jsonl(data / name, labelled(3, name))
    (data / "train.json").write_text(json.dumps(labelled(4, "list")))
    made = clean(str(data), Changes(), columns={"text": "text", "label": "label"})
    assert sorted(path.name for path in made.copy.iterdir()) == [
        "train.json.json.jsonl",
        "train.json.jsonl",
        "train.jsonl",
    ]
    assert counts(made.copy) == {"train": 10}


def test_two_splits_of_a_hub_that_are_one_part_are_both_kept(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    splits = {"train": labelled(5, "a"), "dev": labelled(3, "b"), "validation": labelled(4, "c")}
    monkeypatch.setattr(hub, "_load", lambda *_: splits)
    made = clean("owner/name", Changes(), columns={"text": "text", "label": "label"})
    assert counts(made.copy) == {"train": 5, "validation": 7}


ODD = ["a\rb", "a\r\nb", "\n", "\r", 'say "x"', ' "', "a,b;c\td", "", " x ", "it's"]


@pytest.mark.parametrize("ending", ["csv", "tsv"])
def test_a_table_reads_back_as_it_was(tmp_path, ending):
    columns = ["text", "label", "score a;b;c;d", "a, b"]
    rows = [[cell, other, cell, "x"] for cell in ODD for other in ODD]
    stream = io.StringIO()
    tables.write(stream, columns, rows, separator={"csv": ",", "tsv": "\t"}[ending])
    table = registry.resolve("formats", ending)
    got = [row for _, row in table.rows(io.BytesIO(stream.getvalue().encode()), "x")]
    assert got == [dict(zip(columns, row, strict=True)) for row in rows]
    path = tmp_path / f"x.{ending}"
    path.write_text(stream.getvalue(), newline="")
    made = clean(str(path), Changes(), columns={"text": "text", "label": "label"})
    with made.copy.open("rb") as file:
        assert [row for _, row in table.rows(file, "x")] == got


def test_ids_groups_and_labels_stay_as_they_are(tmp_path):
    rows = [
        {"id": card, "group": card, "text": f"pay <b>with</b> {card} cafÃ©", "label": f"<b>{card}</b> cafÃ©"}
        for card in CARDS
    ]
    columns = {"id": "id", "group": "group", "text": "text", "label": "label"}
    made = clean(str(write_csv(tmp_path / "x.csv", rows)), Changes(text=ALL, in_labels={"encoding"}), columns=columns)
    got = read(made.copy).parts["all"]
    assert [(row.id, row.group) for row in got] == [(card, card) for card in CARDS]
    assert {row.input for row in got} == {"pay with [card number] café"}
    assert [row.target for row in got] == [f"<b>{card}</b> café" for card in CARDS]


def test_a_group_that_only_later_rows_have_stays_too(tmp_path):
    rows = [
        {"text": f"one {CARDS[0]}", "label": "a"},
        {"text": "two", "label": "b", "group_id": CARDS[1], "id": CARDS[2]},
    ]
    columns = {"text": "text", "label": "label"}
    made = clean(str(write_jsonl(tmp_path / "x.jsonl", rows)), Changes(text=ALL), columns=columns)
    got = [json.loads(line) for line in made.copy.read_text().splitlines()]
    assert got == [{"text": "one [card number]", "label": "a"}, rows[1]]
    named = {**columns, "id": "text", "group": "label"}
    (tmp_path / "x.cleaned.jsonl").unlink(), (tmp_path / "x.cleaned.log.jsonl").unlink()
    made = clean(str(tmp_path / "x.jsonl"), Changes(text=ALL), columns=named)
    assert json.loads(made.copy.read_text().splitlines()[1])["group_id"] == "[card number]", (
        "another column is the group"
    )


def test_labels_are_renamed_by_the_names_that_stand_in_the_data(tmp_path):
    rows = [{"text": f"row {n}", "label": label} for n, label in enumerate(["cafÃ©", "CAFÃ©", "cafÃ©"])]
    changes = Changes(labels={"CAFÃ©": "cafÃ©"}, text=ALL, in_labels={"encoding"})
    made = clean(str(write_csv(tmp_path / "x.csv", rows)), changes, columns={"text": "text", "label": "label"})
    assert {row.target for row in read(made.copy).parts["all"]} == {"café"}
