"""The table of scores of a probe: its columns, and the protocols that its rows are of."""

import pandas as pd

TRANSDUCTIVE, HELDOUT, LEAVE_SITE_OUT = "transductive", "heldout", "leave-site-out"
EXTERNAL, NESTED = "external", "nested"
PROTOCOLS = {
    TRANSDUCTIVE: "repeated cross-validation over all people; transductive: the encoder saw images of test people",
    HELDOUT: "encoder and probe fitted on training and validation people, scored once on held-out people",
    LEAVE_SITE_OUT: "fitted on all other sites, scored on the site left out; the encoder saw images of test people",
    NESTED: "cross-validation with the encoder fitted anew in every fold; nothing saw the people that are tested",
    EXTERNAL: "encoder and probe fitted on people of the run, scored once on those of another cohort",
}
SCORE_COLUMNS = (
    *("predictor", "protocol", "repeat", "fold", "participant_id", "family"),
    *("score", "prediction", "target"),
)
# Which of several draws from the posteriors the row is of; 0 where there is but one thing to learn from.
DRAW = "draw"


def fold_keys(scores: pd.DataFrame) -> list[str]:
    """Returns the columns by which the rows of one fit are told from others, of ONE predictor in one protocol."""
    return [name for name in ("repeat", "fold", DRAW) if name in scores]


def class_column(name: str) -> str:
    """Returns the column that holds the scores of one class of three or more."""
    return f"score.{name}"
