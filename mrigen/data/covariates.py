"""What is known of people beside their images, as vectors that condition a model."""

import contextlib
import dataclasses
from collections.abc import Mapping, Sequence
from numbers import Real

import numpy as np
import pandas as pd

from mrigen.errors import CohortError, UsageError

# The column of the table that each covariate is in.
COLUMNS = {"sex": "sex", "age": "age", "head_size": "head_volume_ml", "site": "site"}
UNITS = {"age": "years", "head_size": "ml"}
# Standard deviations within which people's numbers are alike, where someone is drawn.
DRAW_WIDTH = 0.2


@dataclasses.dataclass(frozen=True)
class Covariate:
    """One covariate.

    Attributes:
        name: a key of `COLUMNS`.
        levels: its values, where it has no numbers.
        mean, deviation: of the training people, where it has.
    """

    name: str
    levels: tuple[str, ...] | None = None
    mean: float = 0.0
    deviation: float = 1.0

    @property
    def size(self) -> int:
        """Length of its part of the vector."""
        if self.levels is None:
            return 2
        return 1 if self.name == "sex" else len(self.levels)

    def encode(self, values: pd.Series) -> np.ndarray:
        """Returns `values` as vectors (n, size) float32; zeros where they are unknown."""
        if self.levels is not None:
            parts = np.stack([values == level for level in self.levels], axis=-1).astype(np.float32)
            return parts[:, 1:] - parts[:, :1] if self.name == "sex" else parts
        numbers = pd.to_numeric(values, errors="coerce").to_numpy(dtype=float)
        known = np.isfinite(numbers)
        scores = np.where(known, (numbers - self.mean) / self.deviation, 0.0)
        return np.stack([scores, known], axis=-1).astype(np.float32)


@dataclasses.dataclass(frozen=True)
class Covariates:
    """Some covariates, and how people's values become vectors.

    Sex is 1 (M) or -1 (F); age and head size are standardised by the training people, with a 1 behind; site is one-hot.
    Whatever is unknown is 0.

    Attributes:
        parts: in the order of the vector.
    """

    parts: tuple[Covariate, ...]

    @classmethod
    def of(cls, table: pd.DataFrame, split: pd.DataFrame, names: Sequence[str]) -> "Covariates":
        """Returns the covariates of a study, as its training people have them.

        Args:
            table: one row an image, with participant_id and the columns of `COLUMNS`.
            split: columns participant_id and split.
            names: which, keys of `COLUMNS`.

        Raises:
            CohortError: the training people do not differ in one, or it is known of none.
        """
        training = split.loc[split["split"] == "train", "participant_id"]
        people = table[table["participant_id"].isin(training)]
        return cls(tuple(_covariate(name, people) for name in names))

    @property
    def names(self) -> tuple[str, ...]:
        """Of the covariates."""
        return tuple(part.name for part in self.parts)

    @property
    def size(self) -> int:
        """Length of the vector."""
        return sum(part.size for part in self.parts)

    def encode(self, table: pd.DataFrame) -> np.ndarray:
        """Returns what is known of people, (rows, size) float32; see the class.

        Args:
            table: with the columns of `COLUMNS`, as far as there are any.
        """
        unknown = pd.Series([None] * len(table), index=table.index, dtype=object)
        return np.concatenate([part.encode(table.get(COLUMNS[part.name], unknown)) for part in self.parts], axis=1)

    def slices(self) -> dict[str, slice]:
        """Returns which part of the vector each covariate is."""
        ends = np.cumsum([part.size for part in self.parts]).tolist()
        return {part.name: slice(end - part.size, end) for part, end in zip(self.parts, ends, strict=True)}

    def columns(self, names: Sequence[str]) -> list[int]:
        """Returns which columns of the vector some covariates are."""
        places = self.slices()
        return [column for name in names for column in range(self.size)[places[name]]]

    def check(self, given: Mapping[str, str | float]) -> None:
        """Refuses what has no meaning for these people.

        Raises:
            UsageError: another covariate, a value that no training person has, or no number where it takes one.
        """
        parts = {part.name: part for part in self.parts}
        for name, value in given.items():
            if name not in parts:
                raise _fault(given, name, f"got {name}, expected one of {', '.join(parts)}. Leave it out.")
            levels = parts[name].levels
            if levels is None:
                _check_number(given, name)
            elif value not in levels:
                raise _fault(
                    given,
                    name,
                    f"got {value}, expected one of {', '.join(levels)}: others were not among the training people.",
                )

    def draw(
        self, people: pd.DataFrame, given: Mapping[str, str | float], generator: np.random.Generator
    ) -> pd.DataFrame:
        """Returns the covariates of someone who could be one of `people`: one row, with the columns of `COLUMNS`.

        What is `given` is taken; the rest is that of one of the people, drawn with preference for those who are like it
        (the same in what has no numbers, and near in what has), so that the values go together.
        """
        weights = np.ones(len(people))
        for part in self.parts:
            if part.name not in given:
                continue
            values = people[COLUMNS[part.name]]
            if part.levels is not None:
                weights *= (values == given[part.name]).to_numpy()
                continue
            distance = (
                pd.to_numeric(values, errors="coerce").to_numpy(dtype=float) - given[part.name]
            ) / part.deviation
            distance = np.where(np.isfinite(distance), distance, np.inf)
            # From the nearest on, so that someone is left wherever the value lies.
            weights *= np.exp(-0.5 * ((np.abs(distance) - np.abs(distance).min()) / DRAW_WIDTH) ** 2)
        if not weights.sum() > 0:
            return as_table(given)
        person = people.iloc[[generator.choice(len(people), p=weights / weights.sum())]]
        values = {COLUMNS[part.name]: person[COLUMNS[part.name]].to_numpy() for part in self.parts}
        return pd.DataFrame({**values, **{COLUMNS[name]: [value] for name, value in given.items()}})


def as_table(given: Mapping[str, str | float], count: int = 1) -> pd.DataFrame:
    """Returns a table of `count` rows that say nothing but what is given, with the columns of `COLUMNS`."""
    return pd.DataFrame({COLUMNS[name]: [value] * count for name, value in given.items()}, index=range(count))


def _covariate(name: str, people: pd.DataFrame) -> Covariate:
    values = people[COLUMNS[name]] if COLUMNS[name] in people else pd.Series(dtype=object)
    if name in UNITS:
        numbers = pd.to_numeric(values, errors="coerce").dropna()
        if numbers.nunique() > 1:
            return Covariate(name, mean=float(numbers.mean()), deviation=float(numbers.std()))
        found = f"{numbers.nunique()} values"
    else:
        levels = values.dropna()
        if name == "sex":
            levels = levels[levels.isin(["F", "M"])]
        if levels.nunique() > 1:
            return Covariate(name, tuple(sorted(levels.unique())))
        found = f"{', '.join(map(str, levels.unique())) or 'nothing'} for everyone"
    raise CohortError(
        f"covariate {name}: got {found}, expected training people who differ in it (column {COLUMNS[name]}). "
        f"Leave {name} out, or add it to participants.tsv."
    )


def clean_given(given: Mapping[str, str | float] | None) -> dict[str, str | float]:
    """Returns covariates that were given, numbers as float where the covariate has numbers.

    Raises:
        UsageError: what is no covariate of anybody, or no number where one takes a number.

    Example:
        >>> clean_given({"sex": "F", "age": 30})
        {'sex': 'F', 'age': 30.0}
    """
    given = dict(given or {})
    for name in given:
        if name not in COLUMNS:
            raise _fault(given, name, f"got {name}, expected some of {', '.join(COLUMNS)}. Leave it out.")
        if name in UNITS:
            _check_number(given, name)
            given[name] = float(given[name])
    return given


def _check_number(given: Mapping[str, str | float], name: str) -> None:
    value = given[name]
    if isinstance(value, bool) or not isinstance(value, Real) or not np.isfinite(value):
        raise _fault(given, name, f"got {value}, expected a number ({UNITS[name]}).")


def _fault(given: Mapping[str, str | float], name: str, text: str) -> UsageError:
    one = {name: given[name]}
    return UsageError(text, parameter=f"given={one}")


def parse_given(text: str | None) -> dict[str, str | float]:
    """Returns the values of a text such as "sex=F,age=30"; numbers where the covariate has numbers.

    Raises:
        UsageError: not of that form.

    Example:
        >>> parse_given("sex=F,age=30")
        {'sex': 'F', 'age': 30.0}
    """
    given: dict[str, str | float] = {}
    for part in filter(None, (text or "").split(",")):
        name, equals, value = (piece.strip() for piece in part.partition("="))
        if not equals or name not in COLUMNS or not value:
            raise UsageError(
                f"got {part.strip()}, expected NAME=VALUE with a name of {', '.join(COLUMNS)}, such as sex=F,age=30.",
                parameter="given",
            )
        if name in given:
            raise UsageError(f"got {name} twice, expected it once.", parameter="given")
        given[name] = value
        if name in UNITS:
            with contextlib.suppress(ValueError):
                given[name] = float(value)
            if not (isinstance(given[name], float) and np.isfinite(given[name])):
                raise _fault({name: value}, name, f"got {value}, expected a number ({UNITS[name]}).")
    return given
