"""Who is explained: people whose sex and confounds are known, and whether their latents tell the sex at all."""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from mrigen.data.covariates import COLUMNS
from mrigen.data.tables import first_visits
from mrigen.errors import CohortError
from mrigen.probing.confounds import deconfounded
from mrigen.probing.direction import Direction, fit_direction
from mrigen.probing.explanation import Figure95
from mrigen.probing.inputs import ProbeInputs
from mrigen.probing.predictors import LogisticPredictor
from mrigen.probing.protocol import run_probe
from mrigen.probing.score_table import HELDOUT, TRANSDUCTIVE
from mrigen.runs import Run

CHANCE = 0.5


@dataclasses.dataclass(frozen=True)
class ExplainedPeople:
    """People whose sex and confounds are known, the first visit of each.

    Attributes:
        table: one row a person, by scan_id, with the columns of subjects.tsv and the split.
        targets: (n,) int. groups, sites: (n,) str. latents: (n, latent). confounds: (n, confounds) or None.
    """

    table: pd.DataFrame
    targets: np.ndarray
    groups: np.ndarray
    sites: np.ndarray
    latents: np.ndarray
    confounds: np.ndarray | None

    @property
    def fitted(self) -> np.ndarray:
        """(n,) bool, who is not held out."""
        return (self.table["split"] != "heldout").to_numpy()

    def direction(self) -> Direction:
        """Returns the direction of those who are not held out."""
        some = self.fitted
        confounds = None if self.confounds is None else self.confounds[some]
        return fit_direction(self.latents[some], self.targets[some], self.groups[some], confounds=confounds)


def explained_people(run: Run, confounds: Sequence[str]) -> ExplainedPeople:
    """Returns the people of a run whose sex and `confounds` are known.

    Raises:
        CohortError: there is nobody.
    """
    latents = run.load_latents()
    table = run.subjects.merge(run.split, on="participant_id").set_index("scan_id").loc[list(latents["scan_id"])]
    columns = [COLUMNS.get(name, name) for name in confounds]
    known = table["sex"].isin(["F", "M"]) & first_visits(table) & table[columns].notna().all(axis=1)
    people = table[known]
    if not len(people):
        raise CohortError(
            "sex: got nobody whose sex and confounds are known to the run, expected F and M. "
            "Fit again with the column of sex in data.sex_column, or leave out `confounds`."
        )
    design = pd.get_dummies(people[columns], drop_first=True).to_numpy(dtype=float) if columns else None
    if design is not None and design.shape[1]:
        design = (design - design.mean(axis=0)) / np.where(design.std(axis=0) > 0, design.std(axis=0), 1.0)
    return ExplainedPeople(
        table=people,
        targets=(people["sex"] == "M").to_numpy(dtype=int),
        groups=people["family"].fillna(people["participant_id"]).to_numpy(dtype=str),
        sites=people["site"].fillna("n/a").to_numpy(dtype=str),
        latents=latents["loc"][known.to_numpy()].astype(np.float64),
        confounds=design if design is not None and design.shape[1] else None,
    )


def probe_figures(people: ExplainedPeople, seed: int) -> dict[str, Figure95]:
    """Returns what `probe` has of these people in the row `latents`, or without the confounds."""
    features = people.latents
    if people.confounds is not None:
        features = deconfounded(people.latents, people.confounds)
    nothing = np.zeros((len(people.targets), 1), np.float32)
    inputs = ProbeInputs(
        participant_ids=people.table["participant_id"].to_numpy(dtype=str),
        targets=people.targets,
        groups=people.groups,
        site=people.sites,
        split=people.table["split"].to_numpy(dtype=str),
        latents=people.latents,
        latents_draw=None,
        volumes=nothing,
        head_volume=nothing[:, 0],
    )
    result = run_probe(inputs, seed=seed, predictors={"latents": LogisticPredictor(features)})
    return {
        row["protocol"]: Figure95(row["roc_auc"], *row["roc_auc_ci"], row["num_subjects"], row["protocol"])
        for row in result.rows()
        if row["roc_auc"] is not None
    }


def reason_to_withhold(run: Run, figures: Mapping[str, Figure95]) -> str | None:
    """Returns why nothing should be shown, or None where the probe beats chance.

    Args:
        run: whose model may have been told the sex of the people it was trained on.
        figures: of the probe, by protocol.
    """
    told = "sex" in run.recipe.model.covariates  # What latents should not tell is given, too.
    protocol, why = (HELDOUT, "whom the model was not told the sex of, ") if told else (TRANSDUCTIVE, "")
    if protocol not in figures:
        return f"nobody of both sexes was held out, {why}so nobody knows whether there is anything to show."
    if figures[protocol].low > CHANCE:
        return None
    return (
        f"the ROC AUC of the probe, {why}{figures[protocol]}, does not beat chance ({CHANCE:g}): "
        "maps would show differences of these people by chance."
    )
