"""Makes losses.json: the losses of a few small trainings, by which an unwanted change of the numbers is seen.

Run `python -m tests.golden.make` after a change that is meant to alter them, and say in the commit why it does.
"""

import json
import tempfile
from pathlib import Path

from tests import small
from tests.conftest import chat_rows, clause_rows, make_model, ticket_rows, write_csv, write_jsonl

LOSSES = Path(__file__).with_name("losses.json")
DATA = {
    "clauses": lambda folder: write_jsonl(folder / "clauses.jsonl", clause_rows(40)),
    "chats": lambda folder: write_jsonl(folder / "chats.jsonl", chat_rows(30)),
    "tickets": lambda folder: write_csv(folder / "tickets.csv", ticket_rows(60)),
    "documents": lambda folder: write_jsonl(folder / "documents.jsonl", [{"text": r["text"]} for r in ticket_rows(40)]),
}
TRAINING = {"max_steps": 8, "batch_size": 8, "learning_rate": 2e-3, "evaluations": 2, "micro_batch_tokens": 200}
CASES = {
    "generation llama full": ("clauses", "llama", "plain", {"method": "full"}),
    "generation llama lora": ("clauses", "llama", "plain", {"method": "lora", "lora": {"rank": 4}}),
    "generation qwen3 chats last_layers": (
        "chats",
        "qwen3",
        "chatml",
        {"method": "last_layers", "last_layers": {"count": 1}},
    ),
    "classification bert full": ("tickets", "bert", "plain", {"method": "full"}),
    "classification llama head": (
        "tickets",
        "llama",
        "plain",
        {"method": "head", "classification": {"head_first": False}},
    ),
    "text gpt2 full": ("documents", "gpt2", "plain", {"method": "full"}),
}


def measure(name: str, folder: Path) -> dict[str, list[float]]:
    """The losses of the steps of a case, and its validation log-probabilities, in nats."""
    data, family, template, settings = CASES[name]
    (folder / "model").mkdir(parents=True)
    recipe = small.make_recipe(
        DATA[data](folder), str(make_model(folder / "model", family, template)), train=TRAINING, seed=7, **settings
    )
    events = list(small.fit(*small.build(recipe)))
    return {
        "losses": [round(event.step.loss, 6) for event in events],
        "validation": [round(event.scores["log_probability"], 6) for event in events if event.scores],
    }


def main() -> None:
    """Measures every case and writes the file."""
    with tempfile.TemporaryDirectory() as folder:
        found = {name: measure(name, Path(folder) / name.replace(" ", "-")) for name in CASES}
    LOSSES.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
