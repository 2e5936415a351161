"""`finesmith export`: the folder answers in plain transformers as the trained model does, or it is not there."""

import hashlib
import io
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer, GenerationConfig

import finesmith
from finesmith import predictor, scaling
from finesmith.errors import ExportError, RecipeError, RunError
from finesmith.exporting import parity, write
from finesmith.methods.lora import Lora
from tests.conftest import make_model, ticket_rows, write_csv, write_jsonl
from tests.contracts.test_quantize import needs_library
from tests.measurements import kept
from tests.runs.test_whole_runs import command


@pytest.fixture(scope="module")
def made(models, tmp_path_factory):
    return kept.runs(models, tmp_path_factory)


def tokens_of(folder, text="where is my parcel"):
    return AutoTokenizer.from_pretrained(folder)(text, return_tensors="pt")["input_ids"]


def theirs(folder, kind=AutoModelForCausalLM):
    """The logits of a folder as anyone loads it."""
    with torch.inference_mode():
        return kind.from_pretrained(folder).eval()(input_ids=tokens_of(folder)).logits.float().numpy()


def ours(run):
    loaded = predictor.load(run, dtype="float32").loaded
    with torch.inference_mode():
        return loaded.model(input_ids=tokens_of(Path(run) / "model")).logits.float().numpy()


@pytest.mark.parametrize(
    ("family", "method", "data"),
    [
        ("llama", "lora", "clauses"),
        ("llama_tied", "full", "clauses"),
        ("llama_tied", "lora", "clauses"),
        ("qwen3", "last_layers", "clauses"),
        ("gpt2", "lora", "clauses"),
        ("bert", "lora", "tickets"),
        ("bert", "head", "tickets"),
        ("roberta", "lora", "tickets"),
        ("llama", "full", "tickets"),
    ],
)
def test_the_folder_says_what_the_run_says(made, family, method, data, tmp_path):
    run, to = made(family, method, data), tmp_path / "out" / "it"
    done = finesmith.load(run).export(to, rows=5)
    kind = AutoModelForCausalLM if data == "clauses" else AutoModelForSequenceClassification
    assert np.abs(theirs(to, kind) - ours(run)).max() < 1e-5
    assert not list(to.glob("adapter*")) and (to / "tokenizer.json").exists()
    assert done.proof.rows == 5 and done.proof.origin == "test rows"
    assert done.proof.same == done.proof.answers == 5
    assert max(done.proof.merging, done.proof.writing, done.proof.difference) < 1e-4
    assert (done.merged, done.dtype) == (method == "lora", "float32")
    told = json.loads((to / "export.json").read_text())
    assert told["proof"]["difference"] == done.proof.difference and told["method"] == method
    found = {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in to.iterdir() if p.name != "export.json"}
    assert told["files"] == found
    assert {p.name for p in to.parent.iterdir()} == {"it"}
    card = (to / "README.md").read_text()
    assert "library_name: transformers" in card and "PeftModel" not in card and "## Settings" in card


def test_a_generator_brings_template_and_stop_tokens(models, clauses, tmp_path):
    run = kept.tuned(clauses, models("qwen3", "thinking"), tmp_path / "run", generation={"max_new_tokens": 4})
    finesmith.export(run, tmp_path / "it")
    assert (
        AutoTokenizer.from_pretrained(tmp_path / "it").chat_template
        == AutoTokenizer.from_pretrained(run / "model").chat_template
    )
    end = json.loads((tmp_path / "it/generation_config.json").read_text())["eos_token_id"]
    assert "<|im_end|>" in AutoTokenizer.from_pretrained(tmp_path / "it").convert_ids_to_tokens(end)
    told = json.loads((tmp_path / "it/export.json").read_text())
    assert "<|im_end|>" in told["stop_tokens"] and told["max_new_tokens"] == 4
    assert (told["preamble"], told["thought_end"]) == ("<think>\n\n</think>\n\n", "")
    card = (tmp_path / "it/README.md").read_text()
    assert "max_new_tokens=4)" in card and "removeprefix('<think>\\n\\n</think>\\n\\n')" in card


def test_the_plain_template_comes_too(made, tmp_path):
    finesmith.export(made("llama", "lora", "clauses"), tmp_path / "it")
    assert "### Request:" in AutoTokenizer.from_pretrained(tmp_path / "it").chat_template


def test_a_classifier_knows_its_labels_and_where_it_cuts(made, tmp_path):
    run = made("bert", "lora", "tickets")
    finesmith.export(run, tmp_path / "it")
    config = json.loads((tmp_path / "it/config.json").read_text())
    assert list(config["id2label"].values()) == ["delivery", "login", "refund"]
    assert config["problem_type"] == "single_label_classification"
    assert AutoTokenizer.from_pretrained(tmp_path / "it").model_max_length == predictor.answering(run).task.max_length


def test_a_classifier_as_a_base_reads_as_much_as_its_model_can(models, tmp_path):
    rows = write_csv(tmp_path / "rows.csv", ticket_rows(60))
    run = kept.tuned(rows, models("bert"), tmp_path / "run", train={"max_length": 24})
    finesmith.export(run, tmp_path / "it")
    assert AutoTokenizer.from_pretrained(tmp_path / "it").model_max_length == 24
    long = [{**row, "text": " ".join([row["text"]] * 4)} for row in ticket_rows(60)]
    data = write_csv(tmp_path / "long.csv", long)
    again = kept.tuned(data, str(tmp_path / "it"), tmp_path / "again", method="full", train={"max_length": 120})
    assert predictor.answering(again).task.max_length == 120
    tokenizer = AutoTokenizer.from_pretrained(again / "model")
    assert tokenizer.model_max_length == AutoTokenizer.from_pretrained(run / "model").model_max_length == 128
    assert "finesmith_model_max_length" not in tokenizer.init_kwargs


def test_finesmith_takes_the_folder_too(made, tmp_path):
    run = made("bert", "lora", "tickets")
    finesmith.export(run, tmp_path / "it")
    texts = ["where is my parcel", "password wrong"]
    one, other = (predictor.load(place, dtype="float32").predict(texts) for place in (run, tmp_path / "it"))
    assert [row.output for row in one] == [row.output for row in other]


def test_a_narrower_dtype_is_rounded_and_measured(made, tmp_path):
    run = made("llama", "lora", "clauses")
    done = finesmith.export(run, tmp_path / "it", dtype="bfloat16", rows=3)
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "it")
    assert model.dtype == torch.bfloat16 and done.dtype == "bfloat16"
    assert 1e-4 < done.proof.difference < 0.1 and done.proof.writing < 1e-4
    assert done.bytes < 1.2 * sum(p.nbytes for p in model.parameters())


def test_the_dtype_is_that_of_the_base(models, clauses, tmp_path):
    base = AutoModelForCausalLM.from_pretrained(models("llama"))
    base.to(torch.bfloat16).save_pretrained(tmp_path / "base")
    AutoTokenizer.from_pretrained(models("llama")).save_pretrained(tmp_path / "base")
    run = kept.tuned(clauses, str(tmp_path / "base"), tmp_path / "run", generation={"max_new_tokens": 4})
    assert finesmith.export(run, tmp_path / "it").dtype == "bfloat16"


def test_tokens_that_were_added_and_padded_embeddings(clauses, tmp_path):
    base = make_model(tmp_path / "base", "llama_tied", "chatml")
    tokenizer = AutoTokenizer.from_pretrained(base)
    tokenizer.add_tokens(["<clause>", "<party>"])
    model = AutoModelForCausalLM.from_pretrained(base)
    model.resize_token_embeddings(len(tokenizer), pad_to_multiple_of=64)
    model.save_pretrained(base)
    tokenizer.save_pretrained(base)
    for method in ("lora", "full"):
        run = kept.tuned(clauses, str(base), tmp_path / method, method=method, generation={"max_new_tokens": 4})
        finesmith.export(run, tmp_path / f"it-{method}")
        assert len(AutoTokenizer.from_pretrained(tmp_path / f"it-{method}")) == len(tokenizer)
        assert np.abs(theirs(tmp_path / f"it-{method}") - ours(run)).max() < 1e-5


def test_documents_and_several_labels(models, notes, tmp_path):
    run = kept.tuned(notes, models("llama"), tmp_path / "run")
    done = finesmith.export(run, tmp_path / "it", rows=2)
    assert (done.proof.rows, done.proof.answers) == (2, 0)
    rows = [{"text": f"{word} {n}", "labels": [word] * (n % 3 > 0)} for n in range(30) for word in ("refund", "login")]
    (tmp_path / "several.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    run = kept.tuned(tmp_path / "several.jsonl", models("bert"), tmp_path / "several")
    done = finesmith.export(run, tmp_path / "labels", rows=3)
    assert done.proof.same == 3
    assert json.loads((tmp_path / "labels/config.json").read_text())["problem_type"] == "multi_label_classification"


def test_the_scale_that_was_set_is_exported(made, tmp_path):
    run = shutil.copytree(made("llama", "lora", "clauses"), tmp_path / "run")
    tuned = ours(run)
    scaling.set_scale(run, 0.5)
    assert finesmith.export(run, tmp_path / "it").scale == 0.5
    assert np.abs(theirs(tmp_path / "it") - ours(run)).max() < 1e-5 < np.abs(theirs(tmp_path / "it") - tuned).max()
    assert "at scale 0.5" in (tmp_path / "it/README.md").read_text()


def test_the_licence_of_the_base_is_kept(clauses, tmp_path):
    base = make_model(tmp_path / "base")
    (base / "LICENSE.txt").write_text("Use it well.")
    (base / "README.md").write_text("---\nlicense: llama3.2\n---\n# It\n")
    run = kept.tuned(clauses, str(base), tmp_path / "run", generation={"max_new_tokens": 4})
    finesmith.export(run, tmp_path / "it")
    assert (tmp_path / "it/LICENSE.txt").read_text() == "Use it well."
    assert '\nlicense: "llama3.2"\n' in (tmp_path / "it/README.md").read_text().partition("\n---\n")[0] + "\n"


def test_without_its_data_passages_are_asked(models, clauses, tmp_path):
    run = kept.tuned(clauses, models("llama"), tmp_path / "run", generation={"max_new_tokens": 4})
    clauses.unlink()
    done = finesmith.export(run, tmp_path / "it")
    assert done.proof.origin.startswith("shipped passages (the data of the run cannot be read") and done.proof.rows == 7
    assert done.proof.same == 7


def test_weights_too_large_for_float16_are_refused(made, tmp_path):
    run = shutil.copytree(made("llama", "lora", "clauses"), tmp_path / "run")
    config = json.loads((run / "model/adapter_config.json").read_text())
    (run / "model/adapter_config.json").write_text(json.dumps({**config, "lora_alpha": 1e7}))
    with pytest.raises(ExportError, match="do not fit float16"):
        finesmith.export(run, tmp_path / "it", dtype="float16")
    assert not (tmp_path / "it").exists()


@needs_library
@pytest.mark.parametrize(("held", "near"), [("nf4", 1e-4), ("int8", 0.1)])
def test_a_base_of_few_bits_is_taken_back_to_full_width(models, clauses, held, near, tmp_path):
    run = tmp_path / "run"
    words = ["--model", models("llama"), "--out", run, f"model.quantize={held}", "model.dtype=float32"]
    words += ["train.max_steps=3", "train.learning_rate=0.03", "generation.max_new_tokens=4"]
    assert command("tune", clauses, *words)[0] == 0
    done = finesmith.export(run, tmp_path / "it")
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "it")
    assert {p.dtype for p in model.parameters()} == {torch.float32} and done.dequantised == held
    assert done.proof.merging < near and np.abs(theirs(tmp_path / "it") - ours(run)).max() < near
    assert held in command("export", run, tmp_path / "again")[1]


def spoilt(monkeypatch, what):
    """Breaks one thing on the way to the folder."""
    if what == "a merge that adds nothing":
        monkeypatch.setattr(Lora, "merge", lambda self, model: model.unload())
    elif what == "a weight":

        def save(folder, model, loaded, *, adapter):
            next(model.parameters()).data.mul_(1.1)
            return saved(folder, model, loaded, adapter=adapter)

        saved = predictor.save_weights
        monkeypatch.setattr(predictor, "save_weights", save)
    else:
        done = write._save

        def save(part, model, loaded, task):
            if what == "the labels":
                model.config.id2label = {place: f"LABEL_{place}" for place in range(3)}
            if what == "the stop tokens":
                model.generation_config.eos_token_id = 40
            done(part, model, loaded, task)
            if what == "the template":
                (part / "chat_template.jinja").write_text("{{ messages[0]['content'] }}")
            if what == "a number":
                model.to(torch.bfloat16)
                next(model.parameters()).data.fill_(float("nan"))
                model.save_pretrained(part)

        monkeypatch.setattr(write, "_save", save)


@pytest.mark.parametrize(
    ("what", "data", "why"),
    [
        ("a merge that adds nothing", "clauses", "with its adapters merged"),
        ("a weight", "clauses", "read again"),
        ("a number", "clauses", "read again"),
        ("the stop tokens", "clauses", "do not stop at '</s>'"),
        ("the template", "clauses", "other tokens"),
        ("the labels", "tickets", "LABEL_0"),
    ],
)
def test_a_folder_that_is_another_model_is_refused_and_goes_away(made, what, data, why, tmp_path, monkeypatch):
    run = made("llama", "lora", data)
    spoilt(monkeypatch, what)
    with pytest.raises(ExportError, match=why):
        finesmith.export(run, tmp_path / "it")
    assert list(tmp_path.iterdir()) == []


def test_what_a_folder_must_be(made, tmp_path):
    run = made("bert", "head", "tickets")
    (tmp_path / "full").mkdir()
    (tmp_path / "full/x").write_text("mine")
    with pytest.raises(RunError, match="holds files already"):
        finesmith.export(run, tmp_path / "full")
    with pytest.raises(RunError, match="is a file"):
        finesmith.export(run, tmp_path / "full/x")
    with pytest.raises(RecipeError, match="Did you mean 'float16'"):
        finesmith.export(run, tmp_path / "it", dtype="float15")
    with pytest.raises(RecipeError, match="rows"):
        finesmith.export(run, tmp_path / "it", rows=0)
    with pytest.raises(RunError, match="no run folder"):
        finesmith.export(tmp_path / "nothing", tmp_path / "it")
    assert (tmp_path / "full/x").read_text() == "mine" and not (tmp_path / "it").exists()
    (tmp_path / "empty").mkdir()
    assert finesmith.export(run, tmp_path / "empty").path == tmp_path / "empty"


def test_the_command_says_what_was_compared(made, tmp_path):
    run = made("bert", "lora", "tickets")
    code, out, _ = command("export", run, tmp_path / "it", "--rows", "4")
    assert code == 0 and "adapters merged" in out and "on 4 test rows" in out and "4 of 4 answers are the same" in out
    code, out, err = command("export", run, tmp_path / "json", "--json")
    assert code == 0 and json.loads(out)["proof"]["rows"] == 12, err
    code, _, err = command("export", run, tmp_path / "it")
    assert code == 2 and "holds files already" in err


def test_the_how_to_runs(models, clauses, tmp_path, monkeypatch, capsys):
    text = (Path(__file__).parents[2] / "docs/how-to/use-the-model-elsewhere.md").read_text(encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    kept.tuned(clauses, models("llama"), tmp_path / "runs/clauses", generation={"max_new_tokens": 4})
    shutil.copy(clauses, tmp_path / "more.jsonl")
    for line in re.findall(r"^finesmith (.*)$", text, flags=re.MULTILINE):
        assert command(*line.split(), *["train.max_steps=1"] * line.startswith("tune"))[0] == 0, line
    (code,) = re.findall(r"```python\n(.*?)```", text, flags=re.S)
    exec(code, {})
    assert capsys.readouterr().out.strip()
    template = AutoTokenizer.from_pretrained("exported/clauses").chat_template
    for word in ("### Request:", "### Answer:"):
        assert word in template and word in text
    told = json.loads(Path("exported/clauses/export.json").read_text())
    named = re.findall(r"^\| (`.*`) (?:of .*)?\|", text, flags=re.MULTILINE)
    for name in re.findall(r"`([\w.]+)`", " ".join(named)):
        first, _, second = name.partition(".")
        assert first in told and (not second or second in told[first]), name
    for place in re.findall(r"--(?:generation-config|chat-template) (runs/\S+)", text):
        assert Path(place).exists(), place
    assert GenerationConfig.from_pretrained("runs/clauses/model").eos_token_id


def test_where_answers_part():
    answer = parity.Answer((5, 6, 2), ({5: 3.0, 7: 2.9}, {6: 4.0, 8: 1.0}, {2: 1.0}))
    assert answer.slack((5, 6, 2)) == 0
    assert answer.slack((7, 9)) == pytest.approx(0.1)
    assert answer.slack((5, 8)) == answer.slack((5, 9)) == 3.0
    assert answer.slack((5, 6, 2, 2)) == answer.slack((5, 6)) == np.inf


def test_logits_that_are_no_numbers_are_far_apart():
    one = [np.array([[1.0, -np.inf]])]
    assert parity.apart(one, one) == 0
    assert parity.apart(one, [np.array([[np.nan, -np.inf]])]) == np.inf
    assert parity.apart(one, [np.array([[1.0]])]) == np.inf


def with_flash(run, to):
    """A run as one on CUDA leaves it that was trained with flash attention."""
    shutil.copytree(run, to)
    for name, old, new in (
        ("recipe.yaml", "attention: auto", "attention: flash_attention_2"),
        ("model/finesmith.json", '"attention": "auto"', '"attention": "flash_attention_2"'),
    ):
        text = (to / name).read_text()
        assert old in text
        (to / name).write_text(text.replace(old, new))
    return to


def test_a_run_with_flash_attention_answers_and_is_exported_where_there_is_none(made, tmp_path, monkeypatch):
    run = with_flash(made("llama", "lora", "clauses"), tmp_path / "run")
    rows = write_jsonl(tmp_path / "rows.jsonl", [{"prompt": "clause"}])
    for words in (["predict", run, rows], ["export", run, tmp_path / "it", "--rows", 2]):
        code, _, err = command(*words)
        assert code == 0, err
    assert json.loads((tmp_path / "it/finesmith.json").read_text())["model"]["attention"] == "auto"
    monkeypatch.setattr("sys.stdin", io.StringIO("clause\n"))
    code, out, err = command("chat", run)
    assert code == 0 and out.startswith("base"), err


def test_the_machine_is_asked_where_memory_does_not_suffice(made, tmp_path, monkeypatch):
    run = made("llama", "lora", "clauses")

    def full(*_, **__):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

    weights = json.loads((run / "evidence.json").read_text())["costs"]["total_parameters"]
    with monkeypatch.context() as patched:
        patched.setattr("finesmith.methods.lora.Lora.merge", full)
        code, _, err = command("export", run, tmp_path / "it")
    assert code == 2 and "Traceback" not in err and "The memory of 'cpu' does not suffice" in err
    assert f"held in float32, {weights:,} weights in 0.0 GB" in err and "a machine with more memory" in err
    assert not (tmp_path / "it").exists() and not [*tmp_path.glob(".*")]
    with monkeypatch.context() as patched:
        patched.setattr("torch.nn.Module.to", full)
        patched.setattr("finesmith.exporting.write.choose_device", lambda name: torch.device("cuda"))
        with pytest.raises(ExportError, match="The memory of 'cuda'") as caught:
            finesmith.export(run, tmp_path / "it")
    assert caught.value.hint.startswith("Add --device cpu")
    with monkeypatch.context() as patched:
        patched.setattr("finesmith.methods.lora.Lora.merge", lambda *_: torch.zeros(2) @ torch.zeros(3))
        with pytest.raises(RuntimeError, match="size"):
            finesmith.export(run, tmp_path / "it")
