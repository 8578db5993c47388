"""Published centiles of regional volumes, from a table that the user names."""

import os

import numpy as np
import pandas as pd
from scipy import stats

from mrigen.data.tables import as_number, read_table
from mrigen.errors import UsageError
from mrigen.system.wording import limited

# Width of the 5th to 95th centile of a Gaussian, in standard deviations.
CENTRAL_90 = 2.0 * stats.norm.ppf(0.95)
NUMBERS = ("age", "p5", "p95", "mean", "sd")
EXPECTED = "columns region, age, sex, and p5 and p95, or mean and sd (and perhaps unit: ml or share)"


class NormativeTable:
    """What volume a region has at an age, by sex.

    Args:
        path: a table (.tsv, or .csv) with a row for each region, age and sex: region (the name of a label, or its
            number), age (years), sex (F or M; empty: both), p5 and p95 or mean and sd; in ml, or where the column unit
            says `share`, as a share of the brain. Between two ages values go along a straight line; nothing is said of
            anyone younger or older.

    Raises:
        UsageError: a table without these columns, or with something else where a number belongs. CohortError: no
            such table, or none that can be read.
    """

    def __init__(self, path: str | os.PathLike):
        table = read_table(path)
        table.columns = [column.lower() for column in table.columns]
        has_spread = {"p5", "p95"} <= set(table) or {"mean", "sd"} <= set(table)
        if not {"region", "age", "sex"} <= set(table) or not has_spread or table.columns.has_duplicates:
            raise UsageError(f"{path}: got columns {', '.join(table)}, expected {EXPECTED}. Rename or add some.")
        table = _with_numbers(table, path)
        if "mean" not in table or "sd" not in table:
            table["mean"] = (table["p5"] + table["p95"]) / 2.0
            table["sd"] = (table["p95"] - table["p5"]) / CENTRAL_90
        if "p5" not in table or "p95" not in table:
            table["p5"] = table["mean"] - CENTRAL_90 / 2.0 * table["sd"]
            table["p95"] = table["mean"] + CENTRAL_90 / 2.0 * table["sd"]
        unit = table["unit"] if "unit" in table else pd.Series("ml", index=table.index)
        table["is_share"] = unit.astype(str).str.strip().str.lower().isin(["share", "fraction"])
        table["sex"] = table["sex"].where(table["sex"].isin(["F", "M"]), "")
        self._rows = {key: rows.sort_values("age") for key, rows in table.groupby(["region", "sex"])}
        self.regions = set(table["region"])

    def judge(self, region: str, ages, sexes, volumes, brains) -> tuple[np.ndarray, np.ndarray]:
        """Returns whether people's volumes lie between the 5th and the 95th centile, (n,) 0 or 1, and their centiles
        (n,) from 0 to 100; nan where the table says nothing.

        Args:
            region: of `regions`.
            ages: (n,) years. sexes: (n,) "F" or "M".
            volumes: (n,) ml. brains: (n,) ml, the whole brain.
        """
        inside, centiles = np.full(len(volumes), np.nan), np.full(len(volumes), np.nan)
        for index, (age, sex, volume, brain) in enumerate(zip(ages, sexes, volumes, brains, strict=True)):
            rows = self._rows.get((region, sex), self._rows.get((region, "")))
            if rows is None or not np.isfinite([age, volume, brain]).all():
                continue
            if not rows["age"].min() <= age <= rows["age"].max():
                continue
            low, high, mean, deviation = (
                np.interp(age, rows["age"], rows[name]) for name in ("p5", "p95", "mean", "sd")
            )
            value = volume / brain if rows["is_share"].iloc[0] else volume
            inside[index] = low <= value <= high
            centiles[index] = 100.0 * stats.norm.cdf((value - mean) / max(deviation, 1e-12))
        return inside, centiles


def _with_numbers(table: pd.DataFrame, path: str | os.PathLike) -> pd.DataFrame:
    """Returns a table of text with its columns of numbers as such."""
    faults, columns = [], {}
    for name in (column for column in NUMBERS if column in table):
        columns[name] = [as_number(cell) for cell in table[name]]
        faults += [
            f"{path}: row {row}: {name}: got {cell or 'nothing'}, expected a number. Correct it, or leave the row out."
            for row, (cell, number) in enumerate(zip(table[name], columns[name], strict=True), 2)
            if number is None or (name == "sd" and number < 0)
        ]
    faults += [f"{path}: row {row}: got no region. Name it." for row, cell in enumerate(table["region"], 2) if not cell]
    if faults:
        raise UsageError(limited(faults))
    return table.assign(**{name: np.array(column, dtype=np.float64) for name, column in columns.items()})
