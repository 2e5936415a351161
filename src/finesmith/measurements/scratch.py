"""The same architecture from random weights, on the same rows with the same number of steps: what pretraining is worth.

Its learning rate is its own, chosen on the validation rows among three (training from scratch wants a higher one).
"""

from __future__ import annotations

from dataclasses import dataclass

from finesmith.evidence import verdict
from finesmith.measurements.base import Effort, Measured, Study
from finesmith.types import Prediction
from finesmith.watch import Watcher

RATES = (1e-4, 3e-4, 1e-3)


@dataclass(frozen=True)
class Scratch:
    """An opponent called `scratch`: the same steps, all weights random at first."""

    title: str = "the same model from scratch"
    priority: int = 3
    effort: Effort = "standard"
    needs: tuple[str, ...] = ()

    def skips(self, study: Study) -> str:
        """A run that was from scratch itself has nothing to be compared with."""
        return "the run itself began from random weights" if study.recipe.model.from_scratch else ""

    def cost(self, study: Study) -> float:
        """One training of all weights for each learning rate; all weights cost about half as much again as adapters."""
        return len(RATES) * study.train_seconds * (1.0 if study.recipe.method == "full" else 1.5)

    def __call__(self, study: Study, watcher: Watcher) -> Measured:
        """Trains one model for each learning rate; the best on the validation rows answers the test rows."""
        tried: dict[float, float] = {}
        best: tuple[float, list[Prediction], dict[str, float]] | None = None
        sign = 1.0 if study.primary.higher_is_better else -1.0
        for rate in RATES:
            with study.retrained(
                watcher, method="full", model={"from_scratch": True}, train={"learning_rate": rate, "warmup": 0.1}
            ) as arm:
                tried[rate] = study.score(study.splits.validation, arm.predict(study.splits.validation))
                if best is None or sign * tried[rate] > sign * tried[best[0]]:
                    best = rate, arm.predict(study.splits.test), dict(arm.costs)
        assert best is not None
        rate, answers, costs = best
        gap, score = study.gain(answers), verdict.number(study.primary, study.score(study.splits.test, answers))
        return Measured(
            says=f"{score}; the tuned model gains {verdict.signed(study.primary, gap.value)}",
            numbers={"learning_rates": tried, "learning_rate": rate, "gap": gap, "costs": costs},
            systems={"scratch": answers},
        )


PLUGIN = Scratch()
