"""The command line: finds the command's file, parses, runs it, and shows errors without a traceback."""

from __future__ import annotations

import errno
import io
import json
import os
import sys
import warnings
from typing import TextIO

from finesmith.errors import FinesmithError

REFUSED = (errno.EACCES, errno.EPERM, errno.ENAMETOOLONG, errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO)
"""What a system may answer to a path that a user named; other errors of the system are mistakes of ours."""


def main(arguments: list[str] | None = None) -> int:
    """Runs one command. Returns the exit code: 0, 2 for a mistake that the user can mend, 130 after Ctrl-C."""
    for cache in ("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "LRU_CACHE_CAPACITY"):
        os.environ.setdefault(cache, "64")  # oneDNN keeps a kernel for each shape it met: gigabytes with 1024 of them
    warnings.filterwarnings("ignore", category=FutureWarning)  # of the libraries underneath, for their developers
    given = sys.argv[1:] if arguments is None else arguments
    _in_any_script()
    try:
        code = _run(given)
    except BrokenPipeError:  # `finesmith ... | head`
        if not _unread(sys.stdout, "\n"):
            raise  # another pipe, such as a worker's
        return 0
    except SystemExit as stop:
        if isinstance(stop.__context__, BrokenPipeError):  # what rich makes of it
            return 0
        raise
    _unread(sys.stdout)
    return code


def _run(given: list[str]) -> int:
    from finesmith.cli import _parser

    try:
        command, options = _parser.parse(given)
        return int(command.main(options) or 0)
    except FinesmithError as error:
        return _show(error, as_json="--json" in given)
    except KeyboardInterrupt:
        _say("stopped")
        if "--json" in given:
            print(json.dumps({"error": "stopped", "problems": [], "hint": ""}))  # noqa: T201
        return 130
    except OSError as error:  # what the system refuses: an unreadable file, a name too long, a disk that is full
        if error.errno not in REFUSED or error.filename is None:
            raise
        return _show(FinesmithError(f"Cannot use '{error.filename}': {error.strerror}."), as_json="--json" in given)


def _in_any_script() -> None:
    """Whatever the code page of the system: files and pipes get UTF-8, and a terminal shows `?` for what it lacks."""
    if not isinstance(sys.stdout, io.TextIOWrapper):
        return
    if sys.stdout.isatty():
        sys.stdout.reconfigure(errors="replace")
    else:
        sys.stdout.reconfigure(encoding="utf-8", errors="backslashreplace")  # half a surrogate pair is no UTF-8


def _unread(stream: TextIO, more: str = "") -> bool:
    """Whether nobody reads it any more, as some more text shows; what is left of it then goes nowhere, instead of
    failing at the exit."""
    try:
        stream.write(more)
        stream.flush()
    except BrokenPipeError:
        from finesmith.cli._show import to_nowhere

        to_nowhere(stream)
        return True
    return False


def _show(error: FinesmithError, *, as_json: bool) -> int:
    if as_json:
        value = {"error": error.message, "problems": list(error.problems), "hint": error.hint}
        print(json.dumps(value, ensure_ascii=False))  # noqa: T201
    else:
        _say(f"error: {_text(error)}")
    return 2


def _say(text: str) -> None:
    """On stderr, if anybody reads it."""
    try:
        print(text, file=sys.stderr)  # noqa: T201
    except BrokenPipeError:
        _unread(sys.stderr)


def _text(error: FinesmithError, most: int = 40) -> str:
    """The message with its first problems; --json shows all of them."""
    problems = [f"  - {problem}" for problem in error.problems[:most]]
    if len(error.problems) > most:
        problems.append(f"  ... and {len(error.problems) - most} more (all with --json)")
    return "\n".join([error.message, *problems, *([error.hint] if error.hint else [])])


if __name__ == "__main__":
    sys.exit(main())
