"""The heads that an evaluation needs: people of a cohort, and samples of a run or of a folder, on one grid."""

import dataclasses
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from mrigen.data.covariates import COLUMNS
from mrigen.data.dataset import Dataset, open_dataset
from mrigen.data.memo import file_digest
from mrigen.data.pipeline import read_volumes
from mrigen.data.preparing import prepare_image
from mrigen.data.preprocess import grid_affine
from mrigen.data.tables import first_visits
from mrigen.errors import CohortError, UsageError
from mrigen.evaluation.brains import find_brains
from mrigen.evaluation.contenders import made_people, mean_volumes, moved_copies, pca_volumes, quantised
from mrigen.evaluation.heads import COPIES, FLOOR, MEAN, PCA, SAMPLES, Heads, Labels, Material
from mrigen.evaluation.labels import read_labels
from mrigen.evaluation.rescans import gather_rescans
from mrigen.recipe import Recipe
from mrigen.runs import Run
from mrigen.runs.run import mostly_oriented
from mrigen.system.files import read_written_table
from mrigen.system.machine import available_memory
from mrigen.system.progress import progress_bar

# Fewer never-seen people than this say next to nothing; more than this tell hardly more, and take long.
FEWEST_PEOPLE, MOST_PEOPLE = 8, 100
# Of the memory that is free, what training people may take.
SHARE_OF_MEMORY = 0.25
ENDINGS = (".nii", ".nii.gz")


@dataclasses.dataclass(frozen=True)
class Real:
    """Real people and their grid: those of a run, or of a recipe.

    Attributes:
        dataset: the people, their prepared volumes and their split.
        recipe: by which they were prepared.
        affine: (4, 4) of the grid, mm.
        run: whose people they are, or None.
    """

    dataset: Dataset
    recipe: Recipe
    affine: np.ndarray
    run: Run | None = None

    @classmethod
    def of_run(cls, run: Run) -> "Real":
        """Returns the people of a run, checked to be those that it was fitted on."""
        return cls(run.open_dataset(), run.recipe, run.affine, run)

    @classmethod
    def of_recipe(cls, recipe: Recipe) -> "Real":
        """Returns the people of a recipe, by its own split."""
        dataset = open_dataset(recipe)
        centre = dataset.cache.table[["centre_x", "centre_y", "centre_z"]].median().to_numpy()
        return cls(dataset, recipe, grid_affine(centre, recipe.preprocess.zooms, dataset.cache.volume_shape))

    @property
    def zooms(self) -> tuple[float, float, float]:
        """Voxel size, mm."""
        x, y, z = map(float, self.recipe.preprocess.zooms)
        return x, y, z

    def rows(self, split: str) -> np.ndarray:
        """Returns the rows of the first scans of the people of a split."""
        rows = self.dataset.rows(split)
        return rows[first_visits(self.dataset.cache.table.iloc[rows])]

    def people(self, rows: np.ndarray) -> pd.DataFrame:
        """Returns the people of some rows, as `Heads` has them."""
        table = self.dataset.cache.table.iloc[rows].reset_index(drop=True)
        return table.assign(family=table["family"].fillna(table["participant_id"]).astype(str))

    def prepare(self, paths: Sequence[Path]) -> np.ndarray:
        """Returns images of a folder, prepared as the people's own were, (n, x, y, z).

        Raises:
            CohortError: the faults of all of them.
        """
        volumes: list[np.ndarray] = []
        faults: list[str] = []
        with progress_bar("Preparing samples", len(paths), "images") as advance:
            for path in paths:
                made = prepare_image(path, None, self.recipe.preprocess, False, name=str(path))
                faults += made.faults
                if made.prepared is not None:
                    volumes.append(made.prepared.array.astype(np.float32) / np.float32(255))
                advance(1)
        if faults:
            raise CohortError(list(dict.fromkeys(faults)))
        return np.stack(volumes)


def choose_people(real: Real, against: str, num: int | None, seed: int) -> np.ndarray:
    """Returns the rows of the never-seen people that samples are compared with.

    Raises:
        UsageError: they are too few.
    """
    rows = real.rows(against)
    if len(rows) < FEWEST_PEOPLE:
        other = "heldout" if against == "validation" else "validation"
        advice = (
            f"Take the {other} people by `against={other!r}`, or fit" if len(real.rows(other)) > len(rows) else "Fit"
        )
        raise UsageError(
            f"got {len(rows)} {against} people, expected at least {FEWEST_PEOPLE}. {advice} with a larger "
            f"data.split.{against}.",
            "against",
        )
    if num is not None and not FEWEST_PEOPLE <= num <= len(rows):
        raise UsageError(
            f"got {num}, expected a number from {FEWEST_PEOPLE} to {len(rows)}, as many as there are {against} people. "
            "Leave it out for all of them.",
            "num",
        )
    count = min(len(rows), MOST_PEOPLE) if num is None else num
    return np.sort(np.random.default_rng([seed, 10]).permutation(rows)[:count])


def draw_samples(run: Run, num: int, settings: Mapping) -> tuple[np.ndarray, pd.DataFrame]:
    """Returns samples of a run, (n, x, y, z), and what was asked for."""
    from mrigen.generation.sampling import Samples

    samples = Samples(run, num, **settings).prepare()
    people = samples.to_frame().rename(columns=COLUMNS)
    volumes = np.stack([quantised(samples.volume(index)) for index in range(num)])
    return volumes, people.assign(family=people["participant_id"])


def find_samples(directory: str | os.PathLike) -> list[Path]:
    """Returns the images of a folder of samples, sorted; of a BIDS folder the T1-weighted ones.

    Raises:
        UsageError: there are none.
    """
    directory = Path(directory)
    if not directory.is_dir():
        raise UsageError(
            f"got {directory}, which is no folder, expected one of NIfTI images. Check the path.", "samples"
        )
    found = sorted(path for path in directory.rglob("*") if path.name.endswith(ENDINGS))
    t1 = [path for path in found if path.name.split(".")[0].endswith("_T1w")]
    if not found:
        raise UsageError(f"{directory}: got no NIfTI image, expected samples. Name their folder.", "samples")
    return t1 or found


def samples_key(paths: Sequence[Path]) -> list[str]:
    """Returns what tells a folder of samples from another: the digests of its files."""
    return [file_digest(path) for path in paths]


def read_samples(real: Real, paths: Sequence[Path], num: int, seed: int) -> tuple[np.ndarray, pd.DataFrame]:
    """Returns `num` samples of a folder, (n, x, y, z), and what its manifest.tsv says of them.

    Raises:
        UsageError: there are fewer.
    """
    if len(paths) < num:
        raise UsageError(
            f"got {len(paths)} samples, expected at least as many as never-seen people, {num}. Make more, or compare "
            f"fewer by `num={max(len(paths), FEWEST_PEOPLE)}`.",
            "samples",
        )
    chosen = np.sort(np.random.default_rng([seed, 11]).permutation(len(paths))[:num])
    paths = [paths[index] for index in chosen]
    people = made_people(num, SAMPLES).assign(file=[path.name for path in paths])
    manifest = next((path for parent in paths[0].parents[:4] if (path := parent / "manifest.tsv").is_file()), None)
    if manifest is not None:
        try:
            asked = read_written_table(manifest, na_values=["n/a", ""])
        except (OSError, ValueError) as error:
            reason = " ".join(str(error).split())
            raise CohortError(f"{manifest}: not a table ({reason}). Restore or remove it.") from None
        if "path" in asked:
            asked["file"] = asked["path"].map(lambda path: Path(str(path)).name)
            known = [name for name in ("sex", "age", "head_size", "site") if name in asked]
            people = people.merge(asked[["file", *known]], on="file", how="left").rename(columns=COLUMNS)
    return real.prepare(paths), people


def gather(
    real: Real,
    rows: np.ndarray,
    samples: tuple[np.ndarray, pd.DataFrame],
    *,
    run: Run | None,
    against: str,
    seed: int = 0,
    others: Sequence[Run] = (),
    normative: str | os.PathLike | None = None,
) -> Material:
    """Returns the material of an evaluation.

    Args:
        real: the people.
        rows: of never-seen people; see `choose_people`.
        samples: as many volumes (n, x, y, z), and their people.
        run: that made the samples, if one did.
        against: the split of `rows`.
        seed: of whatever is drawn.
        others: runs of the same cohort, beside `run`.
        normative: a table of volumes; see `mrigen.evaluation.normative`.
    """
    table, count, zooms = real.dataset.cache.table, len(rows), real.zooms
    train = real.rows("train")
    memory, each = available_memory() or 2**33, 4.0 * float(np.prod(real.dataset.cache.volume_shape))
    most = max(count, int(SHARE_OF_MEMORY * memory / each))
    if len(train) > most:
        train = np.sort(np.random.default_rng([seed, 12]).permutation(train)[:most])
    unseen, taught = read_volumes(real.dataset.cache, rows), read_volumes(real.dataset.cache, train)
    mean, mask = taught.mean(axis=0), real.dataset.mean_mask(zooms)

    def heads(volumes: np.ndarray, people: pd.DataFrame) -> Heads:
        return Heads(volumes, people, find_brains(volumes, mean, mask, zooms))

    of_taught = heads(taught, real.people(train))
    floor = of_taught.take(np.sort(np.random.default_rng([seed, 13]).permutation(len(train))[:count]))
    components = len(train) - 1 if run is None else int(run.metrics["latent_dim"])
    volumes, people = samples
    contenders = {
        SAMPLES: heads(volumes, people),
        FLOOR: floor,
        PCA: heads(pca_volumes(taught, count, components, seed), made_people(count, PCA)),
        MEAN: heads(mean_volumes(taught, count, seed), made_people(count, MEAN)),
        COPIES: heads(moved_copies(floor, zooms, seed), made_people(len(floor), COPIES)),
    }
    doubts = table["doubts"].iloc[train] if "doubts" in table else pd.Series(dtype=object)
    return Material(
        unseen=heads(unseen, real.people(rows)),
        taught=of_taught,
        contenders=contenders,
        zooms=zooms,
        affine=real.affine,
        seed=seed,
        run=run,
        against=against,
        is_oriented=mostly_oriented(doubts),
        rescans=None if run is None else gather_rescans(run, against, real.dataset),
        others=tuple(others),
        labels=_labels(real, train, rows),
        normative=normative,
    )


def _labels(real: Real, taught: np.ndarray, unseen: np.ndarray) -> Labels | None:
    of_taught, names = read_labels(real.dataset, taught, real.zooms)
    of_unseen, others = read_labels(real.dataset, unseen, real.zooms)
    if all(image is None for image in of_taught):
        return None
    return Labels(of_taught, of_unseen, names or others)
