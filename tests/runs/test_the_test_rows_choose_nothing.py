"""The test split chooses nothing: with other answers in the test rows, or other documents, the same model comes out.

Each folder is trained and compared twice, the second time with its test file changed; all that was chosen is the same.
"""

import json
import random

import pytest

from finesmith import comparing, run
from tests import small
from tests.conftest import clause_rows, sentence, ticket_rows, write_jsonl
from tests.measurements import kept

TRAIN = {"max_steps": 8, "batch_size": 8, "learning_rate": 3e-3, "evaluations": 4, "patience": 2}
MEASURED = ("calibration", "prompting", "frontier", "lora_or_full", "scratch", "seeds")


def turned(rows, column):
    """The same rows with one another's answers: none keeps its own, as neighbours never have the same."""
    answers = [row[column] for row in rows]
    return [{**row, column: answer} for row, answer in zip(rows, answers[1:] + answers[:1], strict=True)]


def documents(count, seed):
    return [{"text": sentence(random.Random(seed + place), 40)} for place in range(count)]


def parts(kind):
    """Training, validation and test rows, and other test rows."""
    if kind == "text":
        rows = documents(60, 0)
        return rows[:36], rows[36:48], rows[48:], documents(12, 1000)
    rows = ticket_rows(150) if kind == "classification" else clause_rows(60)
    ends = (60, 120) if kind == "classification" else (40, 50)
    test = rows[ends[1] :]
    return (
        rows[: ends[0]],
        rows[slice(*ends)],
        test,
        turned(test, "queue" if kind == "classification" else "completion"),
    )


@pytest.fixture(scope="module")
def both(models, tmp_path_factory):
    """`both("classification", "llama", "lora")`: a run of a folder, and one after its test file was changed."""
    made = {}

    def get(kind, family, method):
        key = kind, family, method
        if key not in made:
            folder = tmp_path_factory.mktemp("-".join(key))
            data = folder / "rows"
            data.mkdir()
            train, validation, test, other = parts(kind)
            write_jsonl(data / "train.jsonl", train)
            write_jsonl(data / "validation.jsonl", validation)
            asked = {"task": kind, "method": method, "train": TRAIN}
            recipe = small.make_recipe(data, models(family), **asked).replace(data={"checks": "off"})
            made[key] = []
            for number, rows in enumerate((test, other)):
                write_jsonl(data / "test.jsonl", rows)
                made[key].append(run.tune(recipe.replace(out=str(folder / f"run{number}"))).path)
                if kind == "classification" and family == "llama":  # while the file is as the run saw it
                    with kept.few_passages():
                        comparing.compare(made[key][-1], only=MEASURED, options={"risk": 0.6})
        return made[key]

    return get


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def came_out(path, *, answers):
    """What training and choosing left; the test rows' answers where their inputs were the same."""
    steps = [{name: value for name, value in row.items() if name != "seconds"} for row in lines(path / "steps.jsonl")]
    recipe = (path / "recipe.yaml").read_text().replace(str(path), "OUT")
    weights = {file.name: file.read_bytes() for file in (path / "model").glob("*.safetensors")}
    assert len(steps) >= 4 and sum("validation" in row for row in steps) >= 2 and weights
    said = {file.name: [(row["id"], row["output"]) for row in lines(file)] for file in (path / "predictions").iterdir()}
    return {"steps": steps, "recipe": recipe, "weights": weights, "said": said if answers else None}


@pytest.mark.parametrize(
    "kind, family, method",
    [
        ("classification", "llama", "lora"),
        ("classification", "bert", "full"),
        ("generation", "llama", "lora"),
        ("text", "llama", "full"),
    ],
)
def test_another_test_split_gives_the_same_model(both, kind, family, method):
    one, other = both(kind, family, method)
    assert (one / "splits.json").read_bytes() != (other / "splits.json").read_bytes(), "the test file is another"
    assert (one / "evidence.json").read_bytes() != (other / "evidence.json").read_bytes()
    first, second = (came_out(path, answers=kind != "text") for path in (one, other))
    assert [name for name in first if first[name] != second[name]] == []


def chosen(path):
    """What the measurements of a comparison settle, each with the validation scores that settled it."""
    found = {name: json.loads((path / "measured" / f"{name}.json").read_text())["numbers"] for name in MEASURED}
    prompts = ("best", "best_template", "reading", "ways", "all_templates", "readings", "draws", "shots")
    rates = {name: found["lora_or_full"][name] for name in ("lora", "full")} | {"scratch": found["scratch"]}
    calibration, abstain = found["calibration"], path / "model" / "abstain.json"
    return {
        "threshold": abstain.read_bytes() if abstain.exists() else b"",
        "temperature": [calibration["temperature"], calibration["rows"], [s["quantile"] for s in calibration["sets"]]],
        "prompt": {name: found["prompting"][name] for name in prompts},
        "rates": {name: [arm["learning_rate"], arm["learning_rates"]] for name, arm in rates.items()},
        "points": found["frontier"]["points"],
        "scales": {name: point["scale"] for name, point in found["frontier"]["operating_points"].items()},
        "soup": {name: found["seeds"]["soup"][name] for name in ("kept", "validation", "validation_of_tuned")},
        "soup's weights": {file.name: file.read_bytes() for file in (path / "soup").glob("*.safetensors")},
    }


def test_another_test_split_changes_no_choice_of_a_comparison(both):
    one, other = both("classification", "llama", "lora")
    reported = [
        json.loads((path / "measured" / "prompting.json").read_text())["numbers"]["gain"] for path in (one, other)
    ]
    assert reported[0] != reported[1], "the test rows are answered and reported"
    first, second = chosen(one), chosen(other)
    assert first["threshold"]
    assert [name for name in first if first[name] != second[name]] == []
