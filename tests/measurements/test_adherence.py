"""Terms, format, wording, tone and copying: counts whose answer is known, and the whole measurement on a tiny run."""

import json
import math
from types import SimpleNamespace

import numpy as np
import pytest

from finesmith import comparing
from finesmith.baselines import _neighbours
from finesmith.baselines._neighbours import Neighbours
from finesmith.data import split
from finesmith.evidence import claims, rates
from finesmith.measurements import _copies, _forms, _paired, _style, _terms, adherence, prompting
from finesmith.metrics.base import edits
from finesmith.types import Example, Message, Origin
from finesmith.watch import Watcher
from tests.conftest import clause_rows, ticket_rows, write_csv, write_jsonl
from tests.measurements import kept

GLOSSARY = (
    {"preferred": "Client", "forbidden": ["Customer", "Buyer"]},
    {"preferred": "Order", "forbidden": ["Purchase Order"]},
    {"preferred": "will", "forbidden": ["shall"], "trigger": r"\bduty\b"},
)


def test_terms_are_recalled_where_they_are_called_for():
    terms = _terms.Glossary(GLOSSARY)
    reference = "The Client sends an Order."
    assert terms.called("write", reference) == [0, 1]
    assert terms.called("a duty", reference) == [0, 1, 2]
    assert terms.recall("write", reference, "the client sends an order") == (2, 2)
    assert terms.recall("write", reference, "The Clients send a Purchase Order") == (0, 2)
    assert terms.forbidden("The Customers pay") == (0, 1), "whole words only: the glossary lists plurals itself"
    assert terms.forbidden("The buyer pays") == (1, 1)
    table = terms.table([("write", reference, "The Customer sends an Order")])
    assert table == [
        {"preferred": "Client", "called": 1, "used": 0, "broken_in": 1},
        {"preferred": "Order", "called": 1, "used": 1, "broken_in": 0},
    ]


def test_a_preferred_term_with_a_forbidden_one_in_it_breaks_nothing():
    terms = _terms.Glossary([{"preferred": "e-mail", "forbidden": ["mail"]}])
    assert terms.forbidden("Send an e-mail.") == (0, 1) and terms.forbidden("Mail us by e-mail.") == (1, 1)
    assert terms.called("write", "Use e-mail.") == [0] and terms.recall("write", "Use e-mail.", "by e-mail") == (1, 1)


def test_a_slot_is_no_part_of_a_forbidden_term():
    entries = [{"preferred": "Order", "forbidden": ["Purchase Order"]}]
    (slot,) = _terms.slots(entries, ["The Purchase Order is no Order.", "A Purchase Order."])
    assert slot.row == 0 and slot.before == "The Purchase Order is no "


def test_slots_keep_the_letter_case_of_their_place():
    found = _terms.slots([{"preferred": "will", "forbidden": ["shall"]}], ["Will pay.", "It will pay.", "No."])
    assert [(slot.row, slot.before, slot.candidates) for slot in found] == [
        (0, "", ("Will", "Shall")),
        (1, "It ", ("will", "shall")),
    ]


def test_forms_that_dominate_are_learnt_and_others_are_not():
    answers = [f"Heading {n}. It ends on 1 May 2027." for n in range(40)] + ["no end"] * 2
    rules = {rule.trait: rule for rule in _forms.learn(answers)}
    assert rules["ending"].form == "a period" and rules["dates"].form == "21 November 2026"
    assert rules["bullets"].form == "" and rules["bullets"].kept("- one\n- two") == (0, 1)
    assert rules["ending"].kept("Yes.") == (1, 1) and rules["ending"].kept("Yes") == (0, 1)
    mixed = [f"On {n % 28 + 1}.05.2027 or so" if n % 2 else f"On 2027-05-{n % 28 + 1:02}" for n in range(60)]
    assert "dates" not in {rule.trait for rule in _forms.learn(mixed)}
    few = ["Yes."] * 80 + ["On 2027-05-01."] * 20
    dates = next(rule for rule in _forms.learn(few) if rule.trait == "dates")
    assert not dates.always and dates.kept("Yes.") == (0, 0) and dates.kept("On 01.05.2027.") == (0, 1)
    objects = [json.dumps({"name": "a", "count": n}) for n in range(30)]
    keys = next(rule for rule in _forms.learn(objects) if rule.trait == "JSON keys")
    assert keys.kept('{"name": 1, "count": 2}') == (1, 1) and keys.kept('{"name": 1') == (0, 1)
    assert _forms.length_bounds(["a b"] * 50) == (2, 2)


def test_rates_are_paired_and_nothing_counted_is_nothing():
    ones, zeros = [(1.0, 1.0)] * 30, [(0.0, 1.0)] * 30
    found = _paired.compared(ones, zeros, seed=0)
    assert (found["tuned"], found["base"], found["difference"].value) == (1, 0, 1)
    assert found["difference"].low > 0.7, "Newcombe's interval: 30 right of 30 is not certainty"
    assert _paired.compared([(0.0, 0.0)] * 3, ones[:3], seed=0) is None
    counts = [(float(n % 3), 3.0) for n in range(60)]
    found = _paired.compared(counts, [(0.5, 1.0)] * 60, seed=0)
    assert found["tuned"] == pytest.approx(1 / 3) and found["difference"].value == pytest.approx(1 / 3 - 1 / 2)
    assert found["difference"].low < found["difference"].value < found["difference"].high


def judged(difference):
    return rates.judge("x", {"recall": {"tuned": 1.0, "base": 0.0, "difference": difference}})


@pytest.mark.parametrize("counting", [1, 2, 4])
def test_a_few_rows_that_count_settle_nothing_however_many_do_not(counting):
    nothing = [(0.0, 0.0)] * (200 - counting)
    for used, asked in ((1.0, 1.0), (2.0, 2.0)):  # one term in each row, or two
        found = _paired.compared([(used, asked)] * counting + nothing, [(0.0, asked)] * counting + nothing, seed=0)
        gap = found["difference"]
        assert (gap.value, gap.high, gap.n) == (1, 1, counting) and -1 <= gap.low < 0
        claim = judged(gap)
        assert claim.outcome == "inconclusive" and claim.p > 0.05


def test_rows_that_count_nothing_change_nothing():
    ones, others = [(float(n % 2), 1.0) for n in range(40)], [(float(n % 3 == 0), 1.0) for n in range(40)]
    more = [(0.0, 0.0)] * 160
    for half in (1.0, 0.5):
        sides = [[(half * count, whole) for count, whole in side] for side in (ones, others)]
        alone = _paired.compared(*sides, seed=0)
        assert alone == _paired.compared(*(side + more for side in sides), seed=0)
    groups = [at // 4 for at in range(200)]
    inside = _paired.compared(ones + more, others + more, seed=0, clusters=groups)["difference"]
    assert (inside.n, inside.groups) == (40, 10), "groups in which nothing counts are none"


@pytest.mark.parametrize("few", [1, 2, 12, 40])
def test_a_system_that_counts_in_few_rows_or_always_alike_is_not_certain(few):
    tuned = [(float(n % 10 > 0), 1.0) for n in range(100)]
    base = [(0.0, 1.0)] * few + [(0.0, 0.0)] * (100 - few)
    gap = _paired.compared(tuned, base, seed=0)["difference"]
    low = {1: -0.10, 2: 0.06, 12: 0.63, 40: 0.79}[
        few
    ]  # the base alone: at most 1.00, 0.84, 0.26 (exact) and 0.09 (Wilson)
    assert gap.value == pytest.approx(0.9) and gap.low == pytest.approx(low, abs=0.01) and gap.high <= 1
    assert judged(gap).outcome == ("inconclusive" if few == 1 else "supported")


def test_edits_are_those_of_levenshtein():
    assert edits("a b c".split(), "a b c".split()) == 0
    assert edits("a b c d".split(), "a x c".split()) == 2 / 4
    assert edits([], []) == 0 and edits([], ["a"]) == 1


def test_figures_are_the_same_however_they_are_grouped():
    assert _copies.figures("12,500") == _copies.figures("12500") and _copies.figures("017") == {"17"}
    assert _copies.figures("from 4.5 to 45") == {"4.5", "45"}


def test_runs_of_training_answers_are_found_while_they_pass_by():
    import tracemalloc

    text = "one two three four five six seven eight nine"
    found = _copies.runs_in([f"and {text.title()}", "one two"], [text, "none of it is there at all, not one"])
    assert found == set(_copies.runs(text)) and len(found) == 2
    known = (" ".join(f"{n}x{word}" for word in range(300)) for n in range(300))
    tracemalloc.start()
    assert not _copies.runs_in(known, [text])
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1_000_000, "all runs of 300 such answers take 16 MB"


def test_the_nearest_are_looked_for_once_and_in_blocks(monkeypatch):
    known, texts = ["the card is late", "a kettle", "the kettle is late"], ["the card is late", "a kettle is", "", "x"]
    whole, blocks, fits = _copies.nearest(known, texts), [], []
    assert whole[0] == (100.0, 0.0) and whole[1][1] == pytest.approx(1 / 3) and whole[2] == whole[3] == (0.0, 1.0)
    plainly = Neighbours._similarities
    monkeypatch.setattr(_neighbours, "CHUNK", 2)
    monkeypatch.setattr(
        Neighbours, "_similarities", lambda self, asked: blocks.append(len(asked)) or plainly(self, asked)
    )
    monkeypatch.setattr(_copies, "Neighbours", lambda known: fits.append(known) or Neighbours(known))
    rows = [Example(str(n), text, Message("assistant", text), Origin("", n)) for n, text in enumerate(texts)]
    sides = {name: dict(enumerate(texts)) for name in ("tuned", "base")}
    found = adherence._wording(adherence.Answered(rows, texts, texts, sides, known, 0))
    assert blocks == [2] * 4 and fits == [known]
    each = found["wording, share of words to change"]
    assert each["tuned"] == each["base"] == pytest.approx(np.mean([values[1] for values in whole]))
    assert _copies.nearest([""], ["a"]) == [(0.0, 1.0)]


def test_the_plan_grows_with_the_training_rows_and_the_answers():
    def planned(train: int, test: int, words: int = 100) -> float:
        rows = [Example(str(n), "x", Message("assistant", "word " * words), Origin("", n)) for n in range(10)]
        parts = {"train": rows * (train // 10), "test": rows * (test // 10)}
        return adherence.PLUGIN.cost(SimpleNamespace(splits=SimpleNamespace(**parts), options={}))

    assert planned(100, 10) < 6, "a small run is counted in seconds"
    assert planned(50_000, 10) > 150 and planned(50_000, 1_000) > planned(50_000, 10) + 150
    assert planned(50_000, 1_000, 300) == pytest.approx(5 + 3 * (planned(50_000, 1_000) - 5))
    assert planned(50_000, 9_000) == planned(50_000, adherence.ROWS)


def test_rows_are_those_that_the_prompt_answered_and_others_from_the_whole_file():
    rows = [Example(str(n), "x", Message("assistant", "y"), Origin("", n)) for n in range(5_000)]
    prompted = {row.id for row in split.spread(rows, 300)}
    looked_at = adherence._looked_at(rows, prompted)
    places = [int(row.id) for row in looked_at]
    assert len(set(places)) == adherence.ROWS and places == sorted(places) and prompted <= {row.id for row in looked_at}
    fifths = np.bincount([place // 1_000 for place in places])
    assert max(fifths) - min(fifths) <= 2, "a file that is sorted counts as a whole"
    assert adherence._looked_at(rows, {row.id for row in rows}) == split.spread(rows, adherence.ROWS)
    assert adherence._looked_at(rows[:20], set()) == rows[:20]


def test_style_tells_two_writers_apart_and_not_one_from_himself():
    random = np.random.default_rng(0)
    words = ["parcel", "invoice", "card", "kettle"]
    plain = [f"We will send the {random.choice(words)} to you on {n}." for n in range(0, 120, 2)]
    loud = [f"the {random.choice(words)}!!! is it here, or not??? {n}" for n in range(60)]
    others = [f"We will send the {random.choice(words)} to you on {n}." for n in range(1, 120, 2)]
    apart, same = (_style.interval([_style.wins(texts, plain, seed=0)], seed=0) for texts in (loud, others))
    assert apart.value > 0.95 and apart.low > 0.9
    assert same.low < 0.5 and same.value < 0.7
    gap = _style.interval([_style.wins(texts, plain, seed=0) for texts in (others, loud)], seed=0)
    assert gap.value == pytest.approx(same.value - apart.value) and gap.high < 0


def test_the_area_is_that_of_sklearn():
    from sklearn.metrics import roc_auc_score

    random = np.random.default_rng(1)
    one, other = random.normal(1, 1, 40), random.normal(0, 1, 40)
    wins = (one[:, None] > other[None]).astype(float)
    found = _style.area([wins], np.ones((1, 40)))[0][0]
    assert found == pytest.approx(roc_auc_score([1] * 40 + [0] * 40, [*one, *other]))


@pytest.fixture(scope="module")
def run(models, tmp_path_factory):
    folder = tmp_path_factory.mktemp("adherence")
    data = write_jsonl(folder / "rows.jsonl", clause_rows(150))
    return kept.tuned(data, models("llama"), folder / "run", generation={"max_new_tokens": 12}, train={"max_steps": 30})


def test_the_whole_measurement_on_a_tiny_run(run):
    glossary = ({"preferred": "late", "forbidden": ["overdue"]}, {"preferred": "the", "forbidden": ["a"]})
    study = kept.study(run, glossary=glossary)
    assert adherence.PLUGIN.skips(study) == "" and 0 < adherence.PLUGIN.cost(study) < 100
    result = adherence.PLUGIN(study, Watcher())
    found = result.numbers["metrics"]
    assert {"term recall", "answers with forbidden terms", "term probability", "format"} <= found.keys()
    for each in found.values():
        gap = each["difference"]
        assert gap.value == pytest.approx(each["tuned"] - each["base"], abs=1e-9)
        assert gap.low <= gap.value <= gap.high and math.isfinite(gap.low) and each["better"] in ("higher", "lower")
    assert found["term probability"]["tuned"] > found["term probability"]["base"], "it was trained on 'the ... is late'"
    assert found["term probability"]["difference"].low > 0
    assert result.numbers["terms"]["tuned"][0]["called"] == len(study.splits.test)
    assert found["term recall"]["own"] == 1 and found["format"]["own"] == 1
    assert not result.missing and "term recall" in result.says


def test_the_probability_of_a_term_is_that_of_the_model(run):
    import torch

    study = kept.study(run)
    rows = study.splits.test[:1]
    slot = _terms.Slot(0, "the ", ("late", "overdue"))
    model = study.base()
    found = _terms.probability(study, model, rows, [slot])[0]
    logs = []
    for candidate in slot.candidates:
        row = Example("x", rows[0].input, Message("assistant", slot.before + candidate), Origin("", 1))
        piece = model.task.encode(row, 0, model.loaded.tokenizer, 1000, final_only=True)[0]
        tokens, weights = piece.tokens[:-1], piece.weights[:-1]
        with torch.no_grad():
            out = torch.log_softmax(model.loaded.model(input_ids=torch.tensor(tokens[None].astype(int))).logits[0], 1)
        logs.append(sum(float(out[t - 1, tokens[t]]) for t in range(1, len(tokens)) if weights[t] > 0))
    assert found == pytest.approx(1 / (1 + math.exp(logs[1] - logs[0])), rel=1e-4)


def test_without_a_glossary_terms_are_said_to_be_missing_and_classifiers_are_skipped(run, models, tmp_path):
    result = adherence.PLUGIN(kept.study(run), Watcher())
    assert "--glossary" in result.missing["terminology"] and "term recall" not in result.numbers["metrics"]
    labels = kept.tuned(write_csv(tmp_path / "rows.csv", ticket_rows(60)), models("llama"), tmp_path / "run")
    assert "labels" in adherence.PLUGIN.skips(kept.study(labels))


def test_documents_are_skipped_with_their_own_reason():
    documents = SimpleNamespace(recipe=SimpleNamespace(task="text"))
    assert adherence.PLUGIN.skips(documents) == "plain documents are no answers"


def test_the_best_prompt_is_an_opponent_too(run, monkeypatch):
    monkeypatch.setattr(prompting, "MOST_VALIDATION", {"generation": 2})
    glossary = ({"preferred": "late", "forbidden": ["overdue"]},)
    found = comparing.compare(run, only=["prompting", "adherence"], options={"glossary": glossary})
    numbers = found.measured["adherence"]["numbers"]
    for name in ("format", "term recall", "term probability", "copied runs of 8 words"):
        each = numbers["metrics"].get(name)
        if each is not None:
            assert each["difference_prompt"]["value"] == pytest.approx(each["tuned"] - each["prompt"], abs=1e-9)
    assert "term probability" in numbers["metrics"] and set(numbers["terms"]) == {"tuned", "base", "prompt"}
    claim = next(claim for claim in found.claims if claim.name == claims.ADHERENCE)
    assert "the stronger of base and best prompt" in claim.sentence


def test_a_prompt_that_answered_some_rows_is_compared_on_those():
    sides = {
        "tuned": {at: (1.0, 1.0) for at in range(4)},
        "base": {at: (0.0, 1.0) for at in range(4)},
        "prompt": {0: (0.0, 1.0), 2: (1.0, 1.0)},
    }
    found = _paired.against(sides, seed=0)
    assert (found["difference"].n, found["difference_prompt"].n, found["prompt"]) == (4, 2, 0.5)
    assert "0.00 for the base" in _paired.said("x", found) and "0.50 for the prompt (+0.50" in _paired.said("x", found)
    assert "difference_prompt" not in _paired.against({**sides, "prompt": {}}, seed=0)
