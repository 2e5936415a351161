"""The untrained start: a byte-level BPE tokenizer made from the same text, and the configuration of a small Llama."""

import random
from pathlib import Path

import transformers
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

SPECIAL = ("<|end|>", "<|pad|>", "<|user|>", "<|assistant|>")
SAMPLE = 40_000_000  # characters that the merges are learnt from
CONTEXT = 1024
SHAPES = {
    "base": {"hidden_size": 256, "intermediate_size": 704, "num_hidden_layers": 8},
    "tiny": {"hidden_size": 64, "intermediate_size": 176, "num_hidden_layers": 2},  # to try the path in seconds
}
HEAD = 64  # width of a head; two query heads share one of keys and values


def tokenizer(texts: list[str], vocabulary: int, seed: int) -> transformers.PreTrainedTokenizerFast:
    """Byte-level BPE with digits apart, learnt from documents drawn until they have SAMPLE characters."""
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=list(SPECIAL),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    bpe.train_from_iterator(_sample(texts, seed), trainer)
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=bpe, eos_token=SPECIAL[0], pad_token=SPECIAL[1], model_max_length=CONTEXT
    )


def _sample(texts: list[str], seed: int) -> list[str]:
    places = list(range(len(texts)))
    random.Random(seed).shuffle(places)
    chosen, size = [], 0
    for place in places:
        if size > SAMPLE:
            break
        chosen.append(texts[place].replace(SPECIAL[0], "\n"))
        size += len(texts[place])
    return chosen


def config(tokens: transformers.PreTrainedTokenizerFast, shape: str) -> transformers.LlamaConfig:
    """A deep and thin Llama (Liu et al. 2024, MobileLLM) with tied embeddings."""
    heads = max(2, SHAPES[shape]["hidden_size"] // HEAD)
    return transformers.LlamaConfig(
        **SHAPES[shape],
        vocab_size=len(tokens),
        num_attention_heads=heads,
        num_key_value_heads=heads // 2,
        max_position_embeddings=CONTEXT,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=tokens.eos_token_id,
        pad_token_id=tokens.pad_token_id,
        dtype="bfloat16",
        architectures=["LlamaForCausalLM"],
    )


def write(folder: Path, tokens: transformers.PreTrainedTokenizerFast, shape: str) -> None:
    """Both as transformers reads them."""
    folder.mkdir(parents=True, exist_ok=True)
    tokens.save_pretrained(folder)
    config(tokens, shape).save_pretrained(folder)
