"""Today's date in a chat template: what a user may set, and how one day is written into a template for good."""

from __future__ import annotations

import datetime
import json
import re
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field
from pydantic_core import PydanticCustomError

ASKS = re.compile(r"""strftime_now\(\s*(["'])(.*?)\1\s*\)""")
"""Where a template asks for today's date."""


def _day(value: Any) -> Any:
    """A date of YAML as text; only days that there are."""
    text = value.isoformat() if isinstance(value, datetime.date) else value
    try:
        if text == "auto" or datetime.date.fromisoformat(text).isoformat() == text:
            return text
    except (TypeError, ValueError):
        pass
    raise PydanticCustomError("day", "a day of the calendar such as 2026-11-22, or 'auto'")


Day = Annotated[
    Annotated[str, Field(pattern=r"^\d{4}-\d{2}-\d{2}$")] | Literal["auto"],
    BeforeValidator(_day),
]


def fix(tokenizer: Any, date: str) -> str:
    """Writes one day into the template for all time: with the next day's date a model would be asked otherwise than it
    was trained, and a resumed run would go on with other tokens.

    Returns:
        The day, empty where the template asks for none.
    """
    forms = tokenizer.chat_template
    if not any(ASKS.search(form) for form in (forms.values() if isinstance(forms, dict) else [forms])):
        return ""
    day = datetime.date.today() if date == "auto" else datetime.date.fromisoformat(date)

    def fixed(form: str) -> str:
        return ASKS.sub(lambda asked: json.dumps(day.strftime(asked[2]), ensure_ascii=False), form)

    tokenizer.chat_template = (
        {name: fixed(form) for name, form in forms.items()} if isinstance(forms, dict) else fixed(forms)
    )
    return day.isoformat()
