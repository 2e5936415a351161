"""Documents that are conversations, written out with the markers of a chat template: `<|im_start|>user`, `[INST]`."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from finesmith.checks.base import SHOWN, Checked, Progress, share
from finesmith.data.private import excerpt
from finesmith.types import Finding

MARKERS = re.compile(
    r"<\|im_start\|>|<\|start_header_id\|>|<start_of_turn>|<\|start\|>(?=\w)|<\|turn>|<\|(?:user|assistant)\|>|"
    r"\[INST\]|<\uff5c(?:User|Assistant)\uff5c>|"
    r"^#{2,3} (?:Instruction|Response|Human|Assistant):|^(?:USER|ASSISTANT): ",
    re.MULTILINE,
)
MOST = 0.5
"""Share of the rows from which the data are taken for conversations: a manual of templates holds some too."""


@dataclass(frozen=True)
class Rendered:
    """As documents all of a conversation is learnt, the user's words too, and the model gives no answers."""

    title: str = "rendered conversations"
    tasks: tuple[str, ...] = ("text",)
    cost: Literal["fast"] = "fast"

    def __call__(self, data: Checked, progress: Progress) -> Iterator[Finding]:
        """One finding, where most rows hold markers."""
        hits = {place: match for place, row in enumerate(data.rows) if (match := MARKERS.search(str(row.input)))}
        if len(hits) < MOST * max(1, len(data.rows)):
            return
        kinds = Counter(match.group().strip() for match in hits.values())
        places = sorted(hits)
        yield Finding(
            "rendered",
            "warning",
            f"{share(len(places), len(data.rows))} documents hold the marker of a turn ({_most_common(kinds)}): these "
            "look like rendered conversations.",
            len(places),
            data.origins(places),
            "Learnt as documents, the user's turns are learnt as well, and the model has no answers to give.",
            "Give the conversations themselves (a column `messages`): each model then writes its own template.",
            {
                "kinds": dict(kinds.most_common()),
                "samples": [
                    {"row": str(data.rows[place].origin), "text": excerpt(str(data.rows[place].input)[:200])}
                    for place in places[:SHOWN]
                ],
            },
        )


def _most_common(kinds: Counter[str]) -> str:
    return ", ".join(kind for kind, _ in kinds.most_common(3))


PLUGIN = Rendered()
