"""Parting: nothing straddles, the same rows and seed give the same parts, shares are met, faults are said."""

import json
import random
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from finesmith.data.duplicates import answer, content, exact_content, exact_key, exactly, normalised
from finesmith.data.read import Dataset, read
from finesmith.data.split import split
from finesmith.data.store import Writer
from finesmith.errors import DataError, RecipeError
from finesmith.types import Conversation, Example, Message, Origin


def examples(rows):
    writer = Writer()
    for line, (text, target, *group) in enumerate(rows, start=1):
        writer.add(Example(f"x:{line}", text, target, Origin("x.csv", line), group[0] if group else None))
    return writer.close()


def dataset(**parts):
    return Dataset({name: examples(rows) for name, rows in parts.items()}, "labels", (), (), {})


def distinct(num, labels="ab"):
    return [(f"text {i}", labels[i % len(labels)]) for i in range(num)]


def texts(part):
    return sorted(example.input for example in part)


@pytest.mark.parametrize(
    ("text", "same"),
    [
        ("Hello,  World!", "hello world"),
        ("ＡＢＣ", "abc"),
        ("a\n-b", "a b"),
        ("!!!", "!!!"),
        ("Straße", "strasse"),
        ("कि", "कि"),
    ],
)
def test_normalised(text, same):
    assert normalised(text) == same


def test_content_of_a_conversation():
    asked = Conversation((Message("system", "Be kind."), Message("user", "Hi!")))
    assert content(asked) == "be kind\nhi"


@pytest.mark.parametrize(
    "same",
    [
        ("Hello,  World!", "hello world", "“Hello”: World?!", "ｈｅｌｌｏ … world"),
        ("2+3 =", "2 + 3 ="),
        ("my top-up failed.", "My top up failed"),
        ("don't, please", "Don’t please"),
        ("at 10:30.", "at 10:30"),
        ("great :)", "great ;)"),
        ("zero\u200bwidth", "zerowidth"),
    ],
)
def test_texts_that_mean_the_same_are_equal(same):
    assert len(set(map(exactly, same))) == 1


@pytest.mark.parametrize(
    "others",
    [
        ("2 + 3 =", "2 - 3 =", "2 * 3 =", "2 / 3 =", "2 ^ 3 ="),
        ("x > 0", "x < 0", "x = 0", "x != 0", "x & 0"),
        ("C++", "C#", "C"),
        ("great :)", "great :(", "great 🙂", "great 🙁"),
        ("1.5", "15", "1,5", "1:5", "-1.5"),
        ("$5", "5 %", "5"),
        ("a==b", "a!=b"),
        ("!!!", "???"),
    ],
)
def test_signs_that_carry_meaning_count(others):
    assert len(set(map(exactly, others))) == len(others)


def turn(**arguments):
    return Message(
        "assistant", "", 1.0, {"tool_calls": [{"id": "c1", "function": {"name": "f", "arguments": arguments}}]}
    )


def test_tool_calls_and_tools_are_compared_and_their_ids_are_not():
    asked = Message("user", "Hi!")
    other = {"id": "c2", "function": {"name": "f", "arguments": {"a": 1}}}
    assert answer(turn(a=1)) == answer(Message("assistant", "", 1.0, {"tool_calls": [other]})) != answer(turn(a=2))
    assert exact_key(Conversation((asked, turn(a=1)))) != exact_key(Conversation((asked, turn(a=2))))
    assert exact_content(Conversation((asked,))) == "hi" != exact_content(Conversation((asked,), ({"name": "f"},)))


rows_of_text = st.lists(
    st.tuples(st.integers(0, 40), st.sampled_from("abc"), st.none() | st.integers(0, 12)), min_size=30, max_size=80
)


@settings(max_examples=30, deadline=None)
@given(rows_of_text, st.integers(0, 3))
def test_nothing_straddles_and_nothing_is_lost(rows, seed):
    rows = [(f"Text {i}", label, None if g is None else str(g)) for i, label, g in rows]
    rows += [(f"more {i}", "abc"[i % 3], None) for i in range(30)]
    splits = split(dataset(all=rows), seed=seed)
    parts = (splits.train, splits.validation, splits.test)
    assert sorted(example.id for part in parts for example in part) == sorted(f"x:{i}" for i in range(1, len(rows) + 1))
    for key in (lambda e: e.input, lambda e: e.group):
        seen = [{key(example) for example in part} - {None} for part in parts]
        assert not (seen[0] & seen[1] or seen[0] & seen[2] or seen[1] & seen[2])
    assert {e.target for part in parts[1:] for e in part} <= {e.target for e in splits.train}


@settings(max_examples=15, deadline=None)
@given(st.randoms(use_true_random=False), st.integers(0, 5))
def test_order_of_rows_does_not_matter_and_the_seed_decides(rng, seed):
    rows = distinct(90, "abc")
    shuffled = rows.copy()
    rng.shuffle(shuffled)
    first, second = split(dataset(all=rows), seed=seed), split(dataset(all=shuffled), seed=seed)
    assert texts(first.test) == texts(second.test) and texts(first.validation) == texts(second.validation)
    assert split(dataset(all=rows), seed=seed).hash == first.hash
    assert split(dataset(all=rows), seed=seed + 1).hash != first.hash


@pytest.mark.parametrize("stratify", [True, False])
@pytest.mark.parametrize(("validation", "test"), [(0.1, 0.2), (0.15, 0.25), (0.3, 0.3)])
def test_shares_are_met(validation, test, stratify):
    labels = random.Random(0).choices("abcdefgh", weights=[30, 20, 10, 10, 10, 5, 5, 2], k=600)
    splits = split(dataset(all=[(f"t {i}", label) for i, label in enumerate(labels)]),
                   validation=validation, test=test, stratify=stratify)  # fmt: skip
    assert len(splits.test) / 600 == pytest.approx(test, abs=0.01)
    assert len(splits.validation) / 600 == pytest.approx(validation, abs=0.01)
    if stratify:
        counts, tested = Counter(labels), Counter(example.target for example in splits.test)
        assert all(abs(tested[label] - test * counts[label]) <= 1.5 for label in counts)


def test_shares_are_met_with_many_small_classes():
    splits = split(dataset(all=[(f"t {i}", f"class {i % 77}") for i in range(1001)]))
    assert len(splits.test) == pytest.approx(200, abs=2) and len(splits.validation) == pytest.approx(100, abs=2)


def test_shares_are_met_with_large_groups():
    rows = [(f"t {i}", "ab"[i % 2], f"g{i // 20}") for i in range(400)]
    splits = split(dataset(all=rows))
    assert (len(splits.train), len(splits.validation), len(splits.test)) == (280, 40, 80)


def test_small_classes_stand_in_every_part():
    rows = [*distinct(200), *((f"rare {i}", "rare") for i in range(3))]
    splits = split(dataset(all=rows))
    for part in (splits.train, splits.validation, splits.test):
        assert sum(example.target == "rare" for example in part) == 1


def test_a_class_with_one_row_is_trained_and_noted():
    splits = split(dataset(all=[*distinct(40), ("alone", "once")]))
    assert "once" in {example.target for example in splits.train}
    assert splits.notes == (
        "Split 41 rows into 29 train, 4 validation, 8 test (stratified by label, seed 0).",
        "Classes with one row, which is trained on and cannot be tested: 'once'.",
    )


def test_duplicates_are_noted():
    splits = split(dataset(all=[*distinct(20), ("TEXT 3!", "b")]))
    assert "Equal inputs and rows of one group were kept in one part: 21 rows form 20 units." in splits.notes


def test_several_labels_and_texts_are_parted_too():
    multi = [(f"t {i}", ("a", "b")[: i % 3]) for i in range(30)]
    assert len(split(dataset(all=multi)).test) == 6
    assert len(split(dataset(all=[(f"t {i}", None) for i in range(30)])).validation) == 3


def test_one_class_only():
    with pytest.raises(DataError, match=r"There is one class only: all 30 training rows have the label 'a'."):
        split(dataset(all=distinct(30, "a")))


def test_too_few_rows():
    with pytest.raises(DataError, match=r"Too few rows to split: 6, and at least 10 are needed."):
        split(dataset(all=distinct(6)))
    with pytest.raises(
        DataError, match=r"Too few rows to split: 6 \(12 rows; equal rows and rows of one group count once\)"
    ):
        split(dataset(all=distinct(6) * 2))


def test_a_tiny_share_is_one_row():
    assert len(split(dataset(all=[(f"t {i}", None) for i in range(12)]), validation=0.001).validation) == 1


def test_shares_that_make_no_sense():
    with pytest.raises(RecipeError, match=r"data.test must be between 0 and 1, not 1.5."):
        split(dataset(all=distinct(30)), test=1.5)
    with pytest.raises(RecipeError, match=r"data.test \+ data.validation is 1.1: nothing is left for training."):
        split(dataset(all=distinct(30)), test=0.6, validation=0.5)


def test_given_parts_stay_as_they_are():
    parts = {"train": distinct(40), "validation": [("v 1", "a"), ("v 2", "b")], "test": [("s", "a")]}
    splits = split(dataset(**parts))
    assert (len(splits.train), len(splits.validation), len(splits.test)) == (40, 2, 1)
    assert splits.notes == (
        "Train, validation and test came with the data.",
        "Given with the data: 40 train, 2 validation, 1 test rows.",
    )


@pytest.mark.parametrize(("given_part", "cut", "size"), [("test", "validation", 4), ("validation", "test", 8)])
def test_the_missing_part_is_cut_from_training(given_part, cut, size):
    splits = split(dataset(train=distinct(40), **{given_part: [("other 1", "a"), ("other 2", "b")]}))
    assert len(getattr(splits, given_part)) == 2 and len(getattr(splits, cut)) == size
    assert len(splits.train) == 40 - size


def test_only_training_rows_are_given():
    splits = split(dataset(train=distinct(40)))
    assert (len(splits.train), len(splits.validation), len(splits.test)) == (28, 4, 8)


def test_leaks_between_given_parts_are_counted_and_left():
    test = [(f"Text {i}!", "ab"[i % 2]) for i in range(7)] + [("new", "a")]
    splits = split(dataset(train=distinct(40), validation=[("v", "a")], test=test))
    assert len(splits.test) == 8
    assert splits.notes[-1] == (
        "7 of 8 test rows have the same input as a train row (left as they are): x:1, x:2, x:3, x:4, x:5, ...."
    )


def test_groups_shared_between_given_parts_are_noted():
    train = [*distinct(40), ("grouped", "a", "g1")]
    splits = split(dataset(train=train, validation=[("v", "a")], test=[("s", "a", "g1"), ("u", "a", "g2")]))
    assert splits.notes[-1] == "1 of 2 test rows has the same group as a train row (left as they are): x:1."


def test_labels_never_seen_in_training():
    with pytest.raises(DataError) as error:
        split(dataset(train=distinct(40), test=[("s", "A"), ("u", "new"), ("w", "new"), ("y", "b")]))
    assert error.value.problems == (
        "'A': 1 in test, first at x.csv:1; training has 'a'",
        "'new': 2 in test, first at x.csv:2",
    )


def test_labels_that_differ_in_case_stay_as_given(tmp_path):
    path = tmp_path / "x.jsonl"
    rows = [{"text": f"row {i}", "label": ["Bill", "bill", "other"][i % 3]} for i in range(60)]
    path.write_text("\n".join(map(json.dumps, rows)))
    splits = split(read(path))
    assert {example.target for example in splits.train} == {"Bill", "bill", "other"}


def test_an_unseen_label_that_only_encodes_its_accent_differently_names_its_twin():
    rows = [(f"text {n}", "ab"[n % 2]) for n in range(20)] + [("more", "caf\u00e9")]
    with pytest.raises(DataError) as error:
        split(dataset(train=rows, test=[("other", "cafe\u0301")]))
    assert "training has 'caf\u00e9'" in error.value.problems[0]


def talk(line, *turns, weight=1.0):
    """A row that learns to answer every second turn."""
    said = tuple(Message("assistant" if at % 2 else "user", text, weight * (at % 2)) for at, text in enumerate(turns))
    return Example(f"x:{line}", Conversation(said[:-1]), said[-1], Origin("x.jsonl", line))


def talks(rows):
    writer = Writer()
    for row in rows:
        writer.add(row)
    return Dataset({"all": writer.close()}, "messages", (), (), {})


def test_a_conversation_stays_with_its_own_beginnings():
    rows = []
    for number in range(30):
        said = [f"{word} {number}" for word in ("ask", "say", "ask again", "say again", "thank", "bow")]
        rows += [talk(len(rows) + at, *said[: 2 * at]) for at in (1, 2, 3)]
    splits = split(talks(rows))
    for part in (splits.train, splits.validation, splits.test):
        assert {int(each.input.messages[0].content.split()[1]) for each in part}.isdisjoint(
            int(each.input.messages[0].content.split()[1])
            for other in (splits.train, splits.validation, splits.test)
            if other is not part
            for each in other
        )
    assert len(splits.test) == 18


def test_a_greeting_that_many_begin_with_joins_nobody():
    rows = [talk(1, "hello", "hi"), *(talk(at, "hello", "hi", f"ask {at}", f"say {at}") for at in range(2, 90))]
    assert len(split(talks(rows)).test) == 18
    few = [talk(1, "hello", "hi"), *(talk(at, "hello", "no", f"ask {at}", f"say {at}") for at in range(2, 40))]
    assert len(split(talks(few)).test) == 8, "another answer is another turn"


def test_labels_that_are_ids_are_called_so():
    with pytest.raises(DataError, match=r"200 of 200 rows have a label that no other row has: it is an id or a text"):
        split(dataset(all=[(f"t {i}", f"T-{i}") for i in range(200)]))


def test_many_small_classes_do_not_swell_the_validation_part_and_are_named():
    splits = split(dataset(all=[(f"t {i}", f"class {i % 77}") for i in range(231)]))
    assert len(splits.test) == 77 and len(splits.validation) < 35
    assert "The test part has 33% of the rows, not 20%, for small classes or large groups." in splits.notes
