"""What fine-tuning cost in knowledge: known answers on tiny models, the ends of the line, what is refused."""

import json
import shutil

import numpy as np
import pytest
import torch
import transformers

from finesmith.measurements import _general, _line, frontier, retention, seeds
from finesmith.measurements._general import Read, Texts
from finesmith.models import between, load
from finesmith.runfolder import RunFolder
from finesmith.tasks import _head_first
from finesmith.tasks.base import Encoded
from finesmith.types import Estimate, Example, Message, Origin
from finesmith.watch import Watcher
from tests import small
from tests.conftest import clause_rows, ticket_rows, write_csv, write_jsonl
from tests.measurements import kept


@pytest.fixture(scope="module", autouse=True)
def short():
    with kept.few_passages():
        yield


@pytest.fixture(scope="module")
def runs(models, tmp_path_factory):
    return kept.runs(models, tmp_path_factory)


@pytest.mark.parametrize(
    ("family", "method", "data"),
    [
        ("llama", "lora", "clauses"),
        ("llama_tied", "full", "clauses"),
        ("llama", "lora", "tickets"),
        ("llama", "last_layers", "tickets"),
        ("bert", "full", "tickets"),
        ("bert", "lora", "tickets"),
    ],
)
def test_scale_0_is_the_base_and_scale_1_the_tuned_model(runs, family, method, data):
    study = kept.study(runs(family, method, data))
    before = small.weights(study.tuned().loaded.model)
    line = _line.of(study)
    assert line.between.moved > 0 and line.ends["1"] == 0 and line.ends["0"] < 1e-4
    line.between.at(0.3)
    line.between.at(1.0)
    assert small.equal(before, small.weights(line.predictor.loaded.model))
    if method != "lora":
        line.between.at(0.0)
        assert small.equal(small.weights(_line.begun(study).model), small.weights(line.predictor.loaded.model))


@pytest.mark.parametrize(
    ("family", "method", "data"),
    [("llama", "full", "clauses"), ("bert", "lora", "tickets"), ("llama", "lora", "tickets")],
)
def test_a_line_stands_where_weights_are_held_as_they_are_stored(models, tmp_path, monkeypatch, family, method, data):
    """On the CPU, as an accelerator would: the checkpoint is bfloat16, and so is the tuned model."""
    kind = transformers.AutoModelForCausalLM if family == "llama" else transformers.AutoModelForMaskedLM
    base = shutil.copytree(models(family), tmp_path / "half")
    kind.from_pretrained(base, dtype=torch.bfloat16).save_pretrained(base)
    narrow = lambda stored, dtype, device: stored if stored == dtype else torch.float32  # noqa: E731
    monkeypatch.setattr(load, "held_in", narrow)
    rows = (
        write_csv(tmp_path / "rows.csv", ticket_rows(60))
        if data == "tickets"
        else write_jsonl(tmp_path / "rows.jsonl", clause_rows(40))
    )
    more = {"generation": {"max_new_tokens": 4}} if data == "clauses" else {}
    model = {"name": str(base), "dtype": "bfloat16", "device": "cpu"}
    study = kept.study(kept.tuned(rows, str(base), tmp_path / "run", method=method, model=model, **more))
    tuned = study.tuned().loaded.model
    assert torch.bfloat16 in {weight.dtype for weight in tuned.parameters()}
    line = _line.of(study)
    assert line.between.moved > 0 and max(line.ends.values()) == 0
    assert retention.PLUGIN(study, Watcher()).numbers["margin"] > 0


@pytest.mark.parametrize(("family", "name"), [("bert", "loss_probe_accuracy"), ("llama", "change_bits_per_byte")])
def test_every_seed_of_a_classifier_in_bfloat16_is_read(models, tmp_path, family, name):
    """One that was just trained holds frozen weights in bfloat16 and its head and adapters in float32."""
    rows = write_csv(tmp_path / "rows.csv", ticket_rows(60))
    model = {"name": models(family), "dtype": "bfloat16", "device": "cpu"}
    study = kept.study(kept.tuned(rows, models(family), tmp_path / "run", model=model))
    reader = seeds._Reader(study)
    with study.retrained(Watcher(), seed=1) as arm:
        kinds = {weight.dtype for weight in arm.model.loaded.model.parameters()}
        assert kinds == {torch.bfloat16, torch.float32}
        reader.add(arm.model.loaded)
    reader.add(study.tuned().loaded)
    found = reader.over_seeds()
    assert np.isfinite(found[name].value) and np.isfinite(found["sd"])


def test_the_head_at_scale_0_is_planned_with_the_rows_that_it_reads_until_it_is_kept(runs, monkeypatch, tmp_path):
    run = shutil.copytree(runs("bert", "lora", "tickets"), tmp_path / "run")
    (run / _line.START).unlink(missing_ok=True)
    study, read, reading = kept.study(run), [], _head_first.run_batches
    study.answer_seconds = 1.0
    monkeypatch.setattr(
        _head_first,
        "run_batches",
        lambda loaded, rows, *rest, **more: read.append(len(rows)) or reading(loaded, rows, *rest, **more),
    )
    before = [plugin.cost(study) for plugin in (retention.PLUGIN, frontier.PLUGIN)]
    _line.begun(study)
    after = [plugin.cost(study) for plugin in (retention.PLUGIN, frontier.PLUGIN)]
    assert len(read) == 3 and [one - other for one, other in zip(before, after, strict=True)] == [sum(read)] * 2
    assert _line.cost(kept.study(runs("llama", "full", "clauses"))) == 0, "an answer that is written needs no head"


def test_half_of_an_adapter_is_half_of_the_merged_update(runs):
    study = kept.study(runs("llama", "lora", "clauses"))
    line = _line.of(study)
    tokens = [list(range(20, 40))]
    base, tuned = study.base().loaded.model, line.predictor.loaded.model
    before = small.weights(tuned)
    line.between.at(0.5)
    half = _line.logits(line.predictor.loaded, tokens)[0]
    line.between.at(0.5, added=True)
    assert not small.equal(before, small.weights(tuned)), "the update is in the matrices"
    added = _line.logits(line.predictor.loaded, tokens)[0]
    assert 0 < np.abs(half - added).max() < 1e-5 * np.abs(half).max()
    line.between.at(0.3, added=True)
    line.between.at(1.0, added=True)
    assert small.equal(before, small.weights(tuned)), "and out of them again, to the bit"
    merged = tuned.merge_and_unload()
    with torch.no_grad():
        for (name, weight), (other, start) in zip(merged.named_parameters(), base.named_parameters(), strict=True):
            assert name == other
            weight.copy_((weight + start) / 2)
    middle = merged(input_ids=torch.tensor(tokens)).logits[0].detach().numpy()
    assert np.abs(half - middle).max() < 1e-5 * np.abs(half).max()


def test_bits_and_divergence_are_those_of_the_formula(models):
    from finesmith.models.settings import ModelSettings

    loaded = load.load(ModelSettings(name=models("llama"), dtype="float32", device="cpu"), "causal-lm")
    texts = _general.documents(
        loaded.tokenizer, ["the parcel is late", "an invoice, twice: please help"], ["a", "b"], 64
    )
    reader = _general.Language(loaded, texts, lambda batch: loaded.model(**batch).logits)
    base = reader.read()
    first = [torch.log_softmax(_logits(loaded, piece), dim=1) for piece in texts.pieces]
    with torch.no_grad():
        loaded.model.lm_head.weight.mul_(1.5)
    tuned = reader.read()
    for place, piece in enumerate(texts.pieces):
        after = torch.log_softmax(_logits(loaded, piece), dim=1)
        targets = torch.tensor(piece.tokens[1:].astype(int))[:, None]
        assert base.nats[place] == pytest.approx(-float(first[place][:-1].gather(1, targets).sum()), rel=1e-5)
        kl = (first[place].exp() * (first[place] - after))[:-1].sum()
        assert tuned.kl[place] == pytest.approx(float(kl), rel=1e-4)
    assert np.all(base.kl == 0)
    assert _general.bits_per_byte(base, texts) == pytest.approx(base.nats.sum() / np.log(2) / (18 + 30))


def _logits(loaded, piece: Encoded) -> torch.Tensor:
    with torch.no_grad():
        return loaded.model(input_ids=torch.tensor(piece.tokens[None].astype(int))).logits[0]


def test_a_divergence_of_the_likeliest_tokens_is_a_lower_bound_that_comes_near():
    torch.manual_seed(0)
    base, other = (torch.log_softmax(4 * torch.randn(5, 300), dim=1) for _ in range(2))
    whole = _general._divergence(base.clone(), other)
    some = _general._divergence(_general._remembered(base, 12 * 100), other)
    assert np.all(some <= whole + 1e-6) and np.all(some > 0.8 * whole)


def test_a_model_that_did_not_change_keeps_everything_and_one_that_did_not(runs):
    study = kept.study(runs("llama", "lora", "clauses"))
    found = retention.PLUGIN(study, Watcher()).numbers
    assert set(found["kinds"]) == {"encyclopaedic", "news", "dialogue", "legal", "medical", "support", "code"}
    assert found["change_bits_per_byte"].n == 56 and found["kl_general"] > 0 and found["kl_task"] > 0
    assert 0 < found["your_rows"]["base_bits_per_byte"] != found["your_rows"]["tuned_bits_per_byte"] > 0
    assert found["lost"] is (found["change_bits_per_byte"].low > 0.01)
    same = Read(np.array([5.0, 7.0]), np.zeros(2), np.array([3.0, 4.0]))
    texts = Texts(np.array(["a", "a"]), (), np.array([10.0, 10.0]))
    compared = retention._compared(same, same, texts, slice(None), 0.01, seed=0)
    assert compared["change_bits_per_byte"].value == 0 and compared["retained"] and not compared["lost"]
    worse = Read(same.nats * 1.1, same.kl, same.tokens)
    compared = retention._compared(same, worse, texts, slice(None), 0.01, seed=0)
    assert compared["change_bits_per_byte"].value == pytest.approx(0.1) and compared["lost"]


def test_the_margin_and_the_prompts_count(runs):
    prompts = [
        Example(str(n), f"what is {n}", Message("assistant", "a number") if n % 2 else None, Origin("", n))
        for n in range(4)
    ]
    study = kept.study(runs("llama", "lora", "clauses"), retention_margin=100.0, prompts=prompts)
    found = retention.PLUGIN(study, Watcher()).numbers
    assert found["retained"] and found["margin"] == 100.0
    assert found["prompts"]["change_bits_per_byte"].n == 4 and found["prompts"]["margin"] == 100.0


def test_prompts_are_not_for_a_classifier_and_that_is_said(runs):
    prompts = [Example("1", "what", None, Origin("", 1))]
    result = retention.PLUGIN(kept.study(runs("llama", "lora", "tickets"), prompts=prompts), Watcher())
    assert "retention on your prompts" in result.missing
    assert "change_bits_per_byte" in result.numbers and 0 < result.numbers["cka"] <= 1


def test_an_encoder_is_judged_by_its_features(runs):
    result = retention.PLUGIN(kept.study(runs("bert", "full", "tickets")), Watcher())
    found = result.numbers
    assert found["loss_probe_accuracy"].value == pytest.approx(
        found["base_probe_accuracy"] - found["tuned_probe_accuracy"]
    )
    assert found["margin"] == 0.05 and 0 < found["cka"] < 1 and 0 < found["cosine"] < 1
    assert "bits per byte of general text" in result.missing


def test_alignment_ignores_rotation_and_scale_but_not_change():
    random = np.random.default_rng(0)
    one = random.normal(size=(50, 6))
    turn = np.linalg.qr(random.normal(size=(6, 6)))[0]
    assert _general.cka(one, 3 * one @ turn) == pytest.approx(1)
    assert _general.cka(one, random.normal(size=(50, 6))) < 0.5
    assert _general.cosine(one, 2 * one) == pytest.approx(1)


def test_only_the_head_moved_so_nothing_was_lost(models, tmp_path):
    path = kept.tuned(
        write_csv(tmp_path / "rows.csv", ticket_rows(60)), models("llama"), tmp_path / "run", method="head"
    )
    found = retention.PLUGIN(kept.study(path), Watcher()).numbers
    assert found["change_bits_per_byte"].value == 0 and found["kl_general"] == 0 and found["retained"]
    assert found["cka"] == pytest.approx(1)


@pytest.mark.parametrize(
    ("config", "why"),
    [
        ({"use_dora": True}, "DoRA"),
        ({"init_lora_weights": "pissa_niter_4"}, "pissa"),
        ({"init_lora_weights": "olora"}, "olora"),
        ({"peft_type": "IA3"}, "IA3"),
        ({"bias": "all"}, "biases"),
        ({}, ""),
        ({"use_rslora": True}, ""),
    ],
)
def test_adapters_without_a_line_are_refused(config, why):
    said = between.refusal({"peft_type": "LORA", "init_lora_weights": True, "bias": "none", **config})
    assert why in said and bool(why) == bool(said)


def test_a_run_without_a_line_is_skipped_with_the_reason(runs, tmp_path):
    run = shutil.copytree(runs("llama_tied", "full", "clauses"), tmp_path / "run")
    study = kept.study(run)
    assert retention.PLUGIN.skips(study) == frontier.PLUGIN.skips(study) == ""
    assert 0 < retention.PLUGIN.cost(study) < 600 and 0 < frontier.PLUGIN.cost(study) < 600
    fresh = study.recipe.replace(model={"from_scratch": True})
    assert "random weights" in _line.refusal(study.folder, fresh)
    config = json.loads((run / "model/config.json").read_text())
    (run / "model/config.json").write_text(json.dumps({**config, "vocab_size": config["vocab_size"] + 8}))
    assert "resized" in _line.refusal(RunFolder(run), study.recipe)


def point(scale: float, target: float, loss: float, width: float = 0.001) -> frontier.Point:
    return frontier.Point(scale, target, Estimate(loss, loss - width, loss + width, 100), scale)


def test_the_points_are_chosen_as_they_are_described():
    path = [point(0, 0.2, 0), point(0.5, 0.8, 0.02), point(0.7, 0.85, 0.2), point(1, 0.9, 0.9), point(1.3, 0.9, 2)]
    assert frontier.choose(path, 0.03, higher=True) == {"max": 1, "knee": 0.5, "keep": 0.5}
    assert frontier.choose(path, 0.0205, higher=True)["keep"] == 0, "the interval's upper end counts"
    turned = [frontier.Point(p.scale, -p.target, p.loss, p.drift) for p in path]
    assert frontier.choose(turned, 0.03, higher=False) == {"max": 1, "knee": 0.5, "keep": 0.5}


def test_where_nothing_was_lost_or_won_the_choice_is_plain():
    free = [point(0, 0.2, 0), point(0.5, 0.8, -0.1), point(1, 0.9, -0.2)]
    assert frontier.choose(free, 0.01, higher=True) == {"max": 1, "knee": 1, "keep": 1}
    bent_down = [point(0, 0.2, 0), point(0.5, 0.25, 0.5), point(1, 0.9, 0.9)]
    assert frontier.choose(bent_down, 0.01, higher=True) == {"max": 1, "knee": 1, "keep": 0}
    useless = [point(0, 0.2, 0), point(1, 0.2, 0.5)]
    assert frontier.choose(useless, 0.01, higher=True) == {"max": 0, "knee": 0, "keep": 0}


def test_a_way_that_turns_back_is_a_warning():
    assert frontier.warnings([point(0, 0, 0), point(1, 0, 0)]) == []
    back = [point(0, 0, 0), frontier.Point(0.5, 0, Estimate(0, 0, 0, 1), 2.0), point(1, 0, 0)]
    assert "scale 1" in frontier.warnings(back)[0]


@pytest.mark.parametrize(("family", "method", "data"), [("llama", "lora", "clauses"), ("bert", "full", "tickets")])
def test_the_sweep_gives_every_scale_and_the_three_points(runs, family, method, data):
    study = kept.study(runs(family, method, data))
    result = frontier.PLUGIN(study, Watcher())
    found = result.numbers
    assert [each["scale"] for each in found["points"]] == list(frontier.SCALES)
    assert found["points"][0]["drift"] == pytest.approx(0, abs=1e-9) and found["points"][10]["drift"] > 0
    assert set(found["operating_points"]) == {"max", "knee", "keep"}
    tuned = study.score(study.splits.test, study.predictions["tuned"])
    assert found["ends"]["1"]["test"] == tuned and found["ends"]["1"]["tuned_gains"].value == 0
    share = found["ends"]["1"]["share_of_gain"]
    assert share == 1 or (share is None and tuned == found["ends"]["0"]["test"])
    assert len(result.plots[0]["values"]) == 13
    from finesmith.report import plots

    assert "tuned (1)" in plots.svg(result.plots[0])
    if data == "clauses":  # the base's answers at scale 0 are those that the run has
        assert found["ends"]["0"]["test"] == study.score(study.splits.test, study.predictions["base"])


def test_a_reported_scale_answers_some_test_rows_where_there_are_many(runs, monkeypatch):
    monkeypatch.setattr(frontier, "REPORTED", {"causal-lm": 2})
    monkeypatch.setattr(frontier, "SCALES", (0.0, 0.5, 1.0))
    study = kept.study(runs("llama", "lora", "clauses"))
    assert len(study.splits.test) > 2
    found = frontier.PLUGIN(study, Watcher()).numbers
    assert found["ends"]["0"]["rows"] == found["ends"]["1"]["tuned_gains"].n == 2
    line = _line.of(study)
    line.between.at(0.0)
    rows = list(study.splits.test)
    fresh = {answer.id: answer.output for answer in frontier._answers(study, line, rows)}
    assert fresh == {answer.id: answer.output for answer in frontier._known(study, 0.0, rows)}


@pytest.mark.parametrize(("family", "every"), [("bert", 2), ("llama", 3)])
def test_an_encoder_chooses_on_half_of_the_passages(runs, family, every):
    study = kept.study(runs(family, "full" if family == "bert" else "lora", "tickets"))
    loaded = study.tuned().loaded
    parts = [_general.yardstick(study, loaded, features=False, part=part) for part in ("choosing", "reporting")]
    assert not {*parts[0].texts.texts} & {*parts[1].texts.texts}
    sizes = [len(each.texts.texts) for each in parts]
    assert sizes[0] == pytest.approx(sum(sizes) / every, abs=4)
