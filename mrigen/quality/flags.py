"""Flags of the images of a cohort, with reasons."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import pandas as pd

from mrigen.data.checking import DOUBTS
from mrigen.data.quality import MEASURES
from mrigen.imaging.headers import FORMS, IDENTITY, ORIENTATION, ORIGIN, ZOOMS
from mrigen.quality.likeness import coarsen, distances, find_orientation, likeness, mean_head
from mrigen.quality.mirrors import mirrored_probability
from mrigen.quality.rules import FEWEST, FLAGS, LIMITS, LOOK, RANGES, UNCERTAINTY, WRONG, Limit, Range

# What a header may leave open that may make an image another one.
SERIOUS = frozenset({ORIENTATION, IDENTITY, ORIGIN, ZOOMS, FORMS})
COLUMNS = ("scan_id", "flag", "level", "reason", "value")
# What is measured on the cohort, beside the measures of single images.
COHORT_MEASURES = {
    "lost_fraction": "share of the brain (or upper head) outside of the grid",
    "scale": "intensity from black to white",
    "offset": "intensity of the background over that scale",
    "likeness": "correlation with the mean head",
    "tissue": "correlation with the mean head inside of it",
    "distance": "distance from the principal components",
    "mirrored": "probability that left and right are swapped",
}
NAMES = {**MEASURES, **COHORT_MEASURES}
# An axis is wrong where the mean head is matched much better the other way round.
ORIENTATION_GAIN, ORIENTATION_MATCH = 0.012, 0.85
# Principal components and asymmetries are learnt from at least so many.
FEWEST_FITTED = 20
# Part of the mean head's white from which on a voxel is inside of it.
INSIDE = 0.3
# How sure it must be that a head is mirrored.
SURELY_MIRRORED = 0.9
# Robust standard deviations of the logarithm of a volume, given sex and age.
VOLUME_LIMIT = 4.0


def flag_images(
    table: pd.DataFrame,
    volumes: np.ndarray,
    zooms: Sequence[float],
    copies: Iterable[tuple[int, int, str]] = (),
) -> pd.DataFrame:
    """Returns what is wrong or strange about the images of a cohort: columns scan_id, flag, level, reason and value.

    Args:
        table: one row an image: scan_id, the measures of `mrigen.data.quality.MEASURES`, and age, sex and site as far
            as they are known. Images of a site are compared with those of that site where there are enough of them.
        volumes: (n, x, y, z) uint8, prepared.
        zooms: of their grid, mm.
        copies: rows of images that show one head under two ids, with a reason each.
    """
    table = add_cohort_measures(table, volumes, zooms)
    return flag_measured(table, volumes, zooms, copies)


def doubtful_reasons(measures: Mapping[str, float]) -> list[str]:
    """Returns what no head has about a single image, one sentence each; nothing is compared with others.

    Args:
        measures: of `mrigen.data.quality.measure_quality`, and `lost_fraction` where it is known.
    """
    table = pd.DataFrame([measures])
    found = [item for limit in LIMITS for item in _beyond(table, limit)]
    return list(_as_frame(found, pd.Series(["image"]))["reason"])


def add_cohort_measures(table: pd.DataFrame, volumes: np.ndarray, zooms: Sequence[float]) -> pd.DataFrame:
    """Returns the table with the measures of `COHORT_MEASURES`."""
    table = table.reset_index(drop=True).copy()
    table["scale"] = table["white"] - table["black"]
    table["offset"] = table["black"] / np.maximum(table["scale"], 1e-12)
    table["likeness"] = table["tissue"] = table["distance"] = table["mirrored"] = np.nan
    if len(table) < 3:
        return table
    coarse = coarsen(volumes, zooms)
    mean = mean_head(coarse)
    table["likeness"] = like = likeness(coarse, mean)
    inside = mean > INSIDE * np.percentile(mean, 99)
    table["tissue"] = likeness(coarse[:, inside], mean[inside])
    if len(table) >= FEWEST_FITTED:
        table["distance"] = distances(coarse, like)
        fitted = np.flatnonzero(like >= np.quantile(like, 0.1))
        probability = mirrored_probability(coarse, fitted)
        table["mirrored"] = np.nan if probability is None else probability
    return table


def flag_measured(table, volumes, zooms, copies=()) -> pd.DataFrame:
    """Returns the flags of a table of `add_cohort_measures`; see `flag_images`."""
    found = _turned(table, volumes, zooms) + _doubtful(table)
    for limit in LIMITS:
        found += _beyond(table, limit)
    # Twice: what was found at first does not widen the range of the others.
    strange = {item[0] for item in found if item[1] != "header"}
    for is_last in (False, True):
        outside = []
        for rows, others in _groups(table):
            for span in RANGES:
                outside += _outside(table, rows, others, span, strange)
        strange |= {item[0] for item in outside}
        if is_last:
            found += outside
    # Of an image that is no head as the others, neither its sides nor its volume say anything.
    strange = {item[0] for item in found if item[1] in ("unlike", "orientation", "size", "cut", "bias", "contrast")}
    found += [item for item in _mirrored(table) + _unfitting_volumes(table) if item[0] not in strange]
    for first, second, reason in copies:
        for row, other in ((first, second), (second, first)):
            found.append((row, "duplicate", WRONG, f"the same as {table['scan_id'][other]}: {reason}", np.nan))
    return _as_frame(found, table["scan_id"])


def _as_frame(found: list[tuple], scan_ids: pd.Series) -> pd.DataFrame:
    """Returns one line an image and flag: the gravest, the first of several."""
    order = list(FLAGS)
    found = sorted(found, key=lambda item: (item[0], order.index(item[1]), item[2] == LOOK))
    seen, rows = set(), []
    for row, flag, level, reason, value in found:
        if (row, flag) not in seen:
            seen.add((row, flag))
            rows.append((scan_ids[row], flag, level, f"{reason[0].upper()}{reason[1:]}. {FLAGS[flag]}", float(value)))
    return pd.DataFrame(rows, columns=list(COLUMNS))


def _groups(table: pd.DataFrame) -> list[tuple[np.ndarray, np.ndarray]]:
    """Returns the rows of each site, and those that they are compared with: of the site, if these are enough, else of
    everyone."""
    everyone = np.arange(len(table))
    sites = table["site"].fillna("").astype(str) if "site" in table else pd.Series("", index=table.index)
    own = [np.asarray(rows) for rows in sites.groupby(sites).groups.values()]
    return [(rows, rows if len(rows) >= FEWEST else everyone) for rows in own if len(table) >= FEWEST]


def _beyond(table: pd.DataFrame, limit: Limit) -> list[tuple]:
    if limit.measure not in table:
        return []
    values = table[limit.measure].to_numpy(dtype=np.float64)
    found = []
    for row in np.flatnonzero((values < (limit.low or -np.inf)) | (values > (limit.high or np.inf))):
        is_low = limit.low is not None and values[row] < limit.low
        expected = f"at least {limit.low:g}" if is_low else f"at most {limit.high:g}"
        reason = f"{NAMES[limit.measure]}: {_number(values[row])}, expected {expected} of any head"
        found.append((row, limit.flag, limit.level, reason, values[row]))
    return found


def _outside(table: pd.DataFrame, rows: np.ndarray, others: np.ndarray, span: Range, strange: set[int]) -> list[tuple]:
    """Images of a site whose measure is far from that of others; the rows in `strange` do not make the range.

    Where most images of a site are, it is the site that differs, and nothing is said of any.
    """
    if span.measure not in table:
        return []
    values = np.maximum(table[span.measure].to_numpy(dtype=np.float64), span.least or -np.inf)
    known = np.isfinite(values) & ((values > 0) | (not span.is_log))
    fine = [row for row in others if known[row] and row not in strange]
    if len(fine) < FEWEST // 2:
        return []
    compared = np.log(np.where(known, values, 1.0)) if span.is_log else values
    middle = np.median(compared[fine])
    spread = max(1.4826 * np.median(np.abs(compared[fine] - middle)), span.floor)
    away = np.where(known, (compared - middle) / spread, 0.0)[rows]
    wider = 1.0 + UNCERTAINTY / len(fine)
    below, above = ((limit or np.inf) * wider for limit in (span.below, span.above))
    low, median, high = np.percentile(values[fine], (5, 50, 95))
    found = []
    for index in np.flatnonzero((away < -below) | (away > above)):
        value = values[rows[index]]
        reason = (
            f"{NAMES[span.measure]}: {_number(value)}, of the others {_number(low)} to {_number(high)} "
            f"(median {_number(median)}; {abs(away[index]):.1f} robust standard deviations)"
        )
        found.append((int(rows[index]), span.flag, span.level, reason, value))
    return [] if len(rows) < len(table) and len(rows) > 2 and 2 * len(found) > len(rows) else found


def _number(value: float) -> str:
    return f"{value:.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def _turned(table: pd.DataFrame, volumes: np.ndarray, zooms) -> list[tuple]:
    """Heads that are most like the mean another way round."""
    like = table["likeness"].to_numpy()
    if len(table) < 3 or not np.isfinite(like).any():
        return []
    coarse = coarsen(volumes, zooms)
    mean = mean_head(coarse)
    found = []
    for row in np.flatnonzero(like < max(np.median(like) - 0.03, 0.9)):
        (axes, signs), as_is, best = find_orientation(coarse[row], mean)
        if best - as_is > ORIENTATION_GAIN and best > ORIENTATION_MATCH:
            reason = f"it matches the mean head {_in_words(axes, signs)}: correlation {best:.2f}, as it is {as_is:.2f}"
            found.append((row, "orientation", WRONG, reason, best - as_is))
    return found


def _doubtful(table: pd.DataFrame) -> list[tuple]:
    """Images whose header leaves open what those of most others say, and what may make it another image."""
    if "doubts" not in table:
        return []
    doubts = [set(cell.split(",")) & SERIOUS if isinstance(cell, str) else set() for cell in table["doubts"]]
    counts = Counter(kind for kinds in doubts for kind in kinds)
    return [
        (row, "header", LOOK, DOUBTS[kind].split(". ")[0], np.nan)
        for row, kinds in enumerate(doubts)
        for kind in sorted(kinds)
        if 2 * counts[kind] <= len(table)
    ]


def _in_words(axes, signs) -> str:
    if axes != (0, 1, 2):
        return "with other axes"
    # Of each pair of a head and its mirror image one stands for both.
    return {(1, -1): "upside down", (-1, 1): "with front and back swapped", (-1, -1): "turned by half a turn"}[
        signs[1:]
    ]


def _mirrored(table: pd.DataFrame) -> list[tuple]:
    found = []
    for row in np.flatnonzero(table["mirrored"] > SURELY_MIRRORED):
        value = float(table["mirrored"][row])
        reason = f"its left side looks like the right side of the others: {min(100 * value, 99.9):.3g} % sure"
        found.append((row, "mirrored", LOOK, reason, value))
    return found


def _unfitting_volumes(table: pd.DataFrame) -> list[tuple]:
    """People whose volume is far from what their sex and age have in this cohort."""
    if "age" not in table or "sex" not in table:
        return []
    measure = "brain_volume_ml" if table["brain_volume_ml"].notna().sum() >= FEWEST else "head_volume_ml"
    volume = table[measure].to_numpy(dtype=np.float64)
    age = pd.to_numeric(table["age"], errors="coerce").to_numpy(dtype=np.float64)
    sex = table["sex"].map({"F": -0.5, "M": 0.5}).to_numpy(dtype=np.float64)
    known = np.isfinite(age) & np.isfinite(sex) & (volume > 0)
    if known.sum() < 2 * FEWEST:
        return []
    from sklearn.linear_model import HuberRegressor

    predictors = np.column_stack([sex, (age - 45.0) / 20.0, ((age - 45.0) / 20.0) ** 2])[known]
    logs = np.log(volume[known])
    expected = HuberRegressor(alpha=1e-3, max_iter=1000).fit(predictors, logs).predict(predictors)
    left = logs - expected
    spread = max(1.4826 * float(np.median(np.abs(left - np.median(left)))), 0.04)
    away = (left - np.median(left)) / spread
    found = []
    for index in np.flatnonzero(np.abs(away) > VOLUME_LIMIT):
        row = int(np.flatnonzero(known)[index])
        reason = (
            f"{NAMES[measure]}: {volume[row]:.4g}, of {'men' if sex[row] > 0 else 'women'} of {age[row]:.0f} years "
            f"{np.exp(expected[index]):.4g} ({abs(away[index]):.1f} robust standard deviations)"
        )
        found.append((row, "volume", LOOK, reason, volume[row]))
    return found
