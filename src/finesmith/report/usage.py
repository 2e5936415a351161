"""How to use a tuned model: code that runs, for Finesmith and for the library whose format the files are in."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

PIPELINES = {"classification": "text-classification", "generation": "text-generation", "text": "text-generation"}
"""The pipeline of transformers, and the tag on the hub, of each task."""


def section(task: str, about: Mapping[str, Any]) -> str:
    """Finesmith where the task gives answers, then transformers alone (a full model) or with PEFT (an adapter)."""
    parts = [f"With Finesmith:\n\n{_fenced(_finesmith(task, about))}"] if task != "text" else []
    if task in PIPELINES:
        adapter = about.get("adapter")
        told = _needs(about) if adapter else "With transformers alone; `model/` is complete:"
        parts.append(f"{told}\n\n{_fenced(_peft(task, about) if adapter else _transformers(task, about))}")
    return "\n\n".join(part for part in (*parts, _served(about)) if part)


def exported(task: str, about: Mapping[str, Any]) -> str:
    """The lines for a folder that was exported, which is complete; `path` is the folder."""
    lines = f"With transformers alone; this folder is complete:\n\n{_fenced(_pipeline(task, about, _path(about)))}"
    return "\n\n".join(part for part in (lines, _served(about)) if part)


def _needs(about: Mapping[str, Any]) -> str:
    """What an adapter needs beside itself, and where that is."""
    if about.get("model") == "embedded":
        where = (
            "the embedded model, an ordinary transformers folder inside the Finesmith package (`finesmith list models` "
            "says where). Where Finesmith is not installed, put a copy of that folder in the place of EMBEDDED"
        )
    else:
        where = f"`{about.get('model', 'path/to/base')}`"
    return f"With transformers and PEFT. `model/` holds an adapter, which needs the base it was trained on: {where}:"


def _finesmith(task: str, about: Mapping[str, Any]) -> str:
    ask = f"print(model.predict([{_item(task)}])[0].output)"
    return f"import finesmith\n\nmodel = finesmith.load({_path(about)!r})\n{ask}"


def _transformers(task: str, about: Mapping[str, Any]) -> str:
    return _pipeline(task, about, f"{_path(about)}/model")


def _pipeline(task: str, about: Mapping[str, Any], folder: str) -> str:
    pipeline = f"model = pipeline({PIPELINES[task]!r}, model={folder!r})"
    return f"from transformers import pipeline\n\n{pipeline}\n{_ask(task, about)}"


def _peft(task: str, about: Mapping[str, Any]) -> str:
    """The base is named here, not looked up in the adapter's files: it may be the embedded one or a relative folder."""
    embedded, revision = about.get("model") == "embedded", about.get("revision")
    base = "EMBEDDED" if embedded else repr(about.get("model", "path/to/base"))
    base += f", revision={revision!r}" if revision else ""
    labelled = task == "classification"
    head = "AutoModelForSequenceClassification" if labelled else "AutoModelForCausalLM"
    given = ", ".join(f"{key}={value!r}" for key, value in about.get("quantization", {}).items())
    more = [*(["BitsAndBytesConfig"] if given else []), *([] if labelled else ["GenerationConfig"])]
    imports = [
        *(["import json", "from pathlib import Path\n"] if labelled else []),
        *(["from finesmith.models.embedded import EMBEDDED"] if embedded else []),
        "from peft import PeftModel",
        f"from transformers import {', '.join([head, 'AutoTokenizer', *more, 'pipeline'])}",
    ]
    base += ", quantization_config=quantization" if given else ""
    load = _labelled(head, base, about) if labelled else _speaking(head, base)
    tuned = "get_base_model()  # with the adapter in it" if given else "merge_and_unload()"  # merged: rounded again
    return "\n".join(
        [
            *imports,
            "",
            f"path = {_path(about) + '/model'!r}",
            *([f"quantization = BitsAndBytesConfig({given})"] if given else []),
            *load,
            "tokenizer = AutoTokenizer.from_pretrained(path)",
            "base.config.pad_token_id = tokenizer.pad_token_id",
            f"tuned = PeftModel.from_pretrained(base, path).{tuned}",
            f"model = pipeline({PIPELINES[task]!r}, model=tuned, tokenizer=tokenizer)",
            _ask(task, about),
        ]
    )


def _labelled(head: str, base: str, about: Mapping[str, Any]) -> list[str]:
    """The base with a head of as many outputs as there are labels, which the adapter's files do not name."""
    several = ', problem_type="multi_label_classification"' if about.get("multi_label") else ""
    return [
        'labels = json.loads(Path(path, "finesmith.json").read_text(encoding="utf-8"))["state"]["labels"]',
        f"named = dict(num_labels=len(labels), id2label=dict(enumerate(labels)){several})",
        "# transformers says here that the classification layer is new: the adapter brings its weights",
        f"base = {head}.from_pretrained({base}, **named)",
    ]


def _speaking(head: str, base: str) -> list[str]:
    """The base with the tokens at which an answer ends."""
    return [
        f"base = {head}.from_pretrained({base})",
        "base.generation_config = GenerationConfig.from_pretrained(path)",
    ]


def _ask(task: str, about: Mapping[str, Any]) -> str:
    """One question to a pipeline; where several labels may hold, every label's probability."""
    if task == "generation":
        asking = about.get("asking", {})
        most = f", max_new_tokens={asking['max_new_tokens']}" if asking else ""
        return "\n".join(
            [
                "# greedy and of this length, as it was measured; a pipeline by itself samples and ends at 256 tokens",
                f"answer = model({_item(task)}, do_sample=False{most})",
                f'print(answer[0]["generated_text"][-1]["content"]{_bare(asking)})',
            ]
        )
    return f"print(model({_item(task)}{', top_k=None' if about.get('multi_label') else ''}))"


def _bare(asking: Mapping[str, Any]) -> str:
    """Takes off what stands before an answer and was no part of it where it was measured."""
    lead, end = asking.get("preamble", ""), asking.get("thought_end", "")
    if not (lead or end):
        return ""
    began = f".removeprefix({lead!r})" if lead.strip() and not (end and lead.rstrip().endswith(end)) else ""
    return began + (f".rpartition({end!r})[2]" if end else "") + ".strip()"


def _served(about: Mapping[str, Any]) -> str:
    """What a server shows before an answer, and what it is told so that it does not; empty where that is nothing."""
    asking = about.get("asking", {})
    lead, end, told = (asking.get(name, "") for name in ("preamble", "thought_end", "chat_template_kwargs"))
    if not (lead.strip() or end):
        return ""
    before = " or ".join([f"`{lead!r}`"] * bool(lead.strip()) + ["its thoughts"] * bool(end))
    said = f"The model writes {before} before an answer; the last line takes that off, as where it was measured."
    way = "Behind a server, take it off too."
    if told:
        way = f'A server puts it into the prompt where a request has `"chat_template_kwargs": {json.dumps(told)}`.'
    return f"{said} {way}"


def _item(task: str) -> str:
    return '[{"role": "user", "content": "..."}]' if task == "generation" else '"..."'


def _path(about: Mapping[str, Any]) -> str:
    return str(about.get("path", "path/to/run"))


def _fenced(code: str) -> str:
    return f"```python\n{code}\n```"
