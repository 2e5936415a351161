"""Table and card: everything that was measured is there, nothing else is, and it fits."""

import ast
import json
import re
from dataclasses import replace
from io import StringIO

import pytest
from rich.console import Console
from ruamel.yaml import YAML

from finesmith.evidence import plain
from finesmith.report import card, table, words
from finesmith.types import Estimate, Evidence


def at(value, n=3080):
    return Estimate(value, value - 0.05, value + 0.05, n)


EVIDENCE = Evidence(
    task="classification",
    metric="accuracy",
    systems={
        "tuned": {"accuracy": at(0.873), "macro_f1": at(0.85), "micro_f1": at(0.873)},
        "base": {"accuracy": at(0.652, 300), "macro_f1": at(0.6, 300)},
        "tfidf": {"accuracy": at(0.861), "macro_f1": at(0.84)},
        "majority": {"accuracy": at(0.05)},
    },
    gains={"base": at(0.221, 300), "tfidf": at(0.012), "majority": at(0.8)},
    verdict="Clear gain: accuracy 0.873 against 0.652 for the base.",
    not_measured={"training from scratch [bold]": "it was not asked for", "retention": "no probe for this model"},
    costs={
        "seconds": 200.0,
        "peak_memory_bytes": 1.2e9,
        "trainable_parameters": 204_800,
        "total_parameters": 22_713_216,
        "saved_bytes": 4.3e6,
        "steps": 1200,
        "kilowatt_hours": 0.25,
    },
    details={
        "per_class": [{"label": "card|lost", "precision": 0.5, "recall": 0.25, "f1": 1 / 3, "support": 8}],
        "confusions": [{"target": "card|lost", "output": "card stolen", "count": 4}],
    },
)
GENERATION = Evidence(
    task="generation",
    metric="chrf",
    systems={
        name: {
            "chrf": Estimate(61.2, 58, 64, 200),
            "exact_match": at(0.4, 200),
            "bits_per_byte": at(1.9, 200),
            "held_out_loss": at(2.5, 200),
            "json_valid": at(0.9, 200),
        }
        for name in ("tuned", "base", "nearest")
    },
    gains={"base": Estimate(18.2, 14.1, 22.0, 200), "nearest": Estimate(8.2, 4.1, 12.0, 200)},
    verdict="Clear gain.",
    not_measured={},
    costs={},
)
ABOUT: card.About = {
    "name": "ticket router",
    "model": "org/base",
    "base_model": "org/base",
    "method": "lora",
    "adapter": True,
    "path": "runs/tickets/model",
    "data": "tickets.csv",
    "rows": {"train": 8622, "validation": 1381, "test": 3080},
    "split_hash": "ab" * 32,
    "notes": ["6 texts stood in two parts."],
    "seed": 7,
    "recipe": "data: tickets.csv\nnote: '```'\n",
    "versions": {"torch": "2.8"},
    "machine": "2 cores",
}


@pytest.mark.parametrize("evidence", [EVIDENCE, GENERATION])
@pytest.mark.parametrize("width", [30, 36, 48, *range(58, 90), 120])
def test_the_table_fits_any_width_and_leaves_nothing_out(evidence, width):
    text = table.plain(evidence, width=width)
    assert max(map(len, text.splitlines())) <= width
    assert text.startswith(evidence.verdict[:20])
    assert "\x1b" not in text and "…" not in text
    flat = " ".join(text.split())
    for name, scores in evidence.systems.items():
        assert words.system_title(name).split()[0] in flat
        for metric, estimate in scores.items():
            assert words.interval(words.metric_named(metric), estimate) in flat
    for gain in evidence.gains.values():
        assert words.signed_interval(words.metric_named(evidence.metric), gain) in flat


def test_a_narrow_terminal_gets_a_list_and_a_wide_one_a_table():
    assert "In brackets" not in table.plain(EVIDENCE, width=80) and "95 % interval" in table.plain(EVIDENCE, width=80)
    narrow = table.plain(EVIDENCE, width=60).splitlines()
    assert "  macro-F1: 0.850 (0.800 to 0.900), n = 3080" in narrow
    assert "  tuned gains, accuracy: +0.221 (+0.171 to +0.271)" in narrow


def test_the_table_says_costs_and_what_is_missing_word_for_word():
    flat = " ".join(table.plain(EVIDENCE).split())
    assert (
        "Training cost: 3 min 20 s, 1,200 steps, peak memory 1.2 GB, 204,800 of 22,713,216 (0.90%) parameters trained, "
        "4.3 MB saved, kilowatt hours 0.25."
    ) in flat
    assert "Not measured: training from scratch [bold]: it was not asked for" in flat
    assert "n = 300" in flat


def test_the_table_prints_on_any_console():
    console = Console(record=True, width=60, force_terminal=True, file=StringIO())
    console.print(table.render(EVIDENCE))
    assert "0.873" in console.export_text()


def front_matter(text):
    return YAML(typ="safe", pure=True).load(re.match(r"---\n(.*?)\n---\n", text, re.S)[1])


def test_the_card_has_a_front_matter_that_hubs_read():
    assert front_matter(card.render(EVIDENCE, ABOUT)) == {
        "library_name": "peft",
        "base_model": "org/base",
        "pipeline_tag": "text-classification",
        "tags": ["finesmith", "lora"],
        "metrics": ["accuracy", "macro_f1", "micro_f1"],
    }
    assert front_matter(card.render(EVIDENCE, {**ABOUT, "license": "mit"}))["license"] == "mit"


def test_the_card_says_what_was_measured_and_what_was_not():
    text = card.render(EVIDENCE, ABOUT)
    assert f"> {EVIDENCE.verdict}" in text
    assert "| TF-IDF + linear SVM | 0.861 (0.811 to 0.911) | 3080 | +0.012 (-0.038 to +0.062) |" in text
    assert "| base | 0.600 (0.550 to 0.650, n = 300) | - |" in text
    assert "- retention: no probe for this model" in text
    assert "- Rows: train 8,622, validation 1,381, test 3,080" in text
    assert "| card\\|lost | 0.50 | 0.25 | 0.33 | 8 |" in text
    assert "| card\\|lost | card stolen | 4 |" in text
    assert "````yaml\ndata: tickets.csv\nnote: '```'\n````" in text
    assert "- Seed: 7" in text


@pytest.mark.parametrize("bare", ["# Mine\n\nWritten by hand.\n", "# Mine\n\n> It is good.\n\nMore.\n", ""])
def test_the_scale_is_said_on_any_card_and_taken_back(bare):
    said = card.with_scale(bare, 0.5, "knee", {"test": 0.75, "rows": 3080}, "accuracy")
    assert "at scale 0.5 (the point `knee`), between the base (0) and the tuned model (1)." in said
    assert "On 3,080 test rows accuracy is 0.750 at this scale." in said
    assert card.with_scale(said, 0.25, "", None, "accuracy").count("<!-- scale -->") == 1
    assert card.with_scale(said, 1, "", None, "accuracy").strip() == bare.strip()


def compared(evidence, **measured):
    """What a comparison says, as plain values."""
    return {"decision": "Use the prompt: it is better.", "claims": [], "not_measured": {}, "measured": measured,
            "evidence": json.loads(json.dumps(plain.as_json(evidence)))}  # fmt: skip


def test_a_compared_card_says_nothing_of_before():
    before = plain.from_json(json.loads(json.dumps(plain.as_json(EVIDENCE))))  # as a run gives it back
    prompt = {"prompt": {"accuracy": at(0.9, 300)}}
    after = replace(before, verdict="Not clear: the prompt does as well.", systems={**before.systems, **prompt},
                    gains={**before.gains, "prompt": at(-0.03, 300)}, not_measured={})  # fmt: skip
    seeds = {"numbers": {"seeds": [0, 1, 2], "values": [0.7, 0.71, 0.69]}}
    bare = card.with_scale(card.render(EVIDENCE, ABOUT), 0.5, "", None, "accuracy")
    said = card.with_verdict(bare, compared(after, seeds=seeds), before)
    assert "> Not clear: the prompt does as well.\n\n<!-- scale -->" in said and EVIDENCE.verdict not in said
    assert "the best prompt | 0.900" in said and "## Not measured" not in said and card.STAYS not in said
    assert "- This is one of 3 trainings with other seeds; accuracy: 0.700, 0.710, 0.690." in said
    assert card.ONE not in said and said.count("## Results") == 1 and "\n\n\n" not in said
    back = card.with_verdict(said, compared(before, seeds=seeds), after)
    assert f"> {before.verdict}\n" in back and "best prompt |" not in back and back.count("one of 3 trainings") == 1


def test_what_was_changed_on_a_card_by_hand_stays():
    after = replace(EVIDENCE, verdict="Not clear.", gains={"base": at(0.1, 300)})
    mine = card.render(EVIDENCE, ABOUT).replace(EVIDENCE.verdict, "It is good.")
    said = card.with_verdict(mine, compared(after), EVIDENCE)
    assert "> It is good.\n" in said and card.STAYS in said and card.ONE in said
    assert card.STAYS in card.with_verdict("# Mine\n\nBy hand.\n", compared(after), EVIDENCE)


def test_a_scale_above_1_is_said_to_be_beyond_the_tuned_model():
    said = card.with_scale("# Mine\n", 1.3, "max", {"test": 2.5, "rows": 50}, "held_out_loss")
    assert "at scale 1.3 (the point `max`), beyond the tuned model (1)." in said and "between" not in said
    assert "On 50 test rows held-out loss, nats per token (lower is better) is 2.500 at this scale." in said


def test_a_cell_is_text():
    assert card._cell("<b>R&D</b> | x\ny") == r"&lt;b&gt;R&amp;D&lt;/b&gt; \| x y"


def test_a_card_about_nothing_known_guesses_nothing():
    text = card.render(GENERATION, {})
    assert front_matter(text)["library_name"] == "transformers"
    for absent in ("license", "base_model", "## Not measured", "## Settings", "## Training data", "None", "Seed"):
        assert absent not in text


@pytest.mark.parametrize("evidence", [EVIDENCE, GENERATION])
@pytest.mark.parametrize("adapter", [True, False])
def test_the_code_on_a_card_is_python(evidence, adapter):
    blocks = re.findall(r"```python\n(.*?)\n```", card.render(evidence, {**ABOUT, "adapter": adapter}), re.S)
    assert len(blocks) == 2
    for block in blocks:
        ast.parse(block)
    assert "finesmith.load('runs/tickets/model')" in blocks[0]
    assert ("peft" if adapter else "transformers") in blocks[1]


def test_durations_and_sizes():
    assert [words.duration(s) for s in (0.84, 9.94, 45.2, 59.7, 200, 3599.6, 7500)] == [
        "0.8 s",
        "9.9 s",
        "45 s",
        "1 min 0 s",
        "3 min 20 s",
        "1 h 0 min",
        "2 h 5 min",
    ]
    assert [words.size(b) for b in (0, 812, 4300, 999_999, 1.2e9, 5e12)] == [
        "0 B",
        "812 B",
        "4.3 kB",
        "1.0 MB",
        "1.2 GB",
        "5000.0 GB",
    ]
