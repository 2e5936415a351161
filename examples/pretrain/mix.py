"""What the embedded base reads: which corpora, how much of each, under which licence, and in which form.

`prose` is plain text. `asked` is a question with its answer, in the plain template of Finesmith's generation task, for
a base without one. `labelled` is a text with its category, in the pattern of the zero-shot classification opponent.
Short items of one set share a page, as the entries of a glossary do; some stand alone, as a prompt does.

banking77 and the project's own examples are left out altogether, so that what tuning gains on them is transfer; so are
the banking and credit-card intents of clinc150, which are much like banking77.
"""

import json
import random
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import jinja2

from finesmith.tasks._prompting import PATTERN, plain_label
from finesmith.tasks._template import PLAIN

END = "<|end|>"
PIECE = 20_000  # characters: long books are cut at a line, so that no document fills a batch
LEAST = 200  # characters of a piece of prose
PAGE = 3_000  # characters of a page of short items, at most about
SINGLE = 0.3  # share of pages with one item only, as a prompt is


@dataclass(frozen=True)
class Corpus:
    """One source. `limit` is in characters (None: all); `form` is prose, asked or labelled."""

    name: str
    licence: str
    form: str
    limit: int | None = None
    source: str = ""


CORPORA = (
    Corpus("corpus_textbooks", "CC BY 4.0", "prose", None, "OpenStax textbooks (openstax.org)"),
    Corpus("corpus_contracts", "CC BY 4.0", "prose", 14_000_000, "commercial contracts, CUAD v1 (The Atticus Project)"),
    Corpus("corpus_books", "public domain in the US", "prose", 112_000_000, "classic books, 1900-1929 first"),
    Corpus("aci_bench", "CC BY 4.0", "prose", None, "doctor-patient visits with their notes (ACI-Bench)"),
    Corpus("openstax_glossary", "CC BY 4.0", "asked", None, "OpenStax glossaries"),
    Corpus("openstax_summary", "CC BY 4.0", "asked", None, "OpenStax section summaries"),
    Corpus("openstax_mcq", "CC BY 4.0", "asked", None, "OpenStax multiple-choice questions"),
    Corpus("gsm8k", "MIT", "asked", None, "grade-school maths problems (GSM8K)"),
    Corpus("mts_dialog", "CC BY 4.0", "asked", None, "doctor-patient dialogues with notes (MTS-Dialog)"),
    Corpus("pubmedqa", "MIT", "asked", None, "questions about medical abstracts (PubMedQA)"),
    Corpus("self_instruct_human", "Apache-2.0", "asked", None, "instructions written by people (Self-Instruct seeds)"),
    Corpus("style_guide_pairs", "CC BY 4.0, CC0", "asked", None, "edits in published style guides"),
    Corpus("legal_templates", "CC BY 4.0, CC0, Apache-2.0", "asked", None, "standard contracts by section"),
    Corpus("cuad_clause_draft", "CC BY 4.0", "asked", 1_500_000, "contract clauses by type, CUAD v1"),
    Corpus("contract_provisions_draft", "CC BY 4.0", "asked", 1_500_000, "contract provisions by heading, CUAD v1"),
    Corpus("cuad_field_extract", "CC BY 4.0", "asked", 300_000, "fields of contract clauses, CUAD v1"),
    Corpus("snips_json", "CC0", "asked", 600_000, "spoken requests as JSON (Snips)"),
    Corpus("clinc150", "CC BY 3.0", "labelled", None, "requests by intent (CLINC150)"),
    Corpus("snips_intents", "CC0", "labelled", 400_000, "requests by intent (Snips)"),
    Corpus("goemotions", "Apache-2.0, CC BY 4.0", "labelled", 1_500_000, "comments by emotion (GoEmotions)"),
    Corpus("brand_voice", "CC0, CC BY, MIT, Apache-2.0, OGL", "labelled", None, "public documentation by its house"),
    Corpus("cuad_clause_type", "CC BY 4.0", "labelled", 1_200_000, "contract clauses by type, CUAD v1"),
    Corpus("contract_provisions", "CC BY 4.0", "labelled", 800_000, "contract provisions by heading, CUAD v1"),
)
FOLDERS = {"snips_intents": "snips_json"}
LEFT_OUT_INTENTS = ("banking", "credit_cards")
SHARE_ALIKE = re.compile(r"share-?alike|\bBY-SA\b|non-?commercial|\bNC\b", re.IGNORECASE)

PHRASES = {
    "openstax_glossary": ("What is {}?", 'Define "{}".', "What does {} mean?", "Explain {}.", "{}: what is it?"),
    "openstax_summary": ('Summarise the section "{}".', "Write a summary of {}.", "What should one know about {}?"),
    "gsm8k": ("{}", "Solve this problem step by step.\n\n{}", "{}\n\nShow how you found the answer."),
    "mts_dialog": ("Write the clinical note for this visit.\n\n{}", "Summarise this visit for the record.\n\n{}"),
    "pubmedqa": ("{}", "Answer yes, no or maybe, and say why.\n\n{}"),
    "style_guide_pairs": ("Say it in plain language: {}", "Rewrite this.\n\n{}", "Make this clearer: {}"),
    "contract_provisions_draft": ("{}", "Please help with a contract. {}"),
    "cuad_clause_draft": ("{}", "{} Use the wording of a commercial contract."),
    "snips_json": ("Turn this request into JSON.\n\n{}", "Give intent and slots as JSON: {}", "{}\n\nAnswer in JSON."),
}  # fmt: skip
_TEMPLATE = jinja2.Environment().from_string(PLAIN.replace("{{ bos }}", ""))


def rows(corpora: Path, corpus: Corpus) -> tuple[list[dict], int]:
    """The training rows that may be used commercially and without sharing alike, and how many may not."""
    path = corpora / FOLDERS.get(corpus.name, corpus.name) / "train.jsonl"
    with path.open(encoding="utf-8") as file:
        found = [json.loads(line) for line in file]
    free = [row for row in found if not SHARE_ALIKE.search(row.get("licence", ""))]
    return [row for row in free if usable(corpora, corpus.name, row)], len(found) - len(free)


def usable(corpora: Path, name: str, row: dict) -> bool:
    """Whether a row is of the kind that is wanted: one label only, no bank intents, no verse."""
    if name == "clinc150":
        domains = json.loads((corpora / name / "domains.json").read_text(encoding="utf-8"))
        return row["label"] not in {"oos", *(label for domain in LEFT_OUT_INTENTS for label in domains[domain])}
    if name == "goemotions":
        return len(row["labels"]) == 1
    return name != "corpus_books" or not is_verse(row["text"])


def is_verse(text: str) -> bool:
    """Verse, plays and tables have short lines: half of them under 40 characters."""
    lengths = sorted(len(line) for line in text.split("\n") if line.strip())
    return lengths[len(lengths) // 2] < 40


def order(name: str, found: list[dict], choose: random.Random) -> list[dict]:
    """Random; of the books the latest first, so that the limit leaves out the oldest prose."""
    choose.shuffle(found)
    return sorted(found, key=lambda row: -int(row["year"])) if name == "corpus_books" else found


def prose(row: dict) -> str:
    """A row as one plain text."""
    return row["text"] if "text" in row else f"{row['prompt']}\n\n{row['completion']}"


def cut(text: str) -> Iterator[str]:
    """Pieces of at most about PIECE characters, cut at line ends."""
    piece, size = [], 0
    for line in text.split("\n"):
        piece.append(line)
        size += len(line) + 1
        if size > PIECE:
            yield "\n".join(piece).strip()
            piece, size = [], 0
    if rest := "\n".join(piece).strip():
        yield rest


def asked(name: str, row: dict, choose: random.Random) -> str:
    """A question and its answer in the plain template."""
    prompt, answer = row["prompt"], row["completion"]
    if name == "openstax_summary":
        prompt = prompt.split("\n")[0].lstrip("# ")
    if name == "gsm8k":
        answer = re.sub(r"<<[^>]*>>", "", answer)
    if name == "pubmedqa":
        answer = f"{answer}. {row['long_answer']}"
    prompt = choose.choice(PHRASES.get(name, ("{}",))).format(prompt)
    turns = [{"role": "user", "content": prompt}, {"role": "assistant", "content": answer}]
    return _TEMPLATE.render(messages=turns, eos_token="").rstrip("\n")


def labelled(row: dict) -> str:
    """A text and its category as the zero-shot opponent writes them."""
    return PATTERN.format(text=row.get("text", row.get("prompt"))) + plain_label(row["label"])


def pages(items: list[str], joint: str, choose: random.Random) -> Iterator[str]:
    """Items in documents of a random number of them; some stand alone."""
    page: list[str] = []
    room = 0 if choose.random() < SINGLE else choose.randint(PAGE // 6, PAGE)
    for item in items:
        if page and sum(map(len, page)) + len(item) > room:
            yield joint.join(page)
            page, room = [], 0 if choose.random() < SINGLE else choose.randint(PAGE // 6, PAGE)
        page.append(item)
    if page:
        yield joint.join(page)


def documents(
    corpus: Corpus, found: list[dict], choose: random.Random, *, clean: Callable, like: Callable
) -> Iterator[str]:
    """The documents of a corpus up to its limit.

    `clean(text, least)` gives the parts of a text that repeat no held-out row, `like(text)` says which held-out set has
    an item (nearly) like it, or None.
    """
    found = order(corpus.name, found, choose)
    if corpus.form == "prose":
        made = (
            piece for row in found for part in clean(prose(row), LEAST) for piece in cut(part) if len(piece) >= LEAST
        )
        yield from up_to(corpus.limit, made)
        return
    make = (lambda row: asked(corpus.name, row, choose)) if corpus.form == "asked" else labelled
    whole = (item for row in found if not like(row) and [item := make(row)] == clean(item, 1))
    items = list(up_to(corpus.limit, whole))
    yield from pages(items, f"{END}\n\n" if corpus.form == "asked" else "\n\n", choose)


def up_to(limit: int | None, texts: Iterator[str]) -> Iterator[str]:
    """The first texts, until `limit` characters are reached."""
    taken = 0
    for text in texts:
        if limit is not None and taken >= limit:
            return
        taken += len(text)
        yield text
