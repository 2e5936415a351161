"""Mixed languages, told by script and by the commonest words of each language."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from finesmith.checks.base import SHOWN, Checked, Progress, bars, input_text, percent, share
from finesmith.types import Example, Finding, Message

SCRIPTS = (
    ("Cyrillic script", "\u0400-\u04ff"),
    ("Greek", "\u0370-\u03ff"),
    ("Arabic script", "\u0600-\u06ff"),
    ("Hebrew", "\u0590-\u05ff"),
    ("Devanagari script", "\u0900-\u097f"),
    ("Thai", "\u0e00-\u0e7f"),
    ("Korean", "\uac00-\ud7af"),
    ("Japanese", "\u3040-\u30ff"),
    ("Chinese characters", "\u4e00-\u9fff"),
)
WORDS = {
    "English": "the and is are was were of to in for with that this have has not you my your what how why can do "
    "does it be i from at by when where will would there they been",
    "German": "der die das und ist sind war nicht ich sie wir mit für auf von dem den des ein eine einen wie was "
    "warum kann haben habe hat mein meine auch wird bei oder zu im",
    "French": "le la les et est sont était pas je vous nous avec pour dans des du une un mon ma mes que qui comment "
    "pourquoi peut avez ai sur au ce cette il elle ne",
    "Spanish": "el la los las y es son era no yo usted con para en de del una un mi mis que cómo por qué puede tengo "
    "ha sobre al este esta se lo su está",
    "Italian": "il la i gli le e è sono era non io con per in di del della una un mio mia che come perché può ho ha "
    "su al questo questa si mi da",
    "Portuguese": "o a os as e é são era não eu você com para em de do da uma um meu minha que como por pode tenho foi "
    "sobre ao este esta se os no na está",
    "Dutch": "de het een en is zijn was niet ik u wij met voor op van dat die hoe wat waarom kan heb heeft mijn "
    "ook wordt bij of te er aan",
    "Swedish": "och är var inte jag du vi med för på av att det den en ett hur vad varför kan har min mitt också "
    "blir till om från som",
    "Danish or Norwegian": "og er var ikke jeg du vi med for på af av at det den en et hvordan hva hvad hvorfor kan "
    "har min mit også bliver blir til om fra som",
    "Polish": "i w z na do się nie jest są był ja mój moja że co jak dlaczego może mam ma o po od dla tego ten to czy",
    "Czech": "a v na do se ne je jsou byl já můj moje že co jak proč může mám má o po od pro toho ten to jsem si",
    "Turkish": "ve bir bu da de için ile ne nasıl neden mi mı değil var yok ben benim çok daha olarak gibi ama kadar "
    "sonra",
    "Finnish": "ja on ei se että oli minä sinä miten mitä miksi voi olen minun myös kun niin tai mutta ovat hän jos",
    "Romanian": "și este sunt nu eu cu pentru în de la un o meu mea că ce cum de ce poate am are pe din care mai să",
    "Indonesian": "yang dan di ini itu dengan untuk tidak dari dalam akan pada saya anda adalah ke bagaimana apa "
    "mengapa bisa",
}
TELLS = {name: frozenset(words.split()) for name, words in WORDS.items()}
WORD = re.compile(r"[^\W\d_]+")
SCRIPT = re.compile("[\u0370-\u04ff\u0590-\u06ff\u0900-\u097f\u0e00-\u0e7f\u3040-\u30ff\u4e00-\u9fff\uac00-\ud7af]")
READ = 400
"""Characters of a text that are looked at."""


@dataclass(frozen=True)
class Languages:
    """Which languages the rows are in; short texts often stay undecided and are not counted."""

    title: str = "languages"
    tasks: tuple[str, ...] = ("classification", "generation", "text")
    cost: Literal["fast"] = "fast"

    def __call__(self, data: Checked, progress: Progress) -> Iterator[Finding]:
        """One finding where there is more than one language."""
        told = [language(_text(row)) for row in data.rows]
        counts = Counter(name for name in told if name)
        total = sum(counts.values())
        if len(counts) < 2:
            return
        main = counts.most_common(1)[0][0]
        other = [place for place, name in enumerate(told) if name and name != main]
        shares = ", ".join(f"{name} {percent(count / total)}" for name, count in counts.most_common(5))
        yield Finding(
            "languages",
            "warning" if len(other) >= 0.02 * total else "note",
            f"{len(counts)} languages: {shares} (of {share(total, len(data.rows))} rows that could be told).",
            len(other),
            data.origins(other),
            "A language with few rows is learnt badly and tested hardly; a model may also answer in the wrong one.",
            f"If {main} is meant, take the others out; if several are, see that each has enough rows in every part.",
            {
                "counts": dict(counts.most_common()),
                "plot": bars("Rows by language", counts, "rows"),
                "samples": [{"language": told[place], **data.sample(place)} for place in other[:SHOWN]],
            },
        )


def language(text: str) -> str:
    """The language of a text, or "" where too little tells: three hits, and half as many again as the next best."""
    text = text[:READ]
    foreign = SCRIPT.findall(text)
    letters = sum(map(str.isalpha, text))
    if letters and len(foreign) >= 0.3 * letters:
        return _script(foreign)
    words = WORD.findall(text.lower())
    hits = sorted(((sum(map(tells.__contains__, words)), name) for name, tells in TELLS.items()), reverse=True)
    (best, name), (next_best, _) = hits[:2]
    return name if best >= 3 and best >= 1.5 * next_best and best >= 0.12 * len(words) else ""


def _script(characters: list[str]) -> str:
    """Japanese is told from Chinese by its kana."""
    counts = Counter(
        next(name for name, span in SCRIPTS if span[0] <= character <= span[2]) for character in characters
    )
    return "Japanese" if counts["Japanese"] else counts.most_common(1)[0][0]


def _text(row: Example) -> str:
    return f"{input_text(row)}\n{row.target.content}" if isinstance(row.target, Message) else input_text(row)


PLUGIN = Languages()
