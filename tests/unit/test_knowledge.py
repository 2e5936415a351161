"""The claim about the base's knowledge: as tuned, on the user's prompts, at a weaker strength, over seeds."""

import pytest

from finesmith.evidence import claims
from finesmith.measurements import retention as measured
from finesmith.types import Estimate
from tests.unit.test_claims import as_json, judged, one


def retention(value, half=0.002):
    return {"change_bits_per_byte": as_json(value, half), "margin": 0.01}


def frontier(scale, lost, change=0.004, key="change_bits_per_byte", floor=0.0, **more):
    ends = {"0": {"tuned_gains": as_json(0.3), key: as_json(0.0, floor)}, "1": {"tuned_gains": as_json(0.0)}}
    keep = {"scale": scale, "tuned_gains": as_json(lost, **more), key: as_json(change, 0.002)}
    return {"ends": ends, "operating_points": {"keep": keep}}


def test_knowledge_kept_lost_or_kept_at_some_strength():
    assert one(claims.KNOWLEDGE, {"retention": retention(0.005)}).outcome == "supported"
    assert one(claims.KNOWLEDGE, {"retention": retention(-0.02)}).outcome == "supported"
    assert one(claims.KNOWLEDGE, {"retention": retention(0.01)}).outcome == "inconclusive"
    assert one(claims.KNOWLEDGE, {"retention": retention(0.05)}).outcome == "not supported"
    kept = one(claims.KNOWLEDGE, {"retention": retention(0.05), "frontier": frontier(0.5, 0.01)})
    assert kept.outcome == "supported" and "At strength 0.5 it is within the margin (+0.40 % (" in kept.sentence
    assert "and keeps 97 % of the gain, which the test rows alone do not settle" in kept.sentence and kept.grade == "C"
    sure = one(claims.KNOWLEDGE, {"retention": retention(0.05), "frontier": frontier(0.5, 0.001, half=0.002)})
    assert (sure.outcome, sure.grade) == ("supported", "B") and sure.numbers["kept_at_least"] > 0.98
    lost = one(claims.KNOWLEDGE, {"retention": retention(0.05), "frontier": frontier(0.25, 0.2)})
    assert lost.outcome == "not supported" and "No strength between base and tuned keeps 95 %" in lost.sentence
    encoder = {"loss_probe_accuracy": as_json(0.0, 0.005), "margin": 0.01}
    assert one(claims.KNOWLEDGE, {"retention": encoder}).outcome == "supported"


def test_a_strength_that_loses_the_gain_lends_the_claim_no_p_value():
    alone = one(claims.KNOWLEDGE, {"retention": retention(0.0079)})
    lost = one(claims.KNOWLEDGE, {"retention": retention(0.0079), "frontier": frontier(0.5, 0.27, change=0.0)})
    assert lost.p == alone.p > 0.01
    kept = one(claims.KNOWLEDGE, {"retention": retention(0.0079), "frontier": frontier(0.5, 0.001, change=0.0)})
    assert kept.p == pytest.approx(2 * alone.p), "as tuned is what supports it; two ways were open"
    far = one(claims.KNOWLEDGE, {"retention": retention(0.05), "frontier": frontier(0.5, 0.27, change=0.0)})
    assert far.outcome == "not supported" and far.p > 0.5


def test_a_strength_must_keep_the_knowledge_on_passages_that_did_not_choose_it():
    beyond = one(claims.KNOWLEDGE, {"retention": retention(0.05), "frontier": frontier(0.5, 0.001, change=0.025)})
    assert beyond.outcome == "not supported" and beyond.p > 0.05 and "scale" not in beyond.numbers
    assert "At strength 0.5, which was chosen to keep it, it is +2.50 % (+2.30 to +2.70 %)" in beyond.sentence
    encoder = {"loss_probe_accuracy": as_json(0.02, 0.05), "margin": 0.05}
    few = frontier(0.0, 0.3, key="loss_probe_accuracy", floor=0.054)
    found = one(claims.KNOWLEDGE, {"retention": encoder, "frontier": few})
    assert found.outcome == "inconclusive" and "cannot be shown with these passages" in found.sentence


def test_knowledge_on_the_prompts_counts():
    prompts = {"change_bits_per_byte": as_json(0.3), "retained": False, "lost": True}
    asked = {**retention(0.001), "prompts": prompts, "retained": False, "lost": True}
    found = one(claims.KNOWLEDGE, {"retention": asked})
    assert found.outcome == "not supported" and found.p > 0.5
    assert "Bits per byte on your prompts rose by +30.00 % (+28.00 to +32.00 %)" in found.sentence
    weaker = one(claims.KNOWLEDGE, {"retention": asked, "frontier": frontier(0.5, 0.0)})
    assert weaker.outcome == "not supported" and "your prompts were not asked" in weaker.sentence
    seeds = {"seeds": [0, 1, 2], "gains": {}, "knowledge": {"change_bits_per_byte": as_json(0.001, 0.002)}}
    assert one(claims.KNOWLEDGE, {"retention": asked, "seeds": seeds}).outcome == "not supported"
    fine = {**asked, "prompts": {**prompts, "change_bits_per_byte": as_json(0.0, 0.001), "retained": True}}
    fine |= {"retained": True, "lost": False}
    kept = one(claims.KNOWLEDGE, {"retention": fine, "seeds": seeds})
    assert (kept.outcome, kept.grade) == ("supported", "B"), "the seeds were not asked the prompts"


@pytest.mark.parametrize(
    "numbers",
    [
        {"retention": retention(0.005)},
        {"retention": retention(0.01)},
        {"retention": retention(0.05)},
        {"retention": retention(0.05), "frontier": frontier(0.5, 0.01)},
        {"retention": retention(0.05), "frontier": frontier(0.25, 0.2)},
    ],
)
def test_holm_counts_the_knowledge_whatever_came_out(numbers):
    border = as_json(0.1, 0.092)  # p about 0.033 alone
    found = judged({"prompting": {"best": "x", "gain": border}, **numbers})
    assert (
        found[claims.KNOWLEDGE].p is not None and found[claims.KNOWLEDGE].numbers["p_holm"] >= found[claims.KNOWLEDGE].p
    )
    alone = one(claims.PROMPT, {"prompting": {"best": "x", "gain": border}}).p
    assert found[claims.PROMPT].numbers["p_holm"] >= alone
    if found[claims.KNOWLEDGE].p > alone:
        assert found[claims.PROMPT].outcome == "inconclusive", "one of two claims that were looked at"


def test_what_is_kept_over_seeds_is_an_a():
    kept = {"retention": {"change_bits_per_byte": as_json(0.0, 0.001), "margin": 0.01}}
    seeds = {"seeds": [0, 1, 2], "gains": {}, "knowledge": {"change_bits_per_byte": as_json(0.002, 0.005)}}
    assert one(claims.KNOWLEDGE, kept).grade == "B"
    assert one(claims.KNOWLEDGE, {**kept, "seeds": seeds}).grade == "A"
    wide = {**seeds, "knowledge": {"change_bits_per_byte": as_json(0.002, 0.05)}}
    assert one(claims.KNOWLEDGE, {**kept, "seeds": wide}).outcome == "inconclusive"
    lost = {"retention": {"change_bits_per_byte": as_json(0.2, 0.001), "margin": 0.01}}
    assert one(claims.KNOWLEDGE, {**lost, "seeds": {**seeds, "knowledge": lost["retention"]}}).grade == "A"
    assert one(claims.KNOWLEDGE, {**kept, "seeds": {**seeds, "knowledge": {}}}).grade == "B"
    weaker = frontier(0.5, 0.0, half=0.002)
    scaled = one(claims.KNOWLEDGE, {**lost, "seeds": seeds, "frontier": weaker})
    assert (scaled.outcome, scaled.grade) == ("supported", "B"), "the strength was chosen for one seed"


def test_a_margin_below_a_percent_is_not_nothing():
    change = {"change_bits_per_byte": Estimate(0.001, 0.0, 0.002, 212), "kl_general": 0.01}
    bits = {"tuned_bits_per_byte": 2.0, "base_bits_per_byte": 1.99}
    for margin, told in ((0.005, "margin of 0.5 %"), (0.05, "margin of 5 %")):
        assert measured._says({**change, **bits, "margin": margin, "retained": True, "lost": False}).endswith(told)


def test_one_prompt_leaves_it_open_in_words():
    prompts = {"change_bits_per_byte": {"value": 0.02, "low": None, "high": None, "n": 1}, "retained": False}
    found = one(
        claims.KNOWLEDGE, {"retention": {**retention(0.005), "retained": False, "lost": False, "prompts": prompts}}
    )
    assert found.outcome == "inconclusive" and "+2.00 % (one text, which leaves it open)" in found.sentence
