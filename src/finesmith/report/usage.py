"""How to use a tuned model: code that runs, for Finesmith and for the library whose format the files are in."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

PIPELINES = {"classification": "text-classification", "generation": "text-generation", "text": "text-generation"}
"""The pipeline of transformers, and the tag on the hub, of each task."""


def snippets(task: str, about: Mapping[str, Any]) -> str:
    """Finesmith where the task gives answers, then transformers (a full model) or PEFT (an adapter)."""
    path = about.get("path", "path/to/model")
    blocks = [_finesmith(task, path)] if task != "text" else []
    if task in PIPELINES:
        blocks.append(_peft(task, path, about) if about.get("adapter") else _transformers(task, path))
    return "\n\n".join(f"```python\n{block}\n```" for block in blocks)


def _finesmith(task: str, path: str) -> str:
    item = '[{"role": "user", "content": "..."}]' if task == "generation" else '"..."'
    return f"import finesmith\n\nmodel = finesmith.load({path!r})\nprint(model.predict([{item}])[0].output)"


def _transformers(task: str, path: str) -> str:
    item = '[{"role": "user", "content": "..."}]' if task == "generation" else '"..."'
    start = f"from transformers import pipeline\n\nmodel = pipeline({PIPELINES[task]!r}, model={path!r})"
    return f"{start}\nprint(model({item}))"


def _peft(task: str, path: str, about: Mapping[str, Any]) -> str:
    head = "SequenceClassification" if task == "classification" else "CausalLM"
    labels = f", num_labels={len(about['labels'])}" if task == "classification" and "labels" in about else ""
    start = f"from peft import AutoPeftModelFor{head}\nfrom transformers import AutoTokenizer\n"
    load = f"model = AutoPeftModelFor{head}.from_pretrained({path!r}{labels})"
    return f"{start}\n{load}\ntokenizer = AutoTokenizer.from_pretrained({path!r})"
