"""Is there a cortex? Power inside the brain by wavelength, contrast of grey and white matter, folds between them."""

import dataclasses
from collections.abc import Mapping

import joblib
import numpy as np

from mrigen.evaluation.bootstrap import compared_interval, mean_interval, share_interval
from mrigen.evaluation.heads import Heads, Material
from mrigen.evaluation.pictures import plot_measures, plot_spectra
from mrigen.evaluation.result import HIGHER, ONE, FigureKind, PartResult, Row
from mrigen.evaluation.spectra import BANDS, bands_of, depth_in, find_spectrum, fine_wavelengths
from mrigen.evaluation.tissue import find_boundary, find_tissues

UNSEEN = "unseen"
# Of real people that were never seen, nine in ten lie between these; and so should samples.
BAND = (0.05, 0.95)
MEASURES = {
    "tissue_separation": "grey and white matter apart, in standard deviations",
    "tissue_contrast": "white minus grey matter 2 mm from their boundary, over the mean",
    "white_share": "white matter's share of grey and white",
    "folding": "boundary of grey and white over that of a ball of its volume",
}
FIGURES: Mapping[str, FigureKind] = {
    **{
        f"power_{long}_{short}": FigureKind(
            f"power in the brain at {long} to {short} mm, over that of real people", ONE
        )
        for long, short in BANDS
    },
    **{
        key: kind
        for name, words in MEASURES.items()
        for key, kind in (
            (name, FigureKind(words)),
            (f"{name}_within", FigureKind(f"share within real people's 5 to 95 %: {words}", HIGHER)),
        )
    },
}
FEWEST = 4


@dataclasses.dataclass(frozen=True)
class Details:
    """What is measured of some heads; NaN where it cannot be.

    Attributes:
        powers: (n, bands) of `bands_of`, mm^3.
        spectra: (n, narrow bands) likewise, of `fine_wavelengths`.
        measures: (n, 4), of `MEASURES`.
        families: (n,) str.
    """

    powers: np.ndarray
    spectra: np.ndarray
    measures: np.ndarray
    families: np.ndarray


def measure(heads: Heads, zooms) -> Details:
    """Returns the details of heads."""
    found = joblib.Parallel(n_jobs=-1, prefer="threads")(
        joblib.delayed(measure_one)(volume, brain, zooms)
        for volume, brain in zip(heads.volumes, heads.brains, strict=True)
    )
    return Details(*(np.stack(parts) for parts in zip(*found, strict=True)), heads.families)


def measure_one(volume: np.ndarray, brain: np.ndarray, zooms) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns the powers, the spectrum and the measures of one head; see `Details`."""
    bands, narrow, depth = bands_of(zooms), fine_wavelengths(zooms), depth_in(brain, zooms)
    powers, fine = np.full(len(bands), np.nan), np.full(len(narrow) - 1, np.nan)
    measures = np.full(len(MEASURES), np.nan)
    spectrum = find_spectrum(volume, depth, zooms)
    if spectrum is not None:
        powers = np.concatenate([spectrum.between(band) for band in bands]) if bands else powers
        fine = spectrum.between(narrow)
    tissues = find_tissues(volume, depth)
    if tissues is not None:
        measures[[0, 2]] = tissues.separation, tissues.white_share
        boundary = find_boundary(volume, depth, tissues.boundary, zooms)
        if boundary is not None:
            measures[[1, 3]] = boundary.contrast, boundary.folding
    return powers, fine, measures


def judge(material: Material) -> PartResult:
    """Returns how much detail the contenders have, beside never-seen people."""
    bands, zooms = bands_of(material.zooms), material.zooms
    real = measure(material.unseen, zooms)
    found = {name: measure(heads, zooms) for name, heads in material.contenders.items()}
    rows, notes = [], list(_missing({UNSEEN: real} | found))
    for index, (long, short) in enumerate(bands):
        rows += [_ratio(f"power_{long}_{short}", name, own, real, index, material.seed) for name, own in found.items()]
    ranges = {}
    for index, name in enumerate(MEASURES):
        ranges[name] = _range_of(real.measures[:, index])
        for of, own in ({UNSEEN: real} | found).items():
            rows.append(_mean(name, of, own.measures[:, index], own.families, material.seed))
        for of, own in found.items():
            rows.append(_within(f"{name}_within", of, own.measures[:, index], own.families, ranges[name]))
    if not bands:
        notes.append("The voxels are too large for any of the bands of wavelengths.")
    narrow = fine_wavelengths(zooms)
    everyone = {UNSEEN: real} | found
    known = {name: own.spectra for name, own in everyone.items() if _known(own)}
    facts = {
        "wavelengths_mm": [round(float(value), 3) for value in narrow],
        "spectra_mm3": {name: _finite(np.nanmean(spectra, axis=0)) for name, spectra in known.items()},
        "ranges": {name: None if ends is None else _finite(ends) for name, ends in ranges.items()},
    }
    pictures = {}
    if UNSEEN in known:
        pictures["detail_spectra"] = plot_spectra(narrow, known, UNSEEN)
        values = {
            words: {name: own.measures[:, index] for name, own in everyone.items()}
            for index, words in enumerate(MEASURES.values())
        }
        pictures["detail_tissue"] = plot_measures(values, list(ranges.values()), UNSEEN)
    return PartResult(tuple(rows), tuple(notes), pictures, facts)


def _known(details: Details) -> bool:
    return bool(np.isfinite(details.spectra).any(axis=1).sum() >= FEWEST)


def _finite(values) -> list[float | None]:
    return [float(value) if np.isfinite(value) else None for value in values]


def _missing(found: Mapping[str, Details]):
    """Yields a note for each group with heads that have no brain, or none in which tissues are told apart."""
    for name, own in found.items():
        lost = int((~np.isfinite(own.spectra).any(axis=1)).sum())
        if lost:
            yield f"{name}: {lost} of {len(own.spectra)} heads have no brain to speak of; their power is left out."
        blank = int((~np.isfinite(own.measures).all(axis=1)).sum())
        if blank:
            yield (
                f"{name}: in {blank} of {len(own.measures)} heads grey and white matter cannot be told apart; "
                "they count as outside the range of real people."
            )


def _ratio(figure: str, of: str, own: Details, real: Details, index: int, seed: int) -> Row:
    """Returns the mean power of a contender over that of real people."""
    ours, theirs = own.powers[:, index], real.powers[:, index]
    kept, known = np.isfinite(ours), np.isfinite(theirs)
    size = int(min(kept.sum(), known.sum()))
    if size < FEWEST or not theirs[known].mean() > 0.0:
        return Row(figure, of, None, n=size, note="too few brains")
    low, high = compared_interval(
        np.divide, ours[kept], own.families[kept], theirs[known], real.families[known], [seed, 20, index]
    )
    return Row(figure, of, float(ours[kept].mean() / theirs[known].mean()), low, high, n=size)


def _mean(figure: str, of: str, values: np.ndarray, families: np.ndarray, seed: int) -> Row:
    kept = np.isfinite(values)
    if kept.sum() < FEWEST:
        return Row(figure, of, None, n=int(kept.sum()), note="too few brains")
    low, high = mean_interval(values[kept], families[kept], [seed, 21])
    return Row(figure, of, float(values[kept].mean()), low, high, n=int(kept.sum()))


def _range_of(values: np.ndarray) -> tuple[float, float] | None:
    """Returns between what nine in ten real people lie; estimated so that other real people do on average, however few
    there are (Weibull's quantiles)."""
    known = values[np.isfinite(values)]
    if len(known) < FEWEST:
        return None
    low, high = np.quantile(known, BAND, method="weibull")
    return float(low), float(high)


def _within(figure: str, of: str, values: np.ndarray, families: np.ndarray, ends: tuple[float, float] | None) -> Row:
    """Returns the share of heads within a range; those of which nothing is known are not."""
    if ends is None:
        return Row(figure, of, None, n=0, note="too few brains")
    inside = (values >= ends[0]) & (values <= ends[1])
    low, high = share_interval(inside, families)
    return Row(figure, of, float(inside.mean()), low, high, n=len(values))
