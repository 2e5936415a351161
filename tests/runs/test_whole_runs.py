"""Whole runs, by the library and by the command line: what lies in the folder, what it says, who else can read it."""

import contextlib
import io
import json
import os
import random
import shutil
import sys
import warnings
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from peft import AutoPeftModelForCausalLM, PeftModel
from safetensors.torch import load_file, save_file

import finesmith
from finesmith import predictor
from finesmith import run as runs
from finesmith.__main__ import main
from finesmith.errors import RunError
from finesmith.models.embedded import EMBEDDED
from finesmith.runfolder import RunFolder
from finesmith.watch import Watcher
from tests import small
from tests.conftest import chat_rows, clause_rows, sentence, ticket_rows, write_csv, write_jsonl

QUICK = ["train.max_steps=4", "train.batch_size=8", "model.dtype=float32"]
QUICK_SETTINGS = {"train": {"max_steps": 4, "batch_size": 8}}


def several_rows(count: int = 60) -> list[dict]:
    """Rows with none, one or two labels, as lists."""
    random_ = random.Random(0)
    keys = {"money": "refund", "post": "parcel"}
    rows = []
    for number in range(count):
        labels = [label for place, label in enumerate(keys) if (number % 4) >> place & 1]
        words = " ".join(["please", sentence(random_, 3), *(keys[label] for label in labels), str(number)])
        rows.append({"id": f"n{number}", "text": words, "labels": labels})
    return rows


@dataclass
class Done:
    """A finished run: its folder, what it was made of, what the command line said."""

    path: Path
    data: Path
    model: str
    code: int = 0
    out: str = ""
    err: str = ""

    def json(self, name: str):
        return json.loads((self.path / name).read_text())

    def lines(self, name: str) -> list[dict]:
        return [json.loads(line) for line in (self.path / name).read_text().splitlines()]

    def files(self) -> set[str]:
        return {str(file.relative_to(self.path)) for file in self.path.rglob("*") if file.is_file()}


def command(*arguments: str) -> tuple[int, str, str]:
    """Exit code, stdout and stderr of `finesmith ...` in this process."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main([str(argument) for argument in arguments])
    return code, out.getvalue(), err.getvalue()


@pytest.fixture(scope="module")
def done(models, tmp_path_factory):
    """`done("bert-full")`: a run, made once."""
    made: dict[str, Done] = {}

    def get(name: str) -> Done:
        if name not in made:
            made[name] = MAKERS[name](models, tmp_path_factory.mktemp(name))
        return made[name]

    return get


def _by_command(data: Path, model: str, folder: Path, *more: str) -> Done:
    out = folder / "run"
    code, stdout, stderr = command("tune", data, "--model", model, "--out", out, *QUICK, *more)
    return Done(out, data, model, code, stdout, stderr)


def _by_library(data: Path, model: str, folder: Path, **more) -> Done:
    settings = {"model": {"name": model, "dtype": "float32"}, "out": str(folder / "run"), **QUICK_SETTINGS, **more}
    return Done(finesmith.tune(data, **settings).path, data, model)


def _by_recipe(data: Path, model: str, folder: Path) -> Done:
    recipe = folder / "recipe.yaml"
    recipe.write_text(
        f"data: {data}\nmodel: {{name: {model}, dtype: float32}}\nmethod: lora\nlora: {{rank: 4}}\n"
        "train: {max_steps: 400, batch_size: 8, learning_rate: 1e-2}\n"
    )
    out = folder / "run"
    code, stdout, stderr = command("tune", recipe, "train.max_steps=4", "--out", out)
    return Done(out, data, model, code, stdout, stderr)


MAKERS = {
    "bert-full": lambda models, folder: _by_command(
        write_csv(folder / "tickets.csv", ticket_rows(60)), models("bert"), folder, "--method", "full"
    ),
    "llama-lora": lambda models, folder: _by_library(
        write_csv(folder / "tickets.csv", ticket_rows(60)), models("llama"), folder
    ),
    "several": lambda models, folder: _by_command(
        write_jsonl(folder / "notes.jsonl", several_rows()), models("distilbert"), folder, "--json", "method=lora"
    ),
    "plain": lambda models, folder: _by_recipe(
        write_jsonl(folder / "clauses.jsonl", clause_rows(40)), models("llama"), folder
    ),
    "chats": lambda models, folder: _by_library(
        write_jsonl(folder / "chats.jsonl", chat_rows(40)), models("qwen3", "chatml"), folder, method="full"
    ),
    "text": lambda models, folder: _by_command(
        write_jsonl(folder / "documents.jsonl", [{"text": sentence(random.Random(n), 150)} for n in range(40)]),
        models("llama"),
        folder,
    ),
}
ALWAYS = {
    "README.md",
    "evidence.json",
    "manifest.json",
    "recipe.yaml",
    "splits.json",
    "steps.jsonl",
    "model/finesmith.json",
    "model/tokenizer.json",
    "model/tokenizer_config.json",
    "predictions/tuned.jsonl",
    "predictions/base.jsonl",
}
FULL = {"model/config.json", "model/model.safetensors"}
ADAPTER = {"model/adapter_config.json", "model/adapter_model.safetensors"}
WRITER = {"model/generation_config.json", "model/chat_template.jinja", "predictions/nearest.jsonl"}
CLASSIFIER = {"predictions/knn.jsonl", "predictions/majority.jsonl", "predictions/tfidf.jsonl"}
FILES = {
    "bert-full": ALWAYS | FULL | CLASSIFIER,
    "llama-lora": ALWAYS | ADAPTER | CLASSIFIER | {"predictions/frozen.jsonl"},
    "several": ALWAYS | ADAPTER | CLASSIFIER,
    "plain": ALWAYS | ADAPTER | WRITER,
    "chats": ALWAYS | FULL | WRITER,
    "text": ALWAYS | ADAPTER | {"model/generation_config.json"},
}
TASKS = {
    "bert-full": ("classification", "accuracy"),
    "llama-lora": ("classification", "accuracy"),
    "several": ("classification", "micro_f1"),
    "plain": ("generation", "exact_match"),
    "chats": ("generation", "exact_match"),
    "text": ("text", "bits_per_byte"),
}
EVERY = pytest.mark.parametrize("name", list(MAKERS))


@EVERY
def test_the_folder_holds_exactly_these_files(done, name):
    assert done(name).files() == FILES[name]


def test_the_evidence_is_written_last(models, tmp_path, monkeypatch):
    """Its presence means that the run is finished: whatever else is written or removed was so before."""
    done = []

    def told(real):
        def also(self, file, *more):
            real(self, file, *more)
            done.append(file)

        return also

    for name in ("write_with", "append", "remove"):
        monkeypatch.setattr(RunFolder, name, told(getattr(RunFolder, name)))
    _by_library(write_csv(tmp_path / "tickets.csv", ticket_rows(60)), models("bert"), tmp_path)
    assert done[-1] == "evidence.json" and done.count("evidence.json") == 1
    assert {"recipe.yaml", "model", "predictions/tuned.jsonl", "manifest.json", "README.md", "checkpoint"} <= set(done)


def test_the_test_rows_meet_the_model_that_was_written(models, tmp_path, monkeypatch):
    """What the disk has made of a weight is in the score; the model in memory stays as it was trained."""
    real = predictor.save_weights

    def spoil(folder, model, loaded, *, adapter):
        real(folder, model, loaded, adapter=adapter)
        weights = load_file(folder / "model.safetensors")
        turned = {name: -weight if name.startswith("classifier") else weight for name, weight in weights.items()}
        assert sum(name.startswith("classifier") for name in weights) == 2
        save_file(turned, folder / "model.safetensors", metadata={"format": "pt"})

    monkeypatch.setattr(predictor, "save_weights", spoil)
    data = write_csv(tmp_path / "tickets.csv", ticket_rows(60))
    run = _by_library(data, models("bert"), tmp_path, method="full")
    told, texts = run.lines("predictions/tuned.jsonl"), _texts(run)
    for row in told:
        assert row["output"] == max(row["scores"], key=row["scores"].get)
    read = finesmith.load(run.path).predict([texts[row["id"]] for row in told])
    assert [row["output"] for row in told] == [answer.output for answer in read]
    for row, answer in zip(told, read, strict=True):
        assert row["scores"] == pytest.approx(answer.scores, abs=1e-5)
    score = run.json("evidence.json")["systems"]["tuned"]["accuracy"]["value"]
    assert score == pytest.approx(np.mean([row["output"] == row["target"] for row in told]))


@EVERY
def test_the_evidence_is_complete_and_follows_from_the_predictions(done, name):
    run = done(name)
    evidence = run.json("evidence.json")
    task, metric = TASKS[name]
    assert set(evidence) == {
        "task", "metric", "systems", "gains", "verdict", "not_measured", "costs", "details",
    }  # fmt: skip
    assert (evidence["task"], evidence["metric"]) == (task, metric)
    systems = {Path(file).stem for file in run.files() if file.startswith("predictions/")}
    assert set(evidence["systems"]) == systems
    assert set(evidence["gains"]) == systems - {"tuned"}
    test = run.json("splits.json")["test"]
    for system in systems:
        rows = run.lines(f"predictions/{system}.jsonl")
        assert [row["id"] for row in rows] == test
        assert all(set(row) - {"cut"} == {"id", "output", "target", "scores"} and row.get("cut", True) for row in rows)
        estimate = evidence["systems"][system][metric]
        assert set(estimate) == {"value", "low", "high", "n"} and estimate["n"] == len(test)
        assert estimate["low"] <= estimate["value"] <= estimate["high"]
        if metric in ("accuracy", "exact_match"):
            assert estimate["value"] == pytest.approx(np.mean([row["output"] == row["target"] for row in rows]))
        if metric == "bits_per_byte":
            nats, size = (sum(row["scores"][key] for row in rows) for key in ("nats", "bytes"))
            assert estimate["value"] == pytest.approx(nats / size / np.log(2))
    for system, gain in evidence["gains"].items():
        tuned, other = (evidence["systems"][each][metric]["value"] for each in ("tuned", system))
        sign = -1 if metric == "bits_per_byte" else 1
        assert gain["value"] == pytest.approx(sign * (tuned - other))
    assert evidence["verdict"].endswith(".") and len(evidence["verdict"]) > 20
    costs = evidence["costs"]
    assert set(costs) == {
        "seconds", "peak_memory_bytes", "steps", "trainable_parameters", "total_parameters", "saved_bytes",
    }  # fmt: skip
    assert costs["steps"] == 4 and costs["seconds"] > 0 and costs["peak_memory_bytes"] > 1e6
    assert 0 < costs["trainable_parameters"] <= costs["total_parameters"]
    saved = sum(file.stat().st_size for file in (run.path / "model").glob("*.safetensors"))
    assert costs["saved_bytes"] == saved
    wanted = {"per_class", "confusions"} if task == "classification" else {"samples"}
    assert wanted <= set(evidence["details"])


@EVERY
def test_the_targets_of_the_predictions_are_those_of_the_file(done, name):
    run = done(name)
    if run.data.suffix == ".csv":
        given = {f"{run.data.stem}:{place}": row for place, row in enumerate(ticket_rows(60), 2)}
    else:
        rows = [json.loads(line) for line in run.data.read_text().splitlines()]
        given = {row.get("id", f"{run.data.stem}:{place}"): row for place, row in enumerate(rows, 1)}
    wanted = {
        "bert-full": lambda row: row["queue"],
        "llama-lora": lambda row: row["queue"],
        "several": lambda row: sorted(row["labels"]),
        "plain": lambda row: row["completion"],
        "chats": lambda row: row["messages"][-1]["content"],
        "text": lambda row: None,
    }[name]
    for row in run.lines("predictions/tuned.jsonl"):
        assert row["target"] == wanted(given[row["id"]])
    splits = run.json("splits.json")
    parts = [splits[part] for part in ("train", "validation", "test")]
    assert sorted(chain.from_iterable(parts)) == sorted(given)


@EVERY
def test_the_log_has_every_step_and_the_recipe_every_setting(done, name):
    run = done(name)
    steps = run.lines("steps.jsonl")
    assert [step["step"] for step in steps] == [1, 2, 3, 4]
    for step in steps:
        assert {"epoch", "loss", "learning_rate", "gradient_norm", "supervised", "tokens", "seconds"} <= set(step)
    assert any("validation" in step and step["best"] for step in steps)
    recipe = runs.Run(run.path).recipe
    assert recipe.train.max_steps == 4
    dumped = json.dumps(recipe.complete())
    for setting in ("learning_rate", "max_length", "epochs"):
        value = getattr(recipe.train, setting)
        assert value != "auto" or (setting == "epochs" and recipe.train.max_steps), dumped
    assert recipe.task == TASKS[name][0] and recipe.model.name == run.model
    facts = run.json("manifest.json")
    assert facts["steps"] == 4 and facts["seed"] == 0 and facts["model"] == run.model
    assert facts["data"]["sources"].keys() == {str(run.data)}
    assert facts["data"]["split"] == run.json("splits.json")["hash"]
    assert sum(facts["data"]["rows"].values()) == sum(
        len(run.json("splits.json")[part]) for part in ("train", "validation", "test")
    )
    assert facts["data"]["rejected"] == 0 and facts["data"]["over_length"] == 0
    assert {"torch", "transformers", "peft"} <= set(facts["packages"])


def test_the_notes_speak_of_the_task_at_hand(done):
    notes = {name: "\n".join(done(name).json("manifest.json")["notes"]) for name in MAKERS}
    rows = done("bert-full").json("manifest.json")["data"]["rows"]
    assert "the tokens trained on are those that inference sends" in notes["bert-full"]
    assert "answer" not in notes["bert-full"]
    assert "new, not in the base: the classification layers (bert.pooler.dense, classifier)" in notes["bert-full"]
    assert f"a logistic regression on {rows['train']} training rows" in notes["bert-full"]
    assert f"chosen on {rows['validation']} validation rows" in notes["bert-full"]
    assert "new, not in the base: the classification layer (score)" in notes["llama-lora"]
    assert "the end of every answer learnt" in notes["plain"] and "of the tokens are supervised" in notes["plain"]
    assert "every token of a document is learnt, once" in notes["text"]


@EVERY
def test_the_card_says_what_the_evidence_says(done, name):
    run = done(name)
    card = (run.path / "README.md").read_text()
    assert run.json("evidence.json")["verdict"] in " ".join(card.split())


def test_the_library_gives_a_run(done, capsys):
    run = finesmith.load(done("llama-lora").path)
    assert run.evidence.gain == run.evidence.gains["base"]
    assert run.recipe.method == "lora"
    texts = ["where is my parcel", "refund", "my password is wrong"]
    answers = run.predict(texts)
    assert [answer.id for answer in answers] == ["0", "1", "2"]
    backwards = run.predict(texts[::-1])
    assert [answer.output for answer in backwards[::-1]] == [answer.output for answer in answers]
    for answer in answers:
        assert answer.output == max(answer.scores, key=answer.scores.get)
        assert sum(answer.scores.values()) == pytest.approx(1)
    assert capsys.readouterr() == ("", "")


def test_the_library_is_silent(models, tmp_path, capfd):
    data, model = write_jsonl(tmp_path / "clauses.jsonl", clause_rows(20)), models("gpt2")
    capfd.readouterr()
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        warnings.simplefilter("error", FutureWarning)
        finesmith.tune(data, model=model, out=str(tmp_path / "run"), train={"max_steps": 1}).predict(["a clause"])
    assert capfd.readouterr() == ("", "")


@EVERY
def test_whoever_may_read_the_folder_may_read_every_file_in_it(done, name):
    mask = os.umask(0o022)
    os.umask(mask)
    modes = {file: (done(name).path / file).stat().st_mode & 0o777 for file in done(name).files()}
    assert modes == dict.fromkeys(modes, 0o666 & ~mask)


@pytest.mark.parametrize("name, heads", [("llama-lora", ["score"]), ("several", ["classifier", "pre_classifier"])])
def test_an_adapter_names_each_module_of_its_head_once(done, name, heads):
    assert sorted(done(name).json("model/adapter_config.json")["modules_to_save"]) == heads


# --- other libraries read the model


def _texts(run: Done) -> dict[str, str]:
    return {f"{run.data.stem}:{place}": row["text"] for place, row in enumerate(ticket_rows(60), 2)}


def _probabilities(model, tokenizer, text: str) -> np.ndarray:
    with torch.inference_mode():
        return torch.softmax(model.eval()(**tokenizer(text, return_tensors="pt")).logits[0].float(), -1).numpy()


def test_transformers_alone_reads_a_classifier(done):
    run = done("bert-full")
    model = transformers.AutoModelForSequenceClassification.from_pretrained(run.path / "model")
    tokenizer = transformers.AutoTokenizer.from_pretrained(run.path / "model")
    assert list(model.config.id2label.values()) == ["delivery", "login", "refund"]
    texts = _texts(run)
    for row in run.lines("predictions/tuned.jsonl"):
        found = _probabilities(model, tokenizer, texts[row["id"]])
        np.testing.assert_allclose(found, list(row["scores"].values()), atol=1e-5)
        assert model.config.id2label[int(found.argmax())] == row["output"]


def test_peft_alone_reads_an_adapter_with_its_head(done):
    run = done("llama-lora")
    base = transformers.AutoModelForSequenceClassification.from_pretrained(run.model, num_labels=3)
    model = PeftModel.from_pretrained(base, run.path / "model")
    tokenizer = transformers.AutoTokenizer.from_pretrained(run.path / "model")
    assert model.active_peft_config.base_model_name_or_path == run.model
    texts = _texts(run)
    for row in run.lines("predictions/tuned.jsonl"):
        found = _probabilities(model, tokenizer, texts[row["id"]])
        np.testing.assert_allclose(found, list(row["scores"].values()), atol=1e-5)


def _written(model, tokenizer, messages, limit) -> str:
    prompt = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=True, return_tensors="pt")
    with torch.inference_mode():
        out = model.eval().generate(**prompt, do_sample=False, max_new_tokens=limit)
    return tokenizer.decode(out[0, prompt["input_ids"].shape[1] :], skip_special_tokens=True)


@pytest.mark.parametrize("name", ["plain", "chats"])
def test_transformers_and_peft_alone_answer_as_the_run_did(done, name):
    run = done(name)
    reader = AutoPeftModelForCausalLM if name == "plain" else transformers.AutoModelForCausalLM
    model = reader.from_pretrained(run.path / "model")
    tokenizer = transformers.AutoTokenizer.from_pretrained(run.path / "model")
    assert model.generation_config.pad_token_id == tokenizer.pad_token_id
    rows = [json.loads(line) for line in run.data.read_text().splitlines()]
    limit = run.json("model/finesmith.json")["state"]["new_tokens"]
    for row in run.lines("predictions/tuned.jsonl")[:4]:
        given = rows[int(row["id"].rpartition(":")[2]) - 1]
        messages = given.get("messages", [{"role": "user", "content": given.get("prompt")}, {}])[:-1]
        found = _written(model, tokenizer, messages, limit).strip()
        assert found and found == row["output"]


# --- the command line


def test_results_go_to_stdout_and_progress_to_stderr(done):
    run = done("bert-full")
    assert run.code == 0
    assert run.json("evidence.json")["verdict"] in " ".join(run.out.split())
    assert f"run: {run.path}" in run.out and "Split 60 rows" not in run.out
    assert "Split 60 rows" in run.err and "step 4 of 4" in run.err


def test_json_gives_one_object_on_stdout(done):
    run = done("several")
    assert run.code == 0
    value = json.loads(run.out)
    assert value == {"run": str(run.path), **run.json("evidence.json")}
    assert "testing the tuned model" in run.err, "progress stands on stderr, as without --json"


def test_several_labels_a_row(done):
    run = done("several")
    rows = run.lines("predictions/tuned.jsonl")
    assert {tuple(row["target"]) for row in rows} == {(), ("money",), ("post",), ("money", "post")}
    for row in rows:
        assert row["output"] == [label for label in ("money", "post") if row["scores"][label] > 0.5]
    model = run.json("model/finesmith.json")
    assert model["state"]["labels"] == ["money", "post"] and model["state"]["multi_label"]


def test_an_override_wins_over_the_recipe_file(done):
    recipe = runs.Run(done("plain").path).recipe
    assert recipe.train.max_steps == 4 and recipe.train.learning_rate == 0.01 and recipe.section("lora").rank == 4


def test_show_says_the_result_again(done):
    run = done("bert-full")
    code, out, err = command("show", run.path)
    assert (code, err) == (0, "") and out == run.out
    code, out, err = command("show", run.path, "--json")
    assert (code, err) == (0, "") and json.loads(out) == {"run": str(run.path), **run.json("evidence.json")}


def test_the_model_folder_of_a_run_leads_to_the_run(done, tmp_path):
    run = done("bert-full")
    with pytest.raises(RunError) as caught:
        finesmith.load(run.path / "model")
    assert caught.value.hint == f"It is the model folder of the run '{run.path}': give that one."
    code, _, err = command("show", run.path / "model")
    assert code == 2 and caught.value.hint in err
    shutil.copytree(run.path / "model", tmp_path / "copy")
    with pytest.raises(RunError, match=r"finesmith\.predictor\.load answer") as caught:
        finesmith.load(tmp_path / "copy")


NEW = [{"id": f"new{n}", "text": sentence(random.Random(n), 3 + n % 9)} for n in range(23)]


@pytest.mark.parametrize("kind", ["jsonl", "csv"])
def test_predict_answers_new_rows_in_order(done, tmp_path, kind):
    run = done("llama-lora")
    data = write_csv(tmp_path / "new.csv", NEW) if kind == "csv" else write_jsonl(tmp_path / "new.jsonl", NEW)
    code, out, _ = command("predict", run.path, data)
    answers = [json.loads(line) for line in out.splitlines()]
    assert code == 0 and [answer["id"] for answer in answers] == [row["id"] for row in NEW]
    alone = finesmith.load(run.path).predict([row["text"] for row in NEW])
    assert [answer["output"] for answer in answers] == [answer.output for answer in alone]
    shuffled = random.Random(0).sample(NEW, len(NEW))
    code, out, _ = command("predict", run.path, write_jsonl(tmp_path / "shuffled.jsonl", shuffled))
    by_id = {answer["id"]: answer for answer in answers}
    for line, row in zip(out.splitlines(), shuffled, strict=True):
        again = json.loads(line)
        assert again["id"] == row["id"] and again["output"] == by_id[row["id"]]["output"]
        assert again["scores"] == pytest.approx(by_id[row["id"]]["scores"], abs=1e-5)


def test_predict_writes_a_file_and_json_and_reads_stdin(done, tmp_path, monkeypatch):
    run = done("llama-lora")
    data, file = write_jsonl(tmp_path / "new.jsonl", NEW), tmp_path / "answers.jsonl"
    code, out, _ = command("predict", run.path, data, "--out", file)
    assert (code, out) == (0, "")
    written = [json.loads(line) for line in file.read_text().splitlines()]
    assert [answer["id"] for answer in written] == [row["id"] for row in NEW]
    code, out, err = command("predict", run.path / "model", data, "--json")
    assert (code, err) == (0, "") and json.loads(out) == {"answers": written}
    monkeypatch.setattr(sys, "stdin", io.StringIO("where is my parcel\n\nrefund please\n"))
    code, out, _ = command("predict", run.path, "-")
    assert code == 0 and [json.loads(line)["id"] for line in out.splitlines()] == ["1", "3"]


def test_predict_on_the_test_rows_gives_what_the_run_wrote(done, tmp_path):
    run = done("chats")
    rows = [json.loads(line) for line in run.data.read_text().splitlines()]
    wanted = run.lines("predictions/tuned.jsonl")
    given = [{"id": row["id"], **rows[int(row["id"].rpartition(":")[2]) - 1]} for row in wanted]
    code, out, _ = command("predict", run.path, write_jsonl(tmp_path / "test.jsonl", given))
    answers = [json.loads(line) for line in out.splitlines()]
    assert code == 0
    assert [(a["id"], a["output"]) for a in answers] == [(row["id"], row["output"]) for row in wanted]


def test_predict_of_a_run_on_documents_says_that_it_has_no_answers(done, tmp_path):
    code, out, err = command("predict", done("text").path, write_jsonl(tmp_path / "new.jsonl", NEW))
    assert (code, out) == (2, "") and "it has no answers to give" in err


def test_list_says_what_there_is():
    code, out, err = command("list")
    assert (code, err) == (0, "")
    for name in ("classification", "generation", "lora", "last_layers", "jsonl", "macro_f1", "tfidf", "embedded"):
        assert f"  {name} " in out
    assert f"in {EMBEDDED}\n" in out and (EMBEDDED / "config.json").exists()
    code, out, _ = command("list", "methods", "--json")
    assert code == 0 and {"full", "head", "last_layers", "lora"} <= set(json.loads(out)["methods"])
    code, _, err = command("list", "metods")
    assert code == 2 and "Did you mean 'methods'?" in err


def test_schema_is_a_json_schema_of_the_whole_recipe():
    code, out, err = command("schema")
    schema = json.loads(out)
    assert (code, err) == (0, "") and schema["$schema"].startswith("https://json-schema.org/")
    assert {"data", "model", "train", "lora", "classification", "seed"} <= set(schema["properties"])
    assert schema["additionalProperties"] is False


def test_show_tokens_shows_what_is_learnt(done, tmp_path):
    run = done("chats")
    arguments = ["show-tokens", run.data, "--model", run.model, "--row", "2"]
    code, out, _ = command(*arguments, "--json")
    shown = json.loads(out)
    assert code == 0 and shown["row"] == f"{run.data}:2"
    (sequence,) = shown["sequences"]
    assert len(sequence["tokens"]) == len(sequence["ids"]) == len(sequence["weights"])
    tokenizer = transformers.AutoTokenizer.from_pretrained(run.model)
    learnt = [i for i, weight in zip(sequence["ids"], sequence["weights"], strict=True) if weight]
    row = json.loads(run.data.read_text().splitlines()[1])
    answers = [message["content"] for message in row["messages"] if message["role"] == "assistant"]
    assert tokenizer.decode(learnt) == "".join(f"{answer}<|im_end|>" for answer in answers)
    code, out, _ = command(*arguments)
    assert code == 0 and f"{len(sequence['ids'])} tokens, {len(learnt)} learnt" in out
    code, _, err = command(*arguments[:-1], "1000")
    assert code == 2 and "There is no row 1000: the data has 40 rows." in err
    assert not list(tmp_path.iterdir())


def test_show_tokens_without_colour_puts_what_is_learnt_into_brackets(done, monkeypatch):
    run = done("plain")
    arguments = ["show-tokens", run.data, "--model", run.model]
    code, out, _ = command(*arguments)
    head, tokens = out.split("\n", 1)
    row = json.loads(run.data.read_text().splitlines()[0])
    assert code == 0 and "learnt (in ⟦⟧), the rest is context; | ends each token" in head
    inside = tokens.partition("⟦")[2].partition("⟧")[0]
    assert inside.replace("|", "") == row["completion"] + "</s>" and tokens.count("⟦") == 1
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert "learnt (green)" in command(*arguments)[1]
    monkeypatch.setenv("NO_COLOR", "1")
    assert "learnt (in ⟦⟧)" in command(*arguments)[1]


def test_show_tokens_says_the_label(done):
    run = done("bert-full")
    code, out, _ = command("show-tokens", run.data, "--model", run.model, "--row", "2")
    assert code == 0 and f"{run.data}:3: " in out and "tokens, the label is learnt: login; | ends each token" in out
    assert json.loads(command("show-tokens", run.data, "--model", run.model, "--json")[1])["label"] == "delivery"
    run = done("several")
    assert "the label is learnt: money, post;" in command("show-tokens", run.data, "--model", run.model, "--row=4")[1]


def test_show_tokens_counts_the_training_rows_of_a_folder_first(models, tmp_path):
    rows = ticket_rows(60)
    for name, part in (("test", rows[:15]), ("train", rows[15:45]), ("dev", rows[45:])):
        write_csv(tmp_path / f"{name}.csv", part)
    for number, place in ((1, "train.csv:2"), (30, "train.csv:31"), (31, "dev.csv:2"), (46, "test.csv:2")):
        arguments = ["show-tokens", tmp_path, "--model", models("llama"), "--row", number, "--json"]
        assert json.loads(command(*arguments)[1])["row"] == str(tmp_path / place)


# --- talking to a run


def test_a_pipe_gets_the_answers_and_nothing_else(done, monkeypatch):
    run, system = done("chats"), {"role": "system", "content": "you help"}
    monkeypatch.setattr(sys, "stdin", io.StringIO("where is my parcel\n\nrefund [b] please\n"))
    code, out, _ = command("chat", run.path, "--tuned-only", "--system", "you help")
    asked = [[system, {"role": "user", "content": text}] for text in ("where is my parcel", "refund [b] please")]
    answers = [answer.output for answer in finesmith.load(run.path).predict(asked)]
    assert code == 0 and out == "".join(f"{answer}\n" for answer in answers)
    bare = finesmith.load(run.path).predict([turns[1:] for turns in asked])
    assert [answer.output for answer in bare] != answers, "the system prompt counts"


def test_chat_shows_the_base_beside_the_tuned_model(models, chats, tmp_path, monkeypatch):
    """The base as transformers alone has it, at a rate at which tuning changes what is said."""
    model = models("qwen3", "chatml")
    train, words = {"max_steps": 6, "learning_rate": 1e-2}, {"max_new_tokens": 8}
    recipe = small.make_recipe(chats, model, method="full", train=train, generation=words)
    run = runs.tune(recipe.replace(out=str(tmp_path / "run")))
    monkeypatch.setattr(sys, "stdin", io.StringIO("refund\n"))
    code, out, err = command("chat", run.path)
    assert code == 0 and "you " not in out, err
    asked = [{"role": "user", "content": "refund"}]
    base, tuned = (
        _written(
            transformers.AutoModelForCausalLM.from_pretrained(place),
            transformers.AutoTokenizer.from_pretrained(place),
            asked,
            8,
        ).strip()
        for place in (model, run.path / "model")
    )
    assert base != tuned and out == f"base  {base}\ntuned {tuned}\n"


@pytest.mark.parametrize(
    "name, message", [("text", "finesmith show {run}"), ("bert-full", "finesmith predict {run} -")]
)
def test_a_run_that_cannot_talk_says_what_it_can(done, name, message):
    code, out, err = command("chat", done(name).path)
    assert (code, out) == (2, "") and message.format(run=done(name).path) in err


# --- one writer at a time, and no run over another


def test_a_second_writer_gets_a_clear_error(models, tmp_path):
    data = write_jsonl(tmp_path / "clauses.jsonl", clause_rows(20))
    recipe = small.make_recipe(data, models("llama"), train={"max_steps": 2}).replace(out=str(tmp_path / "run"))
    seen = []

    class Second(Watcher):
        def step(self, step, total, scores, best):
            for attempt in (lambda: runs.resume(recipe.out), lambda: runs.tune(recipe)):
                with pytest.raises(RunError) as caught:
                    attempt()
                seen.append(str(caught.value))

    runs.tune(recipe, watcher=Second())
    assert "is being written by process" in seen[0]
    assert "run" in seen[1] and "--out" in seen[1]
    assert (tmp_path / "run" / "evidence.json").exists() and not (tmp_path / "run" / "lock").exists()


def test_a_run_is_never_written_over_another(done, models):
    run = done("plain")
    before = {file: (run.path / file).read_bytes() for file in run.files()}
    code, out, err = command("tune", run.data, "--model", run.model, "--out", run.path, *QUICK)
    assert (code, out) == (2, "")
    assert f"error: '{run.path}' holds a finished run." in err and "--out" in err
    code, out, err = command("resume", run.path)
    assert (code, out) == (2, "") and f"The run '{run.path}' is finished." in err and "finesmith show" in err
    assert {file: (run.path / file).read_bytes() for file in run.files()} == before


def test_a_folder_with_other_files_is_left_alone(models, tmp_path):
    data = write_jsonl(tmp_path / "clauses.jsonl", clause_rows(20))
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    code, _, err = command("tune", data, "--model", models("llama"), "--out", tmp_path / "mine", *QUICK)
    assert code == 2 and "is a folder with other files in it" in err
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["thesis.txt"]
    code, _, err = command("tune", data, "--model", models("llama"), "--out", tmp_path / "mine/thesis.txt", *QUICK)
    assert code == 2 and "is a file; a run needs a folder" in err


@pytest.mark.parametrize("name", ["show", "resume", "predict"])
def test_a_run_that_is_not_there_is_an_error(name, tmp_path):
    more = [write_jsonl(tmp_path / "new.jsonl", NEW)] if name == "predict" else []
    code, out, err = command(name, tmp_path / "nothing", *more)
    assert (code, out) == (2, "") and str(tmp_path / "nothing") in err and "Traceback" not in err


def test_without_out_a_run_gets_a_free_name(models, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    data = write_jsonl(tmp_path / "clauses.jsonl", clause_rows(20))
    settings = {"model": models("llama"), "train": {"max_steps": 1}}
    said = []

    class Listener(Watcher):
        def note(self, text):
            said.append(text)

    first = finesmith.tune(data, **settings, watcher=Listener())
    assert not any("exists already" in note for note in said)
    second = finesmith.tune(data, **settings, watcher=Listener())
    assert "'runs/clauses' exists already: this run goes to 'runs/clauses-2' (--out names another folder)" in said
    assert (first.path, second.path) == (Path("runs/clauses"), Path("runs/clauses-2"))
