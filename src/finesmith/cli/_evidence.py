"""What `compare` and `tune --evidence` share: the options, and how a comparison is told."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from typing import Any

from finesmith.errors import RecipeError

EFFORTS = ("quick", "standard", "full")
"""As in `finesmith.measurements.base`, which takes too long to import for a help text."""
GIVEN = ("target", "risk", "unlabelled", "glossary", "prompts", "retention_margin")
"""Options that measurements read (`study.options`)."""


def options(parser: Any) -> None:
    """The budget, and what the measurements may use. `parser` may be a group of one."""
    parser.add_argument(
        "--minutes",
        type=float,
        metavar="M",
        help="the budget: the least important is dropped first (quick has three trainings, a minute at least)",
    )
    parser.add_argument("--minimum-gain", type=float, default=None, metavar="X", help="the smallest gain of use (0)")
    parser.add_argument("--target", type=float, metavar="X", help="the score wanted: how many labels would reach it?")
    parser.add_argument("--risk", type=float, metavar="R", help="wrong answers allowed beside abstention (0.05)")
    parser.add_argument("--unlabelled", metavar="FILE", help="rows without labels: which to label next?")
    parser.add_argument("--glossary", metavar="FILE", help='JSON list of {"preferred": ..., "forbidden": [...]}')
    parser.add_argument("--prompts", metavar="FILE", help="what the model must still do: prompts, perhaps answers")
    parser.add_argument(
        "--retention-margin",
        type=float,
        metavar="X",
        help="share of the knowledge that may be lost (0.01; of an encoder 0.05)",
    )


BIG, SMALL = sys.float_info.max, 1e-9
RANGES = {"minutes": (0.0, BIG), "minimum_gain": (0.0, BIG), "retention_margin": (0.0, BIG), "risk": (SMALL, 1 - SMALL)}
"""The least and the most that an option may be; none may be infinite, or no number."""


def given(options: argparse.Namespace) -> dict[str, Any]:
    """The arguments of `comparing.compare` that stand for these options; a file that is not there is found out now."""
    from finesmith.data import given as files

    found = {name: value for name in GIVEN if (value := getattr(options, name)) is not None}
    files.read(found)
    for name, (least, most) in RANGES.items():
        value = getattr(options, name)
        if value is not None and not least <= value <= most:
            wanted = f"{least:g} or more" if most == BIG else f"between {least:g} and {most:g}"
            raise RecipeError(f"--{name.replace('_', '-')} must be {wanted}, not {value:g}.")
    return {"minutes": options.minutes, "minimum_gain": options.minimum_gain or 0.0, "options": found}


def asked(options: argparse.Namespace) -> list[str]:
    """The options that were given, as they are written."""
    names = ("minutes", "minimum_gain", *GIVEN)
    return [f"--{name.replace('_', '-')}" for name in names if getattr(options, name) is not None]


def lines(comparison: Mapping[str, Any]) -> list[str]:
    """The decision, a line for each claim, and what was not measured; of plain values (`judging.as_json`)."""
    told = [comparison["decision"], ""]
    for claim in comparison["claims"]:
        grade = f" ({claim['grade']})" if claim["grade"] else ""
        told.append(f"{claim['outcome']}{grade}: {claim['name']}. {claim['sentence']}")
    return told + [f"not measured: {name.replace('_', ' ')}: {why}" for name, why in comparison["not_measured"].items()]
