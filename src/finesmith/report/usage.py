"""How to use a tuned model: code that runs, for Finesmith and for the library whose format the files are in."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

PIPELINES = {"classification": "text-classification", "generation": "text-generation", "text": "text-generation"}
"""The pipeline of transformers, and the tag on the hub, of each task."""


def snippets(task: str, about: Mapping[str, Any]) -> str:
    """Finesmith where the task gives answers, then transformers (a full model) or PEFT (an adapter)."""
    path = about.get("path", "path/to/run")
    blocks = [_finesmith(task, path)] if task != "text" else []
    if task in PIPELINES:
        blocks.append(_peft(task, path, about) if about.get("adapter") else _transformers(task, path))
    return "\n\n".join(f"```python\n{block}\n```" for block in blocks)


def _finesmith(task: str, path: str) -> str:
    item = '[{"role": "user", "content": "..."}]' if task == "generation" else '"..."'
    return f"import finesmith\n\nmodel = finesmith.load({path!r})\nprint(model.predict([{item}])[0].output)"


def _transformers(task: str, path: str) -> str:
    item = '[{"role": "user", "content": "..."}]' if task == "generation" else '"..."'
    start = f"from transformers import pipeline\n\nmodel = pipeline({PIPELINES[task]!r}, model={path + '/model'!r})"
    return f"{start}\nprint(model({item}))"


def _peft(task: str, path: str, about: Mapping[str, Any]) -> str:
    """The base is named here, not looked up in the adapter's files: it may be the embedded one or a relative folder."""
    head = "AutoModelForSequenceClassification" if task == "classification" else "AutoModelForCausalLM"
    labels = f", num_labels={len(about['labels'])}" if task == "classification" and "labels" in about else ""
    embedded = about.get("model") == "embedded"
    lines = ["from finesmith.models.load import EMBEDDED"] if embedded else []
    base = "EMBEDDED" if embedded else repr(about.get("model", "path/to/base"))
    given = ", ".join(f"{key}={value!r}" for key, value in about.get("quantization", {}).items())
    quantised = [f"quantization = BitsAndBytesConfig({given})"] if given else []
    return "\n".join(
        [
            *lines,
            "from peft import PeftModel",
            f"from transformers import {head}, AutoTokenizer{', BitsAndBytesConfig' if given else ''}",
            "",
            *quantised,
            f"base = {head}.from_pretrained({base}{labels}{', quantization_config=quantization' if given else ''})",
            f"model = PeftModel.from_pretrained(base, {path + '/model'!r})",
            f"tokenizer = AutoTokenizer.from_pretrained({path + '/model'!r})",
        ]
    )
