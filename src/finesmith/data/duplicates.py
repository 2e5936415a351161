"""When two inputs are the same text: the one definition that splitting, leak checks and duplicate checks share."""

from __future__ import annotations

import hashlib
import re
import unicodedata

from finesmith.types import Conversation, Input

NO_WORD = re.compile(r"\W+")


def normalised(text: str) -> str:
    """NFKC, case folded, each run of non-word characters one space; a text without any word stays as NFKC.

    Combining marks (vowel signs of Hindi, Thai, ...) belong to words, though `\\w` does not match them.
    """
    composed = unicodedata.normalize("NFKC", text).casefold()
    spaced = NO_WORD.sub(" " if composed.isascii() else _marks, composed)
    return " ".join(spaced.split()) or composed.strip()


def _marks(run: re.Match[str]) -> str:
    return "".join(mark if unicodedata.category(mark) in ("Mn", "Mc") else " " for mark in run.group())


def content(given: Input) -> str:
    """What is compared of an input: its text, or the texts of all messages up to the turn to be written."""
    if isinstance(given, Conversation):
        return "\n".join(normalised(message.text) for message in given.messages)
    return normalised(given)


def content_key(given: Input) -> bytes:
    """16 bytes that are equal for inputs with the same content."""
    return hashlib.blake2b(content(given).encode("utf-8", "surrogatepass"), digest_size=16).digest()
