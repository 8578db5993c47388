"""Published centiles of regional volumes, from a table that the user names."""

import os

import numpy as np
import pandas as pd
from scipy import stats

from mrigen.data.tables import as_number, read_table
from mrigen.errors import CohortError, UsageError

# Width of the 5th to 95th centile of a Gaussian, in standard deviations.
CENTRAL_90 = 2.0 * stats.norm.ppf(0.95)
EXPECTED = "columns region, age, sex, and p5 and p95, or mean and sd (and perhaps unit: ml or share)"


class NormativeTable:
    """What volume a region has at an age, by sex.

    Args:
        path: a table (.tsv, or .csv) with a row for each region, age and sex: region (the name of a label, or its
            number), age (years), sex (F or M; empty: both), p5 and p95 or mean and sd; in ml, or where the column unit
            says `share`, as a share of the brain. Between two ages values go along a straight line; nothing is said of
            anyone younger or older.

    Raises:
        UsageError: no such table, or one without these columns.
    """

    def __init__(self, path: str | os.PathLike):
        try:
            table = read_table(path)
        except CohortError as error:
            raise UsageError([f"{line} Expected: {EXPECTED}." for line in error.faults]) from None
        table.columns = [str(column).strip().lower() for column in table.columns]
        spread = next((pair for pair in (("p5", "p95"), ("mean", "sd")) if set(pair) <= set(table)), None)
        if not {"region", "age", "sex"} <= set(table) or spread is None:
            raise UsageError(f"{path}: got columns {', '.join(table)}, expected {EXPECTED}. Rename or add some.")
        for column in ("age", "p5", "p95", "mean", "sd"):
            if column in table:
                cells = table[column]
                table[column] = np.array([as_number(cell) for cell in cells], dtype=float)
                unknown = table[column].isna() & (cells.notna() | (column in ("age", *spread)))
                if unknown.any():
                    got = f"'{cells[unknown].iloc[0]}'" if cells[unknown].notna().iloc[0] else "nothing"
                    raise UsageError(
                        f"{path}: got {got} in column {column}, expected a number in each row. Correct the table."
                    )
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
