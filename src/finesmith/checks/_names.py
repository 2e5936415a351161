"""Names and places by presidio (extra `private`), with a spaCy model that is on this machine; nothing is downloaded."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from finesmith.errors import FinesmithError, MissingExtraError

KINDS = {"PERSON": "name of a person", "LOCATION": "place"}
MODELS = ("en_core_web_lg", "en_core_web_md", "en_core_web_sm")


def recogniser() -> Callable[[str], list[str]]:
    """What names the kinds of private data in a text that only a language model finds.

    Raises:
        MissingExtraError: presidio is not installed.
        FinesmithError: no spaCy model is.
    """
    try:
        import presidio_analyzer
        import spacy.util
        from presidio_analyzer.nlp_engine import NlpEngineProvider
    except ImportError as error:
        raise MissingExtraError("presidio-analyzer", "private", "Finding names and places (--names)") from error
    installed = [name for name in MODELS if spacy.util.is_package(name)]
    if not installed:
        raise FinesmithError(
            "Finding names and places (--names) needs a spaCy model, and none is installed.",
            hint=f"Install one with: python -m spacy download {MODELS[-1]}",
        )
    models = [{"lang_code": "en", "model_name": installed[0]}]
    engine = NlpEngineProvider(nlp_configuration={"nlp_engine_name": "spacy", "models": models}).create_engine()
    analyzer: Any = presidio_analyzer.AnalyzerEngine(nlp_engine=engine, supported_languages=["en"])

    def recognise(text: str) -> list[str]:
        found = analyzer.analyze(text=text, language="en", entities=list(KINDS))
        return [KINDS[each.entity_type] for each in found if each.entity_type in KINDS]

    return recognise
