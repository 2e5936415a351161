"""Each baseline's own behaviour."""

from types import SimpleNamespace

import pytest

from finesmith import advising, measure, registry
from finesmith.baselines import _features, _neighbours
from finesmith.baselines.base import NO_MEMORY, as_text
from finesmith.types import Conversation, Example, Message, Origin
from finesmith.watch import Watcher


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


@pytest.fixture
def room_for_half(monkeypatch):
    """Ten rows of ten characters, and memory for fifty."""
    monkeypatch.setattr(_features, "MOST_CHARACTERS", 50)
    return [(f"{'red' if n < 5 else 'blue':<8}{n:>2}", "r" if n < 5 else "b") for n in range(10)]


def test_more_text_than_the_memory_holds_is_learnt_from_in_part(room_for_half):
    texts = [text for text, _ in room_for_half]
    assert _features.part(texts) == [0, 2, 4, 6, 8] and _features.part(texts[:5]) == [0, 1, 2, 3, 4]
    assert _features.left_out(texts[:5]) == ""
    assert "know 5 of 10 training rows, evenly spread" in _features.left_out(texts)
    near, alike = next(_neighbours.Neighbours(texts).nearest([texts[8]], 2))
    assert near.tolist() == [8, 6] and alike[0] > alike[1]
    assert next(_neighbours.Neighbours(texts).nearest([texts[9]], 1))[0] != [9], "it is not among the known"


def test_baselines_learn_from_the_rows_that_the_memory_holds(room_for_half, monkeypatch):
    seen = []
    whole = _features.features
    monkeypatch.setattr(_features, "features", lambda texts, **known: seen.append(len(texts)) or whole(texts, **known))
    asked = [("0", "red"), ("1", "blue")]
    for name in ("tfidf", "knn"):
        answers = registry.resolve("baselines", name)(rows(room_for_half), asked, seed=0)
        assert [answer.output for answer in answers] == ["r", "b"]
    written = rows([(text, Message("assistant", label)) for text, label in room_for_half])
    assert [each.output for each in registry.resolve("baselines", "nearest")(written, asked, seed=0)] == ["r", "b"]
    assert set(seen) == {5}


def test_a_row_is_compared_with_so_many_at_once_as_fit(monkeypatch):
    known = [f"thing {n}" for n in range(40)]
    whole = list(_neighbours.Neighbours(known).nearest(known, 3))
    monkeypatch.setattr(_neighbours, "CELLS", 120)
    some = list(_neighbours.Neighbours(known).nearest(known, 3))
    assert all((one[0] == other[0]).all() for one, other in zip(whole, some, strict=True)) and len(some) == 40


def test_a_baseline_without_memory_is_not_measured(room_for_half, monkeypatch):
    """The training is done by then, and a run that starts again would come here again."""

    def full(*_, **__):
        raise MemoryError

    train, test = rows(room_for_half), rows([("red", "r")])
    splits, asked = SimpleNamespace(train=train, test=test), SimpleNamespace(task="classification", seed=0)
    answers, missing = measure._cheap(SimpleNamespace(recipe=asked, splits=splits), Watcher())
    assert set(answers) == {"majority", "tfidf", "knn"}
    assert list(missing) == ["all training rows"] and "5 of 10" in missing["all training rows"]
    monkeypatch.setattr(_features, "features", full)
    answers, missing = measure._cheap(SimpleNamespace(recipe=asked, splits=splits), Watcher())
    assert set(answers) == {"majority"} and missing["tfidf"] == missing["knn"] == NO_MEMORY
    found, told = {}, {}
    advising._cheap(asked, splits, found, told, advising._Clock())
    assert set(found) == {"majority"} and told == missing


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
