"""What the user gives to `finesmith compare` besides the run: prompts, a glossary, a margin; and that it counts."""

import json

import pytest

from finesmith.cli import _evidence
from finesmith.data import given, glossary, prompts
from finesmith.errors import DataError, RecipeError
from finesmith.types import Conversation, Message
from tests.conftest import clause_rows, write_jsonl
from tests.measurements import kept
from tests.runs.test_whole_runs import command


def test_prompts_come_with_or_without_answers(tmp_path):
    bare = prompts.read(str(write_jsonl(tmp_path / "bare.jsonl", [{"prompt": "who"}, {"prompt": "what"}])))
    assert [(row.input, row.target, str(row.origin)[-1]) for row in bare] == [("who", None, "1"), ("what", None, "2")]
    told = prompts.read(str(write_jsonl(tmp_path / "told.jsonl", [{"prompt": "who", "completion": "me"}])))
    assert isinstance(told[0].input, Conversation) and isinstance(told[0].target, Message)
    assert told[0].target.content == "me"


def test_prompts_of_which_only_some_have_answers_are_refused_with_their_lines(tmp_path):
    mixed = write_jsonl(tmp_path / "mixed.jsonl", [{"prompt": "who", "completion": "me"}, {"prompt": "what"}])
    with pytest.raises(DataError) as caught:
        prompts.read(str(mixed))
    assert "mixed.jsonl:2" in str(caught.value)
    with pytest.raises(DataError):
        prompts.read(str(tmp_path / "nothing.jsonl"))


def test_a_trigger_that_is_no_expression_is_named_with_its_entry(tmp_path):
    entry = {"preferred": "late", "forbidden": ["overdue"]}
    place = tmp_path / "glossary.json"
    place.write_text(json.dumps([entry, {**entry, "trigger": "due|after"}]))
    assert len(glossary.read(str(place))) == 2
    place.write_text(json.dumps([entry, {**entry, "trigger": "(due"}, {**entry, "trigger": 3}]))
    with pytest.raises(DataError, match="no regular expression") as caught:
        glossary.read(str(place))
    assert [problem[:8] for problem in caught.value.problems] == ["entry 2:", "entry 3:"]


def test_what_is_handed_over_is_read_as_a_file_is(tmp_path):
    rows, entries = [{"prompt": "who"}, {"prompt": "what"}], [{"preferred": "late", "forbidden": ["overdue"]}]
    values, told = given.read({"prompts": rows, "glossary": entries, "risk": None, "target": 0.9})
    file = prompts.read(str(write_jsonl(tmp_path / "bare.jsonl", rows)))
    assert [(row.input, row.target) for row in values["prompts"]] == [(row.input, row.target) for row in file]
    assert values["glossary"] == tuple(entries) and values["target"] == 0.9 and "risk" not in values
    assert told == {"prompts": {"entries": 2}, "glossary": {"entries": 1}, "target": 0.9}
    assert given.read({"prompts": rows})[0] == given.read({"prompts": tuple(rows)})[0], "the same is not measured again"
    assert given.read({"prompts": file})[0]["prompts"] == file, "what was read already"
    (answered,) = given.read({"prompts": [{"prompt": "who", "completion": "me"}]})[0]["prompts"]
    assert answered.target.content == "me"


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"prompts": [{"prompt": "who", "completion": "me"}, {"prompt": "what"}]}, "options['prompts']:2"),
        ({"prompts": [{"prompt": "who"}, {"when": object()}]}, "options['prompts']:2 is no row"),
        ({"prompts": ["who"]}, "options['prompts']"),
        ({"prompts": []}, "options['prompts'] must be a path or a list of rows"),
        ({"prompts": {"prompt": "who"}}, "options['prompts'] must be a path or a list of rows"),
        ({"glossary": [{"preferred": "late"}]}, 'entry 1: {"preferred": "late"}'),
        ({"glossary": {"preferred": "late", "forbidden": []}}, "options['glossary'] is no glossary"),
        ({"glossary": [{"preferred": "late", "forbidden": [], "trigger": "(due"}]}, "no regular expression"),
    ],
)
def test_what_no_file_may_hold_is_refused(options, named):
    with pytest.raises(DataError) as caught:
        given.read(options)
    assert named in str(caught.value) and "/tmp" not in str(caught.value)


def test_an_unknown_option_names_the_nearest():
    with pytest.raises(RecipeError, match=r"Unknown option 'retention-margin'.*Did you mean 'retention_margin'"):
        given.read({"retention-margin": 0.03})
    assert {*given.NAMES} == {*_evidence.GIVEN}


def test_what_is_given_later_is_measured_and_the_rest_is_kept(models, tmp_path):
    data = write_jsonl(tmp_path / "rows.jsonl", clause_rows(60))
    path = kept.tuned(data, models("llama"), tmp_path / "run", generation={"max_new_tokens": 4})
    terms = tmp_path / "glossary.json"
    terms.write_text(json.dumps([{"preferred": "late", "forbidden": ["overdue"]}]))
    asked = write_jsonl(tmp_path / "asked.jsonl", [{"prompt": f"where is {n}"} for n in range(4)])

    def compare(*more: str) -> dict:
        code, out, err = command("compare", path, "--only", "retention", "--only", "adherence", "--json", *more)
        assert code == 0, err
        return json.loads(out)

    with kept.few_passages():
        first = compare()
        assert "terminology" in first["not_measured"] and "prompts" not in first["measured"]["retention"]["numbers"]
        again = compare("--glossary", str(terms))
        assert "terminology" not in again["not_measured"]
        assert again["seconds"]["retention"] == first["seconds"]["retention"], "it uses no glossary and is kept"
        last = compare("--prompts", str(asked), "--retention-margin", "50", "--glossary", str(terms))
        without = compare("--prompts", str(asked), "--retention-margin", "50")
    found = last["measured"]["retention"]["numbers"]
    assert found["margin"] == 50 and found["retained"] and found["prompts"]["change_bits_per_byte"]["n"] == 4
    assert last["measured"]["adherence"] == again["measured"]["adherence"]
    assert "terminology" in without["not_measured"], "without the glossary nothing is said of its terms"
    assert without["measured"]["retention"] == last["measured"]["retention"]
    code, _, err = command("compare", path, "--prompts", str(tmp_path / "no.jsonl"))
    assert code == 2 and "no.jsonl" in err
