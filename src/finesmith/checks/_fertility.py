"""How many tokens words take: on average, and the terms that take most."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from typing import Any

WORD = re.compile(r"[^\W\d_]+(?:[-'][^\W\d_]+)*")
TERMS = 50
FREQUENT = 3
"""Times that a term must stand in the rows."""
CANDIDATES = 5_000


def tokens_per_word(tokenizer: Any, texts: Sequence[str]) -> float:
    """Tokens per word, punctuation included."""
    tokens = tokenizer(list(texts), add_special_tokens=False, verbose=False)["input_ids"]
    return sum(map(len, tokens)) / max(1, sum(len(text.split()) for text in texts))


def worst_terms(tokenizer: Any, texts: Sequence[str]) -> list[dict[str, Any]]:
    """Frequent terms that become the most tokens for their length: term, tokens, how often it stands there."""
    counts = Counter(word for text in texts for word in WORD.findall(text))
    frequent = [word for word, count in counts.most_common(CANDIDATES) if count >= FREQUENT and len(word) >= 4]
    if not frequent:
        return []
    tokens = tokenizer([f" {word}" for word in frequent], add_special_tokens=False, verbose=False)["input_ids"]
    found = [
        {"term": word, "tokens": len(parts), "times": counts[word]}
        for word, parts in zip(frequent, tokens, strict=True)
    ]
    dear = [each for each in found if each["tokens"] >= 3]
    return sorted(dear, key=lambda each: (-each["tokens"], -each["times"], each["term"]))[:TERMS]
