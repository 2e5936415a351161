"""The rules of claims and the decision: each outcome on numbers whose answer is known."""

from dataclasses import replace

import pytest

from finesmith import registry
from finesmith.evidence import claims, decision, similarity
from finesmith.report import names
from finesmith.types import Estimate, Evidence

ACCURACY, BITS = (registry.resolve("metrics", name) for name in ("accuracy", "bits_per_byte"))


def interval(value, half=0.02, n=500):
    return Estimate(value, value - half, value + half, n)


def as_json(value, half=0.02, n=500):
    return {"value": value, "low": value - half, "high": value + half, "n": n}


def evidence(details=None, **gains):
    gains = gains or {"base": 0.3, "tfidf": 0.1, "majority": 0.6}
    gains = {name: gain if isinstance(gain, Estimate) else interval(gain) for name, gain in gains.items()}
    systems = {name: {"accuracy": interval(0.9 - gain.value)} for name, gain in gains.items()}
    systems["tuned"] = {"accuracy": interval(0.9)}
    return Evidence("classification", "accuracy", systems, gains, "the verdict", {}, {}, details or {})


def judged(numbers=None, missing=None, found=None, **more):
    all_claims = claims.judge(found or evidence(), ACCURACY, numbers or {}, missing or {}, **more)
    return {claim.name: claim for claim in all_claims}


def one(name, numbers, **more):
    return judged(numbers, **more)[name]


def test_what_was_not_measured_says_so_and_why():
    found = judged(missing={"prompting": "part of --effort standard"})
    assert found[claims.PROMPT].outcome == "not measured"
    assert found[claims.PROMPT].sentence == "prompting: part of --effort standard."
    assert found[claims.LORA].sentence == "lora_or_full: it is not part of this comparison."
    assert found[claims.IMPROVED].outcome == "supported"
    assert {claim.outcome for name, claim in found.items() if name != claims.IMPROVED} == {"not measured"}
    assert all(claim.grade == "" for name, claim in found.items() if name != claims.IMPROVED)
    assert "One data set cannot show it" in found[claims.SIMILARITY].sentence
    alone = Evidence("t", "accuracy", {"tuned": {"accuracy": interval(0.9)}}, {}, "", {}, {})
    assert judged(found=alone)[claims.IMPROVED].outcome == "not measured"


@pytest.mark.parametrize(
    "gain, minimum, outcome",
    [
        (as_json(0.1), 0.0, "supported"),
        (as_json(0.1), 0.2, "not supported"),
        (as_json(0.1, 0.11), 0.0, "inconclusive"),
        (as_json(-0.1), 0.0, "not supported"),
        (as_json(0.015, 0.01), 0.02, "inconclusive"),
        ({"value": 0.1, "low": None, "high": None, "n": 1}, 0.0, "inconclusive"),
    ],
)
def test_against_the_prompt(gain, minimum, outcome):
    claim = one(claims.PROMPT, {"prompting": {"best": "kNN", "gain": gain}}, minimum_gain=minimum)
    assert claim.outcome == outcome and "best prompt (kNN)" in claim.sentence
    assert claim.grade == ("C" if outcome == "inconclusive" else "B")


def test_an_open_question_says_how_many_rows_would_answer_it():
    claim = one(claims.PROMPT, {"prompting": {"best": "kNN", "gain": as_json(0.02, 0.04, 100)}})
    assert "About 817 test rows would show a gain of this size." in claim.sentence


CURVE = {
    "useful_gain": 0.01,
    "flat": False,
    "gain_2x": {"value": 0.04, "low": 0.01, "high": 0.08},
    "more_labels": {"low": 300.0, "high": 500.0},
}


@pytest.mark.parametrize(
    "change, outcome, words",
    [
        ({}, "not supported", "still steep. The target would take 300 to 500 more labels."),
        ({"more_labels": {"low": 300.0, "high": None}}, "not supported", "300 more labels at least."),
        (
            {"more_labels": {"low": None, "high": None}},
            "not supported",
            "Even the upper end of the range misses the target",
        ),
        ({"more_labels": {"low": 0.0, "high": 0.0}}, "supported", "the target is reached already"),
        ({"flat": True}, "supported", "less than the 0.01 that is of use"),
        (
            {"gain_2x": {"value": 0.02, "low": -0.05, "high": 0.09}, "more_labels": None},
            "inconclusive",
            "-0.050 to +0.090.",
        ),
    ],
)
def test_labels_enough(change, outcome, words):
    claim = one(claims.LABELS, {"learning_curve": {**CURVE, **change}})
    assert claim.outcome == outcome and words in claim.sentence and claim.grade == "C"
    assert one(claims.LABELS, {"learning_curve": {"points": []}}).outcome == "inconclusive"


def in_bits(gain):
    """Evidence whose primary metric is better low: tuned 0.96 bits per byte, the base 0.96 and the gain."""
    systems = {name: {"bits_per_byte": interval(0.96 + add)} for name, add in (("tuned", 0.0), ("base", gain))}
    return Evidence("text", "bits_per_byte", systems, {"base": interval(gain)}, "the verdict", {}, {"steps": 30})


def test_where_lower_is_better_no_sign_says_the_opposite():
    seeds = {"seeds": [0, 1, 2], "gains": {"base": as_json(0.928, 1.0)}}
    numbers = {
        "prompting": {"best": "kNN", "gain": as_json(0.5)},
        "learning_curve": {**CURVE, "gain_2x": {"value": 0.04, "low": -0.02, "high": 0.09}},
        "lora_or_full": lora(0.03, 0.01),
        "scratch": {"gap": as_json(1.2), "costs": {"steps": 30.0}},
        "seeds": seeds,
    }
    found = {claim.name: claim.sentence for claim in claims.judge(in_bits(0.928), BITS, numbers, {})}
    assert "Clear gain: gain +0.928, 95 % interval" in found[claims.IMPROVED]
    assert "Over 3 trainings the gain is +0.928" in found[claims.IMPROVED]
    assert found[claims.PROMPT].startswith("Tuned against the best prompt (kNN): gain +0.500 (95 %")
    assert found[claims.LABELS].startswith("Twice the labels would improve bits per byte by -0.020 to +0.090")
    assert found[claims.LORA].startswith("Full fine-tuning against adapters: gain +0.030 (90 %")
    ours = "Tuned against the same model from scratch with as many steps (30): gain +1.200"
    assert found[claims.SCRATCH].startswith(ours)
    assert "(gain +0.928 bits per byte, 95 %" in decision.decide(in_bits(0.928), BITS, {})
    assert one(claims.PROMPT, numbers).sentence.startswith("Tuned minus the best prompt (kNN): +0.500 (95 %")
    assert decided(base=0.3).endswith("(+0.300 accuracy, 95 % interval +0.280 to +0.320, n = 500).")


def lora(value, half, delta=0.01):
    arms = {
        "lora": {"trainable_parameters": 1000, "megabytes": 1.0, "seconds": 30.0, "peak_memory_bytes": 6e8},
        "full": {"trainable_parameters": 50000, "megabytes": 50.0, "seconds": 60.0, "peak_memory_bytes": 8e8},
    }
    difference = as_json(value, half)
    return {
        "difference": difference,
        "low90": value - 0.84 * half,
        "high90": value + 0.84 * half,
        "delta": delta,
        **arms,
    }


@pytest.mark.parametrize(
    "value, half, outcome",
    [
        (0.0, 0.008, "supported"),
        (0.0, 0.03, "inconclusive"),
        (0.05, 0.02, "not supported"),
        (-0.05, 0.02, "inconclusive"),
    ],
)
def test_adapters_against_full(value, half, outcome):
    claim = one(claims.LORA, {"lora_or_full": lora(value, half)})
    assert claim.outcome == outcome and "weights moved 2 %, MB kept 2 %, memory 75 %, time 50 %" in claim.sentence
    assert (claim.p < 0.05) == (outcome == "supported")


def test_scratch_and_the_linear_model_that_is_from_scratch_too():
    supported = one(claims.SCRATCH, {"scratch": {"gap": as_json(0.2), "label_multiplier": 6.0}})
    assert supported.outcome == "supported" and "worth 6.0 times the labels" in supported.sentence
    for end, told in (("at_least", "at least 8.0"), ("at_most", "at most 1.0")):
        times = {f"label_multiplier_{end}": float(told[-3:])}
        found = one(claims.SCRATCH, {"scratch": {"gap": as_json(-0.1), **times}})
        assert f"Pretraining is worth {told} times the labels." in found.sentence and found.outcome == "not supported"
    assert "Pretraining is worth" not in one(claims.SCRATCH, {"scratch": {"gap": as_json(-0.1)}}).sentence


@pytest.mark.parametrize(
    ("tuned", "scratch", "told"),
    [
        (1200, 1200.0, "scratch with as many steps (1,200): +0.200"),
        (1200, 400.0, "scratch (400 steps against 1,200): +0.200"),
        (1200, None, "scratch: +0.200"),
        (None, 400.0, "scratch: +0.200"),
    ],
)
def test_what_was_trained_as_long_is_said_to_be_and_nothing_else(tuned, scratch, told):
    found = replace(evidence(), costs={} if tuned is None else {"steps": tuned})
    costs = {} if scratch is None else {"costs": {"steps": scratch}}
    said = judged({"scratch": {"gap": as_json(0.2), **costs}}, found=found)[claims.SCRATCH].sentence
    assert said.startswith(f"Tuned minus the same model from {told} (95 % interval")


@pytest.mark.parametrize(
    ("linear", "minimum", "outcome", "words"),
    [
        (interval(0.1), 0.0, "supported", "is beaten too"),
        (interval(0.01, 0.02), 0.0, "inconclusive", "may be as good"),
        (interval(-0.1), 0.0, "not supported", "is as good"),
        (interval(0.0, 0.02), 0.05, "not supported", "is as good"),
        (interval(0.03, 0.02), 0.04, "inconclusive", "may be as good"),
    ],
)
def test_the_linear_model_is_from_scratch_too(linear, minimum, outcome, words):
    numbers = {"scratch": {"gap": as_json(0.2)}}
    found = judged(numbers, found=evidence(base=0.3, tfidf=linear), minimum_gain=minimum)[claims.SCRATCH]
    assert found.outcome == outcome and f"TF-IDF, which is from scratch too, {words}" in found.sentence
    assert (found.p < 0.05) == (linear.low > 0), "both must hold"
    alone = judged(numbers, found=evidence(base=0.3), minimum_gain=minimum)[claims.SCRATCH]
    assert alone.outcome == "supported" and "TF-IDF" not in alone.sentence
    worse = judged({"scratch": {"gap": as_json(-0.1)}}, found=evidence(base=0.3, tfidf=0.1))[claims.SCRATCH]
    assert worse.outcome == "not supported"


def rates(**differences):
    return {name: {"tuned": 0.9, "base": 0.5, "difference": as_json(value)} for name, value in differences.items()}


def test_rates_of_a_claim_must_agree():
    assert one(claims.ADHERENCE, {"adherence": {"metrics": rates(terms=0.2, format=0.0)}}).outcome == "supported"
    assert one(claims.ADHERENCE, {"adherence": rates(terms=0.2)}).outcome == "supported"
    assert one(claims.CONSISTENCY, {"consistency": rates(wording=-0.2)}).outcome == "not supported"
    mixed = one(claims.ADHERENCE, {"adherence": rates(terms=0.2, format=-0.2)})
    assert (
        mixed.outcome == "inconclusive"
        and "Clearly better: terms +" in mixed.sentence
        and "Clearly worse: format -" in mixed.sentence
    )
    lower = {"tone": {"tuned": 0.6, "base": 0.9, "difference": as_json(-0.3), "better": "lower"}}
    assert one(claims.ADHERENCE, {"adherence": lower}).outcome == "supported"
    assert one(claims.ADHERENCE, {"adherence": {"metrics": {}}}).outcome == "not measured"


def test_rates_are_judged_against_the_stronger_of_base_and_prompt():
    both = {"tone": {"tuned": 0.9, "base": 0.5, "difference": as_json(0.4), "prompt": 0.95}}
    prompted = {"tone": {**both["tone"], "difference_prompt": as_json(-0.05)}}
    assert one(claims.ADHERENCE, {"adherence": both}).outcome == "supported"
    assert "no prompt was measured" in one(claims.ADHERENCE, {"adherence": both}).sentence
    found = one(claims.ADHERENCE, {"adherence": prompted})
    assert found.outcome == "not supported" and "the stronger of base and best prompt" in found.sentence
    weaker = {"tone": {**both["tone"], "difference_prompt": as_json(0.6)}}
    assert "tone +0.4 " in one(claims.CONSISTENCY, {"consistency": weaker}).sentence
    lower = {"tone": {"difference": as_json(-0.4), "difference_prompt": as_json(0.05), "better": "lower"}}
    assert one(claims.ADHERENCE, {"adherence": lower}).outcome == "not supported"


def test_one_rate_of_many_that_fell_by_chance_is_not_clearly_worse():
    fell = {"tone": {"tuned": 0.4, "base": 0.5, "difference": as_json(-0.1, 0.092)}}  # p about 0.033 alone
    assert one(claims.CONSISTENCY, {"consistency": fell}).outcome == "not supported"
    many = rates(**{f"rate {number}": 0.0 for number in range(15)})
    assert one(claims.CONSISTENCY, {"consistency": {**many, **fell}}).outcome == "inconclusive"
    found = one(claims.CONSISTENCY, {"consistency": {**many, **fell, **rates(terms=0.2)}})
    assert found.outcome == "supported" and "Clearly worse: none" in found.sentence


def test_what_the_users_own_answers_do_as_much_is_not_worse():
    copied = {"tuned": 0.1, "base": 0.0, "difference": as_json(0.1), "better": "lower"}
    for own, outcome in ((0.15, "supported"), (0.05, "inconclusive"), (None, "inconclusive")):
        each = {"copied runs": {**copied, "own": own}, **rates(terms=0.2)}
        assert one(claims.ADHERENCE, {"adherence": each}).outcome == outcome
    lost = {"format": {"tuned": 0.5, "base": 0.9, "difference": as_json(-0.4), "own": 0.95}}
    assert one(claims.ADHERENCE, {"adherence": lost}).outcome == "not supported", "what is better high stays so"


def test_holm_counts_all_claims_of_the_family():
    border = as_json(0.1, 0.092)  # p about 0.033 alone
    alone = one(claims.PROMPT, {"prompting": {"best": "x", "gain": border}})
    assert alone.outcome == "supported" and alone.numbers["p_holm"] == alone.p
    others = {"scratch": {"gap": border}, "consistency": rates(wording=0.0)}
    among = one(claims.PROMPT, {"prompting": {"best": "x", "gain": border}, **others})
    assert among.outcome == "inconclusive" and among.numbers["p_holm"] == pytest.approx(3 * among.p)
    assert "Not so once Holm's correction for 3 claims is made" in among.sentence


def test_grades():
    prompting, seeds = {"best": "x", "gain": as_json(0.1)}, {"seeds": [0, 1, 2], "gains": {"prompt": as_json(0.1)}}
    assert one(claims.PROMPT, {"prompting": prompting}).grade == "B"
    assert one(claims.PROMPT, {"prompting": prompting, "seeds": seeds}).grade == "A"
    unsure = {**seeds, "gains": {"prompt": as_json(0.1, 0.2)}}
    opened = one(claims.PROMPT, {"prompting": prompting, "seeds": unsure})
    assert (opened.outcome, opened.grade) == ("inconclusive", "C"), "three trainings leave open what one says"
    assert "Over 3 trainings" in opened.sentence
    two = one(claims.PROMPT, {"prompting": prompting, "seeds": {**unsure, "seeds": [0, 1]}})
    assert (two.outcome, two.grade) == ("supported", "B"), "two are too few to say so"
    small = {"prompting": {"best": "x", "gain": as_json(0.02, 0.01)}}
    over = {"seeds": {**seeds, "gains": {"prompt": as_json(0.02, 0.015)}}}
    useless = one(claims.PROMPT, {**small, **over}, minimum_gain=0.05)
    assert (useless.outcome, useless.grade) == ("not supported", "A"), "three trainings say too that it is below use"
    good = {"prompting": {"best": "x", "gain": as_json(0.05)}}
    small_over = {"seeds": {**seeds, "gains": {"prompt": as_json(0.01, 0.008)}}}
    lucky = one(claims.PROMPT, {**good, **small_over}, minimum_gain=0.03)
    assert (lucky.outcome, lucky.grade) == ("inconclusive", "C"), "useful once, less than useful over three trainings"
    assert one(claims.PROMPT, {**good, **small_over}).grade == "A", "of use is any gain"
    unseen = replace(evidence(base=0.3), not_measured={claims.LEAKS: "data.checks is off"})
    assert one(claims.PROMPT, {"prompting": prompting, "seeds": seeds}, found=unseen).grade == "B", "nobody looked"
    leaked = evidence({"without_leaks": {"leaked": 3}}, base=0.3)
    assert one(claims.PROMPT, {"prompting": prompting, "seeds": seeds}, found=leaked).grade == "B"


def decided(numbers=None, minimum_gain=0.0, **gains):
    return decision.decide(evidence(**gains), ACCURACY, numbers or {}, minimum_gain=minimum_gain)


def call(read, written, milliseconds):
    return {"read": read, "written": written, "milliseconds": milliseconds}


CALLS = {
    "prompt-kNN": call(890.0, 10.0, 80.0),
    "prompt-zero-shot": call(20.0, 10.0, 9.0),
    "tuned": call(20.0, 10.0, 8.0),
}
PROMPTED = {"best": "kNN", "gain": as_json(-0.05), "calls": CALLS}


def test_the_decision():
    assert decided().startswith(
        "Fine-tune: the tuned model beats TF-IDF + linear SVM, the strongest of the cheaper ways"
    )
    assert decided({"prompting": PROMPTED}).startswith("Use the prompt: it is clearly better than the tuned model")
    linear = decided(base=0.3, tfidf=-0.1)
    assert linear == (
        "Use TF-IDF + linear SVM: it is clearly better than the tuned model "
        "(-0.100 accuracy, 95 % interval -0.120 to -0.080, n = 500)."
    )
    assert "by less than the 0.200 that is of use" in decided(minimum_gain=0.2)
    assert "the tuned model is not clearly better" in decided(base=0.3, tfidf=0.01)
    assert decided(base=0.3, frozen=0.0).startswith("Use a linear head on the base's frozen features")


def test_as_good_as_a_prompt_at_a_third_of_its_tokens():
    same = {**PROMPTED, "gain": as_json(0.005, 0.01)}
    assert decided({"prompting": same}).startswith(
        "Fine-tune: the tuned model is as good as the best prompt, which takes 30 times the tokens of a call and "
        "took 10 times as long here (80 ms against 8 ms)"
    )
    long = {**CALLS, "prompt-kNN": call(80.0, 9.0, 1.0)}
    assert decided({"prompting": {**same, "calls": long}}).startswith("Use the prompt"), "what is written counts too"
    assert decided({"prompting": {**same, "calls": {}}}).startswith("Use the prompt"), "nothing was measured"


def test_a_cheap_way_to_prompt_that_is_not_beaten_is_no_reason_to_tune():
    """The best on validation rows takes 20 times the tokens, the prompt without examples hardly more than one call."""
    calls = {"prompt-retrieved": call(402, 0, 9), "prompt-zero-shot": call(26, 0, 2), "tuned": call(20, 0, 1)}
    best = Estimate(0.01, -0.009, 0.05, 500)
    prompt = {"best": "retrieved", "gain": best, "calls": calls}
    cheap = {"retrieved": best, "zero-shot": Estimate(-0.03, -0.07, 0.01, 500)}
    assert decided({"prompting": {**prompt, "gains": cheap}}).startswith(
        "Use the prompt: the tuned model is not clearly"
    )
    beaten = {"retrieved": best, "zero-shot": as_json(0.2)}
    dear = {**calls, "prompt-zero-shot": call(60, 0, 2)}
    for change in ({"gains": beaten}, {"gains": cheap, "calls": dear}, {}):
        said = decided({"prompting": {**prompt, **change}})
        assert said.startswith("Fine-tune: the tuned model is as good as the best prompt, which takes 20 times"), change
    useless = {"retrieved": best, "zero-shot": interval(0.03)}  # clearly worse, by less than is of use
    assert decided({"prompting": {**prompt, "gains": useless}}, minimum_gain=0.05, base=0.3).startswith(
        "Use the prompt"
    )


def test_where_no_prompt_was_asked_the_decision_says_so():
    def told(numbers, **more):
        return decision.decide(evidence(), ACCURACY, numbers, **more)

    unasked = "n = 500). No prompt was asked: whether one would do as well is not known."
    assert told({}, promptable=True).startswith("Fine-tune") and told({}, promptable=True).endswith(unasked)
    assert told({}).endswith("n = 500)."), "an encoder cannot be prompted"
    assert told({"prompting": {"best": "kNN", "gain": as_json(0.2)}}, promptable=True).endswith("n = 500).")


def test_the_decision_says_what_the_claims_leave_open():
    prompting = {"best": "zero-shot", "gain": as_json(0.09, 0.085)}
    family = {"scratch": {"gap": as_json(0.0)}, "lora_or_full": lora(0.0, 0.03)}

    def said(**numbers):
        found = {"prompting": prompting, **numbers}
        return decision.decide(
            evidence(base=0.3), ACCURACY, found, judged=claims.judge(evidence(base=0.3), ACCURACY, found, {})
        )

    alone, among = said(), said(**family)
    assert alone.startswith("Fine-tune") and alone.endswith("n = 500).") and among.startswith(alone)
    assert "left open whether it beats prompting (Holm's correction)" in among
    seeds = {"seeds": [0, 1, 2], "gains": {"base": as_json(0.3), "prompt": as_json(0.09, 0.1)}}
    over = said(seeds=seeds)
    assert over == f"{alone} Over 3 trainings it is left open whether it beats the prompt: another training may not."
    assert said(seeds={**seeds, "seeds": [0, 1]}) == alone, "two are too few to say so"
    assert said(seeds={**seeds, "gains": {"base": as_json(0.3)}}) == alone


def test_a_clearly_better_prompt_is_used_however_small_a_gain_is_of_no_use():
    better = {**PROMPTED, "gain": as_json(-0.03, 0.01)}
    for minimum_gain in (0.0, 0.05):
        assert decided({"prompting": better}, minimum_gain=minimum_gain).startswith("Use the prompt")


def test_labelling_first():
    curve = {"learning_curve": {**CURVE, "labels_to_beat": CURVE["more_labels"]}}
    assert decided(curve, base=0.3, tfidf=-0.03).startswith(
        "Label about 400 more first, and use TF-IDF + linear SVM until then: it is clearly better"
    )
    open_ends, none = {"low": None, "high": None}, {"low": 0.0, "high": 0.0}
    for change in ({"flat": True}, {"labels_to_beat": None}, {"labels_to_beat": open_ends}, {"labels_to_beat": none}):
        changed = {"learning_curve": {**curve["learning_curve"], **change}}
        assert decided(changed, base=0.3, tfidf=-0.03).startswith("Use TF-IDF"), change
    far = {"learning_curve": {**CURVE, "labels_to_beat": {"low": 2340.0, "high": None}}}
    assert decided(far, base=0.3, tfidf=0.01).startswith("Label at least 2,300 more first")
    assert decided(curve, base=0.3).startswith("Fine-tune")


@pytest.mark.parametrize("ahead", [0.01, 0.03, 0.05])
def test_the_nearer_the_rival_the_sooner_more_labels_beat_it(ahead):
    low = {0.01: 0.0, 0.03: 0.0, 0.05: 240.0}[ahead]  # the curve's range begins above what is near
    curve = {"learning_curve": {**CURVE, "labels_to_beat": {"low": low, "value": 900.0, "high": 2186.0}}}
    said = decided(curve, base=0.3, tfidf=interval(-ahead, 0.02))
    assert said.startswith(f"Label about {'1,200' if low else '1,100'} more first, and use TF-IDF")


def test_where_the_range_says_neither_from_nor_to_its_middle_does():
    def told(gain, **ends):
        more = {"low": 0.0, "value": 900.0, "high": None, **ends}
        return decided({"learning_curve": {**CURVE, "labels_to_beat": more}}, base=0.3, tfidf=gain)

    near = interval(-0.01, 0.02)
    assert told(near).startswith("Label about 900 more first, and use TF-IDF")
    assert told(near, value=None).startswith("Use TF-IDF"), "not even the middle reaches it"
    assert told(near, value=0.0).startswith("Use TF-IDF")
    assert told(interval(-0.05)).startswith("Use TF-IDF"), "it is clearly better, and the range does not settle it"


def test_no_target_was_given_so_none_is_reached_or_missed():
    def said(**more):
        found = {name: each for name, each in CURVE.items() if name != "more_labels"}
        return one(claims.LABELS, {"learning_curve": {**found, "labels_to_beat": {"value": 0.0, **more}}})

    near = said(low=0.0, high=0.0)
    assert near.outcome == "not supported" and "target" not in near.sentence and near.sentence.endswith("steep.")
    rival = "hat beats the strongest of the cheaper ways"
    assert said(low=300.0, high=500.0).sentence.endswith(f"W{rival} would take 300 to 500 more labels.")
    assert said(low=0.0, high=None).sentence.endswith(
        f"How many more labels w{rival} would take, the range leaves open."
    )
    assert said(low=None, high=None).sentence.endswith(f"misses w{rival} with four times the labels.")


def test_a_target_that_is_reached_does_not_tell_how_to_beat_the_rival():
    reached = {**CURVE, "more_labels": {"low": 0.0, "high": 0.0}}
    assert decided({"learning_curve": reached}, base=0.3, tfidf=-0.03).startswith("Use TF-IDF")
    both = {**reached, "labels_to_beat": {"low": 300.0, "high": 500.0}}
    assert decided({"learning_curve": both}, base=0.3, tfidf=-0.03).startswith("Label about 400 more first")


def test_the_rival_of_the_decision_is_one_and_the_same():
    def rival(numbers=None, minimum_gain=0.0, **gains):
        return decision.strongest(evidence(**gains), numbers or {}, minimum_gain=minimum_gain)

    assert rival(base=0.3, tfidf=0.1).name == "tfidf", "of all, where all are beaten"
    wide = {"base": interval(0.05, 0.06), "tfidf": interval(0.03, 0.01)}
    assert rival(**wide).name == "base", "tfidf is nearer, but it is beaten and the base is not"
    assert decision.decide(evidence(**wide), ACCURACY, {}).startswith("Use the base as it is: the tuned model is not")
    assert rival({"prompting": PROMPTED}, base=0.3).name == "prompt"
    assert decision.strongest(evidence(lora=0.1), {}) is None, "another way of fine-tuning is no cheaper way"


def test_a_base_that_cannot_answer_is_the_head_that_was_fitted():
    found = replace(evidence(base=-0.1, tfidf=0.1), not_measured={"zero-shot": "the base is an encoder"})
    ways = {"base": "train it with --method head"}
    said = decision.decide(found, ACCURACY, {}, ways=ways)
    assert said.startswith(
        "Use a linear head on the base's frozen features (train it with --method head): it is clearly better"
    )
    assert names.system("base", found) == names.HEAD != names.system("base", evidence(base=0.1)) == names.system("base")


def test_one_data_set_shows_no_law_but_its_level_its_place_and_its_gain():
    kinds = {kind: {"base_bits_per_byte": bits} for kind, bits in (("news", 1.5), ("legal", 1.8), ("code", 3.0))}
    bits = {"base_bits_per_byte": 2.4, "tuned_bits_per_byte": 1.9}
    retention = {"your_rows": bits, "base_bits_per_byte": 2.0, "kinds": kinds}
    found = evidence(base=0.3, frozen=0.2)
    claim = similarity.judge(claims.SIMILARITY, found, ACCURACY, retention)
    assert (claim.outcome, claim.grade) == ("not measured", "") and claim.sentence.startswith(
        "One data set cannot show"
    )
    for told in (
        "Here: the base needs 2.40 bits per byte of your rows, 1.20 times general text (2 of 3 kinds of",
        "the tuned model 1.90; a linear head on the base's frozen features reaches accuracy 0.700; over the base the",
        "the tuning brings +0.300 accuracy. ",
    ):
        assert told in claim.sentence
    assert "prompts" in similarity.judge("x", replace(found, task="generation"), ACCURACY, retention).sentence
    assert "bits per byte" not in judged(found=found)[claims.SIMILARITY].sentence, "retention was not measured"


def test_without_opponents_the_verdict_stands():
    alone = Evidence("t", "accuracy", {"tuned": {"accuracy": interval(0.9)}}, {}, "the verdict", {}, {})
    assert decision.decide(alone, ACCURACY, {}) == "the verdict"
