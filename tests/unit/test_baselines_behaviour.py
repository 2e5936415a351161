"""Each baseline's own behaviour."""

from finesmith import registry
from finesmith.baselines.base import as_text
from finesmith.types import Conversation, Example, Message, Origin


def rows(pairs):
    return [Example(str(i), x, y, Origin("f", i)) for i, (x, y) in enumerate(pairs)]


def test_as_text_joins_the_messages():
    assert as_text("plain") == "plain"
    assert as_text(Conversation((Message("system", "Be kind."), Message("user", "Hi")))) == "Be kind.\nHi"


def test_majority_is_the_commonest_label_and_the_first_by_name_in_a_tie():
    majority = registry.resolve("baselines", "majority")
    answer = majority(rows([("x", "b"), ("y", "a"), ("z", "b"), ("w", "a")]), [("0", "x")], seed=0)[0]
    assert answer.output == "a"
    assert answer.scores == {"a": 0.5, "b": 0.5}


def test_majority_of_several_labels_is_the_commonest_set():
    majority = registry.resolve("baselines", "majority")
    answer = majority(rows([("x", ("a",)), ("y", ("a", "b")), ("z", ("a", "b"))]), [("0", "x")], seed=0)[0]
    assert answer.output == ("a", "b")
    assert answer.scores == {"a": 1.0, "b": 2 / 3}


def test_tfidf_learns_separable_classes():
    tfidf = registry.resolve("baselines", "tfidf")
    train = rows([("card lost", "card"), ("new card", "card"), ("send money", "money"), ("money transfer", "money")])
    assert [a.output for a in tfidf(train, [("0", "my cards"), ("1", "monies sent")], seed=0)] == ["card", "money"]


def test_tfidf_decides_each_of_several_labels_by_itself():
    tfidf = registry.resolve("baselines", "tfidf")
    train = rows([("red", ("r",)), ("blue", ("b",)), ("red blue", ("b", "r")), ("green", ())] * 3)
    outputs = [a.output for a in tfidf(train, [("0", "red"), ("1", "red blue"), ("2", "green")], seed=0)]
    assert outputs == [("r",), ("b", "r"), ()]


def test_tfidf_where_no_row_has_a_label():
    tfidf = registry.resolve("baselines", "tfidf")
    assert tfidf(rows([("a", ()), ("b", ())]), [("0", "a")], seed=0)[0].output == ()


def test_nearest_copies_the_answer_of_the_nearest_prompt():
    nearest = registry.resolve("baselines", "nearest")
    train = rows(
        [
            ("Refund for order 7", Message("assistant", " We refund. ")),
            ("Reset password", Message("assistant", "Click.")),
        ]
    )
    answers = nearest(train, [("0", "reset my password please"), ("1", "refund order 9")], seed=0)
    assert [answer.output for answer in answers] == ["Click.", " We refund. "]


def test_nearest_takes_the_first_row_of_equals():
    nearest = registry.resolve("baselines", "nearest")
    train = rows([("same words", Message("assistant", "first")), ("same words", Message("assistant", "second"))])
    assert nearest(train, [("0", "same words"), ("1", "zzz")], seed=0)[0].output == "first"
