"""The corners of single formats."""

import io

import pytest

from finesmith import registry
from finesmith.data.rows import Bad
from finesmith.errors import DataError


def rows_of(name, content):
    content = content.encode() if isinstance(content, str) else content
    return list(registry.resolve("formats", name).rows(io.BytesIO(content), f"x.{name}"))


def reasons(name, content):
    return [(line, row.reason) for line, row in rows_of(name, content) if isinstance(row, Bad)]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ('{"a": NaN}', "NaN is not a JSON value"),
        ('{"a": -Infinity}', "-Infinity is not a JSON value"),
        ('{"a": 1, "b": {"c": 1, "c": 2}}', "the key 'c' stands twice in one object"),
        ("[1]", "holds a list where an object was expected"),
        ('"a"', "holds text where an object was expected"),
        (r'{"a": "\ud83d"}', "holds half a character (\\ud83d without its pair)"),
        ('{"a": "x}', "not valid JSON: Unterminated string starting at (column 7)"),
        ("[" * 100_000, "nested too deeply"),
    ],
)
def test_json_faults_are_said(line, reason):
    assert reasons("jsonl", f'{{"a": 1}}\n{line}\n{{"a": 2}}\n') == [(2, reason)]
    in_list = f'[{{"a": 1}},\n{line},\n{{"a": 2}}]'
    if "not valid" not in reason and "nested" not in reason:
        assert reasons("json", in_list) == [(2, reason)]


def test_whole_pairs_of_surrogates_are_characters():
    assert rows_of("jsonl", r'{"a": "\ud83d\ude00"}') == [(1, {"a": "😀"})]


def test_json_lines_that_are_a_list():
    with pytest.raises(DataError, match=r"x.jsonl holds one JSON list, not one object a line"):
        rows_of("jsonl", '[{"a": 1}]')


def test_json_list_under_one_key():
    content = '{"version": 1,\n "data": [\n {"a": 1},\n {"a": 2}],\n "more": {"x": []}}'
    assert rows_of("json", content) == [(3, {"a": 1}), (4, {"a": 2})]


def test_json_list_under_one_key_with_a_broken_record():
    content = '{"data": [\n {"a": 1},\n {"a" 2},\n {"a": 3}]}'
    got = rows_of("json", content)
    assert [line for line, _ in got] == [2, 3, 4]
    assert got[1][1].reason == "not valid JSON: Expecting ':' delimiter (line 3, column 7)"


def test_json_lines_under_the_name_json():
    assert rows_of("json", '{"a": 1}\n{"a": 2}\n') == [(1, {"a": 1}), (2, {"a": 2})]


@pytest.mark.parametrize("content", ['{"a": {"0": 1}}', '{"a": [1], "b": [2]}'])
def test_json_of_columns_is_an_error_with_a_way_out(content):
    with pytest.raises(DataError, match=r"holds an object with .*list") as error:
        rows_of("json", content)
    assert 'orient="records"' in error.value.hint


@pytest.mark.parametrize("content", ['[{"a": 1}', '[{"a": 1},', '[{"a": 1}, {"a": '])
def test_json_cut_short_is_no_silent_end(content):
    got = rows_of("json", content)
    assert got[0] == (1, {"a": 1})
    assert len(got) == 2 and isinstance(got[1][1], Bad)


def test_csv_with_semicolons_and_quoted_line_ends():
    got = rows_of("csv", 'text;label\n"a\n\nb";x\n\nc, d;y\n')
    assert got == [(2, {"text": "a\n\nb", "label": "x"}), (6, {"text": "c, d", "label": "y"})]


def test_csv_ragged_rows_have_their_counts():
    assert reasons("csv", "a,b\n1\n1,2\n1,2,3\n") == [
        (2, "has 1 field where the header has 2"),
        (4, "has 3 fields where the header has 2"),
    ]


def test_csv_quote_that_is_never_closed():
    assert reasons("csv", 'a,b\n1,2\n3,"4\n5,6\n') == [
        (3, "a quote that opens here is never closed (it takes in 2 lines, to the end of the file)")
    ]


def test_csv_goes_on_after_a_bad_quote():
    got = rows_of("csv", 'a,b\n"x"y,2\n5,6\n')
    assert isinstance(got[0][1], Bad) and got[1] == (3, {"a": "5", "b": "6"})


def test_csv_long_field():
    assert rows_of("csv", "a,b\n" + "x" * 200_000 + ",1\n")[0][1]["b"] == "1"


def test_csv_header():
    assert rows_of("csv", ",text \n0,hi\n") == [(2, {"column 1": "0", "text": "hi"})]
    with pytest.raises(DataError, match=r"x.csv:1: the header names a column twice: text"):
        rows_of("csv", "text,text\n1,2\n")


@pytest.mark.parametrize("name", ["csv", "jsonl", "json"])
def test_one_byte_that_is_not_utf8_is_one_bad_row(name):
    content = {
        "csv": b"text,label\ngood,a\ncaf\xe9,b\nfine,a\n",
        "jsonl": b'{"text": "good"}\n\n{"text": "caf\xe9"}\n{"text": "fine"}\n',
        "json": b'[{"text": "good"},\n\n{"text": "caf\xe9"},\n{"text": "fine"}]',
    }[name]
    offset = content.index(b"\xe9")
    assert reasons(name, content) == [(3, f"byte 0xe9 at offset {offset} is not UTF-8")]
    assert len(rows_of(name, content)) == 3


def test_a_file_that_is_latin_throughout():
    with pytest.raises(
        DataError, match=r"x.csv is not UTF-8; it looks like WINDOWS-1252 \(line 21: byte 0xe9"
    ) as error:
        rows_of("csv", b"text,label\n" + b"caf\xe9,b\n" * 50)
    assert error.value.hint == (
        "Save it again as UTF-8, for example: iconv -f WINDOWS-1252 -t UTF-8 'x.csv' > utf8-copy"
    )


def test_other_files_under_a_text_name():
    with pytest.raises(DataError, match=r"x.csv is a ZIP archive or an Excel workbook, which its name does not say"):
        rows_of("csv", b"PK\x03\x04....")


def test_parquet_that_is_none():
    with pytest.raises(DataError, match=r"x.parquet cannot be read as Parquet \(after record 0\)"):
        rows_of("parquet", b"no parquet")
