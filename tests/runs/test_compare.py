"""`finesmith compare` and `tune --evidence` from the outside: one object on stdout, nothing lost, a card that knows."""

import html
import json
import re
import shlex
import shutil

import pytest

import finesmith
from finesmith import comparing, judging, registry
from finesmith.errors import DataError, RecipeError
from finesmith.evidence import claims
from finesmith.measurements.base import Measured
from finesmith.runfolder import RunFolder
from finesmith.types import Estimate
from finesmith.watch import Interrupted, Watcher
from tests.conftest import ticket_rows, write_csv, write_jsonl
from tests.runs.test_whole_runs import command

SETTINGS = (
    "data.validation=0.25",
    "model.dtype=float32",
    "model.device=cpu",
    "train.max_steps=4",
    "train.evaluations=1",
)
CHEAP = ("--only", "calibration")
FOUND = {"prompting": {"gain": Estimate(0.3, 0.2, 0.4, 50)}, "seeds": {"sd": 0.01}}
NOTHING_FITS = ("--minutes", "0.000001")


@pytest.fixture(scope="module")
def asked(models, tmp_path_factory):
    """The words of a small `tune`, but for where its run goes."""
    folder = tmp_path_factory.mktemp("compare")
    data = write_csv(folder / "tickets.csv", ticket_rows(200))
    return ("tune", data, "--model", models("bert"), *SETTINGS)


@pytest.fixture(scope="module")
def finished(asked, tmp_path_factory):
    run = tmp_path_factory.mktemp("compared") / "run"
    code, _, err = command(*asked, "--out", run)
    assert code == 0, err
    return run


def test_tune_with_evidence_gives_one_object_with_the_comparison(asked, tmp_path):
    code, out, err = command(*asked, "--out", tmp_path / "run", "--json", "--evidence", *NOTHING_FITS)
    assert code == 0, err
    found = json.loads(out)
    assert found["run"] == str(tmp_path / "run") and found["systems"]["tuned"]
    told = found["comparison"]
    assert told["decision"] and "evidence" not in told
    assert told["costs"]["budget"] == pytest.approx(6e-5) and told["measured"] == {}
    assert "more than is left of the 1e-06 minutes given" in told["not_measured"]["controls"]
    assert told["not_measured"]["seeds"] == "it is part of --effort standard"
    assert "negative controls: not measured" in err  # progress, though stdout is one object


def test_tune_with_evidence_shows_decision_and_claims_and_so_does_show(asked, tmp_path):
    code, out, err = command(*asked, "--out", tmp_path / "run", "--evidence", "standard", *NOTHING_FITS)
    assert code == 0, err
    again = command("show", tmp_path / "run")[1]
    for shown in (out, again):
        assert shown.splitlines()[0] == json.loads((tmp_path / "run" / "comparison.json").read_text())["decision"]
        assert "not measured: there are labels enough" in shown and "accuracy" in shown and "report.html" in shown
    assert "took " in err and "trainings of this run" in err


@pytest.mark.parametrize(
    ("error", "says"),
    [(DataError("The rows are gone."), "The rows are gone."), (ZeroDivisionError("by zero"), "ZeroDivisionError: by")],
)
def test_a_comparison_that_fails_does_not_lose_the_run(asked, tmp_path, monkeypatch, error, says):
    def fail(*_, **__):
        raise error

    monkeypatch.setattr(comparing, "compare", fail)
    code, out, err = command(*asked, "--out", tmp_path / "run", "--json", "--evidence", "quick")
    found = json.loads(out)
    assert code == 2 and found["verdict"] and "comparison" not in found
    assert says in err and f"finesmith compare {tmp_path / 'run'}" in err and "Traceback" not in err
    assert finesmith.load(tmp_path / "run").comparison is None


def test_ctrl_c_in_the_comparison_does_not_lose_the_run_either(asked, tmp_path, monkeypatch):
    def stop(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(comparing, "compare", stop)
    code, out, err = command(*asked, "--out", tmp_path / "run", "--json", "--evidence")
    assert code == 130 and json.loads(out)["verdict"] and "could not be made: stopped" in err


def test_what_is_for_the_comparison_is_refused_without_it(asked, tmp_path):
    code, _, err = command(*asked, "--out", tmp_path / "run", "--minutes", "3")
    assert code == 2 and "--minutes has no effect without --evidence" in err and not (tmp_path / "run").exists()
    code, _, err = command(*asked, "--out", tmp_path / "run", "--evidence", "--glossary", tmp_path / "none.json")
    assert code == 2 and "none.json" in err and not (tmp_path / "run").exists()
    code, _, err = command(*asked, "--out", tmp_path / "run", "--evidence", "quik")
    assert code == 2 and "quick" in err


def test_the_page_names_the_words_that_make_it_again(finished, tmp_path):
    glossary = tmp_path / "our terms.json"
    glossary.write_text(json.dumps([{"preferred": "late", "forbidden": ["overdue"]}]))
    asked = ("--glossary", glossary, "--retention-margin", "0", "--minimum-gain", "0.02", *CHEAP)
    code, out, err = command("compare", finished, *asked, "--json")
    assert code == 0, err
    given = {"glossary": str(glossary), "retention_margin": 0.0, "minimum_gain": 0.02}
    assert json.loads(out)["asked"] == {"effort": "quick", "only": ["calibration"], **given}
    page = html.unescape((finished / "report.html").read_text(encoding="utf-8"))
    typed = re.search(r"<code>finesmith (compare .*?)</code>", page)
    assert typed, "the page says how to make it again"
    code, out, err = command(*shlex.split(typed[1]), "--json")
    assert code == 0 and json.loads(out)["asked"]["retention_margin"] == 0.0, err
    found = comparing.compare(finished, only=["calibration"], options={"glossary": json.loads(glossary.read_text())})
    assert found.asked["glossary"] == {"entries": 1}


def test_evidence_takes_no_word_that_is_not_its_own(asked, tmp_path):
    code, out, err = command(asked[0], "--json", "--evidence", *asked[1:], "--out", tmp_path / "run", *NOTHING_FITS)
    assert code == 0, err
    assert json.loads(out)["comparison"]["asked"]["effort"] == "quick"


def test_the_function_takes_evidence_too(asked, tmp_path, monkeypatch):
    settings = {"model": {"name": asked[3], "dtype": "float32", "device": "cpu"}, "train": {"max_steps": 2}}
    made = finesmith.tune(asked[1], evidence="quick", minutes=1e-6, out=str(tmp_path / "run"), **settings)
    assert made.comparison["decision"] and made.comparison["measured"] == {}
    monkeypatch.setattr(comparing, "compare", lambda *_, **__: 1 / 0)
    with pytest.warns(UserWarning, match="The run is finished; the comparison could not be made: ZeroDivisionError"):
        made = finesmith.tune(asked[1], evidence="full", out=str(tmp_path / "other"), **settings)
    assert made.comparison is None and made.evidence.verdict
    with pytest.raises(RecipeError, match=r"There is no evidence 'quik'.*quick"):
        finesmith.tune(asked[1], evidence="quik")
    with pytest.raises(RecipeError, match="minutes has no effect without evidence"):
        finesmith.tune(asked[1], minutes=3)


@pytest.mark.parametrize("promptable", [True, False])
def test_the_decision_knows_whether_a_prompt_could_have_been_asked(finished, tmp_path, monkeypatch, promptable):
    run = shutil.copytree(finished, tmp_path / "run")
    monkeypatch.setattr(judging._plan, "applies", lambda name, study: (name, promptable) == ("prompting", True))
    monkeypatch.setattr(judging.decision, "decide", lambda *_, promptable, judged, **__: f"promptable: {promptable}")
    assert comparing.compare(run, only=["calibration"]).decision == f"promptable: {promptable}"
    assert json.loads((run / "comparison.json").read_text())["promptable"] is promptable, "the page asks it too"


def test_planned_seconds_stand_beside_taken_ones(finished):
    code, _, err = command("compare", finished, *CHEAP, "--again")
    assert code == 0, err
    assert "calibration and abstention: will be measured, a few seconds" in err and "took " in err
    kept = json.loads((finished / "measured" / "calibration.json").read_text())
    told = finesmith.load(finished).comparison
    assert 0 < kept["planned"] == told["planned"]["calibration"] and kept["seconds"] == told["seconds"]["calibration"]
    assert told["costs"]["planned"] == kept["planned"] and told["costs"]["budget"] is None
    assert told["costs"]["seconds"] >= kept["seconds"] and told["costs"]["training_seconds"] > 0
    assert "calibration and abstention: measured before" in command("compare", finished, *CHEAP)[2]


def test_what_is_not_made_again_is_kept_and_says_so(finished, tmp_path, monkeypatch):
    run = shutil.copytree(finished, tmp_path / "run")
    monkeypatch.setattr(comparing, "_made", lambda name, study, watcher: Measured(f"{name} says", FOUND.get(name, {})))
    monkeypatch.setattr(type(registry.resolve("measurements", "prompting")), "skips", lambda self, study: "")
    comparing.compare(run, only=["prompting"])
    assert comparing.compare(run, only=["seeds"]).measured["seeds"]["says"] == "seeds says"
    late = "made before the base prompted, with and without examples was measured anew"
    for asked in ({"only": ["prompting"], "again": True}, {"only": ["calibration"]}, {"minutes": 1e-6}):
        told = comparing.compare(run, **asked)
        assert told.measured["seeds"]["says"] == f"seeds says; {late}"
        assert "seeds" not in told.not_measured and (run / "measured/seeds.json").exists()
        assert late in (run / "report.html").read_text().lower()
    assert comparing.compare(run, only=["seeds"]).measured["seeds"]["says"] == "seeds says"


def test_again_loses_nothing_that_it_does_not_make(finished, tmp_path, monkeypatch):
    run, made = shutil.copytree(finished, tmp_path / "run"), []

    def measured(name, study, watcher):
        made.append(name)
        return Measured(f"{name} says {len(made)}") if name in ("calibration", "label_next") else "not now"

    monkeypatch.setattr(comparing, "_made", measured)
    comparing.compare(run, only=["label_next", "calibration"])
    made.clear()
    tolds = [comparing.compare(run, **asked) for asked in ({"again": True}, {}, {"again": True, "minutes": 1e-6})]
    assert "calibration" in made and "label_next" not in made, "that is part of --effort standard"
    said = f"calibration says {made.index('calibration') + 1}"
    for told in tolds:
        assert told.measured["calibration"]["says"] == said, "what the budget leaves out stays too"
        assert told.measured["label_next"]["says"] in ("label_next says 1", "label_next says 2")
        assert not {"label_next", "calibration"} & told.not_measured.keys()


def test_what_hears_of_a_later_result_stands_and_has_taken_it_in(finished, tmp_path, monkeypatch):
    run = shutil.copytree(finished, tmp_path / "run")
    answered = comparing.open_study(run, effort="quick", options={}, watcher=Watcher()).predictions["majority"]
    points = [{"rows": rows, "score": score, "steps": 4} for rows, score in ((20, 0.0), (110, 1.0))]
    found = {
        "scratch": Measured("scratch says", {"gap": Estimate(0.3, 0.2, 0.4, 50)}, systems={"scratch": answered}),
        "learning_curve": Measured("curve says", {"points": points, "free": {}}),
    }
    made = []
    monkeypatch.setattr(comparing, "_made", lambda name, study, watcher: made.append(name) or found[name])
    alone = comparing.compare(run, only=["scratch"]).measured["scratch"]
    told = comparing.compare(run, only=["learning_curve"]).measured["scratch"]
    assert made == ["scratch", "learning_curve"] and told["says"] == alone["says"] == "scratch says"
    assert 1 < told["numbers"]["label_multiplier"] < 12 and "learning_curve" in told["knew"]
    assert "label_multiplier" not in alone["numbers"]


def test_the_card_has_the_verdict_once_however_often_it_is_compared(finished):
    before = finished.joinpath("README.md").read_text()
    for more in ((), ("--again",)):
        code, _, err = command("compare", finished, *CHEAP, *more)
        assert code == 0, err
        card, told = finished.joinpath("README.md").read_text(), finesmith.load(finished).comparison
        assert card.count("## Verdict") == 1 and f"**{told['decision']}**" in card
        for claim in told["claims"]:
            assert f"| {claim['name']} | {claim['outcome']}" in card
        assert card.index("## Verdict") < card.index("## Results")
    start, rest = before.split("<!-- verdict -->")[0], before.split("## Results")[1]
    assert card.startswith(start.split("## Results")[0]) and card.endswith(rest)


def test_the_verdict_and_the_scale_stand_on_one_card(finished):
    assert command("compare", finished, *CHEAP)[0] == 0
    compared = finished.joinpath("README.md").read_text()
    assert command("set-scale", finished, "0.5")[0] == 0
    assert command("compare", finished, *CHEAP, "--again")[0] == 0
    both = finished.joinpath("README.md").read_text()
    assert both.count("## Verdict") == both.count("<!-- scale -->") == 1
    assert command("set-scale", finished, "1")[0] == 0
    assert finished.joinpath("README.md").read_text().count("## Verdict") == 1
    assert compared.count("<!-- scale -->") == 0


def test_a_card_that_is_not_utf_8_is_named_before_anything_is_changed(finished, tmp_path):
    run = shutil.copytree(finished, tmp_path / "run")
    (run / "README.md").write_bytes("# Größe\n".encode("cp1252"))
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file() and path.name != "lock"}
    code, _, err = command("set-scale", run, "0.5")
    assert code == 2 and "README.md is not UTF-8 text" in err and "Traceback" not in err
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file() and path.name != "lock"} == before


def test_a_run_knows_what_came_before_its_first_step_and_a_training_costs_that_too(finished):
    seconds = json.loads((finished / "manifest.json").read_text())["seconds"]
    study = comparing.open_study(finished, effort="quick", options={}, watcher=Watcher())
    assert 0 < seconds["preparing"] < seconds["all"]
    assert study.train_seconds == pytest.approx(seconds["training"] + seconds["preparing"])
    assert study.step_seconds == pytest.approx(seconds["training"] / 4)  # four steps
    assert study.answer_seconds > 0


def test_edited_answers_are_not_scored_against_old_predictions(models, tmp_path):
    data = write_csv(tmp_path / "tickets.csv", ticket_rows(100))
    code, _, err = command("tune", data, "--model", models("bert"), *SETTINGS, "--out", tmp_path / "run")
    assert code == 0, err
    first = data.read_bytes()
    data.write_bytes(first.replace(b",login", b",refund"))
    assert data.read_bytes() != first, "the ids of the rows are the same, their answers are not"
    code, _, err = command("compare", tmp_path / "run", *NOTHING_FITS)
    assert code == 2 and "has changed since the run began" in err and "Traceback" not in err
    data.write_bytes(first)
    code, _, err = command("compare", tmp_path / "run", *NOTHING_FITS)
    assert code == 0, err


def test_another_risk_is_not_answered_with_the_threshold_of_the_last(finished):
    found = []
    for more in (("--risk", "0.3"), ("--risk", "0.3"), ("--risk", "0.2"), ()):
        code, out, err = command("compare", finished, *CHEAP, *more, "--json")
        assert code == 0, err
        found.append(json.loads(out))
    assert [each["measured"]["calibration"]["numbers"]["abstain"]["risk"] for each in found] == [0.3, 0.3, 0.2, 0.05]
    took = [each["seconds"]["calibration"] for each in found]
    assert took[0] == took[1] != took[2], "the same question is answered from the run"


def test_where_nobody_looked_for_leaks_the_evidence_says_so(asked, finished, tmp_path):
    code, _, err = command(*asked, "data.checks=off", "--out", tmp_path / "run")
    assert code == 0, err
    unseen, seen = (finesmith.load(path).evidence.not_measured for path in (tmp_path / "run", finished))
    assert "data.checks is off" in unseen[claims.LEAKS] and claims.LEAKS not in seen
    assert command("compare", tmp_path / "run", *NOTHING_FITS)[0] == 0
    assert claims.LEAKS in finesmith.load(tmp_path / "run").evidence.not_measured


def test_a_run_on_plain_documents_is_compared_and_scaled(models, tmp_path):
    notes = [{"text": row["text"] * 3} for row in ticket_rows(60)]
    data = write_jsonl(tmp_path / "notes.jsonl", notes)
    words = ("tune", data, "--model", models("llama"), "task=text", *SETTINGS, "train.max_length=32")
    code, _, err = command(*words, "--out", tmp_path / "run")
    assert code == 0, err
    code, out, err = command("compare", tmp_path / "run", "--only", "retention", "--only", "consistency", "--json")
    assert code == 0, err
    told = json.loads(out)
    assert "retention" in told["measured"] and told["not_measured"]["consistency"] == "plain documents ask no questions"
    assert command("set-scale", tmp_path / "run", "0.5")[0] == 0
    assert command("set-scale", tmp_path / "run", "1")[0] == 0


@pytest.mark.parametrize("words", [("--target", "90"), ("--target", "nan"), ("--minimum-gain", "3"), ("--risk", "0")])
def test_values_that_cannot_be_meant_are_refused_before_the_work(finished, words):
    code, _, err = command("compare", finished, *CHEAP, *words)
    assert code == 2 and words[0] in err and "must be" in err


def test_ctrl_c_in_a_training_of_the_comparison_ends_it(finished, monkeypatch):
    """It waits for the step at hand there, so it comes as an exception of the training, not of the keyboard."""
    shot = registry.resolve("measurements", "calibration")

    def stop(*_):
        raise Interrupted("a folder that is gone")

    monkeypatch.setattr(type(shot), "__call__", stop)
    code, _, err = command("compare", finished, *CHEAP, "--again")
    assert code == 130 and "stopped" in err and "it failed" not in err


def test_two_do_not_write_into_one_run(finished):
    with RunFolder.changing(finished):
        for words in (("compare", finished, *CHEAP), ("set-scale", finished, "0.5")):
            code, _, err = command(*words)
            assert code == 2 and f"'{finished}' is being written by" in err and "--out" not in err
    assert command("compare", finished, *CHEAP)[0] == 0
    assert not (finished / "lock").exists()
