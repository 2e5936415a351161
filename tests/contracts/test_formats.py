"""What any plug-in in data/formats promises: rows come back as written, broken ones are named by their line."""

import gzip
import io
import json

import pyarrow as pa
import pytest
import zstandard
from pyarrow import parquet

from finesmith import registry
from finesmith.data.read import read
from finesmith.data.rows import Bad
from finesmith.errors import DataError

ROWS = [
    {"text": f'say "{word}",\nplease; é\t{i}', "label": "ab"[i % 2]} for i, word in enumerate(["one", "two", "three"])
]
FORMATS = registry.available("formats")


def separated(rows, mark):
    def cell(value):
        return '"' + value.replace('"', '""') + '"'

    table = [list(rows[0]), *(list(row.values()) for row in rows)]
    return "".join(mark.join(map(cell, line)) + "\r\n" for line in table).encode()


def as_parquet(rows):
    sink = io.BytesIO()
    parquet.write_table(pa.Table.from_pylist(rows), sink)
    return sink.getvalue()


WRITE = {
    "csv": lambda rows: separated(rows, ","),
    "tsv": lambda rows: separated(rows, "\t"),
    "json": lambda rows: json.dumps(rows, indent=1, ensure_ascii=False).encode(),
    "jsonl": lambda rows: "".join(json.dumps(row) + "\n" for row in rows).encode(),
    "parquet": as_parquet,
    "txt": lambda rows: rows[0]["text"].encode(),
}
BROKEN = {  # bytes, and the line of the one broken row
    "csv": (b'text,label\n"two\nlines",a\nb,c,d\ne,f\n', 4),
    "tsv": (b"text\tlabel\na\tb\nonly one\nc\td\n", 3),
    "json": (b'[\n{"text": "a"},\n{"text": "b" "label": 1},\n{"text": "c"}\n]', 3),
    "jsonl": (b'{"text": "a"}\n\n{"text": }\n{"text": "c"}\n', 3),
    "txt": (b" \n", 1),
}
COLUMNS = {"parquet"}
"""Formats without lines, in which no row can be broken by itself."""


def test_every_format_has_a_broken_row_here_or_has_no_lines():
    assert set(FORMATS) == BROKEN.keys() | COLUMNS and WRITE.keys() == set(FORMATS)


def rows_of(name, content):
    return list(registry.resolve("formats", name).rows(io.BytesIO(content), f"x.{name}"))


def expected(name):
    return [{"text": ROWS[0]["text"]}] if name == "txt" else ROWS


@pytest.mark.parametrize("name", FORMATS)
def test_round_trip(name):
    got = rows_of(name, WRITE[name](ROWS))
    assert [row for _, row in got] == expected(name)
    assert [line for line, _ in got] == sorted(line for line, _ in got)
    assert got[0][0] >= 1


@pytest.mark.parametrize("name", [name for name in FORMATS if name != "parquet"])
def test_byte_order_mark_is_no_text(name):
    assert [row for _, row in rows_of(name, b"\xef\xbb\xbf" + WRITE[name](ROWS))] == expected(name)


@pytest.mark.parametrize("name", BROKEN)
def test_broken_row_is_named_by_its_line_and_reading_goes_on(name):
    content, line = BROKEN[name]
    got = rows_of(name, content)
    assert [place for place, row in got if isinstance(row, Bad)] == [line]
    assert name == "txt" or not isinstance(got[-1][1], Bad)


@pytest.mark.parametrize("name", [name for name in FORMATS if name != "parquet"])
def test_utf16_is_an_error_with_a_way_out(name):
    with pytest.raises(DataError, match=r"is not UTF-8; it looks like UTF-16 \(line 1: byte 0xff at offset 0") as error:
        rows_of(name, "text,label\n".encode("utf-16"))
    assert "iconv -f UTF-16 -t UTF-8" in str(error.value)


@pytest.mark.parametrize("ending", ["", ".gz", ".zst"])
@pytest.mark.parametrize("name", FORMATS)
def test_compressed_and_plain_are_read_alike(name, ending, tmp_path):
    pack = {"": bytes, ".gz": gzip.compress, ".zst": zstandard.compress}[ending]
    path = tmp_path / f"x{registry.resolve('formats', name).suffixes[0]}{ending}"
    path.write_bytes(pack(WRITE[name](ROWS)))
    data = read(path)
    assert [example.input for example in data.parts["all"]] == [row["text"] for row in expected(name)]
    assert data.parts["all"].ids()[0].startswith("x:")


@pytest.mark.parametrize("name", FORMATS)
def test_the_suffixes_belong_to_one_format(name):
    others = [registry.resolve("formats", other).suffixes for other in FORMATS if other != name]
    for suffix in registry.resolve("formats", name).suffixes:
        assert suffix.startswith(".") and suffix.islower() and not any(suffix in other for other in others)


@pytest.mark.parametrize("name", FORMATS)
def test_summary_says_what_it_is(name):
    assert registry.summary("formats", name).endswith(".")
