"""From a path to examples: parts, ids, notes, and every error a user can meet on the way."""

import gc
import gzip
import hashlib
import json
import os
import subprocess
import sys
import tracemalloc
from pathlib import PurePath
from types import MappingProxyType

import pytest
import zstandard

from finesmith import mend, run
from finesmith.data import hub
from finesmith.data.read import read
from finesmith.data.sources import looks_like_hub_id, part_of
from finesmith.data.split import split
from finesmith.data.store import Writer
from finesmith.errors import DataError, RecipeError
from finesmith.recipe import make
from finesmith.types import Conversation, Example, Message, Origin
from tests.conftest import write_csv


def jsonl(path, rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def labelled(num, prefix="row"):
    return [{"text": f"{prefix} number {i}", "label": "ab"[i % 2]} for i in range(num)]


def test_a_file(tmp_path):
    path = jsonl(tmp_path / "tickets.jsonl", labelled(3))
    data = read(path)
    assert list(data.parts) == ["all"] and data.shape == "labels"
    assert data.parts["all"][1] == Example("tickets:2", "row number 1", "b", Origin(str(path), 2))
    assert data.notes == (
        "Read 3 rows from 1 file.",
        "Shape labels: text is the column 'text', label is the column 'label'.",
    )
    assert data.sources == {str(path): hashlib.sha256(path.read_bytes()).hexdigest()}
    assert data.rejected == ()


def test_missing_file(tmp_path):
    jsonl(tmp_path / "tickets.jsonl", labelled(3))
    with pytest.raises(DataError) as error:
        read(tmp_path / "tikets.jsonl")
    assert str(error.value) == (
        f"There is no file or folder '{tmp_path / 'tikets.jsonl'}'. Did you mean 'tickets.jsonl'? Known: tickets.jsonl."
    )
    with pytest.raises(DataError, match=r"\(no folder '.*/sup'\). Did you mean 'support'\?"):
        (tmp_path / "support").mkdir()
        read(tmp_path / "sup" / "x.csv")


@pytest.mark.parametrize(
    ("content", "reason"), [("", "is empty"), ("text,label\n", "holds no rows"), ("\n", "holds no rows")]
)
def test_empty_file(tmp_path, content, reason):
    (tmp_path / "x.csv").write_text(content)
    with pytest.raises(DataError, match=f"x.csv {reason}."):
        read(tmp_path / "x.csv")


def test_unknown_ending_and_unknown_format(tmp_path):
    (tmp_path / "x.jsn").write_text("[]")
    with pytest.raises(
        DataError, match=r"Cannot tell the format of .*x.jsn from its ending '.jsn'. Did you mean '.json'\?"
    ):
        read(tmp_path / "x.jsn")
    with pytest.raises(RecipeError, match=r"Unknown format 'jsn'. Did you mean 'json'\?"):
        read(tmp_path / "x.jsn", format="jsn")
    (tmp_path / "x.xlsx").write_bytes(b"PK")
    with pytest.raises(DataError, match=r"Save the sheet as CSV"):
        read(tmp_path / "x.xlsx")


def test_format_can_be_given(tmp_path):
    path = jsonl(tmp_path / "x.dat", labelled(2))
    assert len(read(path, format="jsonl").parts["all"]) == 2
    assert len(read(jsonl(tmp_path / "y.jsonl", labelled(2)), format="auto").parts["all"]) == 2


@pytest.mark.parametrize("ending", [".png", ".docx", ".exe"])
def test_a_file_that_is_no_data_is_told_what_is_read(tmp_path, ending):
    (tmp_path / f"x{ending}").write_bytes(b"?")
    with pytest.raises(DataError) as caught:
        read(tmp_path / f"x{ending}")
    assert "Did you mean" not in caught.value.message
    assert caught.value.message.endswith(
        "Read are: .csv, .json, .jsonl, .jsonlines, .ndjson, .parquet, .pq, .tab, .tsv, .txt; "
        "each also with .gz or .zst behind it."
    )


@pytest.mark.parametrize(
    ("ending", "pack"), [(".gz", gzip.compress), (".zst", zstandard.ZstdCompressor(write_checksum=True).compress)]
)
def test_truncated_and_corrupt_archives(tmp_path, ending, pack):
    plain = "".join(
        json.dumps({"text": hashlib.sha256(bytes([i % 256, i // 256])).hexdigest(), "label": str(i % 2)}) + "\n"
        for i in range(9000)
    )
    packed = pack(plain.encode())
    path = tmp_path / f"x.jsonl{ending}"
    damaged = [packed[: len(packed) // 2], packed[:50] + b"\0" * 60 + packed[110:], b"not packed"]
    for content in damaged:
        path.write_bytes(content)
        with pytest.raises(DataError, match=r"x.jsonl\.(gz|zst) is damaged or incomplete \((gzip|zstd)\): "):
            read(path)


def test_zst_of_several_frames(tmp_path):
    lines = [json.dumps(row).encode() + b"\n" for row in labelled(4)]
    (tmp_path / "x.jsonl.zst").write_bytes(b"".join(map(zstandard.compress, lines)))
    assert len(read(tmp_path / "x.jsonl.zst").parts["all"]) == 4


def test_broken_json_on_line_7(tmp_path):
    path = jsonl(tmp_path / "x.jsonl", labelled(10))
    lines = path.read_text().splitlines()
    lines[6] = lines[6].replace('"label"', "label")
    path.write_text("\n".join(lines))
    with pytest.raises(DataError) as error:
        read(path)
    assert error.value.message == f"{path}: 1 of 10 rows cannot be used."
    assert error.value.problems == (
        f"{path}:7: not valid JSON: Expecting property name enclosed in double quotes (column 26)",
    )
    assert "--max-bad-rows 1 (setting data.max_bad_rows)" in error.value.hint
    data = read(path, max_bad_rows=1)
    assert len(data.parts["all"]) == 9
    assert [(str(bad.origin), bad.text) for bad in data.rejected] == [(f"{path}:7", lines[6])]
    assert data.notes[-1] == "Left out: 1 unusable row (accepted: 1)."


def test_all_problems_are_listed_at_once(tmp_path):
    path = tmp_path / "x.csv"
    path.write_text("body,queue\ngood,a\n,b\nno label,\ntoo,many,fields\nfine,b\ngood,a\n")
    with pytest.raises(DataError) as error:
        read(path, max_bad_rows=2)
    assert error.value.message == f"{path}: 3 of 6 rows cannot be used, more than the 2 accepted."
    assert error.value.problems == (
        f"{path}:3: the text is empty (column 'body')",
        f"{path}:4: the label is empty (column 'queue')",
        f"{path}:5: has 3 fields where the header has 2",
    )


def test_mixed_shapes(tmp_path):
    path = jsonl(tmp_path / "x.jsonl", [*labelled(4), {"prompt": "a", "completion": "b"}])
    with pytest.raises(DataError) as error:
        read(path)
    assert error.value.problems == (
        f"{path}:5: mixed shapes: has prompt/completion where the rows before have text/label",
    )


def test_no_usable_row(tmp_path):
    path = tmp_path / "x.jsonl"
    path.write_text("nonsense\n")
    with pytest.raises(DataError, match=r"no usable row; all 1 are unusable"):
        read(path, max_bad_rows=9)


def test_unknown_columns_name_the_file(tmp_path):
    path = jsonl(tmp_path / "x.jsonl", [{"foo": 1, "bar": 2, "baz": 3}])
    with pytest.raises(DataError, match=r"x.jsonl: cannot tell what its columns mean. Columns found: foo, bar, baz."):
        read(path)


def test_own_ids(tmp_path):
    rows = [{"id": 7, **labelled(1)[0]}, {"id": "b", **labelled(1)[0]}, {"id": None, **labelled(1)[0]}]
    assert read(jsonl(tmp_path / "x.jsonl", rows)).parts["all"].ids() == ["7", "b", "x:3"]
    path = jsonl(tmp_path / "y.jsonl", [*rows, rows[0], {**rows[0], "id": 1.5}])
    with pytest.raises(DataError) as error:
        read(path)
    assert error.value.problems[0].startswith(f"{path}:4: the id '7' stands already at {path}:1")
    assert error.value.problems[1] == f"{path}:5: the id must be text or a whole number, found a decimal number"
    data = read(path, columns={"group": "id"}, max_bad_rows=1)
    assert data.parts["all"].ids() == ["y:1", "y:2", "y:3", "y:4"]
    assert data.parts["all"].groups() == ["7", "b", None, "7"]


def test_own_ids_that_start_again_in_each_part(tmp_path):
    rows = [{"id": i, **row} for i, row in enumerate(labelled(2))]
    jsonl(tmp_path / "d/train.jsonl", rows)
    jsonl(tmp_path / "d/test.jsonl", rows)
    data = read(tmp_path / "d")
    assert data.parts["test"].ids() == ["test/0", "test/1"]
    assert "Ids that stand in more than one part: 2; the later ones are written as file/id." in data.notes


@pytest.mark.parametrize(
    ("path", "part"),
    [
        ("train.jsonl", "train"), ("Train-00001-of-00002.parquet", "train"), ("valid.csv.gz", "validation"),
        ("val.csv", "validation"), ("dev.tsv", "validation"), ("eval.json", "validation"), ("tickets_test.csv", "test"),
        ("tickets_test.json.jsonl", "test"),
        ("test/part-0.jsonl", "test"), ("data/train-0.parquet", "train"), ("tickets.csv", None), ("latest.csv", None),
        ("my-training-set.jsonl", "train"), ("my_validation_set.jsonl", "validation"), ("sft_test_final.csv", "test"),
        ("tickets_train_v2.csv", "train"), ("the-test-rows/part-0.jsonl", "test"), ("contest_entries.csv", None),
    ],
)  # fmt: skip
def test_part_names(path, part):
    assert part_of(PurePath(path)) == part


def test_a_folder_with_parts(tmp_path):
    jsonl(tmp_path / "train-00000-of-00002.jsonl", labelled(3, "a"))
    jsonl(tmp_path / "train-00001-of-00002.jsonl", labelled(3, "b"))
    jsonl(tmp_path / "dev.jsonl", labelled(2, "c"))
    (tmp_path / "test").mkdir()
    (tmp_path / "test/part.csv").write_text("text,label\nhello,a\n")
    (tmp_path / "README.md").write_text("about")
    data = read(tmp_path)
    assert {part: len(rows) for part, rows in data.parts.items()} == {"train": 6, "validation": 2, "test": 1}
    assert data.parts["train"].ids()[3] == "train-00001-of-00002:1"
    assert "Not read, being of another format: README.md." in data.notes
    assert len(data.sources) == 4


def test_parts_whose_word_stands_inside_the_name_are_not_read_as_one(tmp_path):
    jsonl(tmp_path / "tickets_train_v2.jsonl", labelled(3))
    jsonl(tmp_path / "tickets_test_v2.jsonl", labelled(2, "b"))
    assert {part: len(rows) for part, rows in read(tmp_path).parts.items()} == {"train": 3, "test": 2}


def test_a_folder_of_documents(tmp_path):
    for name in "abc":
        (tmp_path / f"{name}.txt").write_text(f"Document {name}.\nIt has two lines.")
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub/a.txt").write_text("The other a.")
    data = read(tmp_path)
    assert data.shape == "text"
    assert data.parts["all"].ids() == ["a.txt:1", "b:1", "c:1", "sub/a.txt:1"]
    assert data.parts["all"][0].input == "Document a.\nIt has two lines." and data.parts["all"][0].target is None
    (tmp_path / "d.txt").write_text("")
    with pytest.raises(DataError) as error:
        read(tmp_path)
    assert error.value.problems == (f"{tmp_path / 'd.txt'}:1: the document is empty",)


def test_folders_that_cannot_be_read(tmp_path):
    with pytest.raises(DataError, match=r"has no files of a known format"):
        read(tmp_path)
    jsonl(tmp_path / "test.jsonl", labelled(3))
    with pytest.raises(DataError, match=r"has no training file, only: test.jsonl"):
        read(tmp_path)
    jsonl(tmp_path / "more.jsonl", labelled(3))
    with pytest.raises(DataError, match=r"some files name a part .* and some do not: more.jsonl"):
        read(tmp_path)
    jsonl(tmp_path / "train_test.jsonl", labelled(3))
    with pytest.raises(DataError, match=r"The name 'train_test.jsonl' means two parts: test and train."):
        read(tmp_path)


def test_a_folder_of_several_formats(tmp_path):
    jsonl(tmp_path / "a.jsonl", labelled(3))
    (tmp_path / "b.csv").write_text("text,label\nhello,a\n")
    with pytest.raises(DataError, match=r"files of several formats: csv \(b.csv\), jsonl \(a.jsonl\)"):
        read(tmp_path)
    assert len(read(tmp_path, format="jsonl").parts["all"]) == 3


def test_a_part_without_a_usable_row(tmp_path):
    jsonl(tmp_path / "train.jsonl", labelled(3))
    jsonl(tmp_path / "test.jsonl", [{"text": "x", "label": None}])
    with pytest.raises(DataError, match=r"no usable row in the part test"):
        read(tmp_path, max_bad_rows=5)


class Label:
    names = ("neg", "pos")


PARTS = ("train", "validation", "test")


class Split(list):
    features = MappingProxyType({"label": Label, "text": None})


def test_hub_data_set():
    asked = []

    def load(name, config):
        asked.append((name, config))
        train = Split([{"text": "a", "label": 1}, {"text": "b", "label": -1}])
        return {"test": Split([{"text": "c", "label": 0}]), "train": train, "unsupervised": Split()}

    found, notes = hub.sources("owner/name:small", load=load)
    assert asked == [("owner/name", "small")]
    assert [(source.part, source.name) for source in found] == [
        ("train", "owner/name:small/train"),
        ("test", "owner/name:small/test"),
    ]
    assert list(found[0].rows()) == [(1, {"text": "a", "label": "pos"}), (2, {"text": "b", "label": None})]
    assert notes == ("Splits not read: unsupervised.",)
    assert len(found[0].digest()) == 64


class Labels:
    """A list of labels, as the library `datasets` describes it."""

    feature = Label


class SeveralSplit(list):
    features = MappingProxyType({"labels": Labels, "tags": [Label], "text": None, "more": {"x": None}})


def test_hub_data_set_with_several_labels_a_row():
    rows = [{"text": "a", "labels": [0, 1], "tags": [1]}, {"text": "b", "labels": [], "tags": [-1]}]
    hidden = [{"text": "c", "labels": [-1], "tags": []}, {"text": "d", "labels": None, "tags": []}]
    splits = {"train": SeveralSplit(rows), "test": SeveralSplit(hidden)}
    (train,), notes = hub.sources("owner/name", load=lambda *_: splits)
    assert [row for _, row in train.rows()] == [
        {"text": "a", "labels": ["neg", "pos"], "tags": ["pos"]},
        {"text": "b", "labels": [], "tags": []},
    ]
    assert notes == ("Splits not read, as none of their rows has a label: test.",)


def test_hub_classes_as_the_library_itself_has_them():
    datasets = pytest.importorskip("datasets")
    names = datasets.ClassLabel(names=["joy", "anger", "fear"])
    for several in (datasets.Sequence(names), [names]):
        features = datasets.Features({"text": datasets.Value("string"), "labels": several, "one": names})
        content = {"text": ["a", "b"], "labels": [[0, 2], []], "one": [1, 2]}
        table = datasets.Dataset.from_dict(content, features=features)
        (train,), _ = hub.sources("owner/name", load=lambda *_, table=table: {"train": table})
        assert [row["labels"] for _, row in train.rows()] == [["joy", "fear"], []]
        assert [row["one"] for _, row in train.rows()] == ["anger", "fear"]


@pytest.mark.parametrize(
    ("cells", "labels"),
    [
        (["['card', 'login']", '["card"]', "[]"], [("card", "login"), ("card",), ()]),
        (["['card' 'login']", "['it\\'s']", "[\"it's\", 'x']"], [("card", "login"), ("it's",), ("it's", "x")]),
        (["[1 2\n 3]", "[3, 1,]", "[4]"], [("1", "2", "3"), ("1", "3"), ("4",)]),
        (["[card, login]", "['a', None]", "[['a']]"], ["[card, login]", "['a', None]", "[['a']]"]),
        (["[" * 100_000, "['a'", "[007]"], ["[" * 100_000, "['a'", "[007]"]),
    ],
)
def test_lists_of_labels_in_a_table_as_pandas_and_numpy_write_them(tmp_path, cells, labels):
    path = write_csv(tmp_path / "x.csv", [{"text": f"row {n}", "label": cell} for n, cell in enumerate(cells)])
    assert [row.target for row in read(path).parts["all"]] == labels


def test_hub_ids_and_paths(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").mkdir()
    known = ["owner/name", "owner/name:config", "data/x", "data/x.csv", "owner/x.csv", "x", "a/b/c"]
    assert [looks_like_hub_id(name) for name in known] == [True, True, False, False, False, False, False]


def test_hub_out_of_reach(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "support").mkdir()
    error = hub.unreachable("suport/tickets", ConnectionError("Couldn't reach the hub"))
    assert error.message == (
        "There is no file or folder 'suport/tickets' (no folder 'suport'). Did you mean 'support'? Known: support. "
        "The hub data set 'suport/tickets' could not be read either: Couldn't reach the hub"
    )


def test_examples_behave_as_a_sequence(tmp_path):
    rows = read(jsonl(tmp_path / "x.jsonl", labelled(10))).parts["all"]
    assert len(rows) == 10 and rows[-1].id == "x:10"
    assert [example.id for example in rows[2:4]] == rows[2:4].ids() == ["x:3", "x:4"]
    assert rows.take([5, 1]).take([1]).ids() == ["x:2"]
    assert rows.take([]).ids() == [] and list(rows.take([])) == []
    with pytest.raises(IndexError):
        rows[10]


def test_every_kind_of_example_survives_the_store():
    conversation = Conversation((Message("user", "é 😀", 0.0),), ({"type": "function"},))
    kept = [
        Example("1", "text", "label", Origin("f", 1), "g"),
        Example("2", "text", ("a", "b"), Origin("f", 2)),
        Example("3", conversation, Message("assistant", "x", 0.5, {"tool_calls": [{"a": 1}]}), Origin("g", 3)),
        Example("4", "text", None, Origin("g", 4)),
    ]
    writer = Writer()
    for example in kept:
        writer.add(example)
    assert list(writer.close()) == kept


@pytest.mark.skipif(os.name != "posix", reason="elsewhere the file is removed when nobody holds the examples")
def test_what_does_not_fit_in_memory_goes_to_a_file_that_leaves_no_trace(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "spill"))
    (tmp_path / "spill").mkdir()
    path = jsonl(tmp_path / "x.jsonl", ({"text": f"{i} " + "word " * 100, "label": str(i % 3)} for i in range(8000)))
    tracemalloc.start()
    data = read(path, in_memory=100_000)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert path.stat().st_size > 4_000_000 and peak < 3_000_000
    assert list((tmp_path / "spill").iterdir()) == []
    view = data.parts["all"][10:20]
    assert data.parts["all"][7999].input.startswith("7999 word")
    assert sum(1 for _ in data.parts["all"]) == 8000
    del data
    gc.collect()
    assert view[0].id == "x:11"


def test_an_error_leaves_no_file_behind(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "spill"))
    (tmp_path / "spill").mkdir()
    path = jsonl(tmp_path / "x.jsonl", [*labelled(500), {"text": ""}])
    with pytest.raises(DataError):
        read(path, in_memory=1000)
    gc.collect()
    assert list((tmp_path / "spill").iterdir()) == []


def test_no_heavy_import():
    heavy = ["torch", "transformers", "datasets"]
    code = f"import sys, finesmith.data.split; print([name for name in {heavy} if name in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


@pytest.mark.parametrize("under", [None, "data"])
def test_a_json_list_on_one_line_has_an_id_for_every_row(tmp_path, under):
    path = tmp_path / "one.json"
    path.write_text(json.dumps({under: labelled(40)} if under else labelled(40)))
    data = read(path)
    assert data.parts["all"].ids() == [f"one:{number}" for number in range(1, 41)]
    assert data.parts["all"][2].origin == Origin(str(path), 3)


def test_a_json_file_whose_rest_is_lost_is_refused_whatever_is_accepted(tmp_path):
    path = tmp_path / "x.json"
    path.write_text(json.dumps(labelled(40)) + json.dumps(labelled(40)))
    with pytest.raises(DataError, match=r"x.json cannot be read to its end") as error:
        read(path, max_bad_rows=1000)
    assert error.value.problems == (f"{path}:41: text after the end of the list of records, which is not read",)


def test_a_csv_file_of_which_a_quote_takes_rows_in_is_refused_whatever_is_accepted(tmp_path):
    path = tmp_path / "x.csv"
    path.write_text('text,label\none,a\n"two,b\n' + "three,a\nfour,b\n" * 40)
    with pytest.raises(DataError, match=r"x.csv cannot be read to its end; how many rows are lost cannot be told"):
        read(path, max_bad_rows=1000)


def test_a_made_id_gives_way_to_an_own_one(tmp_path):
    rows = [{"id": "x:2", "text": "one", "label": "a"}, {"text": "two", "label": "b"}, {"text": "three", "label": "b"}]
    assert read(jsonl(tmp_path / "x.jsonl", rows)).parts["all"].ids() == ["x:2", "x:2#2", "x:3"]


def test_a_format_for_a_hub_id_has_no_effect():
    with pytest.raises(RecipeError, match=r"data.format=csv has no effect: 'owner/name' is a data set on the hub"):
        read("owner/name", format="csv")


def test_a_hub_part_without_any_label_is_left_out_with_a_note():
    def load(name, config):
        rows = [{"text": f"a {n}", "label": n % 2} for n in range(4)]
        return {part: Split([{**row, "label": -1} for row in rows] if part == "test" else rows) for part in PARTS}

    found, notes = hub.sources("owner/name", load=load)
    assert [source.part for source in found] == ["train", "validation"]
    assert notes == ("Splits not read, as none of their rows has a label: test.",)


def parts_on_the_hub(*names):
    found, notes = hub.sources("owner/name", load=lambda *_: {name: labelled(2) for name in names})
    return {source.stem: source.part for source in found}, notes


def test_splits_of_the_hub_are_known_by_any_word_of_their_name():
    parts, notes = parts_on_the_hub("test_sft", "train_sft")
    assert parts == {"train_sft": "train", "test_sft": "test"}
    assert notes == ("Splits by the words in their names: train_sft as train, test_sft as test.",)
    parts, notes = parts_on_the_hub("train_r1", "train_r2", "dev_r1", "unsupervised")
    assert parts == {"train_r1": "train", "train_r2": "train", "dev_r1": "validation"}
    assert notes[0] == "Splits not read: unsupervised."


def test_of_the_splits_of_the_hub_that_mean_one_part_the_plainest_is_read():
    parts, notes = parts_on_the_hub("train_sft", "train_gen", "train_prefs", "test_sft", "test_gen")
    assert parts == {"train_sft": "train", "test_sft": "test"}
    assert notes[0] == "Splits not read: train_gen, train_prefs, test_gen."
    assert parts_on_the_hub("train", "train_sft", "validation")[0] == {"train": "train", "validation": "validation"}


def nested(city, **arguments):
    call = {"type": "function", "function": {"name": "f", "arguments": {"city": city, **arguments}}}
    return {
        "messages": [{"role": "user", "content": city}, {"role": "assistant", "content": "", "tool_calls": [call]}],
        "tools": [{"name": "f", "parameters": {"properties": {key: {"type": "x"} for key in ("city", *arguments)}}}],
    }


def test_what_arrow_adds_to_tool_calls_is_taken_out(tmp_path):
    import pyarrow as pa
    from pyarrow import parquet

    rows = [nested("Paris"), nested("Bern", amount=3)]
    table = pa.Table.from_pylist(rows)
    assert table.to_pylist()[0] != rows[0], "Arrow does add keys"
    parquet.write_table(table, tmp_path / "x.parquet")
    jsonl(tmp_path / "x.jsonl", rows)
    of_parquet, of_jsonl = (read(tmp_path / f"x.{ending}").parts["all"] for ending in ("parquet", "jsonl"))
    assert [row.target for row in of_parquet] == [row.target for row in of_jsonl]
    assert [row.input for row in of_parquet] == [row.input for row in of_jsonl]
    (_, loaded), *_ = hub.sources("owner/name", load=lambda *_: {"train": table.to_pylist()})[0][0].rows()
    assert loaded == rows[0]
    null = nested("Paris", amount=None)
    assert read(jsonl(tmp_path / "y.jsonl", [null])).parts["all"][0].target.extra["tool_calls"][0]["function"][
        "arguments"
    ] == {"city": "Paris", "amount": None}


def test_a_folder_that_is_a_link_is_read_and_circles_end(tmp_path):
    jsonl(tmp_path / "elsewhere" / "train.jsonl", labelled(3))
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "link").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    (tmp_path / "elsewhere" / "back").symlink_to(tmp_path / "data", target_is_directory=True)
    assert len(read(tmp_path / "data").parts["train"]) == 3


def test_a_link_to_nowhere_and_a_folder_that_cannot_be_listed_are_refused(tmp_path, monkeypatch):
    jsonl(tmp_path / "data" / "train" / "a.jsonl", labelled(3))
    (tmp_path / "data" / "train" / "b.jsonl").symlink_to("nowhere.jsonl")
    with pytest.raises(DataError, match=r"holds what is no file, or a link that leads nowhere: train/b.jsonl"):
        read(tmp_path / "data")
    (tmp_path / "data" / "train" / "b.jsonl").rename(tmp_path / "data" / ".b.jsonl")
    assert len(read(tmp_path / "data").parts["train"]) == 3, "hidden names are nobody's data"

    def scandir(path):
        if str(path).endswith("train"):
            raise PermissionError(13, "Permission denied", str(path))
        return listed(path)

    listed = os.scandir
    monkeypatch.setattr(os, "scandir", scandir)  # root may list everything
    with pytest.raises(DataError, match=r"Cannot list the folder .*train: Permission denied"):
        read(tmp_path / "data")


def test_a_file_beside_its_compressed_copy_is_refused(tmp_path):
    path = jsonl(tmp_path / "data" / "a.jsonl", labelled(3))
    path.with_suffix(".jsonl.gz").write_bytes(gzip.compress(path.read_bytes()))
    with pytest.raises(DataError, match=r"holds a.jsonl and a.jsonl.gz, which differ only in compression"):
        read(tmp_path / "data")


def test_rows_that_are_cut_behind_what_is_learnt_are_counted(tmp_path):
    turns = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
    longer = [*turns, turns[0], {"role": "assistant", "content": "c", "weight": 0}]
    path = jsonl(tmp_path / "x.jsonl", [{"messages": turns}, {"messages": longer}, {"messages": json.dumps(longer)}])
    data = read(path)
    assert [row.target.content for row in data.parts["all"]] == ["b", "b", "b"]
    assert "Not learnt as they end: 2 rows, cut behind the last turn that is learnt." in data.notes
    assert not any("learnt" in note for note in read(jsonl(tmp_path / "y.jsonl", [{"messages": turns}])).notes)


def test_a_part_may_be_a_file_of_its_own(tmp_path):
    train, valid = jsonl(tmp_path / "a.jsonl", labelled(40)), jsonl(tmp_path / "b.jsonl", labelled(4, "b"))
    data = read(train, files={"validation": str(valid)})
    assert {part: len(rows) for part, rows in data.parts.items()} == {"train": 40, "validation": 4}
    assert data.parts["validation"].ids() == ["b:1", "b:2", "b:3", "b:4"]
    assert list(data.sources) == [str(train), str(valid)]
    jsonl(tmp_path / "other/a.jsonl", labelled(2, "c"))
    same = read(train, files={"test": str(tmp_path / "other/a.jsonl"), "validation": str(valid)})
    assert same.parts["test"].ids() == ["test/a:1", "test/a:2"]
    splits = split(data, test=0.25)
    assert (len(splits.train), len(splits.validation), len(splits.test)) == (30, 4, 10)


def test_the_other_part_is_cut_and_leaks_are_named(tmp_path):
    train = jsonl(tmp_path / "a.jsonl", labelled(40))
    valid = jsonl(tmp_path / "b.jsonl", [*labelled(2), *labelled(3, "new")])
    settings = {"data": {"path": str(train), "validation": str(valid)}}
    prepared = run.prepare(make(settings))
    assert (len(prepared.splits.validation), len(prepared.splits.test)) == (5, 8)
    assert any("validation rows have the same input as a train row" in note for note in prepared.notes)
    kept = prepared.recipe.data
    assert (kept.validation, kept.test) == (str(valid), 0.2), "the recipe of the run reads the same again"
    assert run.prepare(prepared.recipe).splits.hash == prepared.splits.hash


def test_rows_of_a_named_part_that_cannot_be_used_are_named(tmp_path):
    train = jsonl(tmp_path / "a.jsonl", labelled(40))
    valid = jsonl(tmp_path / "b.jsonl", [*labelled(2), {"text": "x"}, {"prompt": "x", "completion": "y"}])
    with pytest.raises(DataError) as error:
        read(train, files={"validation": str(valid)})
    assert [problem.partition(": ")[0] for problem in error.value.problems] == [f"{valid}:3", f"{valid}:4"]


def test_a_named_part_that_cannot_be_one(tmp_path):
    train, test = jsonl(tmp_path / "d/train.jsonl", labelled(40)), jsonl(tmp_path / "d/test.jsonl", labelled(4, "b"))
    with pytest.raises(
        RecipeError, match=r"data.test names '.*', but the data comes with its own test part: .*test.js"
    ):
        read(tmp_path / "d", files={"test": str(train)})
    with pytest.raises(RecipeError, match=r"data.validation is '.*', which is read as train rows already"):
        read(train, files={"validation": str(train)})
    with pytest.raises(RecipeError, match=r"data.test is '.*', which is read as validation rows already"):
        read(train, files={"validation": str(test), "test": str(test)})
    with pytest.raises(RecipeError, match=r"data.validation is '.*', a folder: it should be one file of rows"):
        read(train, files={"validation": str(tmp_path)})
    with pytest.raises(DataError, match=r"data.validation: There is no file .*Did you mean 'test.jsonl'") as error:
        read(train, files={"validation": str(tmp_path / "d/tests.jsonl")})
    assert "a number between 0 and 1" in error.value.hint


def test_a_copy_of_one_file_only_is_refused(tmp_path):
    with pytest.raises(RecipeError, match=r"--fix would write a cleaned copy of a.jsonl and none of data.test, 'b.js"):
        mend.fix(make({"data": {"path": "a.jsonl", "test": "b.jsonl"}}), None, None)
