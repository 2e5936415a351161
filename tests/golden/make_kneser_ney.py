"""Writes kneser_ney.json with nltk (3.10.4), which the suite itself does not need: python make_kneser_ney.py"""

import json
import random
from pathlib import Path

ORDER, WORDS, DISCOUNT = 3, 12, 0.75


def main() -> None:
    from nltk.lm import KneserNeyInterpolated

    choose = random.Random(0)
    train = [choose.choice([*range(1, WORDS), 1, 1, 2, 3]) for _ in range(400)]
    stream = [0, 0, *train, 0]
    # the n-grams that end at a token that is predicted: ngram.py counts these
    grams = [tuple(map(str, stream[at - size + 1 : at + 1])) for at in range(2, len(stream)) for size in (1, 2, 3)]
    model = KneserNeyInterpolated(ORDER, discount=DISCOUNT)
    model.fit([grams], vocabulary_text=[str(word) for word in range(WORDS)])
    test = [choose.randrange(1, WORDS) for _ in range(40)]
    words = list(map(str, [0, 0, *test, 0]))
    found = [model.score(words[at], words[at - 2 : at]) for at in range(2, len(words))]
    facts = {"maker": "nltk 3.10.4, KneserNeyInterpolated", "train": train, "test": test, "probabilities": found}
    Path(__file__).with_name("kneser_ney.json").write_text(json.dumps(facts), encoding="utf-8")


if __name__ == "__main__":
    main()
