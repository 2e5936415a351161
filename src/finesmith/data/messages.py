"""Chat messages as files have them (OpenAI, ShareGPT, Hugging Face) to `Message`s."""

from __future__ import annotations

import difflib
import json
from collections.abc import Mapping
from typing import Any

from finesmith.data import strict_json
from finesmith.data.rows import Fault, absent, kind
from finesmith.errors import nearest
from finesmith.types import Message

ROLES = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "human": "user",
    "assistant": "assistant",
    "gpt": "assistant",
    "model": "assistant",
    "bot": "assistant",
    "chatgpt": "assistant",
    "function_call": "assistant",
    "tool": "tool",
    "function": "tool",
    "observation": "tool",
}
"""Name of a role in files (lower case) to ours."""

CALLING = "function_call"
"""The role of a turn whose whole content is a call, or a list of calls, as JSON: LLaMA-Factory."""

READ = ("role", "from", "content", "value", "weight", "train", "tool_calls", "function_call")
"""Keys of a message that are read here; all others are handed to the chat template."""

TEXTS = ("tool_call_id", "name", "reasoning_content")

THOUGHTS = ("thinking", "reasoning")
"""Other names of `reasoning_content`: TRL and gpt-oss, OpenRouter."""


def conversation(value: Any) -> tuple[tuple[Message, ...], Message]:
    """The messages before the last assistant turn that is learnt, and that turn; what stands behind it is left out.

    Raises:
        Fault: no list of messages, or one that cannot be trained on.
    """
    turns = listed(value, "messages")
    if not turns:
        raise Fault("the list of messages is empty")
    found = tuple(_message(turn, f"message {number}") for number, turn in enumerate(turns, start=1))
    if not any(message.role == "assistant" for message in found):
        raise Fault("has no assistant turn")
    if found[-1].role != "assistant":
        raise Fault(f"ends with a {found[-1].role} turn that nobody answers")
    trained = [place for place, message in enumerate(found) if message.weight]
    if not trained:
        raise Fault("no assistant turn is trained: all have weight 0")
    last = trained[-1]
    if last < len(found) - 1 and all(message.role in ("system", "assistant") for message in found[:last]):
        raise Fault("no answer is trained: all have weight 0, and the opening turn answers nobody")
    return found[:last], found[last]


def ends_unlearnt(turns: Any) -> bool:
    """Whether the last of such turns as a file has them is said not to be learnt: the row ends before it."""
    last = turns[-1] if isinstance(turns, list) and turns else None
    return isinstance(last, dict) and (last.get("train") is False or last.get("weight") == 0)


def tools(value: Any) -> tuple[Mapping[str, Any], ...]:
    """The tools that may be called; OpenAI's older `functions` get their wrapper."""
    if absent(value) or value == "":
        return ()
    found = listed(value, "tools")
    return tuple(_tool(tool) for tool in found)


def _tool(tool: Any) -> Mapping[str, Any]:
    """A tool with its wrapper, the parameters as an object (some files hold them as JSON text)."""
    if not isinstance(tool, dict):
        raise Fault(f"a tool must be an object, found {kind(tool)}")
    tool = {"type": "function", "function": tool} if _bare(tool) else tool
    function = tool.get("function")
    if not isinstance(function, dict) or absent(function.get("parameters")):
        return _plain(tool, "a tool")
    parameters = function["parameters"]
    if isinstance(parameters, str):
        parameters = _loaded(parameters, f"the parameters of the tool '{function.get('name')}' are")
    if not isinstance(parameters, dict):
        raise Fault(f"the parameters of the tool '{function.get('name')}' must be an object, found {kind(parameters)}")
    return _plain({**tool, "function": {**function, "parameters": parameters}}, "a tool")


def _bare(tool: Mapping[str, Any]) -> bool:
    return "name" in tool and "parameters" in tool and "function" not in tool


def listed(value: Any, what: str = "messages") -> list[Any]:
    """A list, or the JSON text of one.

    Raises:
        Fault: neither.
    """
    if isinstance(value, str):
        value = _loaded(value, f"the {what} are", "text that is not JSON")
    if not isinstance(value, list):
        raise Fault(f"the {what} must be a list, found {kind(value)}")
    return value


def _loaded(text: str, what: str, odd: str = "not JSON") -> Any:
    """The value that a text holds as JSON; `what` is who it belongs to, with its verb."""
    try:
        value = json.loads(text)
    except RecursionError as error:
        raise Fault(f"{what} nested too deeply") from error
    except ValueError as error:
        raise Fault(f"{what} {odd}: {error}") from error
    if half := strict_json.half_character(value):
        raise Fault(f"{what} text that {half}")
    return value


def is_answer(turn: Any) -> bool:
    """Whether a turn as a file has it is the assistant's, by whatever name."""
    if not isinstance(turn, dict):
        return False
    role = turn.get("from") if absent(turn.get("role")) else turn["role"]
    return ROLES.get(str(role).strip().lower()) == "assistant"


def _message(turn: Any, where: str) -> Message:
    if not isinstance(turn, dict):
        raise Fault(f"{where} must be an object, found {kind(turn)}")
    turn = {key: value for key, value in turn.items() if not absent(value)}
    role = _role(turn.get("role", turn.get("from")), where)
    if str(turn.get("role", turn.get("from"))).strip().lower() == CALLING:
        turn = _calling(turn, where)
    extra = _extra(turn, where)
    content = _content(turn.get("content", turn.get("value")), where, may_lack="tool_calls" in extra)
    if not content.strip() and role in ("user", "assistant") and "tool_calls" not in extra:
        raise Fault(f"{where} ({role}) is empty")
    return Message(role, content, _weight(turn, role, where), extra)


def _role(value: Any, where: str) -> str:
    if not isinstance(value, str):
        raise Fault(f"{where} has no role" if value is None else f"{where}: the role is {kind(value)}")
    if value.strip().lower() not in ROLES:
        raise Fault(f"{where} has the unknown role '{value}'. {nearest(value, ROLES)}")
    return ROLES[value.strip().lower()]


def _content(value: Any, where: str, *, may_lack: bool) -> str:
    if value is None:
        if may_lack:
            return ""
        raise Fault(f"{where} has no content (only a message with tool_calls may lack it)")
    if isinstance(value, list):
        return "".join(_part(part, where) for part in value)
    if not isinstance(value, str):
        raise Fault(f"{where}: the content must be text, found {kind(value)}")
    return value


def _part(part: Any, where: str) -> str:
    if isinstance(part, dict) and part.get("type") == "text" and isinstance(part.get("text"), str):
        return part["text"]
    what = f"'{part.get('type')}'" if isinstance(part, dict) else kind(part)
    raise Fault(f"{where} has a content part of type {what}; only text can be trained")


def _weight(turn: Mapping[str, Any], role: str, where: str) -> float:
    """The loss weight of a turn, 0..1; `train` is the same as a yes or no. Assistant turns have 1 unless said."""
    weight, train = turn.get("weight"), turn.get("train")
    if weight is not None and (isinstance(weight, bool) or not isinstance(weight, int | float) or not 0 <= weight <= 1):
        raise Fault(f"{where}: weight must be a number from 0 to 1, found {weight!r}")
    if train is not None and not isinstance(train, bool):
        raise Fault(f"{where}: train must be true or false, found {train!r}")
    if weight is not None and train is not None and train != (weight > 0):
        raise Fault(f"{where}: train is {str(train).lower()} but weight is {weight}")
    said = float(train) if weight is None and train is not None else weight
    if role == "assistant":
        return 1.0 if said is None else float(said)
    if said:
        raise Fault(f"{where} ({role}) is marked for training; only assistant turns are trained")
    return 0.0


def _extra(turn: Mapping[str, Any], where: str) -> dict[str, Any]:
    extra = {key: value for key, value in _named_thoughts(turn, where).items() if key not in READ}
    for key, value in extra.items():
        if key in TEXTS:
            if not isinstance(value, str):
                raise Fault(f"{where}: {key} must be text, found {kind(value)}")
        elif meant := difflib.get_close_matches(key, ("weight", "train", "tool_calls"), n=1, cutoff=0.8):
            raise Fault(f"{where} has the unknown key '{key}'. Did you mean '{meant[0]}'?")
    calls = turn.get("tool_calls") or []
    if "function_call" in turn:  # OpenAI's older form, one call
        calls = [{"type": "function", "function": turn["function_call"]}]
    if not isinstance(calls, list):
        raise Fault(f"{where}: tool_calls must be a list, found {kind(calls)}")
    if calls:
        extra["tool_calls"] = [_call(call, where) for call in calls]
    return _plain(extra, where)


def _named_thoughts(turn: Mapping[str, Any], where: str) -> dict[str, Any]:
    """The turn with what the assistant thinks under one name, whichever the file has."""
    given = {key: turn[key] for key in (TEXTS[-1], *THOUGHTS) if key in turn}
    for key, value in given.items():
        if not isinstance(value, str):
            raise Fault(f"{where}: {key} must be text, found {kind(value)}")
    if len(set(given.values())) > 1:
        raise Fault(f"{where} has different thoughts in {' and '.join(given)}; keep one of them")
    rest = {key: value for key, value in turn.items() if key not in given}
    return {**rest, TEXTS[-1]: next(iter(given.values()))} if given else rest


def _calling(turn: Mapping[str, Any], where: str) -> dict[str, Any]:
    """A turn that is nothing but calls, as OpenAI writes it."""
    if said := next((key for key in ("tool_calls", CALLING) if key in turn), None):
        raise Fault(f"{where} has the role {CALLING}, whose content is the call, and {said} besides")
    content = turn.get("content", turn.get("value"))
    found = _loaded(content, f"{where} ({CALLING}): the call is") if isinstance(content, str) else content
    calls = found if isinstance(found, list) else [found]
    if not calls or not all(isinstance(call, dict) and isinstance(call.get("name"), str) for call in calls):
        raise Fault(
            f"{where} ({CALLING}) must hold a call as JSON, an object with name and arguments, or a list of such"
        )
    rest = {key: value for key, value in turn.items() if key not in ("content", "value")}
    return {**rest, "tool_calls": [{"type": "function", "function": call} for call in calls]}


def _call(call: Any, where: str) -> dict[str, Any]:
    """One tool call, its arguments as an object (OpenAI writes them as JSON text; chat templates want the object)."""
    function = call.get("function") if isinstance(call, dict) else None
    if not isinstance(function, dict) or not isinstance(function.get("name"), str):
        raise Fault(f"{where}: a tool call must be an object with a function that has a name")
    arguments = function.get("arguments")
    if isinstance(arguments, str):
        arguments = _loaded(
            arguments if arguments.strip() else "{}", f"{where}: the arguments of {function['name']} are"
        )
    if arguments is not None and not isinstance(arguments, dict):
        raise Fault(f"{where}: the arguments of {function['name']} must be an object, found {kind(arguments)}")
    return {**call, "function": {**function, "arguments": arguments or {}}}


def _plain(value: dict[str, Any], what: str) -> dict[str, Any]:
    """The value itself, if JSON can hold it."""
    try:
        json.dumps(value)
    except TypeError as error:
        raise Fault(f"{what} holds what JSON cannot: {error}") from error
    return value
