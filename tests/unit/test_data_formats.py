"""The corners of single formats."""

import io
import json

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
        ('{"a": ' + "1" * 5000 + "}", "holds a whole number of more than 4,300 digits"),
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


def test_json_records_of_one_line_are_counted():
    assert rows_of("json", '[{"a": 1}, {"a": 2},\n{"a": 3}]') == [(1, {"a": 1}), (2, {"a": 2}), (3, {"a": 3})]
    assert rows_of("json", '\n[{"a": 1},\n\n{"a": 3}]') == [(2, {"a": 1}), (4, {"a": 3})]
    assert reasons("json", b'[{"a": "caf\xe9"}, {"a": "fine"}]') == [(1, "byte 0xe9 at offset 11 is not UTF-8")]


CHAT = {"messages": [{"role": "user", "content": "a }, { b"}, {"role": "assistant", "content": "c"}]}


@pytest.mark.parametrize("indent", [None, 1, 4])
@pytest.mark.parametrize("inside", [False, True])
def test_json_goes_on_behind_the_broken_record_and_not_inside_it(indent, inside):
    rows = [{**CHAT, "n": n} for n in range(30)]
    content = json.dumps({"version": 1, "data": rows, "more": {"x": []}} if inside else rows, indent=indent)
    broken = content.replace('"c"', "\x01", 1) if indent else content.replace('"c"', "c", 1)
    got = [row for _, row in rows_of("json", broken)]
    assert isinstance(got[0], Bad) and not got[0].rest
    assert "".join(got[0].text.split()).startswith('{"messages":') and got[0].text.rstrip("} \n").endswith('"n": 0')
    assert got[1:] == rows[1:]


@pytest.mark.parametrize("indent", [None, 2])
def test_json_goes_on_behind_a_string_that_is_never_closed(indent):
    rows = [{"a": f"x{n} {{"} for n in range(5)]
    content = (
        "[\n" + ",\n".join(json.dumps(row) for row in rows) + "\n]" if indent is None else json.dumps(rows, indent=2)
    )
    for number in (1, 4):
        got = [row for _, row in rows_of("json", content.replace(f'x{number} {{"', f"x{number}"))]
        assert isinstance(got[number], Bad) and not got[number].rest
        assert [row for row in got if isinstance(row, dict)] == [row for n, row in enumerate(rows) if n != number]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ('[{"a": 1}]\n[{"a": 2}]', "text after the end of the list of records, which is not read"),
        ('{"data": [{"a": 1}]} [{"a": 2}]', "text after the end of the list of records, which is not read"),
        ('{"data": [{"a": 1}], "b": ]', "text after the end of the list of records, which is not read"),
        ('[{"a": 1}, {"a": "x}, {"a": 2}, {"a": 3}]', "what follows it cannot be read"),
        ('[{"a": 1} {"a": 2}]', "the list of records is not closed here"),
        ('[{"a": 1}, {"a": ' + "[" * 100_000 + "}]", "nested too deeply"),
    ],
)
def test_json_of_which_the_rest_is_lost_is_never_accepted(content, reason):
    got = rows_of("json", content)
    assert got[0][1] == {"a": 1} and len(got) == 2
    assert got[1][1].rest and reason in got[1][1].reason and len(got[1][1].text) <= 200


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


SWALLOWED = "".join(f"text {n},{'ab'[n % 2]}\n" for n in range(90))


@pytest.mark.parametrize(
    ("content", "line", "reason"),
    [
        (f'"open,a\n{SWALLOWED}', 2, "a quote that opens here is never closed (it takes in 91 lines, to the end"),
        (f'"two\nlines","open\n{SWALLOWED}', 2, "a quote that opens in line 3 is never closed (it takes in 91"),
        (f'"open,a\n{SWALLOWED}"x, y",b\nlast,a\n', 2, "(a quote that opens here takes in 92 lines)"),
        (f'"open,a\n{SWALLOWED}5",b,c\n', 2, "has 3 fields where the header has 2, and takes in 92 lines"),
        (b'"open,a\ncaf\xe9,b\n' + SWALLOWED.encode(), 2, "a quote that opens here is never closed"),
    ],
)
def test_csv_rows_that_a_quote_takes_in_are_never_accepted_as_one(content, line, reason):
    head = "text,label\n"
    (bad,) = [
        (place, row)
        for place, row in rows_of("csv", head + content if isinstance(content, str) else head.encode() + content)
        if isinstance(row, Bad)
    ]
    assert bad[0] == line and bad[1].rest and reason in bad[1].reason and len(bad[1].text) <= 200


def test_csv_a_bad_quote_behind_a_field_of_two_lines_takes_in_nothing():
    got = rows_of("csv", 'a,b\n"two\nlines","x"y\n5,6\n"two\nlines",6,7\n')
    assert [isinstance(row, Bad) and row.rest for _, row in got] == [False] * 3 and got[1] == (4, {"a": "5", "b": "6"})


@pytest.mark.parametrize(
    ("content", "row"),
    [
        ('"Text, lang";Label\nhello;a\n', {"Text, lang": "hello", "Label": "a"}),
        ("text;label (a, b)\nhello;a\n", {"text": "hello", "label (a, b)": "a"}),
        ("text;label (a, b, c)\nhello;a\n", {"text": "hello", "label (a, b, c)": "a"}),
        ('"say ""a;b;c""",label\nhello,a\n', {'say "a;b;c"': "hello", "label": "a"}),
        ("id,text;raw,label\n1,hello\n", None),
        ('\ntext\tlabel\n"a, b; c\nd"\tx\n', {"text": "a, b; c\nd", "label": "x"}),
        ("text\nhello\n", {"text": "hello"}),
    ],
)
def test_csv_separator_is_told_from_the_header_and_the_next_line(content, row):
    ((_, found),) = rows_of("csv", content)
    assert found == row or (row is None and "has 2 fields where the header has 3, if ',' separates" in found.reason)


def test_csv_header_that_cannot_be_read_says_how_to_name_the_separator():
    with pytest.raises(DataError, match="the header cannot be read") as error:
        rows_of("csv", 'the "text"|"label"\n"a","b"c\n'.replace("the ", ""))
    assert "sep=;" in error.value.hint


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


def parquet_of(**columns):
    import pyarrow as pa
    from pyarrow import parquet

    sink = io.BytesIO()
    parquet.write_table(pa.table(columns), sink)
    return sink.getvalue()


@pytest.mark.parametrize("kind", ["timestamp", "date", "duration", "text", "list"])
def test_parquet_values_that_python_has_not_are_bad_rows(kind):
    import pyarrow as pa

    bad_text = pa.Array.from_buffers(pa.string(), 3, pa.array([b"fine", b"caf\xe9", b"x"], pa.binary()).buffers())
    column = {
        "timestamp": lambda: pa.array([0, 253402300800 * 10**6, 1], pa.timestamp("us")),
        "date": lambda: pa.array([0, 10**7, 1], pa.date32()),
        "duration": lambda: pa.array([0, 2**62, 1], pa.duration("s")),
        "text": lambda: bad_text,
        "list": lambda: pa.array([[0], [1, 253402300800 * 10**6], []], pa.list_(pa.timestamp("us"))),
    }[kind]()
    got = rows_of("parquet", parquet_of(text=["a", "b", "c"], when=column))
    assert [place for place, _ in got] == [1, 2, 3] and not any(isinstance(got[n][1], Bad) for n in (0, 2))
    assert got[2][1]["text"] == "c"
    assert got[1][1].reason.startswith("the value in the column 'when' (") and "cannot be read: " in got[1][1].reason


def test_parquet_columns_of_one_name():
    import pyarrow as pa
    from pyarrow import parquet

    sink = io.BytesIO()
    parquet.write_table(pa.Table.from_arrays([pa.array(["a"])] * 3, names=["text", "label", "label"]), sink)
    with pytest.raises(DataError, match=r"^x.parquet names a column twice: label\.$"):
        rows_of("parquet", sink.getvalue())


@pytest.mark.parametrize("said", ["sep=;", '"sep=;"', "SEP=;\r"])
def test_csv_that_says_its_separator(said):
    assert rows_of("csv", f"{said}\na,b;label\nx,y;z\n") == [(3, {"a,b": "x,y", "label": "z"})]
