"""Measures the embedded base: bits per byte beside random weights and a 5-gram model, and unselected samples.

    python measure.py MODEL READY OUT [--ngram train.jsonl [--skip-model]]

MODEL is a model folder, READY what `prepare.py` made. Writes OUT/quality.json. What that file already has of the 5-gram
model is kept, so that it can be made once, elsewhere. `transfer.py` and `card.py` do the rest.
"""

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ngram import KneserNey

from finesmith import registry
from finesmith.data import read
from finesmith.evidence import stats
from finesmith.models import load as models
from finesmith.models.device import autocast, describe
from finesmith.models.load import Loaded
from finesmith.models.settings import ModelSettings
from finesmith.tasks.text import Text, TextSettings
from finesmith.types import Estimate, Example, Prediction

SAMPLED_DOCUMENTS = 5  # the first of each corpus
PROMPT_TOKENS, NEW_TOKENS = 30, 60
METRIC = registry.resolve("metrics", "bits_per_byte")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("ready", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--ngram", type=Path, help="train a 5-gram model on this file with the model's tokenizer")
    parser.add_argument("--skip-model", action="store_true", help="only the 5-gram model")
    options = parser.parse_args()
    path = options.out / "quality.json"
    result = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    corpora = {file.stem: rows(file) for file in sorted((options.ready / "held_out").glob("*.jsonl"))}
    if options.ngram:
        result["ngram"] = of_ngram(options.model, options.ngram, corpora)
    if not options.skip_model:
        result |= of_model(options.model, corpora)
    result["bits_per_byte"] = table(result.get("scores", {}), result.get("ngram", {}).get("scores"))
    options.out.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(result["bits_per_byte"], indent=1))


def rows(path: Path) -> list[Example]:
    return list(read.read(path, shape="text").parts["all"])


def of_model(name: str, corpora: dict[str, list[Example]]) -> dict[str, Any]:
    """Nats, tokens and bytes of every document under the model and under random weights, and the samples."""
    result: dict[str, Any] = {"scores": {}}
    for system in ("model", "random"):
        loaded = models.load(ModelSettings(name=name, from_scratch=system == "random"), "causal-lm")
        window = models.context_length(loaded.model.config, loaded.tokenizer)
        task = Text(TextSettings(), window)
        result["scores"][system] = {corpus: task.measure(loaded, found) for corpus, found in corpora.items()}
        if system == "model":
            result["samples"] = [
                sample(loaded, corpus, number, example)
                for corpus, found in corpora.items()
                for number, example in enumerate(found[:SAMPLED_DOCUMENTS])
            ]
            result["model"] = {
                "parameters": models.parameter_counts(loaded.model)[1],
                "context": window,
                "vocabulary": len(loaded.tokenizer),
                "config": json.loads(loaded.model.config.to_json_string()),
                "device": describe(loaded.device),
                "arithmetic": str(loaded.dtype).removeprefix("torch."),
            }
    return result


def sample(loaded: Loaded, corpus: str, number: int, example: Example) -> dict[str, Any]:
    """What the model writes behind the first tokens of a document: the likeliest, and one draw with seed 0."""
    tokenizer = loaded.tokenizer
    begun = tokenizer(str(example.input), add_special_tokens=False, verbose=False)["input_ids"][:PROMPT_TOKENS]
    prompt = torch.tensor([[tokenizer.eos_token_id, *begun]], device=loaded.device)
    found = {"corpus": corpus, "document": number, "prompt": tokenizer.decode(begun)}
    for name, settings in (("greedy", {"do_sample": False}), ("sampled", {"do_sample": True, "top_k": 0})):
        torch.manual_seed(0)
        with torch.inference_mode(), autocast(loaded.device, loaded.dtype):
            ids = loaded.model.generate(
                prompt, attention_mask=torch.ones_like(prompt), max_new_tokens=NEW_TOKENS, **settings
            )
        found[name] = tokenizer.decode(ids[0, prompt.shape[1] :], skip_special_tokens=True)
    return found


def of_ngram(name: str, path: Path, corpora: dict[str, list[Example]]) -> dict[str, Any]:
    """The same numbers under a 5-gram model that was trained on the same text, with the same tokens."""
    began = time.time()
    tokenizer = models.load_tokenizer(ModelSettings(name=name)).backend_tokenizer
    with path.open(encoding="utf-8") as file:
        documents = list(tokens(tokenizer, (json.loads(line)["text"] for line in file)))
    model = KneserNey(documents, end=0, vocabulary=tokenizer.get_vocab_size())
    facts = {"order": model.order, "documents": len(documents), "tokens": sum(map(len, documents)) + len(documents)}
    scores = {}
    for corpus, found in corpora.items():
        texts = [str(example.input) for example in found]
        logs = [model.log2(ids) for ids in tokens(tokenizer, iter(texts))]
        scores[corpus] = [
            {"nats": -float(log.sum()) * np.log(2), "tokens": len(log), "bytes": float(len(text.encode()))}
            for log, text in zip(logs, texts, strict=True)
        ]
    return {**facts, "seconds": time.time() - began, "scores": scores}


def tokens(tokenizer: Any, texts: Any, together: int = 512):
    """Token ids of each text, as small numbers."""
    batch: list[str] = []
    for text in texts:
        batch.append(text)
        if len(batch) == together:
            yield from _ids(tokenizer, batch)
            batch = []
    yield from _ids(tokenizer, batch)


def _ids(tokenizer: Any, batch: list[str]):
    for found in tokenizer.encode_batch_fast(batch, add_special_tokens=False):
        yield np.array(found.ids, np.uint16)


def table(scores: dict[str, dict], ngram: dict | None) -> dict[str, Any]:
    """Bits per byte by corpus and system, and the model's gain over each opponent on the same documents."""
    systems = {**scores, **({"5-gram": ngram} if ngram else {})}
    found: dict[str, Any] = {}
    for corpus in next(iter(systems.values())):
        numbers = {system: statistics(of[corpus]) for system, of in systems.items()}
        found[corpus] = {system: plain(stats.bootstrap(METRIC, rows, seed=0)) for system, rows in numbers.items()}
        found[corpus]["gains"] = {
            system: plain(stats.paired_bootstrap(METRIC, numbers["model"], rows, seed=0))
            for system, rows in numbers.items()
            if "model" in numbers and system != "model"
        }
    return found


def statistics(found: list[dict[str, float]]) -> np.ndarray:
    return METRIC.statistics([""] * len(found), [Prediction(str(at), None, row) for at, row in enumerate(found)])


def plain(estimate: Estimate) -> dict[str, float]:
    return {"value": estimate.value, "low": estimate.low, "high": estimate.high, "n": estimate.n}


if __name__ == "__main__":
    main()
