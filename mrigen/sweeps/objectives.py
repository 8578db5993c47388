"""What a sweep goes by: figures of validation people, of the fit, of the probe, or of an evaluation of samples."""

import dataclasses
import math
from collections.abc import Sequence

import numpy as np

from mrigen.errors import CohortError, MrigenError, UsageError
from mrigen.evaluation.heads import SAMPLES
from mrigen.evaluation.parts import PARTS
from mrigen.evaluation.result import FILE, HIGHER, LOWER, read_evaluation
from mrigen.runs import Run
from mrigen.runs.listing import validation_figures
from mrigen.system.wording import nearest

# Figures of the fit -> how they are called there, and in its history.
OF_FIT = {"elbo": "elbo_nats", "mse": "mse"}
# Sex told from the latents: learned by training people, tested on validation people.
SEX_AUC = "sex_auc"
AGAINST = "validation"


@dataclasses.dataclass(frozen=True)
class Objective:
    """A figure that a sweep goes by.

    Attributes:
        name: "elbo", "mse", "sex_auc", or a figure of `mrigen.evaluate`.
        part: of an evaluation that has it; None of another figure.
        better: "higher", "lower", or the value that it should have.
    """

    name: str
    part: str | None = None
    better: str = LOWER

    @property
    def direction(self) -> str:
        """Which way Optuna goes."""
        return "maximize" if self.better == HIGHER else "minimize"

    def cost(self, value: float) -> float:
        """Returns what is to be as small as can be: the figure, or how far it is from what it should be."""
        if self.better in (LOWER, HIGHER):
            return value if self.better == LOWER else -value
        return abs(value - float(self.better))

    def told(self, value: float) -> float:
        """Returns what Optuna is told of a figure; see `direction`."""
        return value if self.better == HIGHER else self.cost(value)

    def of(self, run: Run) -> float:
        """Returns the figure of a finished run.

        Raises:
            MrigenError: it has none.
        """
        if self.name in OF_FIT:
            value, advice = validation_figures(run)[OF_FIT[self.name]], "Raise data.split.validation."
        elif self.name == SEX_AUC:
            value, advice = _sex_auc(run), "Raise data.split.validation, or name data.sex_column."
        else:
            value, advice = self._of_evaluation(run), "See its evaluation.json."
        if value is None or not math.isfinite(value):
            raise MrigenError(f"{run.directory}: no {self.name}, expected a figure of validation people. {advice}")
        return float(value)

    def _of_evaluation(self, run: Run) -> float | None:
        content = read_evaluation(run.directory / "evaluation" / AGAINST / FILE)
        rows = content["parts"].get(self.part, {"rows": []})["rows"]
        return next((row["value"] for row in rows if (row["figure"], row["of"]) == (self.name, SAMPLES)), None)


def parse_objectives(text: str | Sequence[str]) -> tuple[Objective, ...]:
    """Returns the objectives that are written as `elbo,power_16_8`.

    Raises:
        UsageError: there is no such figure, or one without a better side.
    """
    names = [name.strip() for name in text.split(",")] if isinstance(text, str) else list(text)
    return tuple(_objective(name) for name in dict.fromkeys(names))


def _objective(name: str) -> Objective:
    if name in OF_FIT or name == SEX_AUC:
        return Objective(name, better=LOWER if name == "mse" else HIGHER)
    known = {figure: (part, kind) for part, each in PARTS.items() for figure, kind in each.figures.items()}
    if name not in known:
        some = ", ".join((*OF_FIT, SEX_AUC))
        raise UsageError(
            f"got {name!r}, expected {some} or a figure of an evaluation.{nearest(name, [*OF_FIT, SEX_AUC, *known])} "
            "Leave it out for elbo or mse.",
            "objective",
        )
    part, kind = known[name]
    if not kind.better:
        raise UsageError(f"got {name!r}, a figure without a better side, expected one with. Name another.", "objective")
    return Objective(name, part, kind.better)


def _sex_auc(run: Run) -> float | None:
    from mrigen.data.tables import first_visits
    from mrigen.probing.measures import roc_auc
    from mrigen.probing.predictors import LogisticPredictor

    people = run.subjects.merge(run.split, on="participant_id", how="left")
    people = people[first_visits(people) & people["sex"].isin(["F", "M"]) & people["split"].isin(["train", AGAINST])]
    latents = run.load_latents()
    rows = {name: row for row, name in enumerate(latents["scan_id"].tolist())}
    loc = latents["loc"].reshape(len(rows), -1)[[rows[name] for name in people["scan_id"]]]
    targets = (people["sex"] == "M").to_numpy(dtype=int)
    tested = (people["split"] == AGAINST).to_numpy()
    if min((len(np.unique(targets[chosen])) for chosen in (tested, ~tested)), default=0) < 2:
        return None
    groups = people["family"].fillna(people["participant_id"]).to_numpy(dtype=str)
    try:
        scored = LogisticPredictor(loc).fit_score(targets, groups, np.flatnonzero(~tested), np.flatnonzero(tested), 0)
    except CohortError:
        return None
    return roc_auc(targets[tested] == 1, scored.score).value
