"""Each baseline's own behaviour."""

import pytest

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


def test_knn_votes_by_similarity_and_says_the_shares():
    knn = type(registry.resolve("baselines", "knn"))(neighbours=3)
    train = rows([("lost card", "card"), ("card gone", "card"), ("card fee", "fee"), ("send money", "money")])
    answer = knn(train, [("0", "card")], seed=0)[0]
    assert answer.output == "card" and set(answer.scores) == {"card", "fee"}
    assert abs(sum(answer.scores.values()) - 1) < 1e-9


def test_knn_chooses_the_number_of_neighbours_on_training_rows_alone():
    knn = registry.resolve("baselines", "knn")
    words = ["red", "blue"]
    clean = rows([(f"{words[i % 2]} thing {i + 10}", words[i % 2]) for i in range(60)])
    flipped = [Example(r.id, r.input, words[1 - words.index(r.target)] if i in (0, 1) or i > 50 else r.target, r.origin)
               for i, r in enumerate(clean)]  # fmt: skip
    asked = [("0", "red thing"), ("1", "blue thing")]  # all of a colour are equally near, the first of them are flipped
    one, chosen = type(knn)(neighbours=1)(flipped, asked, seed=0), knn(flipped, asked, seed=0)
    assert [answer.output for answer in one] == ["blue", "red"]
    assert [answer.output for answer in chosen] == ["red", "blue"]


@pytest.mark.parametrize("apart", ["the same text", "one group"])
def test_knn_chooses_the_number_of_neighbours_without_a_rows_own_copies(apart):
    """A row beside its copy is always right with one neighbour."""
    knn, words = registry.resolve("baselines", "knn"), ["red", "blue"]
    copies = []
    for i in range(60):
        label = words[(i + (i in (0, 1) or i > 50)) % 2]  # the first and the last are flipped
        for copy in range(2):
            text = f"{words[i % 2]} thing {i + 10}" + (f" copy{i}" * copy if apart == "one group" else "")
            group = str(i) if apart == "one group" else None
            copies.append(Example(f"{i}-{copy}", text, label, Origin("f", i), group=group))
    asked = [("0", "red thing"), ("1", "blue thing")]
    assert [answer.output for answer in type(knn)(neighbours=1)(copies, asked, seed=0)] == ["blue", "red"]
    assert [answer.output for answer in knn(copies, asked, seed=0)] == ["red", "blue"]


def test_knn_reads_characters_where_no_words_are_shared():
    about = ["服务", "咖啡", "位置", "价格", "环境", "态度", "味道", "速度", "质量", "包装"]
    said = [
        (f"这家店的{what}{'非常好' if n % 2 else '太差了'}{n}", "good" if n % 2 else "bad")
        for n, what in enumerate(about)
    ]
    train = [Example(f"t:{n}", text, label, Origin("t", n)) for n, (text, label) in enumerate(said)]
    asked = [("1", "这家店的音乐非常好"), ("2", "这家店的灯光太差了")]
    found = registry.resolve("baselines", "knn")(train, asked, seed=0)
    assert [each.output for each in found] == ["good", "bad"]


def test_knn_of_nothing_similar_is_the_commonest_label():
    knn = registry.resolve("baselines", "knn")
    assert knn(rows([("aa bb", "x"), ("cc dd", "y"), ("ee ff", "y")]), [("0", "zz")], seed=0)[0].output == "y"


def test_knn_of_several_labels_takes_those_with_more_than_half():
    knn = registry.resolve("baselines", "knn")
    train = rows([("red one", ("r",)), ("red two", ("r", "s")), ("blue one", ("b",)), ("blue two", ("b",))] * 2)
    assert knn(train, [("0", "red")], seed=0)[0].output[0] == "r"
