"""Text that was decoded wrongly somewhere on its way: mojibake, replacement signs, invisible and control characters."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

from finesmith.checks.base import SHOWN, Checked, Mend, Progress, share
from finesmith.data.private import excerpt
from finesmith.types import Finding

_BYTE = (
    "\u0080-\u00bf\u0152\u0153\u0160\u0161\u0178\u017d\u017e\u0192\u02c6\u02dc\u2013\u2014\u2018-\u201e\u2020-\u2022"
)
_BYTE += "\u2026\u2030\u2039\u203a\u20ac\u2122"
_INSIDE = "\u00ab\u00ae\u00bb\u2013\u2018\u201a-\u201e\u2020-\u2022\u2039\u203a\u2122"
_CLOSES = f"{_INSIDE}\u00b7\u2014\u2019\u2026"
"""Signs that may stand right behind a word; those of `_INSIDE` hardly ever do so before a letter."""
_LETTER = r"[^\W\d_]"
MOJIBAKE = re.compile(
    "[\u00c2\u00c3](?:"
    f"(?![\u00a0{_CLOSES}])[{_BYTE}]|(?<=\u00c2)\u00a0"
    f"|(?<=[a-z0-9\u00df-\u00f6\u00f8-\u00ff].)[\u00a0{_CLOSES}]"  # a capital behind a small letter
    f"|(?<=\u00c3)[{_INSIDE}](?={_LETTER})"
    f"|(?<!{_LETTER}.)(?<=\u00c3)(?:\u00a0|[{_CLOSES}](?={_LETTER}))"
    f"|(?<!{_LETTER}.)(?<![\u00ab\u2039\u201c\u201e].)(?<=\u00c2)[\u00ab\u00ae\u00bb]"
    ")|\u00e2\u20ac[\u0080-\u00bf\u0152\u0153\u02dc\u2018-\u201e\u2020-\u2022\u2026\u2122\u00a6]|\u00ef\u00bb\u00bf|\u00f0\u0178"
)
"""UTF-8 that was read as Windows-1252 or Latin-1: its lead bytes and a continuation byte.

Portuguese words end with such a capital (IRM\u00c3, AMANH\u00c3): a sign behind one counts only where no word ends."""
LOST = re.compile("\ufffd")
INVISIBLE = re.compile("[\u200b\u2060\ufeff\u00ad\u202a-\u202e\u2066-\u2069]")
CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")
KINDS: dict[str, re.Pattern[str]] = {
    "mojibake (UTF-8 read as another encoding)": MOJIBAKE,
    "lost characters (U+FFFD)": LOST,
    "invisible characters": INVISIBLE,
    "control characters": CONTROL,
}
_WINDOWS = {bytes([byte]).decode("cp1252"): byte for byte in range(128, 160) if byte not in (129, 141, 143, 144, 157)}


@dataclass(frozen=True)
class Encoding:
    """Rows whose characters are not what their author wrote."""

    title: str = "encoding"
    tasks: tuple[str, ...] = ("classification", "generation", "text")
    cost: Literal["fast"] = "fast"

    def __call__(self, data: Checked, progress: Progress) -> Iterator[Finding]:
        """One finding a kind."""
        suspicious = [place for place, text in enumerate(data.texts) if not text.isprintable() or not text.isascii()]
        for kind, pattern in KINDS.items():
            found = [place for place in suspicious if pattern.search(data.texts[place])]
            if found:
                texts = [_around(data.texts[place], pattern) for place in found[:SHOWN]]
                yield Finding(
                    "encoding",
                    "warning" if kind.startswith(("mojibake", "lost")) else "note",
                    f"{kind[0].upper()}{kind[1:]}: {share(len(found), len(data.rows))} rows.",
                    len(found),
                    data.origins(found),
                    "The model learns the broken characters, and correct ones at inference look new to it.",
                    "Export the data again as UTF-8, or let --fix repair what can be repaired.",
                    {"samples": [{"row": o, "text": t} for o, t in zip(data.origins(found), texts, strict=False)]},
                )

    def mend(self, finding: Finding, data: Checked) -> Mend:
        """Repairs mojibake and takes invisible and control characters out; a lost character stays lost."""
        return Mend(text=repaired, in_labels=True)


def repaired(text: str) -> str:
    """The text with mojibake decoded again, as far as that works, without invisible and control characters."""
    for _ in range(2):  # text may have gone through the wrong decoder twice
        if not MOJIBAKE.search(text):
            break
        text = RUN.sub(_decoded, text)
    return CONTROL.sub("", INVISIBLE.sub("", text))


RUN = re.compile(f"[\u0080-\u00ff{re.escape(''.join(_WINDOWS))}]{{2,}}")
"""What may be bytes of UTF-8, each as a character of Windows-1252 or Latin-1."""


def _decoded(match: re.Match[str]) -> str:
    decode: Callable[[str], int] = lambda character: _WINDOWS.get(character, ord(character))  # noqa: E731
    try:
        return bytes(map(decode, match.group())).decode("utf-8")
    except (UnicodeDecodeError, ValueError):
        return match.group()


def _around(text: str, pattern: re.Pattern[str]) -> str:
    match = pattern.search(text)
    start = max(0, (match.start() if match else 0) - 40)
    return excerpt(text[start : start + 100])


PLUGIN = Encoding()
