"""The stand-ins of the predictors of a probe, in the folds of its cross-validation."""

import numpy as np
import pandas as pd

from mrigen.probing.inputs import ProbeInputs
from mrigen.probing.measures import columns_of
from mrigen.probing.predictors import Predictor
from mrigen.probing.score_table import DRAW, TRANSDUCTIVE
from mrigen.probing.training_variance import Contributions, Kernel, contributions


def stand_ins_of(
    scores: pd.DataFrame, inputs: ProbeInputs, predictors: dict[str, Predictor]
) -> dict[str, dict[str, Contributions]]:
    """Returns predictor -> metric -> what people add to its stand-in; of predictors whose stand-in is known.

    People whom a predictor does not score neither test nor teach its stand-in.

    Args:
        scores: of all predictors, see `ProbeResult`.
        inputs: of n people.
        predictors: by name.
    """
    found = {}
    tables = scores[scores["protocol"] == TRANSDUCTIVE].groupby("predictor", sort=False)
    for name, table in tables:
        learned_from = getattr(predictors[name], "learned_from", lambda count: None)(len(inputs.targets))
        if learned_from is not None:
            found[name] = _of_row(table, inputs, learned_from)
    return {name: parts for name, parts in found.items() if parts}


def _of_row(table: pd.DataFrame, inputs: ProbeInputs, learned_from: np.ndarray | Kernel) -> dict[str, Contributions]:
    row = pd.Series(np.arange(len(inputs.targets)), index=inputs.participant_ids)
    scored = np.unique(row[table["participant_id"]])
    place = np.full(len(row), -1)
    place[scored] = np.arange(len(scored))
    folds, values = [], []
    for (repeat, _), rows in table.groupby(["repeat", "fold"]):
        rows = rows[rows[DRAW] == rows[DRAW].min()] if DRAW in rows else rows
        test = place[row[rows["participant_id"]]]
        folds.append((repeat, np.setdiff1d(np.arange(len(scored)), test), test))
        values.append(columns_of(rows, inputs.target)[1])
    if isinstance(learned_from, Kernel):
        learned_from = Kernel(learned_from.values[np.ix_(scored, scored)])
    else:
        learned_from = np.asarray(learned_from)[scored]
    targets, groups = inputs.targets[scored], inputs.groups[scored]
    return contributions(learned_from, inputs.target, targets, groups, folds, values)
