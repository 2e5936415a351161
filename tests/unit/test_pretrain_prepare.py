"""The pretraining text: held-out rows are found however they are hidden, and prompts are those of the package."""

import json
import random
import sys
from collections import Counter
from pathlib import Path

import pytest
from transformers import AutoTokenizer

pytest.importorskip("datasketch")
sys.path.insert(0, str(Path(__file__).parents[2] / "examples" / "pretrain"))
import heldout
import mix
import prepare

from finesmith.models import embedded
from finesmith.tasks import _prompting, _template
from finesmith.types import Conversation, Message

ROW = "The tenant must give the landlord notice in writing at least sixty days before the end of the lease."
SHORT = "could you tell me when my parcel will arrive"
OTHER = "A second paragraph about the weather in the hills, which nobody has held out for any measurement at all."


@pytest.fixture(scope="module")
def held():
    return heldout.HeldOut([("leases", ROW), ("requests", SHORT), ("tiny", "play some jazz")])


@pytest.mark.parametrize(
    "text", [ROW, f"Clause 4. {ROW.upper()}", ROW.replace(" ", "\n", 3), f"well, {SHORT}? he asked", SHORT.title()]
)
def test_a_run_of_a_held_out_row_is_found(held, text):
    assert held.hits(text)[0] and held.clean(text, 1) != [text]


@pytest.mark.parametrize("text", [OTHER, " ".join(ROW.split()[:12]), "play some jazz for the guests, said the host"])
def test_what_is_not_held_out_stays(held, text):
    assert held.clean(text, 1) == [text]


def test_only_the_lines_with_the_run_go(held):
    text = f"{OTHER}\n\nBefore. {ROW} After.\n\n{OTHER}\n{OTHER}"
    assert held.clean(text, 20) == [OTHER, f"{OTHER}\n{OTHER}"]
    assert held.clean(text, 150) == [f"{OTHER}\n{OTHER}"]


def test_a_run_over_several_lines_takes_them_all(held):
    words = ROW.split()
    text = f"{OTHER}\n{' '.join(words[:8])}\n\n{' '.join(words[8:])}\n{OTHER}"
    assert held.clean(text, 20) == [OTHER, OTHER]


def test_near_copies_of_items_are_found(held):
    assert held.like("Play some JAZZ!") == "tiny"
    assert held.like("please, could you tell me when my parcel will arrive") == "requests"
    assert held.like(OTHER) is None


def test_the_lookup_by_brute_force():
    import numpy as np

    draw = np.random.default_rng(0)
    known = draw.integers(0, 2**64, 500, np.uint64)
    asked = np.concatenate([draw.integers(0, 2**64, 2000, np.uint64), known[:50]])
    found, owners = heldout.Lookup(known, np.arange(500)).find(asked)
    assert found.tolist() == list(range(2000, 2050)) and owners.tolist() == list(range(50))


def test_questions_have_the_plain_template_of_the_generation_task():
    row = {"prompt": "What is rain?", "completion": "Water from clouds."}
    found = mix.asked("self_instruct_human", row, random.Random(0))
    assert found == "### Request:\nWhat is rain?\n\n### Answer:\nWater from clouds."
    tokenizer = AutoTokenizer.from_pretrained(embedded.EMBEDDED)
    _template.settle(tokenizer, "plain")
    turn = _template.turns(tokenizer, Conversation((Message("user", row["prompt"]),)), Message("assistant", "Water."))[
        0
    ]
    assert turn.prompt == found.removesuffix("Water from clouds.") and turn.completion.startswith(f"Water.{mix.END}")


def test_labels_have_the_pattern_of_the_zero_shot_opponent():
    assert mix.labelled({"text": "where is it", "label": "lost_card-2"}) == "Text: where is it\nCategory: lost card 2"
    assert mix.labelled({"text": "a", "label": "b"}).startswith(_prompting.PATTERN.format(text="a"))


def test_rows_that_must_not_be_used_are_left_out(tmp_path):
    rows = [{"prompt": "p", "completion": "c", "licence": licence} for licence in ("CC0", "CC BY-SA 4.0 (share-alike)")]
    rows.append({"prompt": "p", "completion": "c", "licence": "CC BY-NC 4.0"})
    (tmp_path / "legal_templates").mkdir()
    (tmp_path / "legal_templates" / "train.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    corpus = next(corpus for corpus in mix.CORPORA if corpus.name == "legal_templates")
    found, left_out = mix.rows(tmp_path, corpus)
    assert [row["licence"] for row in found] == ["CC0"] and left_out == 2


def test_what_transfer_is_measured_on_gives_no_text():
    assert not {"banking77"} & {mix.FOLDERS.get(corpus.name, corpus.name) for corpus in mix.CORPORA}


def test_nothing_is_lost_in_pages_and_pieces():
    items = [f"item {number} " * (number % 40 + 1) for number in range(500)]
    pages = list(mix.pages(items, "|", random.Random(0)))
    assert "|".join(pages).split("|") == items and max(map(len, pages)) <= mix.PAGE + 400
    text = "\n".join("a line of text " * (number % 30) for number in range(4000))
    pieces = list(mix.cut(text))
    assert "\n".join(pieces).split() == text.split() and max(map(len, pieces)) < mix.PIECE + 500


def test_a_short_item_with_a_held_out_run_counts_whole(held):
    text = f"{OTHER}\n{ROW}"
    counts = {form: Counter() for form in ("prose", "asked")}
    for form, found in counts.items():
        prepare.cleaner(held, found, form)(text, 20)
        assert found["texts_with_a_held_out_run"] == 1
    lost = {form: found["characters_dropped_for_runs"] for form, found in counts.items()}
    assert lost == {"prose": len(ROW) + 1, "asked": len(text)}
