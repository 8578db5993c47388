"""What latents have to do with what is known of people: maps to look at, and a table of correlations."""

import functools
import html
import logging
import os
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from scipy import stats

from mrigen.data.covariates import COLUMNS
from mrigen.errors import UsageError
from mrigen.imaging.figures import plot_maps, save_figure
from mrigen.runs import Run
from mrigen.runs.encoding import latent_names
from mrigen.system.files import write_table
from mrigen.system.targets import refuse_taken, writing

logger = logging.getLogger(__name__)

# The column of the run's subjects.tsv that each covariate is in.
TESTED = {**COLUMNS, "brain_volume": "brain_volume_ml"}
TITLES = {"sex": "sex", "age": "age (years)", "head_size": "head size (ml)", "site": "site"}
FEWEST_PEOPLE = 4
FILES = ("map_pca.png", "map_umap.png", "map.tsv", "correlations.tsv")


def map_latents(run: Run, *, seed: int = 0) -> "LatentMaps":
    """Returns maps of the latents, where people lie on them, and what latents correlate with.

    Everyone of the run is on the maps, with the first image.

    Args:
        run: a finished run.
        seed: of UMAP.

    Raises:
        UsageError: fewer than 4 people.
    """
    return LatentMaps(run, seed=seed).prepare()


class LatentMaps:
    """Maps of the latents, and what latents go with; see `map_latents`, whose arguments it takes. They are made when
    they are asked for.

    Attributes:
        run, seed: as they were given.
    """

    folder = "latents"

    def __init__(self, run: Run, *, seed: int = 0):
        self.run = run
        self.seed = seed

    def prepare(self) -> "LatentMaps":
        """Makes everything now, says in the log what was found, and returns itself."""
        _ = self.points, self.correlations
        return self

    @functools.cached_property
    def _people(self) -> tuple[pd.DataFrame, np.ndarray]:
        people, loc = first_images(self.run)
        if len(people) < FEWEST_PEOPLE:
            raise UsageError(
                f"{self.run.directory}: got {len(people)} people, expected {FEWEST_PEOPLE} or more for a map."
            )
        return people, loc

    @functools.cached_property
    def _principal(self) -> tuple[np.ndarray, np.ndarray]:
        return principal_map(self._people[1])

    @functools.cached_property
    def _neighbours(self) -> np.ndarray | None:
        return umap_map(self._people[1], self.seed)

    @property
    def points(self) -> pd.DataFrame:
        """Where people lie: scan_id, participant_id, pc1, pc2 and, where umap-learn is installed, umap1, umap2."""
        points, neighbours = self._principal[0], self._neighbours
        frame = self._people[0][["scan_id", "participant_id"]].assign(pc1=points[:, 0], pc2=points[:, 1])
        return frame if neighbours is None else frame.assign(umap1=neighbours[:, 0], umap2=neighbours[:, 1])

    @functools.cached_property
    def correlations(self) -> pd.DataFrame:
        """What latents go with; see `correlate`."""
        people, loc = self._people
        correlations = correlate(loc, people)
        _log_strongest(correlations)
        return correlations

    def to_frame(self) -> pd.DataFrame:
        """Returns `correlations`."""
        return self.correlations

    def __repr__(self) -> str:
        return f"LatentMaps({self.run.directory})"

    def _repr_html_(self) -> str:
        strongest = self.correlations.sort_values("q", kind="stable").head(10)
        told = f"{html.escape(repr(self))}: what latent variables go with, strongest first"
        return f"<p>{told}</p>{strongest.to_html(index=False)}"

    def plot(self, method: str = "pca") -> Figure:
        """Returns a figure of a map, once for each covariate.

        Args:
            method: "pca" (principal components) or "umap".

        Raises:
            UsageError: another method, or UMAP is not installed.
        """
        if method not in ("pca", "umap"):
            raise UsageError(f"got {method}, expected pca or umap.", "method")
        people = self._people[0]
        colours = {
            TITLES[name]: people[column].to_numpy()
            for name, column in COLUMNS.items()
            if column in people and people[column].notna().any()
        }
        if method == "pca":
            points, shares = self._principal
            axes = [f"component {row}, {100.0 * share:.0f} % of variance" for row, share in enumerate(shares, start=1)]
            return plot_maps(points, colours, axes)
        if self._neighbours is None:
            raise UsageError("got umap, expected umap-learn to be there: python -m pip install umap-learn.", "method")
        return plot_maps(self._neighbours, colours, ["UMAP 1", "UMAP 2"])

    def target(self, directory: str | os.PathLike | None = None) -> Path:
        """Returns the directory that is written to."""
        return self.run.directory / self.folder if directory is None else Path(directory)

    def check_target(self, directory: str | os.PathLike | None = None, force: bool = False) -> None:
        """Refuses what `write` would refuse, before anything is made.

        Raises:
            UsageError: a file is there already.
        """
        refuse_taken([self.target(directory) / name for name in FILES], force)

    def write(self, directory: str | os.PathLike | None = None, force: bool = False) -> list[Path]:
        """Writes the maps and tables, and returns the paths.

        Args:
            directory: where to write `map_pca.png`, `map_umap.png` (where umap-learn is installed), `map.tsv` (see
                `points`) and `correlations.tsv`; RUN/latents by default.
            force: whether files of that name are replaced.

        Raises:
            UsageError: fewer than 4 people, or a file is there already.
        """
        self.check_target(directory, force)
        self.prepare()
        picture, umap_picture, points, table = (self.target(directory) / name for name in FILES)
        written = [picture]
        with writing([picture, umap_picture, points, table]):
            save_figure(self.plot("pca"), picture)
            if self._neighbours is not None:
                save_figure(self.plot("umap"), umap_picture)
                written.append(umap_picture)
            write_table(points, self.points)
            write_table(table, self.correlations)
        return [*written, points, table]


def first_images(run: Run) -> tuple[pd.DataFrame, np.ndarray]:
    """Returns the rows of the run's subjects.tsv of everyone's first image, and their latents (people, latent)."""
    latents = run.load_latents()
    rows = pd.DataFrame({"scan_id": latents["scan_id"], "row": np.arange(len(latents["scan_id"]))})
    people = rows.merge(run.subjects, on="scan_id")
    people = people.sort_values(["visit", "row"] if "visit" in people else ["row"], kind="stable")
    people = people.drop_duplicates("participant_id").sort_values("row").reset_index(drop=True)
    return people, latents["loc"][people["row"]].astype(np.float64)


def principal_map(loc: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns the coordinates (people, 2) along the two principal components of `loc` (people, latent), and the share
    of the variance of each. The largest weight of a component is positive."""
    centred = loc - loc.mean(axis=0)
    _, singular_values, components = np.linalg.svd(centred, full_matrices=False)
    components = components[:2]
    signs = np.sign(components[range(len(components)), np.abs(components).argmax(axis=1)])
    points, shares = np.zeros((len(loc), 2)), np.zeros(2)
    points[:, : len(components)] = centred @ (components * signs[:, None]).T
    shares[: len(components)] = singular_values[:2] ** 2 / max(np.square(centred).sum(), np.finfo(float).tiny)
    return points, shares


def umap_map(loc: np.ndarray, seed: int = 0) -> np.ndarray | None:
    """Returns the coordinates (people, 2) that UMAP gives to `loc` (people, latent); None where it is not installed."""
    try:
        import umap
    except ImportError:
        logger.info("UMAP: left out, because umap-learn is not installed (python -m pip install umap-learn)")
        return None
    # With a seed UMAP runs on one core, and says so at every call unless it is told.
    mapper = umap.UMAP(n_neighbors=min(15, len(loc) - 1), random_state=seed, n_jobs=1)
    return np.asarray(mapper.fit_transform(loc), dtype=np.float64)


def correlate(loc: np.ndarray, people: pd.DataFrame) -> pd.DataFrame:
    """Returns how each latent variable goes with each covariate, one row each.

    Of numbers, and of sex (M above F), it is Pearson's r; of site it is the correlation ratio eta, the root of the
    share of the latent's variance that lies between sites (never negative). p is of the t or F test that it is
    0, two-sided.

    Args:
        loc: (people, latent).
        people: one row a person, with the columns of `TESTED` as far as there are any. A covariate that is known of
            fewer than 4 people, or is the same for all, is left out.

    Returns:
        covariate, latent (loc_001, ...), statistic ("r" or "eta"), value, p, q and num_people. q is p adjusted for all
        rows at once (Benjamini and Hochberg): among the rows below 0.05 some 5 % are expected to be chance. A latent
        that is the same for all has no value.

    References:
        Benjamini and Hochberg 1995, Controlling the false discovery rate.
    """
    tables = []
    for name, column in TESTED.items():
        values = people[column] if column in people else pd.Series(index=people.index, dtype=object)
        known = _codes(name, values)
        rows = ~np.isnan(known)
        if rows.sum() < FEWEST_PEOPLE or len(np.unique(known[rows])) < 2:
            logger.info("Covariate %s: left out, because it is unknown or the same for everyone", name)
            continue
        if name == "site" and rows.sum() <= len(np.unique(known[rows])):
            logger.info("Covariate site: left out, because everyone has another")
            continue
        measure = _eta if name == "site" else _pearson
        strength, p = measure(loc[rows], known[rows])
        tables.append(
            pd.DataFrame(
                {
                    "covariate": name,
                    "latent": latent_names(loc.shape[1]),
                    "statistic": "eta" if name == "site" else "r",
                    "value": strength,
                    "p": p,
                    "q": np.nan,
                    "num_people": int(rows.sum()),
                }
            )
        )
    if not tables:
        return pd.DataFrame(columns=["covariate", "latent", "statistic", "value", "p", "q", "num_people"])
    table = pd.concat(tables, ignore_index=True)
    tested = table["p"].notna()
    if tested.any():
        table.loc[tested, "q"] = stats.false_discovery_control(table.loc[tested, "p"].to_numpy())
    return table


def _codes(name: str, values: pd.Series) -> np.ndarray:
    """Returns values as numbers (people,), NaN where they are unknown."""
    if name == "sex":
        return values.map({"F": 0.0, "M": 1.0}).to_numpy(dtype=float)
    if name == "site":
        codes = pd.factorize(values)[0].astype(float)
        return np.where(codes < 0, np.nan, codes)
    return pd.to_numeric(values, errors="coerce").to_numpy(dtype=float)


def _pearson(loc: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    centred, deviations = loc - loc.mean(axis=0), values - values.mean()
    freedom = len(values) - 2
    with np.errstate(invalid="ignore", divide="ignore"):
        r = deviations @ centred / np.sqrt(np.square(centred).sum(axis=0) * np.square(deviations).sum())
        r = np.clip(r, -1.0, 1.0)
        return r, 2.0 * stats.t.sf(np.abs(r) * np.sqrt(freedom / (1.0 - r**2)), freedom)


def _eta(loc: np.ndarray, codes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    groups = [loc[codes == code] for code in np.unique(codes)]
    total = np.square(loc - loc.mean(axis=0)).sum(axis=0)
    between = sum(len(group) * np.square(group.mean(axis=0) - loc.mean(axis=0)) for group in groups)
    degrees = len(groups) - 1, len(loc) - len(groups)
    with np.errstate(invalid="ignore", divide="ignore"):
        share = np.clip(between / total, 0.0, 1.0)
        return np.sqrt(share), stats.f.sf(share / degrees[0] / ((1.0 - share) / degrees[1]), *degrees)


def _log_strongest(table: pd.DataFrame) -> None:
    for name, rows in table[table["value"].notna()].groupby("covariate", sort=False):
        best = rows.loc[rows["value"].abs().idxmax()]
        logger.info(
            "%s: %d of %d latent variables go with it (q < 0.05); most of all %s, %s = %.2f, q = %.2g, n = %d",
            name, (rows["q"] < 0.05).sum(), len(rows), best["latent"], best["statistic"], best["value"], best["q"],
            best["num_people"],
        )  # fmt: skip
