"""What a probe asks of people: one column of the cohort's table, as classes or as numbers."""

import dataclasses

import numpy as np
import pandas as pd

from mrigen.data.covariates import COLUMNS
from mrigen.errors import CohortError, UsageError
from mrigen.system.wording import closest, some

MOST_CLASSES = 20
# People below this number have no correlation to speak of.
FEWEST_NUMBERS = 3
_NUM_STRATA = 5
# Columns of a cohort's table, and of its cache, that nobody asks for.
NO_TARGET = frozenset(
    {
        *("scan_id", "participant_id", "session_id", "path", "mask_path", "family", "person", "sex", "visit", "row"),
        "doubts",
        *("centre_x", "centre_y", "centre_z", "scale", "lost_fraction"),
    }
)


@dataclasses.dataclass(frozen=True)
class Target:
    """What is predicted of people.

    Attributes:
        name: of the column, or a covariate such as head_size.
        classes: class i is number i in an array of targets; None where targets are measurements.
    """

    name: str
    classes: tuple[str, ...] | None

    @property
    def task(self) -> str:
        """'binary' (two classes), 'multiclass' (more) or 'regression' (numbers)."""
        if self.classes is None:
            return "regression"
        return "binary" if len(self.classes) == 2 else "multiclass"

    @property
    def metrics(self) -> tuple[str, ...]:
        """Names of the figures of a row."""
        return ("mae", "r", "r2") if self.classes is None else ("balanced_accuracy", "roc_auc", "accuracy")

    @property
    def compared(self) -> tuple[str, ...]:
        """The figures by which rows are compared; by the first, labels are permuted."""
        return ("r", "mae") if self.classes is None else ("roc_auc", "balanced_accuracy")

    def strata(self, targets: np.ndarray) -> np.ndarray:
        """Returns by what folds are stratified: the classes, or fifths of the numbers, (n,) int."""
        if self.classes is not None:
            return targets
        ranks = np.argsort(np.argsort(targets, kind="stable"), kind="stable")
        return ranks * max(2, min(_NUM_STRATA, len(targets) // 10)) // max(1, len(targets))

    def can_score(self, train: np.ndarray, test: np.ndarray) -> bool:
        """Returns whether targets `train` are enough to learn from and `test` enough to score."""
        if self.classes is None:
            return all(len(part) >= FEWEST_NUMBERS and np.ptp(part) > 0 for part in (train, test))
        classes = np.unique(test)
        return len(classes) >= 2 and bool(np.isin(classes, train).all())

    def too_few(self, targets: np.ndarray, groups: np.ndarray) -> str:
        """Returns the fault that there are no folds."""
        if self.classes is None:
            got, expected = f"{len(targets)} people", "at least 2 of each half of the values"
        else:
            count = [len(np.unique(groups[targets == label])) for label in range(len(self.classes))]
            got = " and ".join(f"{number} {name}" for number, name in zip(count, self.classes, strict=True))
            expected = "at least 2 of each"
        return (
            f"probe: target: got {got} (families counted once), expected {expected} that "
            "can be put into different folds. Label more people, or leave out the probe."
        )


SEX = Target("sex", ("F", "M"))


def read_column(table: pd.DataFrame, name: str, parameter: str) -> pd.Series:
    """Returns a column of the cohort's table by its name or that of a covariate.

    Args:
        table: of the cohort.
        name: of the column.
        parameter: that asks for it.

    Raises:
        UsageError: there is none.
    """
    column = COLUMNS.get(name, name)
    if column not in table:
        known = [*(key for key in COLUMNS if COLUMNS[key] in table), *table.columns]
        near = closest(name, known)
        raise UsageError(
            "got a column that the run's subjects.tsv does not have, expected one of "
            f"{', '.join(dict.fromkeys(known))}.{f' Did you mean {near}?' if near else ' Choose one of these.'}",
            parameter=f"{parameter}={name!r}",
        )
    return table[column]


def _kept_columns(table: pd.DataFrame) -> str:
    """Returns sentences that say which columns a run kept, and what can be asked of them."""
    own = [
        column
        for column in table.columns
        if column not in NO_TARGET and table[column].nunique() > 1 and _can_be_asked(table[column])
    ]
    likely = next((column for column in own if column.lower() in ("gender", "sex")), None)
    likely = likely or next((column for column in own if table[column].nunique() == 2), None)
    if not own:
        return "The run kept no column that can be asked for instead: fit again with the column in data.sex_column."
    own.sort(key=lambda column: column != likely)
    return (
        f"The run kept these columns: {some(own, 12)}. Ask for one, for example `target={likely or own[0]!r}`, or fit "
        "again with the column of sex in data.sex_column."
    )


def _can_be_asked(values: pd.Series) -> bool:
    return pd.api.types.is_numeric_dtype(values) or values.nunique() <= MOST_CLASSES


def read_target(table: pd.DataFrame, name: str) -> tuple[Target, np.ndarray]:
    """Returns the target of a name, and everyone's value of it, (rows,) float64 with NaN where it is unknown.

    Text is classes, in the order of the alphabet (sex: F, M); so is a column of two numbers. Other numbers are numbers.

    Raises:
        UsageError: no such column, or a text with more than `MOST_CLASSES` values. CohortError: nobody differs.
    """
    values = read_column(table, name, "target")
    if name == SEX.name:
        values = values.where(values.isin(SEX.classes))
        if values.isna().all():
            raise CohortError(
                f"got nobody whose sex is known to the run, expected F and M. {_kept_columns(table)}",
                parameter=f"target={name!r}",
            )
        return SEX, values.map({"F": 0.0, "M": 1.0}).to_numpy(dtype=float)
    is_number = pd.api.types.is_numeric_dtype(values) and not pd.api.types.is_bool_dtype(values)
    different = values.nunique()
    if different < 2:
        raise CohortError(
            f"got {different} different values, expected people who differ. Name another column.",
            parameter=f"target={name!r}",
        )
    if is_number and different > 2:
        return Target(name, None), values.to_numpy(dtype=float)
    if different > MOST_CLASSES:
        raise UsageError(
            f"got {different} different texts, expected numbers or at most {MOST_CLASSES} classes. "
            "Name another column.",
            parameter=f"target={name!r}",
        )
    texts = values.map(lambda value: f"{value:g}" if is_number else str(value), na_action="ignore")
    classes = sorted(texts.dropna().unique(), key=float if is_number else None)
    codes = {text: float(code) for code, text in enumerate(classes)}
    return Target(name, tuple(classes)), texts.map(codes).to_numpy(dtype=float)
