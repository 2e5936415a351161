"""Checksums against published examples; what looks alike is left alone; masking leaves nothing behind."""

import sys
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from finesmith.checks import _names
from finesmith.data import private
from finesmith.errors import FinesmithError

KEY = "sk-proj-" + "Ab3dEf6hIj9kLm2nOp5q"
REAL = {
    "card number": ["4111 1111 1111 1111", "5555555555554444", "3782-822463-10005", "6011111111111117"],  # test numbers
    "IBAN": ["GB82 WEST 1234 5698 7654 32", "DE89370400440532013000", "FR14 2004 1010 0505 0001 3M02 606"],  # ISO 13616
    "e-mail": ["ada.lovelace+x@mail.example.co.uk"],
    "phone number": ["+44 20 7946 0958", "(212) 555-0147", "212-555-0147", "+49 (30) 901820", "030 901 8200"],
    "key or token": [
        KEY,
        "AKIAIOSFODNN7EXAMPLE",
        "-----BEGIN RSA PRIVATE KEY-----",
        "sk-or-v1-" + "0a1b2c3d4e5f6789" * 4,
        "sk-3f9c0e7a51d24b8896e7d0c4b1a25f63",
        "api_key = 'x8Kd02hLqP5vTz71Wm'",
    ],
    "national id": [
        "219-09-9999",
        "12345678Z",
        "X1234567L",
        "RSSMRA85T10A562S",
        "2 55 08 14 168 025 38",
    ],
    "IP address": ["192.168.4.17"],
}
ALIKE = [
    "4111 1111 1111 1112", "GB82 WEST 1234 5698 7654 33", "DE8937040044053201300", "ada at mail", "a@b", "000-09-9999",
    "666-09-9999", "943 476 5918", "12345678A", "RSSMRA85T10A562T", "2 55 08 14 168 025 39", "0.0.0.0", "300.1.1.1",
    "1.2.3", "2026-11-21 10:15", "EUR 12,500.00", "version 10.4.2", "password: hunter2",
    "invoice 20240017",
    "1234567890123456", "943 476 5919",
    "https://news.example.com/sk-hynix-announces-new-memory-chips", "sk-learn-compatible-feature-union",
    "sk-hynix-announces-HBM4-chips-in-2026", "sk-Hynix-HBM3E-HBM4-H200-B300-2026",
]  # fmt: skip


@pytest.mark.parametrize(("kind", "text"), [(kind, text) for kind, texts in REAL.items() for text in texts])
def test_finds_and_masks(kind, text):
    (found,) = private.find(f"see {text} there")
    assert (found.kind, private.masked(f"see {text} there")) == (kind, f"see [{kind}] there")


@pytest.mark.parametrize(
    "around", ["{} 123", "{} 12/27 cvc 123", "17 {}", "{} 10.50 EUR", "1 {}", "{} COBA", "{} 2026-11-22"]
)
@pytest.mark.parametrize(
    ("kind", "text"), [(kind, text) for kind, texts in REAL.items() if kind in private.CERTAIN for text in texts]
)
def test_finds_and_masks_beside_other_numbers_and_words(kind, text, around):
    assert private.masked(around.format(text), only=frozenset({kind})) == around.format(f"[{kind}]")


@pytest.mark.parametrize("text", ALIKE)
def test_leaves_alone_what_only_looks_alike(text):
    assert private.find(f"see {text} there") == []


@pytest.mark.parametrize("text", ["NHS number {}", "{} (my nhs no.)", "health service number: {}"])
def test_a_number_of_the_health_service_needs_a_word_that_says_so(text):
    masked = private.masked(text.format("943 476 5919"), only=private.CERTAIN)
    assert masked == text.format("[national id]")
    assert private.find(text.format("943 476 5918")) == []
    assert private.find("943 476 5919" + " and so on" * 9 + " with the NHS") == [], "too far away"


def test_masks_only_the_kinds_asked_for():
    text = "mail ada@example.com card 4111 1111 1111 1111"
    assert private.masked(text, only=private.CERTAIN) == "mail ada@example.com card [card number]"


def test_an_excerpt_is_one_short_masked_line():
    assert private.excerpt("first\n  ada@example.com  " + "x" * 200, 40) == "first [e-mail] " + "x" * 22 + "..."


@given(st.text(max_size=200))
def test_masking_twice_changes_nothing_more(text):
    once = private.masked(text)
    assert private.masked(once) == once and not private.find(once)


class Provider:
    """Stands for presidio's: remembers which model it was asked for."""

    asked: dict = {}  # noqa: RUF012

    def __init__(self, nlp_configuration):
        Provider.asked = nlp_configuration

    def create_engine(self):
        return "engine"


class Analyzer:
    """Stands for presidio's: every capitalised word is a person."""

    def __init__(self, nlp_engine, supported_languages):
        assert (nlp_engine, supported_languages) == ("engine", ["en"])

    def analyze(self, text, language, entities):
        return [SimpleNamespace(entity_type="PERSON") for word in text.split() if word.istitle()]


@pytest.fixture
def presidio(monkeypatch):
    """`presidio(installed)`: presidio and spaCy as modules with these spaCy models."""

    def put(*installed):
        modules = {
            "presidio_analyzer": SimpleNamespace(AnalyzerEngine=Analyzer),
            "presidio_analyzer.nlp_engine": SimpleNamespace(NlpEngineProvider=Provider),
            "spacy": SimpleNamespace(util=SimpleNamespace(is_package=installed.__contains__)),
            "spacy.util": SimpleNamespace(is_package=installed.__contains__),
        }
        for name, module in modules.items():
            monkeypatch.setitem(sys.modules, name, module)

    return put


def test_names_come_from_the_largest_model_that_is_installed(presidio):
    presidio("en_core_web_sm", "en_core_web_md")
    assert _names.recogniser()("my friend Ada met Grace") == ["name of a person"] * 2
    assert Provider.asked["models"] == [{"lang_code": "en", "model_name": "en_core_web_md"}]


def test_without_a_model_nothing_is_downloaded(presidio):
    presidio()
    with pytest.raises(FinesmithError, match="needs a spaCy model"):
        _names.recogniser()
