"""One file a command: a module in this folder with `PLUGIN = Command` is a command; nothing else is edited.

argparse and not a larger library, because the command line must answer in under 0.3 s and needs little of it.
"""

from __future__ import annotations

import argparse
import difflib
from collections.abc import Sequence
from typing import Any, NoReturn, Protocol

from finesmith import __version__, registry
from finesmith.errors import RecipeError, nearest

EPILOG = """Help on one command: finesmith COMMAND --help.  The version: finesmith --version.
Errors that you can mend end with exit code 2."""


ALIKE = 0.8
"""Likeness (0..1, of difflib) from which an option is meant, where what is none may be a setting."""


class Command(Protocol):
    """What a command's file offers."""

    def options(self, parser: argparse.ArgumentParser) -> None:
        """Declares the command's arguments."""
        ...

    def main(self, options: argparse.Namespace) -> int | None:
        """Runs the command; heavy imports stand inside."""
        ...


class Parser(argparse.ArgumentParser):
    """argparse whose complaints are FinesmithErrors that name the nearest option."""

    def error(self, message: str) -> NoReturn:
        """Turns argparse's message into ours."""
        lacking, _, names = message.partition("are required: ")
        if names:  # argparse names those too that may be left out
            optional = {action.metavar or action.dest for action in self._actions if action.nargs in ("*", "?")}
            message = f"{lacking}are required: {', '.join(n for n in names.split(', ') if n not in optional)}"
        raise RecipeError(f"{self.prog}: {message}.", hint=f"See: {self.prog} --help")

    def known_options(self) -> list[str]:
        """All option strings, for 'did you mean'."""
        return [name for action in self._actions for name in action.option_strings if name.startswith("--")]


def parse(arguments: Sequence[str]) -> tuple[Any, argparse.Namespace]:
    """The command and its parsed options; `--help` and `--version` print and exit."""
    names = registry.available("commands")
    if not arguments or arguments[0] in ("-h", "--help"):
        _overview(names).print_help()
        raise SystemExit(0)
    if arguments[0] == "--version":
        print(f"finesmith {__version__}")
        raise SystemExit(0)
    name = arguments[0].replace("-", "_")
    if name not in names:
        shown = [known.replace("_", "-") for known in names]
        raise RecipeError(f"Unknown command '{arguments[0]}'. {nearest(arguments[0], shown)}")
    command = registry.resolve("commands", name)
    parser = Parser(
        prog=f"finesmith {arguments[0]}", description=registry.summary("commands", name), allow_abbrev=False
    )
    command.options(parser)
    options, unknown = parser.parse_known_intermixed_args(_apart(arguments[1:], parser))
    flags = [word for word in unknown if word.startswith("-")]
    if flags:
        raise _unknown(flags[0], arguments, parser, takes_settings="settings" in options)
    if unknown:
        raise _too_many(unknown, parser)
    return command, options


def _apart(arguments: Sequence[str], parser: Parser) -> list[str]:
    """An option whose word may be left out does not take a word that is none of its own: `--evidence rows.csv`."""
    optional = {name: action for action in parser._actions if action.nargs == "?" for name in action.option_strings}
    words = list(arguments)
    for place, word in enumerate(words[:-1]):
        action = optional.get(word)
        if action and action.choices and not difflib.get_close_matches(words[place + 1], list(action.choices)):
            words[place] = f"{word}={action.const}"
    return words


def _too_many(words: Sequence[str], parser: Parser) -> RecipeError:
    """The error for words that the command has no place for; where it has --out, that may be what was meant."""
    given = ", ".join(f"'{word}'" for word in words)
    count = "is one word" if len(words) == 1 else f"are {len(words)} words"
    takes = [str(action.metavar or action.dest).upper() for action in parser._actions if not action.option_strings]
    message = f"{given} {count} too many: {parser.prog} takes {' and '.join(takes) or 'options alone'}."
    out = next((action for action in parser._actions if "--out" in action.option_strings), None)
    if out is None:
        return RecipeError(message, hint=f"See: {parser.prog} --help")
    what = str(out.help).partition(" (")[0]
    return RecipeError(message, hint=f"Did you mean --out {words[0]} ({what})?")


def _unknown(given: str, arguments: Sequence[str], parser: Parser, *, takes_settings: bool) -> RecipeError:
    """The error for an option that does not exist; one that is called like a setting is written `key=value`."""
    start, flag = f"Unknown option '{given}' of finesmith {arguments[0]}.", given.partition("=")[0]
    if not takes_settings:
        return RecipeError(f"{start} {nearest(flag, parser.known_options())}")
    from finesmith.recipe import setting_meant, settings_called

    after = arguments[list(arguments).index(given) + 1 :]
    value = given.partition("=")[2] or next((text for text in after[:1] if not text.startswith("-")), "...")
    keys, remark = settings_called(flag.lstrip("-")), ""
    if not keys and not difflib.get_close_matches(flag, parser.known_options(), n=1, cutoff=ALIKE):
        setting, remark = setting_meant(flag.lstrip("-"))
        keys = [setting] if setting else []
    if keys:
        ways = " or ".join(f"{key}={value}" for key in keys) + (f" ({remark})" if remark else "")
        return RecipeError(start, hint=f"Settings are written without dashes: {ways}")
    said = nearest(flag, parser.known_options(), alike=ALIKE)
    return RecipeError(f"{start} {said}", hint="Settings are written without dashes, as in train.epochs=3.")


def _overview(names: Sequence[str]) -> argparse.ArgumentParser:
    width = max(len(name) for name in names) + 2
    lines = [f"  {name.replace('_', '-'):<{width}}{registry.summary('commands', name)}" for name in names]
    parser = argparse.ArgumentParser(
        prog="finesmith",
        usage="finesmith COMMAND ...",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description="Fine-tune a pretrained model on your own examples, and see what it gained.\n\ncommands:\n"
        + "\n".join(lines),
        epilog=EPILOG,
        add_help=False,
    )
    return parser


def recipe_options(parser: argparse.ArgumentParser) -> None:
    """The arguments that make a recipe: a source, `key=value` settings, and flags for the commonest of them."""
    parser.add_argument("source", help="examples (file, folder or hub id) or a recipe (.yaml)")
    parser.add_argument(
        "settings", nargs="*", metavar="key=value", help="any setting, e.g. train.epochs=3 data.columns.text=body"
    )
    parser.add_argument("--model", help="embedded (default), a folder, or a hub id (owner/name)")
    parser.add_argument("--method", help="which weights move: lora (default), full, last_layers, head")
    parser.add_argument("--task", help="classification, generation or text; detected by default")
    parser.add_argument("--seed", type=int, help="fixes split, order, new weights, dropout (default 0)")
    parser.add_argument(
        "--max-bad-rows", type=int, metavar="N", help="how many unusable rows are acceptable (default 0)"
    )


def trust_option(parser: argparse.ArgumentParser) -> None:
    """For commands that take a run, which may have come from anybody."""
    parser.add_argument(
        "--trust-remote-code",
        action="store_true",
        help="run Python code that comes with the run: its base's, its plug-ins'",
    )


def recipe_values(options: argparse.Namespace) -> dict[str, Any]:
    """Nested recipe values from parsed arguments; flags win over `key=value`."""
    from finesmith.recipe import parse_assignments

    flags = {
        "model.name": options.model,
        "method": options.method,
        "task": options.task,
        "seed": options.seed,
        "data.max_bad_rows": options.max_bad_rows,
        "out": getattr(options, "out", None),
        "model.from_scratch": getattr(options, "from_scratch", None) or None,
    }
    given = [f"{key}={_quoted(value)}" for key, value in flags.items() if value is not None]
    return parse_assignments([*options.settings, *given])


def _quoted(value: Any) -> str:
    if isinstance(value, str):
        return "'" + value.replace("'", "''") + "'"  # YAML's own way
    return str(value).lower() if isinstance(value, bool) else str(value)
