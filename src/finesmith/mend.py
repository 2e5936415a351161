"""`check --fix`: what the checks would do about their findings, together, as one cleaned copy."""

from __future__ import annotations

from finesmith import registry
from finesmith.checks.base import Checked, Mend
from finesmith.data.clean import Changes, Cleaned, clean
from finesmith.errors import RecipeError
from finesmith.recipe import Recipe
from finesmith.types import Examined


def fix(recipe: Recipe, found: Examined, data: Checked) -> Cleaned:
    """Writes the cleaned copy beside the data.

    Raises:
        DataError: the copy exists already, or cannot be written.
        RecipeError: a part is a file of its own, of which there would be no copy.
    """
    if files := recipe.data.files:
        part, path = next(iter(files.items()))
        raise RecipeError(
            f"--fix would write a cleaned copy of {recipe.data.path} and none of data.{part}, '{path}'.",
            hint=f"Clean them one by one: finesmith check {recipe.data.path} --fix, then {path}.",
        )
    changes = Changes()
    for finding in found.findings:
        check = registry.resolve("checks", finding.check)
        mend: Mend = check.mend(finding, data) if hasattr(check, "mend") else Mend()
        for origin in mend.drop:
            changes.drop.setdefault(origin, finding.check)
        if mend.text:
            changes.text.setdefault(finding.check, mend.text)
            changes.in_labels |= {finding.check} if mend.in_labels else set()
        changes.labels.update(mend.labels or {})
    return clean(recipe.data.path, changes, format=recipe.data.format, columns=data.columns)
