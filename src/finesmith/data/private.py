"""Private data in texts by pattern, with checksums where a kind has one; and texts with it masked.

E-mail, phone, IBAN (ISO 13616, mod 97), card numbers (ISO/IEC 7812, Luhn), IP addresses, keys and tokens, national
ids with a checksum. Names and places need a language model: see the extra `private`.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Found:
    """A piece of private data: what it is, and where it stands in the text."""

    kind: str
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Kind:
    """How one kind looks. `parts` gives the pieces of a match that have a right checksum, `beside` refuses those with
    no such word near.
    """

    name: str
    pattern: re.Pattern[str]
    parts: Callable[[str], Iterable[tuple[int, int]]]
    beside: re.Pattern[str] | None = None


def _whole(valid: Callable[[str], bool] = bool) -> Callable[[str], Iterable[tuple[int, int]]]:
    """All of a match or nothing."""
    return lambda text: [(0, len(text))] if valid(text) else []


def find(text: str) -> list[Found]:
    """Everything private in a text, in order; where two kinds overlap, the first in `KINDS`."""
    if not CHEAP.search(text):
        return []
    found: list[Found] = []
    for kind in KINDS:
        for match in kind.pattern.finditer(text):
            for part in kind.parts(match.group()):
                start, end = (match.start() + place for place in part)
                if all(end <= other.start or start >= other.end for other in found) and (
                    kind.beside is None or kind.beside.search(text[max(0, start - NEAR) : end + NEAR])
                ):
                    found.append(Found(kind.name, start, end))
    return sorted(found, key=lambda each: each.start)


def masked(text: str, only: frozenset[str] = frozenset()) -> str:
    """The text with `[e-mail]`, `[card number]`, ... in the place of private data; of the kinds `only`, if given."""
    while found := [each for each in find(text) if not only or each.kind in only]:
        for each in reversed(found):  # what is masked may have hidden what stood beside it
            text = f"{text[: each.start]}[{each.kind}]{text[each.end :]}"
    return text


def excerpt(text: str, length: int = 120) -> str:
    """The beginning of a text on one line, private data masked: the only form in which reports show rows."""
    line = " ".join(masked(text[: 4 * length]).split())
    return line if len(line) <= length else line[: length - 3].rstrip() + "..."


def luhn(text: str) -> bool:
    """Whether the digits end with the right check digit (ISO/IEC 7812-1, annex B)."""
    digits = [int(character) for character in text if character.isdigit()]
    doubled = [digit if place % 2 == 0 else digit * 2 - 9 * (digit > 4) for place, digit in enumerate(reversed(digits))]
    return sum(doubled) % 10 == 0


def iban(text: str) -> bool:
    """Whether an IBAN has the length of its country and a remainder of 1 modulo 97 (ISO 13616)."""
    plain = re.sub(r"\s", "", text).upper()
    if IBAN_LENGTHS.get(plain[:2]) != len(plain):
        return False
    return int("".join(str(int(character, 36)) for character in plain[4:] + plain[:4])) % 97 == 1


def _card(text: str) -> bool:
    digits = re.sub(r"\D", "", text)
    brand = re.match(r"4|5[1-5]|2[2-7]|3[47]|6(?:011|4[4-9]|5)|35|36|30[0-5]|62", digits)
    return 13 <= len(digits) <= 19 and brand is not None and len(set(digits)) > 1 and luhn(digits)


def _cards(text: str) -> Iterator[tuple[int, int]]:
    """The card numbers in a run of digits: all of it, or, beside a date or a sum, groups as they stand on a card."""
    if _card(text):
        yield 0, len(text)
        return
    groups = [match.span() for match in re.finditer(r"\d+", text)]
    for first, (start, _) in enumerate(groups):
        for form in CARD_FORMS:
            sizes = tuple(end - begin for begin, end in groups[first : first + len(form)])
            if sizes == form and _card(text[start : (end := groups[first + len(form) - 1][1])]):
                yield start, end
                break


def _ibans(text: str) -> Iterator[tuple[int, int]]:
    """The IBAN that a match begins with, as long as its country's are; capitals may stand behind it."""
    places = [place for place, sign in enumerate(text) if sign != " "]
    length = IBAN_LENGTHS.get(text[:2], 0)
    if 0 < length <= len(places):
        end = places[length - 1] + 1
        if text[end : end + 1] in ("", " ") and iban(text[:end]):
            yield 0, end


def _phone(text: str) -> bool:
    digits = re.sub(r"\D", "", text)
    return 8 <= len(digits) <= 15 and len(set(digits)) > 2


def _address(text: str) -> bool:
    try:
        return not ipaddress.ip_address(text).is_unspecified
    except ValueError:
        return False


def _us_id(text: str) -> bool:
    """Areas 000, 666 and 9xx, group 00 and serial 0000 are never given out (US Social Security Administration)."""
    area, group, serial = text.split("-")
    return area not in ("000", "666") and area < "900" and group != "00" and serial != "0000"


def _uk_health(text: str) -> bool:
    """The NHS number's weighted sum modulo 11."""
    digits = [int(character) for character in text if character.isdigit()]
    check = 11 - sum(digit * (10 - place) for place, digit in enumerate(digits[:9])) % 11
    return check % 11 == digits[9] and check != 10


def _spanish(text: str) -> bool:
    number = text.upper().replace("-", "").replace("X", "0", 1) if text[:1] in "XxYyZz" else text.upper()
    number = number.replace("-", "")
    number = {"Y": "1", "Z": "2"}.get(number[0], number[0]) + number[1:]
    return number[:-1].isdigit() and "TRWAGMYFPDXBNJZSQVHLCKE"[int(number[:-1]) % 23] == number[-1]


def _italian(text: str) -> bool:
    """The check letter of the codice fiscale (Decreto ministeriale 23.12.1976)."""
    code = text.upper()
    odd = dict(zip("0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ", ODD, strict=True))
    total = sum(
        odd[c] if place % 2 == 0 else int(c) if c.isdigit() else ord(c) - 65 for place, c in enumerate(code[:15])
    )
    return chr(65 + total % 26) == code[15]


def _french(text: str) -> bool:
    """The key of the numero de securite sociale: 97 - number modulo 97."""
    plain = re.sub(r"\s", "", text)
    return 97 - int(plain[:13]) % 97 == int(plain[13:])


def _token(text: str) -> bool:
    """A value that looks drawn at random: letters and digits mixed, many different characters."""
    value = re.split(r"[:=]\s*[\"']?", text)[-1].strip("\"'")
    return any(map(str.isdigit, value)) and any(map(str.isalpha, value)) and len(set(value)) >= 10


def _drawn(text: str) -> bool:
    """A key behind `sk-`, and no name in an address (`sk-hynix-announces-...`): in one part of it, between dashes,
    capitals, small letters and digits take turns as they do in what is drawn at random.
    """
    return any(len(part) >= 12 and len(TURN.findall(part)) >= 4 for part in re.split(r"[-_]", text))


ODD = [1, 0, 5, 7, 9, 13, 15, 17, 19, 21, 1, 0, 5, 7, 9, 13, 15, 17, 19, 21, 2, 4, 18, 20, 11, 3, 6, 8, 12, 14, 16, 10]
ODD += [22, 25, 24, 23]
"""Values of 0 to 9 and A to Z in the odd places of a codice fiscale."""
_IBAN = (
    "AD24 AE23 AL28 AT20 AZ28 BA20 BE16 BG22 BH22 BR29 CH21 CR22 CY28 CZ24 DE22 DK18 "
    "DO28 EE20 EG29 ES24 FI18 FO18 FR27 GB22 GE22 GI23 GL18 GR27 GT28 HR21 HU28 IE22 "
    "IL23 IQ23 IS26 IT27 JO30 KW30 KZ20 LB28 LI21 LT20 LU20 LV21 MC27 MD24 ME22 MK19 "
    "MR27 MT31 MU30 NL18 NO15 PK24 PL28 PS29 PT25 QA29 RO24 RS22 SA24 SE24 SI19 SK24 "
    "SM27 TN24 TR26 UA29 VA22 VG24 XK20 "
)
IBAN_LENGTHS = {code[:2]: int(code[2:]) for code in _IBAN.split()}
CARD_FORMS = [(4, 4, 4, 4, 3), (4, 4, 4, 4), (4, 6, 5), (4, 6, 4), *((size,) for size in range(13, 20))]
"""Digits in the groups of a card number (ISO/IEC 7812-1; 4-6-5 and 4-6-4 are American Express and Diners Club)."""
SECRETS = (
    r"-----BEGIN (?:[A-Z]+ )*PRIVATE KEY-----",
    r"\b(?:AKIA|ASIA)[0-9A-Z]{16}\b",
    r"\bgh[pousr]_[A-Za-z0-9]{36,}\b",
    r"\bgithub_pat_[A-Za-z0-9_]{40,}\b",
    r"\bglpat-[A-Za-z0-9_-]{20,}",
    r"\b[sr]k_live_[A-Za-z0-9]{16,}\b",
    r"\bxox[abprs]-[A-Za-z0-9-]{10,}",
    r"\bhf_[A-Za-z0-9]{30,}\b",
    r"\bAIza[0-9A-Za-z_-]{35}",
    r"\beyJ[A-Za-z0-9_-]{10,}\.eyJ[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]{10,}",
)
NAMED_SECRET = (
    r"(?i)\b(?:api[_-]?key|secret|access[_-]?token|auth[_-]?token|passwd|password)\b\s*[:=]\s*[\"']?[\w./+-]{16,}[\"']?"
)
TURN = re.compile(r"(?<=[a-z])[A-Z0-9]|(?<=[A-Z])\d|(?<=\d)[A-Za-z]")
"""Where another sort of sign follows; a small letter behind a capital is how every name begins."""
NEAR = 40
"""Characters before and behind a number in which a word must stand that says what it is."""
KINDS = (
    Kind("key or token", re.compile("|".join(SECRETS)), _whole()),
    Kind("key or token", re.compile(r"\bsk-[A-Za-z0-9_-]{20,}"), _whole(_drawn)),
    Kind("key or token", re.compile(NAMED_SECRET), _whole(_token)),
    Kind(
        "e-mail",
        re.compile(r"(?<![\w.+-])[A-Za-z0-9][\w.+-]{0,63}@(?:[A-Za-z0-9-]{1,63}\.)+[A-Za-z]{2,24}\b"),
        _whole(),
    ),
    Kind("IBAN", re.compile(r"\b[A-Z]{2}\d{2}(?: ?[A-Z0-9]{4}){2,7}(?: ?[A-Z0-9]{1,3})?\b"), _ibans),
    Kind("national id", re.compile(r"\b[12] ?\d{2} ?(?:0[1-9]|1[0-2]) ?\d{2} ?\d{3} ?\d{3} ?\d{2}\b"), _whole(_french)),
    Kind("card number", re.compile(r"(?<![\d.-])\d(?:[ -]?\d){12,}(?![\d-])"), _cards),
    Kind("national id", re.compile(r"(?<![\d-])\d{3}-\d{2}-\d{4}(?![\d-])"), _whole(_us_id)),
    Kind(
        "national id",
        re.compile(r"(?<!\d)\d{3} \d{3} \d{4}(?!\d)"),
        _whole(_uk_health),
        re.compile(r"\bNHS\b|\bhealth", re.IGNORECASE),
    ),
    Kind("national id", re.compile(r"\b(?:\d{8}|[XYZxyz]-?\d{7})-?[A-Za-z]\b"), _whole(_spanish)),
    Kind("national id", re.compile(r"\b[A-Z]{6}\d{2}[A-EHLMPRST]\d{2}[A-Z]\d{3}[A-Z]\b"), _whole(_italian)),
    Kind("IP address", re.compile(r"(?<![\d.])(?:\d{1,3}\.){3}\d{1,3}(?![\d.])"), _whole(_address)),
    Kind(
        "phone number",
        re.compile(r"(?<![\w+])\+\d{1,3}[ .-]?(?:\(\d{1,4}\)[ .-]?)?\d(?:[ .-]?\d){5,12}(?!\d)"),
        _whole(_phone),
    ),
    Kind("phone number", re.compile(r"(?<![\w-])(?:\(\d{3}\) ?|\d{3}[-.])\d{3}[-.]\d{4}(?![\w-])"), _whole(_phone)),
    Kind("phone number", re.compile(r"(?<![\w.,-])0\d{2,4}[ /-]\d{3,4}[ -]?\d{3,4}(?![\w-])"), _whole(_phone)),
)
CERTAIN = frozenset({"key or token", "IBAN", "card number", "national id"})
"""Kinds with a checksum or an unmistakable form; these `check --fix` masks."""
CHEAP = re.compile(r"@|\d[\d .()/-]{6}|PRIVATE KEY|_|sk-|xox|AKIA|ASIA|AIza|eyJ|glpat|[A-Z]{2}\d\d|[:=]")
"""Without one of these a text holds none of the kinds: most rows are told in one pass."""


def by_row(texts: Iterator[str]) -> Iterator[tuple[int, list[Found]]]:
    """Positions of the texts with something private, and what."""
    for place, text in enumerate(texts):
        if found := find(text):
            yield place, found
