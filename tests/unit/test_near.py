"""Near duplicates against comparing every pair; clusters; long texts; odd texts."""

import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from finesmith.data import near

WORDS = [f"{a}{b}{c}" for a in "bdfgk" for b in "aeiou" for c in "lmnrst"]


def grams(text):
    return {text[at : at + 4] for at in range(max(1, len(text) - 3))}


def jaccard(first, second):
    return len(grams(first) & grams(second)) / len(grams(first) | grams(second))


def varied(count, seed=0):
    draw = random.Random(seed)
    texts = [" ".join(draw.choices(WORDS, k=12)) for _ in range(count)]
    for text in texts[: count // 2]:
        words = text.split()
        for _ in range(draw.randint(1, 4)):
            words[draw.randrange(len(words))] = draw.choice(WORDS)
        texts.append(" ".join(words))
    return list(dict.fromkeys(texts))


def test_finds_what_comparing_every_pair_finds():
    texts = varied(300)
    wanted = {
        (i, j): v for i in range(len(texts)) for j in range(i) if (v := jaccard(texts[i], texts[j])) >= 0.7 - 1e-9
    }
    found = near.near_pairs(texts)
    got = {(j, i): v for (i, j), v in zip(found.places.tolist(), found.similarity.tolist(), strict=True)}
    assert len(wanted) > 40
    assert got.keys() <= wanted.keys() and len(got) >= 0.97 * len(wanted)
    assert all(v == pytest.approx(wanted[pair]) for pair, v in got.items())


def test_fewer_bands_find_fewer_pairs_and_none_that_is_wrong():
    texts = varied(300)
    full, few = (near.near_pairs(texts, bands=bands).places.tolist() for bands in ((25, 5), (14, 9)))
    assert {tuple(pair) for pair in few} < {tuple(pair) for pair in full}


def test_the_seed_hardly_matters_and_the_same_one_gives_the_same():
    texts = varied(200)
    first, again, other = (near.near_pairs(texts, seed=seed).places.tolist() for seed in (0, 0, 1))
    assert first == again
    assert len(set(map(tuple, first)) ^ set(map(tuple, other))) <= 0.05 * len(first)


def test_long_texts_are_compared_by_an_estimate():
    draw = random.Random(0)
    long = " ".join(f"{draw.getrandbits(32):x}" for _ in range(3000))
    words = long.split()
    other = " ".join(words[:2700] + [f"{draw.getrandbits(32):x}" for _ in range(300)])
    assert len(near.shingle([long])[0]) == near.MOST_GRAMS < len(grams(long))
    found = near.near_pairs([long, other, "short text"])
    assert found.places.tolist() == [[0, 1]]
    assert found.similarity[0] == pytest.approx(jaccard(long, other), abs=0.05)


def test_a_long_text_and_most_of_it_are_near():
    draw = random.Random(0)
    words = ["".join(draw.choices("abcdefghijklmnopqrstuvwxyz", k=draw.randint(3, 9))) for _ in range(20_000)]
    found = 0
    for _ in range(5):
        whole = " ".join(draw.choices(words, k=1500))
        found += len(near.near_pairs([whole, whole[: int(0.76 * len(whole))]]).places)
    assert found == 5, "similarity about 0.77, more grams than are kept"


def test_among_leaves_out_pairs_of_the_first():
    texts = ["the parcel has not come yet", "the parcel has not come yet!", "the parcel has not come yet."]
    assert near.near_pairs(texts, among=2).places.tolist() == [[0, 2], [1, 2]]


def test_a_large_cluster_stays_one_cluster_and_takes_little():
    texts = [f"this sentence is the same for all of the many rows there are {n}" for n in range(1500)]
    found = near.near_pairs(texts)
    assert len(found.places) < 40 * near.BUCKET * len(texts)
    assert [len(group) for group in near.clusters(found.places, len(texts))] == [1500]


def test_clusters_are_chains():
    assert near.clusters(np.array([[0, 3], [3, 5], [1, 2]]), 7) == [[0, 3, 5], [1, 2]]
    assert near.clusters(np.zeros((0, 2), int), 7) == []


@given(st.lists(st.text(max_size=12), max_size=12, unique=True))
def test_any_text_can_be_compared(texts):
    found = near.near_pairs(texts)
    assert all(0.7 <= value <= 1 for value in found.similarity)
    assert (found.places[:, 0] < found.places[:, 1]).all()
    for first, second in found.places.tolist():
        assert jaccard(texts[first], texts[second]) >= 0.7 - 1e-6 or min(len(texts[first]), len(texts[second])) < 4


def test_texts_with_a_long_part_in_common_have_few_pairs_each_and_the_nearest_among_them():
    draw = random.Random(0)
    words = [f"word{n}" for n in range(3000)]
    shared = " ".join(draw.choices(words, k=60))
    texts = [f"{shared} {' '.join(draw.choices(words, k=12))}" for _ in range(600)]
    texts += [f"{text} indeed" for text in texts[:50]]
    found = near.near_pairs(texts)
    assert 600 < len(found.places) <= (near.NEAREST + near.EARLIER) * len(texts)
    assert {(n, n + 600) for n in range(50)} <= set(map(tuple, found.places.tolist()))
    assert [len(group) for group in near.clusters(found.places, len(texts))] == [650]
