"""Private data: e-mail, phone, IBAN and card numbers with checksums, keys and tokens, national ids. Always masked."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from finesmith.checks import _names
from finesmith.checks.base import SHOWN, Checked, Mend, Progress, plural, share
from finesmith.data import private
from finesmith.types import Finding, Severity

SEVERITY: dict[str, Severity] = {
    "key or token": "blocking",
    "IBAN": "warning",
    "card number": "warning",
    "national id": "warning",
    "name of a person": "note",
    "place": "note",
}
STEP = 1000


@dataclass(frozen=True)
class PrivateData:
    """One finding a kind. A model can be made to repeat what it was trained on."""

    title: str = "private data"
    tasks: tuple[str, ...] = ("classification", "generation", "text")
    cost: Literal["fast"] = "fast"

    def __call__(self, data: Checked, progress: Progress) -> Iterator[Finding]:
        """Kinds by how grave they are; with `names` also what a language model recognises (extra `private`)."""
        rows: dict[str, list[int]] = {}
        pieces: dict[str, int] = {}
        recognise = _names.recogniser() if data.names else None
        for place, text in enumerate(data.texts):
            kinds = [found.kind for found in private.find(text)] + (recognise(text) if recognise else [])
            for kind in set(kinds):
                rows.setdefault(kind, []).append(place)
                pieces[kind] = pieces.get(kind, 0) + kinds.count(kind)
            if place % STEP == STEP - 1:
                progress(STEP)
        for kind, found in rows.items():
            yield _finding(data, kind, found, pieces[kind])

    def mend(self, finding: Finding, data: Checked) -> Mend:
        """Masks kinds that are beyond doubt (a checksum, an unmistakable form); addresses and phone numbers stay."""
        return Mend(text=certain if finding.detail["kind"] in private.CERTAIN else None)


def certain(text: str) -> str:
    """The text with card numbers, IBANs, national ids, keys and tokens masked."""
    return private.masked(text, only=private.CERTAIN)


def _finding(data: Checked, kind: str, found: list[int], pieces: int) -> Finding:
    severity = SEVERITY.get(kind, "warning" if len(found) >= 0.01 * len(data.rows) else "note")
    grave = kind == "key or token"
    return Finding(
        "private_data",
        severity,
        f"{plural(pieces, kind)} in {share(len(found), len(data.rows))} rows.",
        len(found),
        data.origins(found),
        "Whoever may ask the model can make it write down what it has memorised"
        + (", and this is all that is needed to act in its owner's name." if grave else "."),
        "Withdraw the key, then take it out of the data (--fix masks it)."
        if grave
        else "Mask it, unless the task needs it and you may use it so"
        + (" (--fix masks it)." if kind in private.CERTAIN else "."),
        {"kind": kind, "pieces": pieces, "samples": [_around(data, place, kind) for place in found[:SHOWN]]},
    )


def _around(data: Checked, place: int, kind: str) -> dict[str, str]:
    """The masked text around the first piece of a kind."""
    text = private.masked(data.texts[place])
    at = max(0, text.find(f"[{kind}]") - 40)
    return {"row": str(data.rows[place].origin), "text": " ".join(text[at : at + 110].split())}


PLUGIN = PrivateData()
