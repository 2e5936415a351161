"""Makes what the embedded base is trained from: documents, a byte-level BPE tokenizer and an untrained configuration.

    python prepare.py CORPORA OUT        CORPORA holds one folder a corpus with train.jsonl and validation.jsonl
    finesmith tune OUT/data --model OUT/start --from-scratch recipe settings ... (see README.md)

Only training parts are read for training; validation parts of the corpora become the held-out documents.
"""

import argparse
import json
import random
from collections.abc import Iterator
from pathlib import Path

import transformers
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

# characters of training text from each corpus (None: all of it); plain modern prose has the largest share
MIX = {
    "corpus_textbooks": None,
    "corpus_contracts": 14_000_000,
    "corpus_books": 30_000_000,
    "pubmedqa": None,
    "openstax_glossary": None,
    "openstax_summary": None,
    "legal_templates": None,
    "mts_dialog": None,
    "self_instruct_human": None,
    "gsm8k": None,
    "openstax_mcq": None,
}
HELD_OUT = ("corpus_textbooks", "corpus_contracts", "corpus_books")
PIECE = 20_000  # characters: long books are cut at a paragraph, so that no corpus fills a batch


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("corpora", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--vocabulary", type=int, default=4096)
    options = parser.parse_args()
    data = options.out / "data"
    data.mkdir(parents=True, exist_ok=True)
    random.seed(0)
    train = [text for name, limit in MIX.items() for text in documents(options.corpora / name, "train", limit)]
    random.shuffle(train)
    write(data / "train.jsonl", train)
    held_out = [text for name in HELD_OUT for text in list(documents(options.corpora / name, "validation", None))[:16]]
    write(data / "validation.jsonl", held_out[0::2])
    write(data / "test.jsonl", held_out[1::2])
    start(options.out / "start", train, options.vocabulary)
    print(f"{len(train)} documents, {sum(map(len, train)) / 1e6:.1f} M characters")


def documents(folder: Path, part: str, limit: int | None) -> Iterator[str]:
    """Texts of a corpus in random order, long ones in pieces, up to `limit` characters."""
    path = next(iter(sorted(folder.glob(f"{part}*.jsonl"))), None)
    if path is None:
        return
    rows = [json.loads(line) for line in path.open(encoding="utf-8")]
    free = [row for row in rows if "share-alike" not in row.get("licence", "")]
    pieces = [piece for row in free for piece in cut(as_text(row))]
    random.shuffle(pieces)
    taken = 0
    for piece in pieces:
        if limit is not None and taken > limit:
            return
        taken += len(piece)
        yield piece


def as_text(row: dict) -> str:
    """A document; a question with its answer reads as one text."""
    if "messages" in row:
        return "\n\n".join(turn["content"] for turn in row["messages"])
    if "prompt" in row:
        return f"{row['prompt']}\n\n{row['completion']}"
    return f"{row['text']}\n{row['label']}" if "label" in row else row["text"]


def cut(text: str) -> Iterator[str]:
    """Pieces of about PIECE characters, cut at blank lines."""
    piece = ""
    for paragraph in text.split("\n\n"):
        piece += paragraph.strip() + "\n\n"
        if len(piece) > PIECE:
            yield piece.strip()
            piece = ""
    if piece.strip():
        yield piece.strip()


def write(path: Path, texts: list[str]) -> None:
    path.write_text(
        "".join(json.dumps({"text": text}, ensure_ascii=False) + "\n" for text in texts if text), encoding="utf-8"
    )


def start(folder: Path, texts: list[str], vocabulary: int) -> None:
    """A tokenizer trained on the texts, and the configuration of a small Llama."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    special = ["<|end|>", "<|pad|>", "<|user|>", "<|assistant|>"]
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary, special_tokens=special, initial_alphabet=pre_tokenizers.ByteLevel.alphabet()
    )
    tokenizer.train_from_iterator(random.sample(texts, min(len(texts), 4000)), trainer)
    fast = transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token="<|end|>", pad_token="<|pad|>", model_max_length=512
    )
    config = transformers.LlamaConfig(
        vocab_size=len(fast),
        hidden_size=256,
        intermediate_size=688,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=512,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=fast.eos_token_id,
        pad_token_id=fast.pad_token_id,
        dtype="bfloat16",
        architectures=["LlamaForCausalLM"],
    )
    folder.mkdir(parents=True, exist_ok=True)
    fast.save_pretrained(folder)
    config.save_pretrained(folder)


if __name__ == "__main__":
    main()
