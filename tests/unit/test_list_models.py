"""`finesmith list models`: what the embedded model really is, and how to name a larger one."""

import json

from transformers import AutoConfig, AutoModelForCausalLM

from finesmith.__main__ import main
from finesmith.models import embedded


def test_the_embedded_model_is_as_listed():
    found, model = embedded.facts(), AutoModelForCausalLM.from_pretrained(embedded.EMBEDDED)
    assert found["parameters"] == sum(weight.numel() for weight in model.parameters())
    assert found["context"] == AutoConfig.from_pretrained(embedded.EMBEDDED).max_position_embeddings
    assert found["vocabulary"] == model.get_input_embeddings().num_embeddings


def test_how_to_name_a_model(capsys):
    assert main(["list", "models"]) == 0
    shown = capsys.readouterr().out
    found = embedded.facts()
    assert (
        f"{found['parameters'] / 1e6:.1f} M parameters, context {found['context']}" in shown and "Apache-2.0" in shown
    )
    assert "--model Qwen/Qwen3-0.6B" in shown and "--model ./my-model" in shown
    assert all(size in shown and what in shown for size, what in embedded.ADVICE)


def test_names_are_listed_for_scripts(capsys):
    main(["list", "models", "--json"])
    assert {"embedded", "owner/name", "FOLDER"} <= json.loads(capsys.readouterr().out)["models"].keys()


def test_a_copy_without_weights_lists_the_others(tmp_path, monkeypatch):
    monkeypatch.setattr(embedded, "EMBEDDED", tmp_path)
    assert embedded.facts() == {} and next(embedded.lines())[0] == "owner/name"
