"""Like answers to like questions: what is compared, and the whole measurement on tiny runs."""

from dataclasses import replace

import pytest

from finesmith import comparing
from finesmith.measurements import _line, _prompted, consistency, prompting
from finesmith.tasks.generation import Generation
from finesmith.types import Conversation, Message
from finesmith.watch import Watcher
from tests.conftest import clause_rows, ticket_rows, write_csv, write_jsonl
from tests.measurements import kept


def test_five_wordings_keep_the_request():
    text = "Where is my parcel number 17, please?"
    found = {name: word(text) for name, word in consistency.WORDINGS.items()}
    assert found == {
        "with a word before it": "Request: Where is my parcel number 17, please?",
        "with thanks behind it": "Where is my parcel number 17, please?\n\nThank you.",
        "in small letters": "where is my parcel number 17, please?",
        "with swapped letters": "Wehre is my parcel number 17, please?",
        "with missing letters": "Whre is my parcel number 17, please",
    }
    many = "letter " * 13
    assert consistency.slips(many, lambda word, at: "x").split().count("x") == 3
    assert consistency.slips("a b 12", lambda word, at: "x") == "a b 12", "nothing long enough to slip in"


def test_of_a_conversation_only_the_last_question_is_reworded():
    given = Conversation((Message("system", "Be brief."), Message("user", "HELLO"), Message("assistant", "Yes?")))
    found = consistency.reword(given, str.lower)
    assert [turn.content for turn in found.messages] == ["Be brief.", "hello", "Yes?"]
    assert consistency.reword(Conversation((Message("system", "A"),)), str.lower).messages[0].content == "A"


def test_agreement_is_the_share_of_pairs():
    assert consistency.agreement(["a", "a", "b"], consistency._same) == pytest.approx(1 / 3)
    assert consistency._alike("one two three four", "one two three five") == 0.75
    assert consistency._same_form("Yes.", "No.") == 1 and consistency._same_form("Yes.", "no") == 0
    assert consistency._same_figures("17 and 4", "4, 17") == 1 and consistency._same_figures("17", "18") == 0


def test_a_classifier_is_asked_in_every_wording(models, tmp_path):
    path = kept.tuned(
        write_csv(tmp_path / "rows.csv", ticket_rows(60)), models("bert"), tmp_path / "run", method="full"
    )
    study = kept.study(path)
    assert consistency.PLUGIN.skips(study) == "" and 0 < consistency.PLUGIN.cost(study) < 100
    found = consistency.PLUGIN(study, Watcher()).numbers
    each = found["metrics"]["same labels under rewording"]
    assert set(found["metrics"]) == {"same labels under rewording"} and each["difference"].n == len(study.splits.test)
    assert each["difference"].value == pytest.approx(each["tuned"] - each["base"])
    assert found["by_wording"]["tuned"]["as it is"] == study.score(study.splits.test, study.predictions["tuned"])
    assert set(found["by_wording"]["base"]) == {"as it is", *consistency.WORDINGS}
    base = consistency._base(study)
    assert (study.folder.path / _line.START).exists() and base.predictor.task is study.task


def test_a_writer_is_sampled_too(models, tmp_path):
    data = write_jsonl(tmp_path / "rows.jsonl", clause_rows(40))
    path = kept.tuned(data, models("llama"), tmp_path / "run", generation={"max_new_tokens": 6})
    study = kept.study(path)
    found = consistency.PLUGIN(study, Watcher()).numbers["metrics"]
    assert set(found) == {
        f"{name} {how}" for name in consistency.WRITTEN for how in ("under rewording", "over samples")
    }
    for each in found.values():
        assert 0 <= each["tuned"] <= 1 and each["difference"].low <= each["difference"].value <= each["difference"].high


@pytest.mark.parametrize("data", ["clauses", "tickets"])
def test_the_best_prompt_is_asked_in_every_wording(models, tmp_path_factory, monkeypatch, data):
    monkeypatch.setattr(prompting, "MOST_VALIDATION", {"generation": 2, "classification": 4})
    path = kept.runs(models, tmp_path_factory)("llama", "lora", data)
    found = comparing.compare(path, only=["prompting", "consistency"], effort="full")
    each = next(iter(found.measured["consistency"]["numbers"]["metrics"].values()))
    assert each["difference_prompt"]["value"] == pytest.approx(each["tuned"] - each["prompt"])
    study = kept.study(path)
    study.found["prompting"] = found.measured["prompting"]["numbers"]
    prompted = _prompted.chosen(study)
    known = {answer.id: answer.output for answer in study.predictions["prompt"]}
    rows = [row for row in study.splits.test if row.id in known]
    assert {answer.id: answer.output for answer in prompted.answer(rows)} == known, "the same prompt as was chosen"
    by_wording = found.measured["consistency"]["numbers"]["by_wording"]["prompt"]
    assert by_wording["as it is"] == pytest.approx(study.score(rows, study.predictions["prompt"]))


def test_samples_differ_with_the_seed_and_repeat_with_it(models, tmp_path):
    import torch

    data = write_jsonl(tmp_path / "rows.jsonl", clause_rows(40))
    path = kept.tuned(data, models("llama"), tmp_path / "run", generation={"max_new_tokens": 6})
    model, rows = kept.study(path).base(), ["clause about a card", "clause about a kettle"]

    def draw(seed: int, temperature: float = 0.7) -> list[str]:
        answers = model.task.sample(model.loaded, rows, temperature=temperature, seed=seed)
        return [str(each.output) for each in answers]

    state = torch.random.get_rng_state()
    assert draw(1) == draw(1) != draw(2)
    assert torch.equal(state, torch.random.get_rng_state()), "the caller's random numbers stay as they are"
    greedy = [each.output for each in model.predict(rows)]
    assert draw(1, temperature=1e-4) == greedy


def test_a_base_is_asked_as_the_run_has_asked_it(models, tmp_path):
    path = kept.tuned(write_jsonl(tmp_path / "rows.jsonl", clause_rows(40)), models("llama"), tmp_path / "run")
    study = kept.study(path)
    assert isinstance(study.task, Generation)
    study.task = Generation(study.task.settings, replace(study.task.learnt, opening="<think></think>"))
    assert study.base().task.learnt.begun == "<think></think>" != study.task.learnt.begun
