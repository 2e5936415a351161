"""What a run's answers and measurements come to: every opponent weighed again, the claims, the decision, the page."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from finesmith.evidence import claims, decision, plain, verdict
from finesmith.evidence import compare as evidences
from finesmith.measurements import _plan
from finesmith.measurements.base import Study, answers
from finesmith.report import card as cards
from finesmith.report import verdict_page
from finesmith.types import Claim, Evidence


@dataclass(frozen=True)
class Comparison:
    """The evidence with every opponent, what each measurement found, and the claims that follow.

    `seconds` is what each measurement took and `planned` what it was thought to take, by name. `costs` are `seconds`
    and `planned` of this call, `training_seconds` (one training of the run) and its `budget` (None without one).
    `asked` is what was asked for: effort, minutes, and whatever else was given, by the names of the options.
    """

    path: Path
    evidence: Evidence
    measured: Mapping[str, Mapping[str, Any]]
    not_measured: Mapping[str, str]
    claims: tuple[Claim, ...]
    decision: str
    rival: str | None
    seconds: Mapping[str, float]
    planned: Mapping[str, float]
    costs: Mapping[str, float | None]
    asked: Mapping[str, Any]


def judge(
    study: Study,
    found: Mapping[str, Mapping[str, Any]],
    missing: Mapping[str, str],
    costs: Mapping[str, float | None],
    asked: Mapping[str, Any],
) -> Comparison:
    """The evidence again with every opponent there is now, the claims, and both in the run."""
    folder = study.folder
    systems = dict.fromkeys([*study.evidence.systems, *(name for each in found.values() for name in each["systems"])])
    head = "train it with --method head" if study.recipe.method != "head" else ""
    ways = {"frozen": head, **({"base": head} if verdict.base_is_head(study.evidence) else {})}
    evidence = evidences.compare(
        task=study.evidence.task,
        primary=study.task.primary,
        metrics=study.metrics,
        targets=study.targets,
        predictions={name: answers(folder, name, study.splits.test) for name in systems},
        opponents=[name for name in systems if name != verdict.TUNED],
        not_measured={name: why for name, why in study.evidence.not_measured.items() if name not in systems},
        costs=study.evidence.costs,
        details=study.evidence.details,
        ways=ways,
        minimum_gain=study.minimum_gain,
        clusters=study.clusters,
        seed=study.recipe.seed,
    )
    numbers = {name: values["numbers"] for name, values in found.items()}
    rival = decision.strongest(evidence, numbers, minimum_gain=study.minimum_gain)
    judged = claims.judge(evidence, study.primary, numbers, missing, minimum_gain=study.minimum_gain)
    told: Any = {"minimum_gain": study.minimum_gain, "ways": ways, "judged": judged}
    told["promptable"] = _plan.applies("prompting", study)
    comparison = Comparison(
        path=folder.path,
        evidence=evidence,
        measured=dict(found),
        not_measured={**missing, **{k: v for values in found.values() for k, v in values["missing"].items()}},
        claims=judged,
        decision=decision.decide(evidence, study.primary, numbers, **told),
        rival=rival.name if rival else None,
        seconds={name: values["seconds"] for name, values in found.items()},
        planned={name: values["planned"] for name, values in found.items() if "planned" in values},
        costs=costs,
        asked=asked,
    )
    plainly = {**as_json(comparison), "promptable": told["promptable"]}
    folder.write_json("comparison.json", plainly)
    steps = list(folder.read_lines("steps.jsonl"))
    about = {"manifest": folder.read_json("manifest.json"), "recipe": study.recipe.to_yaml(), "steps": steps}
    folder.write_text("report.html", verdict_page.render(str(folder.path), plainly, about))
    folder.write_json("evidence.json", plain.as_json(evidence))
    if folder.file("README.md").exists():
        folder.write_text("README.md", cards.with_verdict(folder.read_text("README.md"), plainly, study.evidence))
    return comparison


def as_json(comparison: Comparison) -> dict[str, Any]:
    """Everything as plain values."""
    return plain.values_of(
        {
            "decision": comparison.decision,
            "rival": comparison.rival,
            "claims": list(comparison.claims),
            "evidence": plain.as_json(comparison.evidence),
            "measured": comparison.measured,
            "not_measured": comparison.not_measured,
            "seconds": comparison.seconds,
            "planned": comparison.planned,
            "costs": comparison.costs,
            "asked": comparison.asked,
        }
    )
