"""Makes what the embedded base is trained from: documents, tokenizer, untrained configuration, held-out text, manifest.

    python prepare.py CORPORA OUT          CORPORA holds one folder a corpus with train, validation and test JSONL

OUT/data is what `finesmith tune` reads, OUT/start the untrained model, OUT/held_out what `measure.py` reads,
OUT/manifest.json says what went in, what was dropped and why. The same corpora and seed give the same bytes. Needs
datasketch beside Finesmith's own packages. See README.md for what comes next.
"""

import argparse
import hashlib
import json
import random
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import heldout
import mix
import start

from finesmith.data.duplicates import content_key

MEASURED = {"textbooks": "corpus_textbooks", "contracts": "corpus_contracts", "books": "corpus_books"}
MEASURED_DOCUMENTS = 100  # of each corpus, from its test part
VALIDATION_DOCUMENTS = 12  # of each corpus, from its validation part: they choose the best step
MEASURED_CHARACTERS = 8_000


def main() -> None:
    options = _options()
    began = time.time()
    held = heldout.HeldOut(heldout.held_out_rows(options.corpora, Path(__file__).parents[1]))
    say(began, f"{sum(held.rows.values()):,} held-out rows of {len(held.rows)} sets are searched for")
    texts, corpora = gather(options, held, began)
    tokens = start.tokenizer(texts, options.vocabulary, options.seed)
    start.write(options.out / "start", tokens, options.shape)
    say(began, f"tokenizer with {len(tokens):,} entries")
    counts = count_tokens(texts, tokens)
    for places in corpora.values():
        places["tokens"] = sum(counts[place] for place in places.pop("places"))
    shuffled = list(range(len(texts)))
    random.Random(options.seed).shuffle(shuffled)
    train = write(options.out / "data" / "train.jsonl", (texts[place] for place in shuffled))
    measured = held_out(options)
    manifest = {
        "seed": options.seed,
        "sample": options.sample,
        "documents": len(texts),
        "characters": sum(map(len, texts)),
        "tokens": sum(counts),
        "train_sha256": train,
        "vocabulary": len(tokens),
        "shape": options.shape,
        "corpora": corpora,
        "held_out": measured,
        "searched": {
            "sets": dict(held.rows),
            "run_words": heldout.RUN,
            "shortest_words": heldout.SHORTEST,
            "near_jaccard": heldout.NEAR,
            "item_words": heldout.LONGEST_ITEM,
            "piece_characters": mix.LEAST,
        },
        "dropped_because_of": dict(held.found.most_common()),
    }
    (options.out / "manifest.json").write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf-8")
    for name, facts in corpora.items():
        say(began, f"{name}: {json.dumps(facts)}")
    say(
        began,
        f"{len(texts):,} documents, {sum(map(len, texts)) / 1e6:.1f} M characters, {sum(counts) / 1e6:.1f} M tokens",
    )


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("corpora", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--vocabulary", type=int, default=8192)
    parser.add_argument("--shape", choices=start.SHAPES, default="base")
    parser.add_argument("--sample", type=float, default=1.0, help="share of each corpus, to try the path")
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


def gather(options: argparse.Namespace, held: heldout.HeldOut, began: float) -> tuple[list[str], dict[str, dict]]:
    """All training documents, and for each corpus what was taken and what was left out."""
    texts: list[str] = []
    seen: set[bytes] = set()
    corpora = {}
    for corpus in mix.CORPORA:
        found, not_free = mix.rows(options.corpora, corpus)
        choose = random.Random(f"{options.seed} {corpus.name}")
        if options.sample < 1:
            found = choose.sample(found, max(1, round(len(found) * options.sample)))
            corpus = replace(corpus, limit=corpus.limit and round(corpus.limit * options.sample))
        counts: Counter[str] = Counter(rows=len(found), left_out_for_licence=not_free)
        made = mix.documents(corpus, found, choose, clean=cleaner(held, counts, corpus.form), like=liker(held, counts))
        places = range(len(texts), len(texts) + sum(_add(texts, seen, text, counts) for text in made))
        corpora[corpus.name] = {
            **counts,
            "documents": len(places),
            "characters": sum(len(texts[place]) for place in places),
            "licence": corpus.licence,
            "form": corpus.form,
            "source": corpus.source,
            "places": places,
        }
        say(began, f"{corpus.name}: {len(places):,} documents")
    return texts, corpora


def _add(texts: list[str], seen: set[bytes], text: str, counts: Counter[str]) -> bool:
    key = content_key(text)
    if key in seen:
        counts["dropped_as_repeated"] += 1
        return False
    seen.add(key)
    texts.append(text)
    return True


def cleaner(held: heldout.HeldOut, counts: Counter[str], form: str):
    """`held.clean`, counted. Of prose the lines go, a short item goes whole."""

    def clean(text: str, least: int) -> list[str]:
        parts = held.clean(text, least)
        if parts != [text]:
            counts["texts_with_a_held_out_run"] += 1
            kept = sum(map(len, parts)) if form == "prose" else 0
            counts["characters_dropped_for_runs"] += len(text) - kept
        return parts

    return clean


def liker(held: heldout.HeldOut, counts: Counter[str]):
    """`held.like` of a row, counted."""

    def like(row: dict) -> str | None:
        name = held.like("\n".join(row[field] for field in heldout.FIELDS if isinstance(row.get(field), str)))
        if name:
            counts["items_like_a_held_out_row"] += 1
            held.found[name] += 1
        return name

    return like


def count_tokens(texts: list[str], tokens) -> list[int]:
    """Tokens of each document, its end included."""
    counts = []
    for at in range(0, len(texts), 500):
        batch = tokens.backend_tokenizer.encode_batch_fast(texts[at : at + 500], add_special_tokens=False)
        counts += [len(found.ids) + 1 for found in batch]
    return counts


def held_out(options: argparse.Namespace) -> dict[str, dict]:
    """Writes validation and test of the training, and the larger held-out sets of `measure.py`."""
    parts: dict[str, list[str]] = {"validation": [], "test": []}
    facts = {}
    for name, folder in MEASURED.items():
        chosen = spread(documents(options.corpora / folder / "test.jsonl"), MEASURED_DOCUMENTS)
        digest = write(options.out / "held_out" / f"{name}.jsonl", iter(chosen))
        facts[name] = {"documents": len(chosen), "bytes": sum(len(text.encode()) for text in chosen), "sha256": digest}
        parts["test"] += spread(chosen, VALIDATION_DOCUMENTS)
        parts["validation"] += spread(documents(options.corpora / folder / "validation.jsonl"), VALIDATION_DOCUMENTS)
    for part, chosen in parts.items():
        write(options.out / "data" / f"{part}.jsonl", iter(chosen))
    return facts


def documents(path: Path) -> list[str]:
    """The beginnings of the documents of a file, up to MEASURED_CHARACTERS."""
    with path.open(encoding="utf-8") as file:
        texts = [json.loads(line)["text"] for line in file]
    return [text[:MEASURED_CHARACTERS] for text in texts if len(text) >= mix.LEAST]


def spread(texts: list[str], most: int) -> list[str]:
    """At most so many, evenly over the whole list."""
    step = max(1.0, len(texts) / most)
    return [texts[int(place * step)] for place in range(min(most, len(texts)))]


def write(path: Path, texts: Iterator[str]) -> str:
    """One JSON object a line; the SHA-256 of the file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    digest = hashlib.sha256()
    with path.open("wb") as file:
        for text in texts:
            line = (json.dumps({"text": text}, ensure_ascii=False) + "\n").encode()
            digest.update(line)
            file.write(line)
    return digest.hexdigest()


def say(began: float, words: str) -> None:
    print(f"{time.time() - began:6.0f} s  {words}", flush=True)


if __name__ == "__main__":
    main()
