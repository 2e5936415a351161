"""What can go wrong through no fault of ours: exit code 2, a message that helps, no traceback, nothing half-written."""

import contextlib
import gzip
import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from itertools import chain
from pathlib import Path

import pytest
import torch
import transformers

from finesmith import run as runs
from finesmith.__main__ import main
from finesmith.cli._show import Terminal
from finesmith.cli.tune import run_and_show
from finesmith.errors import ModelError, RunError
from finesmith.models import causal, device, load
from finesmith.models.settings import ModelSettings
from finesmith.runfolder import RunFolder
from finesmith.watch import Interrupted, Watcher
from tests import small
from tests.conftest import chat_rows, clause_rows, make_tokenizer, ticket_rows, write_csv, write_jsonl

QUICK = ["train.max_steps=2", "model.dtype=float32", "model.device=cpu"]


def command(*arguments) -> tuple[int, str, str]:
    """Exit code, stdout and stderr of `finesmith ...` in this process."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main([str(argument) for argument in arguments])
    return code, out.getvalue(), err.getvalue()


@pytest.fixture
def tune(models, tmp_path):
    """`tune(data, "llama", ...)`: exit code, stdout, stderr of a run into tmp_path/run."""

    def go(data, model="llama", *more):
        folder = model if os.sep in str(model) else models(model)
        return command("tune", data, "--model", folder, "--out", tmp_path / "run", *QUICK, *more)

    return go


@pytest.fixture
def refused(tune, tmp_path):
    """The same for a run that must be refused: its message. Nothing may be left of it."""

    def go(data, model="llama", *more) -> str:
        before = sorted(tmp_path.rglob("*"))
        code, out, err = tune(data, model, *more)
        assert (code, out) == (2, ""), err
        assert "Traceback" not in err and err.count("error: ") == 1, err
        assert sorted(tmp_path.rglob("*")) == before
        return err.partition("error: ")[2]

    return go


# --- files


def test_a_file_that_is_not_there(refused, tickets):
    message = refused(tickets.with_name("tickts.csv"))
    assert message.startswith(
        f"There is no file or folder '{tickets.with_name('tickts.csv')}'. Did you mean 'tickets.csv'?"
    )


def test_a_folder_that_is_not_there(refused, tmp_path):
    assert f"(no folder '{tmp_path / 'dta'}')" in refused(tmp_path / "dta" / "tickets.csv")


@pytest.mark.parametrize("name", ["rows.jsonl", "rows.csv", "rows.json"])
def test_an_empty_file(refused, tmp_path, name):
    (tmp_path / name).write_bytes(b"")
    assert f"{tmp_path / name} is empty" in refused(tmp_path / name)


def test_an_empty_document(refused, tmp_path):
    (tmp_path / "rows.txt").write_bytes(b"")
    message = refused(tmp_path / "rows.txt")
    assert "rows.txt: no usable row" in message and "rows.txt:1: the document is empty" in message


def test_a_header_without_rows(refused, tmp_path):
    (tmp_path / "rows.csv").write_text("text,label\n")
    assert "rows.csv holds no rows" in refused(tmp_path / "rows.csv")


def test_a_file_in_another_encoding(refused, tmp_path):
    rows = "text,queue\n" + "".join(f"Müller fragt nach {n},refund\n" for n in range(30))
    (tmp_path / "latin.csv").write_bytes(rows.encode("latin-1"))
    message = refused(tmp_path / "latin.csv")
    assert "latin.csv is not UTF-8; it looks like WINDOWS-1252" in message and "byte 0xfc" in message
    (tmp_path / "utf16.csv").write_bytes(rows.encode("utf-16"))
    assert "it looks like UTF-16" in refused(tmp_path / "utf16.csv")


def test_one_byte_that_is_not_utf8_is_named_by_its_line(refused, tickets):
    lines = tickets.read_bytes().splitlines(keepends=True)
    lines[4] = lines[4].replace(b" ", b"\xe9", 1)
    tickets.write_bytes(b"".join(lines))
    message = refused(tickets)
    assert "1 of 90 rows cannot be used" in message
    assert re.search(rf"{tickets}:5: byte 0xe9 at offset \d+ is not UTF-8", message)


def test_a_gzip_that_ends_too_early(refused, tmp_path):
    rows = "".join(json.dumps(row) + "\n" for row in ticket_rows(300)).encode()
    path = tmp_path / "tickets.jsonl.gz"
    path.write_bytes(gzip.compress(rows)[:-200])
    message = refused(path)
    assert f"{path} is damaged or incomplete (gzip)" in message and "download it again" in message


def test_broken_json_on_line_7(refused, clauses):
    lines = clauses.read_text().splitlines(keepends=True)
    lines[6] = lines[6].replace('"completion":', '"completion"')
    clauses.write_text("".join(lines))
    message = refused(clauses)
    assert "1 of 60 rows cannot be used" in message
    assert re.search(rf"{clauses}:7: not valid JSON: .* \(column \d+\)", message)
    assert "--max-bad-rows 1" in message


def test_ragged_csv(refused, tickets):
    lines = tickets.read_text().splitlines()
    lines[3], lines[8] = lines[3] + ",more", lines[8].rpartition(",")[0]
    tickets.write_text("\n".join(lines) + "\n")
    message = refused(tickets)
    assert f"{tickets}:4: has 3 fields where the header has 2" in message
    assert f"{tickets}:9: has 1 field where the header has 2" in message


def test_accepted_bad_rows_are_counted_and_kept_in_a_file(tune, clauses, tmp_path):
    lines = clauses.read_text().splitlines(keepends=True)
    lines[6] = "{broken\n"
    clauses.write_text("".join(lines))
    code, _, err = tune(clauses, "llama", "--max-bad-rows", "1")
    assert code == 0, err
    (row,) = [json.loads(line) for line in (tmp_path / "run/rejected.jsonl").read_text().splitlines()]
    assert row["origin"] == f"{clauses}:7" and row["row"] == "{broken" and "not valid JSON" in row["reason"]
    assert json.loads((tmp_path / "run/manifest.json").read_text())["data"]["rejected"] == 1
    assert "Left out: 1 unusable row (accepted" in err


# --- columns and labels


def test_columns_that_mean_nothing(refused, tmp_path):
    rows = [{"alpha": f"x {n}", "beta": f"y {n}", "gamma": "z"} for n in range(30)]
    message = refused(write_jsonl(tmp_path / "rows.jsonl", rows))
    assert "cannot tell what its columns mean. Columns found: alpha, beta, gamma." in message
    assert "text: a column text alone" in message and "data.columns.text=COLUMN data.columns.label=COLUMN" in message


def test_a_column_that_is_not_in_the_file(refused, tickets):
    message = refused(tickets, "llama", "data.columns={text: text, label: qeue}")
    assert f"{tickets} has no column 'qeue' (for label). Did you mean 'queue'? Known: queue, text." in message
    message = refused(tickets, "llama", "data.columns={txt: text, label: queue}")
    assert "Unknown word 'txt' in data.columns. Did you mean 'text'?" in message


@pytest.mark.parametrize("model", ["llama", "bert"])
def test_one_class_only(refused, tmp_path, model):
    rows = [{**row, "queue": "refund"} for row in ticket_rows(40)]
    message = refused(write_csv(tmp_path / "tickets.csv", rows), model)
    assert "'refund'" in message and "class" in message


def test_a_class_with_one_row_is_trained_on_and_reported(tune, tmp_path):
    rows = [*ticket_rows(60), {"text": "the lift is stuck", "queue": "rare"}]
    code, _, err = tune(write_csv(tmp_path / "tickets.csv", rows), "bert")
    assert code == 0, err
    assert "Classes with one row, which is trained on and cannot be tested: 'rare'." in err
    splits = json.loads((tmp_path / "run/splits.json").read_text())
    assert "tickets:62" in splits["train"]
    assert "rare" in json.loads((tmp_path / "run/model/finesmith.json").read_text())["state"]["labels"]


@pytest.mark.parametrize("kind", ["csv", "jsonl"])
def test_labels_that_are_missing_in_some_rows(refused, tmp_path, kind):
    rows = ticket_rows(60)
    rows[3]["queue"] = rows[10]["queue"] = "" if kind == "csv" else None
    path = tmp_path / f"tickets.{kind}"
    message = refused(write_csv(path, rows) if kind == "csv" else write_jsonl(path, rows))
    what = "empty" if kind == "csv" else "missing"
    first = 2 if kind == "csv" else 1
    assert "2 of 60 rows cannot be used" in message
    for place in (3, 10):
        assert f"{path}:{place + first}: the label is {what} (column 'queue')" in message


def test_labels_that_differ_only_in_case_are_reported_and_not_altered(tune, tmp_path):
    rows = ticket_rows(60)
    for row in rows[::6]:
        row["queue"] = row["queue"].upper()
    code, _, err = tune(write_csv(tmp_path / "tickets.csv", rows), "bert")
    assert code == 0, err
    assert "labels that differ only in case or spaces: 'DELIVERY' / 'delivery'" in err
    notes = json.loads((tmp_path / "run/manifest.json").read_text())["notes"]
    assert any("'DELIVERY' / 'delivery'" in note for note in notes)
    assert {"DELIVERY", "delivery"} <= set(
        json.loads((tmp_path / "run/model/finesmith.json").read_text())["state"]["labels"]
    )


def test_several_shapes_in_one_file(refused, tmp_path):
    rows = [*clause_rows(20), *ticket_rows(3), chat_rows(1)[0], *clause_rows(5, seed=1)]
    path = write_jsonl(tmp_path / "mixed.jsonl", rows)
    message = refused(path)
    assert "4 of 29 rows cannot be used" in message
    for line in (21, 22, 23):
        assert f"{path}:{line}: mixed shapes: has text/queue where the rows before have prompt/completion" in message
    assert f"{path}:24: mixed shapes: has messages where the rows before have prompt/completion" in message


def test_test_labels_that_training_never_saw(refused, tmp_path):
    (tmp_path / "data").mkdir()
    write_csv(tmp_path / "data/train.csv", ticket_rows(60))
    unseen = [*ticket_rows(6), {"text": "the lift", "queue": "Refund"}, {"text": "a door", "queue": "house"}]
    write_csv(tmp_path / "data/test.csv", unseen)
    message = refused(tmp_path / "data")
    assert "Labels of validation or test never stand in the training rows" in message
    assert f"'house': 1 in test, first at {tmp_path / 'data/test.csv'}:9" in message
    assert f"'Refund': 1 in test, first at {tmp_path / 'data/test.csv'}:8; training has 'refund'" in message


@pytest.mark.parametrize("count", [1, 2, 3])
def test_too_few_rows(refused, tmp_path, count):
    message = refused(write_jsonl(tmp_path / "clauses.jsonl", clause_rows(count)))
    assert f"Too few rows to split: {count}, and at least 10 are needed" in message


def test_a_task_that_the_data_is_not_for(refused, clauses, tickets):
    message = refused(clauses, "llama", "--task", "classification")
    assert "has no column for text. Columns found: prompt, completion." in message
    message = refused(tickets, "llama", "--task", "generation")
    assert "task is 'generation', but the data has the shape 'labels', which is for classification" in message


# --- models


def test_a_model_that_does_not_exist(refused, tickets, models, tmp_path):
    shutil.copytree(models("llama"), tmp_path / "my-llama")
    message = refused(tickets, str(tmp_path / "my-lama"))
    assert f"There is no model folder '{tmp_path / 'my-lama'}'. Did you mean 'my-llama'?" in message


@pytest.mark.parametrize("command", ["tune", "estimate", "advise", "show-tokens"])
def test_a_hub_name_without_its_owner_is_said_before_the_data_is_read(command, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "gpt2-results").mkdir()
    assert main([command, "no-such-file.csv", "--model", "gpt2"]) == 2
    message = capsys.readouterr().err
    assert "There is no model folder 'gpt2'. Known: embedded." in message
    assert "A hub model is owner/name, such as openai-community/gpt2; see: finesmith list models" in message


def test_a_hub_model_that_cannot_be_had(refused, tickets):
    message = refused(tickets, "nobody/has-this-model")
    assert "Cannot load the model 'nobody/has-this-model'" in message and "Is the name right" in message


def test_the_model_of_a_run_is_named_where_the_run_is_given(refused, tickets, tmp_path):
    run = tmp_path / "earlier"
    (run / "model").mkdir(parents=True)
    (run / "model/adapter_config.json").write_text("{}")
    for given in (run, run / "model"):
        message = refused(tickets, str(given))
        assert f"'{given}' holds an adapter, which is no model without its base" in message and "PEFT" in message
    (run / "model/finesmith.json").write_text("{}")
    for given in (run, run / "model"):
        assert f"finesmith export {run} DIR; then give --model DIR" in " ".join(refused(tickets, str(given)).split())
    (run / "model/config.json").write_text("{}")
    assert f"'{run}' is a run; its model is the folder in it. Give that: --model {run / 'model'}" in " ".join(
        refused(tickets, str(run)).split()
    )


def test_what_is_no_model(refused, tickets, tmp_path):
    (tmp_path / "folder").mkdir()
    message = refused(tickets, str(tmp_path / "folder"))
    assert f"'{tmp_path / 'folder'}' is not a model: the folder has no config.json" in message
    assert f"'{tickets}' is a file; a model is a folder" in refused(tickets, str(tickets))
    (tmp_path / "folder/config.json").write_text('{"model_type": "llamma"}')
    message = refused(tickets, str(tmp_path / "folder"))
    assert "Cannot load the model" in message and "llamma" in message
    (tmp_path / "folder/config.json").write_text("{ not json")
    assert "Cannot load the model" in refused(tickets, str(tmp_path / "folder"))


ODD = {
    "gptq": ({"quantization_config": {"quant_method": "gptq", "bits": 4}}, "requires optimum"),
    "awq": ({"quantization_config": {"quant_method": "awq", "bits": 4}}, "requires gptqmodel"),
    "no heads": ({"num_attention_heads": 0}, "ZeroDivisionError: integer modulo by zero"),
    "a word for a number": ({"hidden_size": "wide"}, "'hidden_size' expected int, got str"),
    "an unknown activation": ({"hidden_act": "foo"}, "KeyError: 'foo'"),
    "an unknown dtype": ({"dtype": "float99"}, "float99"),
    "a list of labels": ({"id2label": ["a"]}, "AttributeError"),
}


@pytest.mark.parametrize("name", ODD)
def test_a_configuration_that_transformers_cannot_take(models, tmp_path, name):
    change, said = ODD[name]
    base = shutil.copytree(models("llama"), tmp_path / "model")
    config = base / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | change))
    with pytest.raises(ModelError, match=r"Cannot load the (model|weights of)") as error:
        load.load(ModelSettings(name=str(base)), "sequence-classification", labels=("a", "b"))
    assert said in str(error.value)
    if name == "an unknown activation":
        with pytest.raises(ModelError, match=r"Cannot build the model .*: KeyError: 'foo'"):
            load.load(ModelSettings(name=str(base), from_scratch=True), "causal-lm")


@pytest.mark.parametrize("file", ["generation_config.json", "tokenizer_config.json"])
def test_a_file_of_a_model_that_holds_something_else(models, tmp_path, file):
    base = shutil.copytree(models("llama"), tmp_path / "model")
    (base / file).write_text("[]")
    with pytest.raises(ModelError, match="'list' object"):
        load.load(ModelSettings(name=str(base)), "causal-lm")


def test_a_model_without_a_tokenizer(refused, tickets, models, tmp_path):
    shutil.copytree(models("llama"), tmp_path / "model", ignore=shutil.ignore_patterns("tokenizer*"))
    assert "no tokenizer" in refused(tickets, str(tmp_path / "model"))


def test_a_model_without_weights_or_with_half_of_them(refused, tickets, models, tmp_path):
    shutil.copytree(models("llama"), tmp_path / "model", ignore=shutil.ignore_patterns("*.safetensors"))
    assert "Cannot load the weights" in refused(tickets, str(tmp_path / "model"))
    whole = (Path(models("llama")) / "model.safetensors").read_bytes()
    (tmp_path / "model/model.safetensors").write_bytes(whole[: len(whole) // 2])
    assert "Cannot load the weights" in refused(tickets, str(tmp_path / "model"))


def test_weights_that_have_no_room_on_the_device(refused, clauses, monkeypatch):
    def no_room(*_, **__):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of")

    monkeypatch.setattr(transformers.PreTrainedModel, "to", no_room)
    monkeypatch.setattr(device, "free_memory", lambda _: 3_000_000_000)
    message = refused(clauses)
    assert "do not fit into the memory of 'cpu': they take 0.0 GB, and 3.0 GB is free" in message
    assert "model.quantize" in message and "smaller model" in message and "GPU 0" not in message


def test_a_model_that_reads_texts_of_one_length_only(refused, tickets, tmp_path):
    folder = tmp_path / "fixed"
    tokenizer = make_tokenizer(folder)
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}
    config = transformers.NystromformerConfig(
        **sizes, vocab_size=len(tokenizer), pad_token_id=tokenizer.pad_token_id, num_landmarks=4,
        segment_means_seq_len=128, max_position_embeddings=128,
    )  # fmt: skip
    transformers.NystromformerForMaskedLM(config).save_pretrained(folder)
    message = refused(tickets, str(folder))
    assert re.search(r"\(nystromformer\) cannot read a text of \d+ tokens: shape .* is invalid", message)
    assert "one fixed length" in message


def test_memory_that_runs_out_while_weights_are_read(refused, clauses, monkeypatch):
    def no_room(*_, **__):
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes. Error code 12")

    monkeypatch.setattr(transformers.LlamaForCausalLM, "_load_pretrained_model", no_room)
    message = refused(clauses)
    assert "can't allocate memory" in message and "smaller model" in message and "save_pretrained" not in message


def test_weights_that_do_not_fit_the_configuration(refused, clauses, models, tmp_path):
    shutil.copytree(models("llama"), tmp_path / "model")
    config = json.loads((tmp_path / "model/config.json").read_text())
    (tmp_path / "model/config.json").write_text(json.dumps({**config, "num_hidden_layers": 3}))
    message = refused(clauses, str(tmp_path / "model"))
    assert "do not fit its configuration; these would be random: model.layers.2." in message
    (tmp_path / "model/config.json").write_text(json.dumps({**config, "intermediate_size": 48}))
    assert "do not fit its configuration" in refused(clauses, str(tmp_path / "model"))


def test_a_tokenizer_with_more_tokens_than_the_model(refused, clauses, models, tmp_path):

    shutil.copytree(models("llama"), tmp_path / "model")
    tokenizer = make_tokenizer(tmp_path / "model")
    tokenizer.add_tokens(["clause", "late"])
    tokenizer.save_pretrained(tmp_path / "model")
    assert len(transformers.AutoTokenizer.from_pretrained(tmp_path / "model")) == len(tokenizer)
    message = refused(clauses, str(tmp_path / "model"))
    assert "tokenizer" in message and str(len(tokenizer)) in message


@pytest.mark.parametrize("model", ["bert", "roberta", "distilbert"])
def test_an_encoder_cannot_write(refused, clauses, model, models):
    message = refused(clauses, model)
    assert f"'{models(model)}' is an encoder ({model}): it cannot write text." in message
    assert "task: classification" in message


def sees_later(folder, name):
    tokenizer = make_tokenizer(folder)
    torch.manual_seed(0)
    size = {"vocab_size": len(tokenizer), "pad_token_id": 0}
    layers = {"num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64, "hidden_size": 32}
    makers = {
        "embedding-gemma": lambda: transformers.Gemma3TextModel(
            transformers.Gemma3TextConfig(**size, **layers, head_dim=8, use_bidirectional_attention=True)
        ),
        "xlm": lambda: transformers.XLMWithLMHeadModel(
            transformers.XLMConfig(**size, emb_dim=32, n_layers=2, n_heads=4, pad_index=0, use_lang_emb=False)
        ),
        "bert": lambda: transformers.BertLMHeadModel(transformers.BertConfig(**size, **layers, is_decoder=False)),
    }
    makers[name]().save_pretrained(folder)
    return str(folder)


@pytest.mark.parametrize(("name", "says"), [("embedding-gemma", "encoder"), ("xlm", "encoder"), ("bert", "later")])
def test_a_model_that_sees_later_tokens_cannot_write(refused, clauses, name, says, tmp_path):
    """It would read what it should predict, and its loss would show a gain that is none."""
    (tmp_path / "model").mkdir()
    message = refused(clauses, sees_later(tmp_path / "model", name))
    assert {"encoder": "cannot write text", "later": "sees later tokens"}[says] in message
    assert "task: classification" in message


def test_a_model_that_cannot_be_asked_about_later_tokens_is_not_refused(models):
    model = transformers.AutoModelForCausalLM.from_pretrained(models("llama"))
    assert causal.check(model, "llama") == ()
    model.forward = lambda input_ids, needed: None
    assert "TypeError" in causal.check(model, "llama")[0]


def test_a_chat_template_that_is_not_there(refused, clauses):
    message = refused(clauses, "llama", "generation.template=chat")
    assert "generation.template is 'chat', but this model has no chat template" in message


def test_a_device_that_is_not_there(refused, clauses):
    assert "There is no device 'cuda:99' on this machine" in refused(clauses, "llama", "model.device='cuda:99'")


# --- rows longer than the context


LONG = "please " * 140


def long_rows(tmp_path, task):
    if task == "classification":
        rows = ticket_rows(60)
        rows[7] = {"text": f"{LONG} parcel", "queue": "delivery"}
        return write_csv(tmp_path / "tickets.csv", rows), f"{tmp_path / 'tickets.csv'}:9"
    rows = clause_rows(40)
    rows[7] = {"prompt": LONG, "completion": "the end"}
    return write_jsonl(tmp_path / "clauses.jsonl", rows), f"{tmp_path / 'clauses.jsonl'}:8"


@pytest.mark.parametrize(
    "task, model", [("classification", "bert"), ("classification", "gpt2"), ("generation", "gpt2")]
)
def test_rows_longer_than_the_context_are_listed(refused, tmp_path, task, model):
    data, place = long_rows(tmp_path, task)
    for seed in range(4):  # in whichever part the row falls
        message = refused(data, model, f"--seed={seed}")
        assert "1 row longer than 128 tokens (the model's context, or train.max_length)" in message
        assert place in message and "data.over_length to drop or truncate" in message
        assert "Name a model with a longer context (--model)" in message


@pytest.mark.parametrize("policy, fate", [("error", "tune stops there; name a model"), ("drop", "leaves this row out")])
@pytest.mark.parametrize("task, model", [("classification", "bert"), ("generation", "gpt2")])
def test_show_tokens_shows_all_of_a_row_that_is_too_long(tmp_path, models, capsys, task, model, policy, fate):
    data, place = long_rows(tmp_path, task)
    words = ["show-tokens", str(data), "--row", "8", "--model", models(model), f"data.over_length={policy}"]
    assert main([*words, "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    (sequence,) = shown["sequences"]
    assert shown["limit"] == 128 < len(sequence["ids"]) and (task == "classification" or any(sequence["weights"]))
    assert main(words) == 0
    out = capsys.readouterr().out
    assert f"{place}: longer than 128 tokens (the model's context, or train.max_length): tune" in out and fate in out
    assert main([*words[:3], "1", *words[4:]]) == 0 and "longer than" not in capsys.readouterr().out


@pytest.mark.parametrize("policy", ["drop", "truncate"])
@pytest.mark.parametrize("task, model", [("classification", "bert"), ("generation", "gpt2")])
def test_rows_longer_than_the_context_are_dropped_or_cut_and_counted(tune, tmp_path, task, model, policy):
    data, place = long_rows(tmp_path, task)
    for seed in range(3):
        code, _, err = tune(data, model, f"data.over_length={policy}", f"--seed={seed}", "--method=full")
        assert code == 0, err
        (row,) = [json.loads(line) for line in (tmp_path / "run/rejected.jsonl").read_text().splitlines()]
        cut = policy == "truncate" and task == "classification"  # nothing of the answer is left of the long clause
        assert row == {"origin": place, "reason": f"longer than 128 tokens: {'cut at its end' if cut else 'left out'}"}
        note = f"1 row longer than 128 tokens {'cut at the end' if cut else 'left out'}: {place}"
        assert note in err and f"- {note}" in (tmp_path / "run/README.md").read_text()
        about = json.loads((tmp_path / "run/manifest.json").read_text())["data"]
        splits = json.loads((tmp_path / "run/splits.json").read_text())
        assert about["over_length"] == 1 and sum(about["rows"].values()) == (
            60 if cut else 59 if model == "bert" else 39
        )
        assert about["rows"] == {part: len(splits[part]) for part in about["rows"]}
        counts = ", ".join(f"{part} {count}" for part, count in about["rows"].items())
        assert f"- Rows: {counts}\n" in (tmp_path / "run/README.md").read_text()
        identity = f"{data.stem}:{place.rpartition(':')[2]}"
        assert any(identity in splits[part] for part in about["rows"]) == cut
        assert identity in chain.from_iterable(splits.get("left_out", {}).values()) or cut
        shutil.rmtree(tmp_path / "run")


def test_a_shorter_limit_lists_more_rows_and_a_longer_one_is_refused(refused, clauses):
    message = refused(clauses, "llama", "train.max_length=12")
    assert "60 rows longer than 12 tokens" in message
    assert message.count(f"  - {clauses}:") == 40 and "... and 20 more (all with --json)" in message
    message = refused(clauses, "llama", "train.max_length=4096")
    assert "train.max_length is 4096, but the model's context is 128 tokens" in message


def test_a_document_longer_than_the_context_is_no_error(tune, tmp_path):
    rows = [{"text": f"{n} {LONG}{LONG}"} for n in range(20)]
    code, _, err = tune(write_jsonl(tmp_path / "documents.jsonl", rows), "gpt2")
    assert code == 0, err
    assert not (tmp_path / "run/rejected.jsonl").exists()


# --- settings


RECIPE = """\
data:
  path: {data}
  tset: 0.3
task: generation
method: lora
model:
  name: {model}
train:
  learning_rte: 1e-4
  batch_size: many
  epochs: 3
  max_steps: 10
last_layers:
  count: 1
lora:
  rank: 0
"""


def test_all_that_is_wrong_with_a_recipe_is_said_at_once_with_its_line(models, clauses, tmp_path):
    path = tmp_path / "recipe.yaml"
    path.write_text(RECIPE.format(data=clauses, model=models("llama")))
    code, out, err = command("tune", path, "--out", tmp_path / "run")
    assert (code, out) == (2, "") and "Traceback" not in err
    assert err.startswith("error: The recipe cannot be used:\n")
    problems = {line.strip(" -\n").partition(": ")[0]: line for line in err.splitlines()[1:]}
    expected = {
        3: "unknown setting 'data.tset'. Did you mean 'test'?",
        9: "unknown setting 'train.learning_rte'. Did you mean 'learning_rate'?",
        10: "'train.batch_size' is \"many\"",
        12: "give either train.epochs or train.max_steps, not both",
        13: "'last_layers' has no effect: the method is 'lora'",
        16: "'lora.rank' is 0",
    }
    for line, text in expected.items():
        assert text in problems[f"{path}:{line}"], err
    assert list(problems) == [f"{path}:{line}" for line in expected], "in the order of the lines"
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "setting, message",
    [
        ("train.epoch=3", "unknown setting 'train.epoch'. Did you mean 'epochs'?"),
        (
            "lora.rnk=8",
            "unknown setting 'lora.rnk'. Did you mean 'rank'? "
            "Known: alpha, dropout, last_layers, rank, target_modules.",
        ),
        ("metod=lora", "unknown setting 'metod'. Did you mean 'method'?"),
        ("method=lara", "unknown method 'lara'. Did you mean 'lora'?"),
        ("task=generaton", "unknown task 'generaton'. Did you mean 'generation'?"),
        ("train.batch_size=8.5", "'train.batch_size' is 8.5"),
        ("train.batch_size='8'", "'train.batch_size' is \"8\""),
        ("train.learning_rate=-1", "'train.learning_rate' is -1"),
        ("train.learning_rate=fast", "'train.learning_rate' is \"fast\""),
        ("seed=true", "'seed' is true"),
        ("seed=202511211200", "'seed' is 202511211200: it should be less than 4294967296"),
        ("method=.lora", "Unknown method '.lora'. Did you mean 'lora'?"),
        ("model.name=a\x07b", "is not valid YAML: it holds the character '\\x07'"),
        ("data.over_length=cut", "'data.over_length' is \"cut\""),
        ("data.columns={text:", "quote the setting, as in 'data.columns={text: body}'"),
        ("data.columns=text:body", "it should be pairs, such as {text: body}"),
        ("data.columns={text:body}", "'data.columns.text:body' has no value: YAML wants a space after the colon"),
        ("last_layers.count=1", "'last_layers' has no effect: the method is 'lora'"),
        ("model.from_scratch=true", "with method 'lora' leaves most weights random"),
    ],
)
def test_a_wrong_setting_on_the_command_line(refused, clauses, setting, message):
    assert message in refused(clauses, "llama", setting)


@pytest.mark.parametrize(
    "setting, message",
    [
        ("classification.head_first=false", "'classification' has no effect: the task is 'generation'."),
        ("data.columns={label: completion}", "cannot tell what its columns mean. Columns found: prompt, completion."),
    ],
)
def test_a_setting_that_the_data_makes_void(refused, clauses, setting, message):
    assert message in refused(clauses, "llama", setting)


def test_words_that_are_no_command_no_option_and_no_setting(tmp_path, clauses):
    for arguments, message in (
        (["tun"], "Unknown command 'tun'. Did you mean 'tune'?"),
        (["tune", clauses, "--modle", "x"], "Unknown option '--modle' of finesmith tune. Did you mean '--model'?"),
        (["tune", clauses, "lora"], "'lora' is not a setting: write key=value"),
        (["tune", clauses, "train.epochs=[1"], "The value in 'train.epochs=[1' is not valid YAML"),
        (["tune"], "finesmith tune: the following arguments are required"),
        (["tune", tmp_path / "no.yaml"], "Cannot read the recipe"),
    ):
        code, out, err = command(*arguments)
        assert (code, out) == (2, "") and message in err and "Traceback" not in err


def test_a_recipe_that_is_no_yaml(tmp_path):
    path = tmp_path / "recipe.yaml"
    path.write_text("data: a.csv\nmodel: [unclosed\nseed: 1\n")
    code, _, err = command("tune", path)
    assert code == 2 and re.search(rf"error: {path}:\d+: not valid YAML", err)
    path.write_text("data: a.csv\nseed: 1\nout: a\x07b\n")
    code, _, err = command("tune", path)
    assert code == 2 and f"error: {path}:3: not valid YAML: it holds the character '\\x07'" in err
    path.write_text("- a list\n")
    code, _, err = command("tune", path)
    assert code == 2 and f"{path}:1: a recipe is a mapping of settings" in err


def test_errors_as_json(clauses):
    code, out, err = command("tune", clauses, "metod=lora", "--json")
    value = json.loads(out)
    assert code == 2 and set(value) == {"error", "problems", "hint"} and err == ""
    assert "unknown setting 'metod'" in value["problems"][0]


# --- training


def test_a_learning_rate_that_makes_the_loss_no_number(tune, clauses, tmp_path):
    code, out, err = tune(clauses, "llama", "train.learning_rate=1e30", "method=full", "train.clip=null", "--seed=1")
    assert (code, out) == (2, "") and "Traceback" not in err
    assert re.search(r"error: The (loss|gradient) became (nan|inf)", err)
    assert f"  - {clauses}:" in err and "lower train.learning_rate" in err
    assert not (tmp_path / "run/model").exists() and not (tmp_path / "run/lock").exists()


# --- the disk


def test_a_full_disk_leaves_nothing_half_written(tmp_path):
    folder = RunFolder.create(tmp_path / "run")
    folder.write_text("recipe.yaml", "before")

    def full(path: Path) -> None:
        path.write_text("half a rec")
        raise OSError(28, "No space left on device")

    with pytest.raises(RunError, match=rf"Cannot write {tmp_path}/run/recipe.yaml: No space left on device\. *\n"):
        folder.write_with("recipe.yaml", full)

    def full_folder(path: Path) -> None:
        path.mkdir()
        full(path / "model.safetensors")

    with pytest.raises(RunError, match="No space left on device"):
        folder.write_with("model", full_folder)
    assert {path.name for path in (tmp_path / "run").iterdir()} == {"recipe.yaml", "lock"}
    assert (tmp_path / "run/recipe.yaml").read_text() == "before"


@pytest.fixture
def small_disk(tmp_path):
    """`small_disk(size)`: a folder on a file system of so many kilobytes, where the machine allows to make one."""
    mounted = []

    def get(kilobytes: int) -> Path:
        place = tmp_path / f"disk{kilobytes}"
        place.mkdir()
        done = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", f"size={kilobytes}k", "tmpfs", str(place)], capture_output=True, check=False
        )
        if done.returncode:
            pytest.skip("cannot mount a small file system here")
        mounted.append(place)
        return place

    yield get
    for place in mounted:
        subprocess.run(["umount", str(place)], check=False)


@pytest.mark.parametrize("kilobytes", [4, 12, 100, 240, 480, 640, 760])
@pytest.mark.parametrize("method", ["full", "lora"])
def test_a_run_on_a_full_disk(small_disk, models, clauses, tmp_path, kilobytes, method):
    out = small_disk(kilobytes) / "run"
    arguments = ["--model", models("llama"), "--method", method, "--out", out, *QUICK, "generation.max_new_tokens=4"]
    code, stdout, err = command("tune", clauses, *arguments)
    if kilobytes > 240 and code == 0:
        return  # there was room enough
    assert (code, stdout) == (2, "") and "Traceback" not in err
    assert re.search(rf"error: Cannot write {out}[^:]*: .*No space left on device", err) and "disk full" in err
    assert not list(out.rglob("*.part")) and not (out / "evidence.json").exists() and not (out / "lock").exists()
    if (out / "recipe.yaml").exists():  # room is made: nothing is lost
        subprocess.run(["mount", "-o", "remount,size=8m", str(out.parent)], check=True)
        code, _, err = command("resume", out)
        assert code == 0, err
        assert (out / "evidence.json").exists()


def test_a_folder_that_cannot_be_made(tune, clauses, tmp_path, models):
    (tmp_path / "file").write_text("")
    out = tmp_path / "file" / "run"
    code, stdout, err = command("tune", clauses, "--model", models("llama"), "--out", out, *QUICK)
    assert (code, stdout) == (2, "") and f"Cannot write {out}" in err and "Traceback" not in err


def test_an_unfinished_run_is_not_written_over(tune, clauses, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run/recipe.yaml").write_text("data: x.csv\n")
    code, out, err = tune(clauses)
    assert (code, out) == (2, "")
    assert f"error: '{tmp_path / 'run'}' holds an unfinished run." in err
    assert f"finesmith resume {tmp_path / 'run'}" in err and "--out" in err
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["recipe.yaml"]


# --- Ctrl-C


def test_ctrl_c_says_how_to_go_on_and_going_on_finishes(models, clauses, tmp_path):
    out = tmp_path / "run"
    settings = ["train.max_steps=300", "train.batch_size=2", "train.evaluations=1", "model.dtype=float32"]
    with subprocess.Popen(
        [sys.executable, "-m", "finesmith", "tune", clauses, "--model", models("llama"), "--out", out, *settings],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        steps = out / "steps.jsonl"
        waited = time.monotonic()
        while not (steps.exists() and steps.read_text().count("\n") >= 3):
            assert process.poll() is None and time.monotonic() - waited < 200, process.communicate()
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        stdout, err = process.communicate(timeout=100)
    assert process.returncode == 130, err
    assert stdout == "" and "Traceback" not in err and "Warning" not in err
    assert f"finesmith resume {out}" in " ".join(err.split())
    done = steps.read_text().count("\n")
    assert 3 <= done < 300
    code, _, err = command("resume", out)
    assert code == 0, err
    assert [json.loads(line)["step"] for line in steps.read_text().splitlines()] == list(range(1, 301))
    assert (out / "evidence.json").exists() and not (out / "checkpoint").exists()


@pytest.mark.parametrize("stage, left", [("encoding", False), ("testing the tuned model", True)])
def test_ctrl_c_before_step_1_leaves_nothing_and_later_all(models, clauses, tmp_path, stage, left):
    class Pressed(Watcher):
        def progress(self, title, total):
            if title == stage:
                raise KeyboardInterrupt
            return super().progress(title, total)

    recipe = small.make_recipe(clauses, models("llama"), train={"max_steps": 2}).replace(out=str(tmp_path / "run"))
    with pytest.raises((KeyboardInterrupt, Interrupted)) as caught:
        runs.tune(recipe, watcher=Pressed())
    assert (tmp_path / "run").exists() == left
    if left:
        assert caught.type is Interrupted
        assert runs.resume(tmp_path / "run").evidence.verdict


@pytest.mark.parametrize(
    ("save_minutes", "lost"),
    [(1e-6, "steps after 2 are lost"), (60, "no step was saved, so the training begins again")],
)
def test_ctrl_c_in_the_middle_of_a_step_says_what_is_lost(models, clauses, tmp_path, capsys, save_minutes, lost):
    class Pressed(Watcher):
        def step(self, step, total, scores, best):
            if step.index == 3:
                raise KeyboardInterrupt

    train = {"max_steps": 4, "evaluations": 1, "save_minutes": save_minutes}
    out = tmp_path / "run"
    recipe = small.make_recipe(clauses, models("llama"), train=train).replace(out=str(out))
    assert run_and_show(lambda run, _: run.tune(recipe, watcher=Pressed()), as_json=True) == 130
    shown, err = capsys.readouterr()
    assert err == f"stopped; {lost}. Go on with: finesmith resume {out}\n"
    hint = f"Go on with: finesmith resume {out}"
    assert json.loads(shown) == {"error": "stopped", "problems": [lost], "hint": hint}
    with pytest.raises(Interrupted, match=rf"^stopped; {lost}\. Go on with: finesmith"):  # as a notebook shows it
        runs.resume(out, watcher=Pressed())
    with pytest.raises(Interrupted, match=r"^stopped; nothing is lost"):
        runs.resume(out, watcher=small.Stop(3))
    assert runs.resume(out).evidence.verdict


@pytest.mark.parametrize("stage", ["testing the tuned model", "testing the base model", "testing the baseline nearest"])
def test_ctrl_c_while_measuring_stops_at_once_and_says_how_to_go_on(models, clauses, tmp_path, capsys, stage):
    class Pressed(Watcher):
        def progress(self, title, total):
            if title == stage:
                os.kill(os.getpid(), signal.SIGINT)
            return super().progress(title, total)

    recipe = small.make_recipe(clauses, models("llama"), train={"max_steps": 2}).replace(out=str(tmp_path / "run"))
    assert run_and_show(lambda run, _: run.tune(recipe, watcher=Pressed()), as_json=False) == 130
    out, err = capsys.readouterr()
    assert out == "" and err == f"stopped; nothing is lost. Go on with: finesmith resume {tmp_path / 'run'}\n"
    assert run_and_show(lambda run, _: run.resume(tmp_path / "run", watcher=Pressed()), as_json=True) == 130
    said = json.loads(capsys.readouterr().out)
    assert said["error"] == "stopped" and said["hint"] == f"Go on with: finesmith resume {tmp_path / 'run'}"
    code, out, err = command("resume", tmp_path / "run", "--json")
    assert code == 0 and json.loads(out)["verdict"] and "testing the tuned model" in err


def press():
    os.kill(os.getpid(), signal.SIGINT)


def test_ctrl_c_in_a_training_waits_for_the_step_at_hand():
    with Terminal(quiet=True) as watcher, pytest.raises(KeyboardInterrupt), watcher.training(3):
        press()
        assert watcher.should_stop()
        press()  # the second time it does not wait
    with Terminal(quiet=True) as watcher, pytest.raises(KeyboardInterrupt), watcher.training(3):
        press()  # after the last step nobody asks any more


def test_a_note_may_hold_brackets(capsys):
    with Terminal() as watcher:
        watcher.note("a turn ends with '[/INST]' in data[1].csv")
    assert capsys.readouterr().err == "· a turn ends with '[/INST]' in data[1].csv\n"


# --- rows to answer


@pytest.fixture(scope="module")
def finished(models, tmp_path_factory):
    folder = tmp_path_factory.mktemp("finished")
    data = write_csv(folder / "tickets.csv", ticket_rows(60))
    recipe = small.make_recipe(data, models("bert"), train={"max_steps": 1}, method="head")
    return runs.tune(recipe.replace(out=str(folder / "run"))).path


def test_rows_that_cannot_be_answered(finished, tmp_path):
    path = write_jsonl(tmp_path / "new.jsonl", [{"text": "fine"}, {"text": ""}, {"txt": "x"}, {"text": 3}])
    code, out, err = command("predict", finished, path)
    assert (code, out) == (2, "") and "Traceback" not in err
    for line in (2, 3, 4):
        assert f"{path}:{line}: " in err
    assert f"{path}:1: " not in err


def test_rows_longer_than_the_context_are_not_cut_in_silence(finished, tmp_path, caplog):
    path = write_jsonl(tmp_path / "new.jsonl", [{"text": "fine"}, {"text": LONG}])
    code, out, _ = command("predict", finished, path)
    assert code == 0 and out.count("\n") == 2
    assert caplog.messages == [
        f"1 of 2 inputs longer than the 128 tokens that the model reads; only the beginning counted: {path}:2"
    ]
    caplog.clear()
    assert command("predict", finished, write_jsonl(tmp_path / "fine.jsonl", [{"text": "fine"}]))[0] == 0
    assert caplog.messages == []


def test_answers_that_cannot_be_written(finished, tmp_path):
    path = write_jsonl(tmp_path / "new.jsonl", [{"text": "fine"}])
    code, out, err = command("predict", finished, path, "--out", path / "answers.jsonl")
    assert (code, out) == (2, "") and f"Cannot write {path / 'answers.jsonl'}" in err
