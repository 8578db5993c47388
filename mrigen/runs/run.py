"""A run directory: everything about one fit, in files that any tool can read; made by `fit`, read by all others."""

import dataclasses
import functools
import importlib.metadata
import logging
import os
import platform
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from mrigen.data.covariates import Covariates
from mrigen.data.heads import Intensities
from mrigen.data.preprocess import grid_affine
from mrigen.errors import CohortError, RunError
from mrigen.imaging.headers import has_orientation
from mrigen.recipe import Recipe, load_recipe
from mrigen.runs.contents import REPAIR, Facts, Metrics, check_content, with_place
from mrigen.runs.holding import refuse_held
from mrigen.runs.manifest import RUN_FORMAT, check_format, check_grid, manifest_faults, note_file
from mrigen.statistics.collapse import Course, advise, collapse_of_figures
from mrigen.system.files import atomic_path, read_json, read_written_table, write_json
from mrigen.system.wording import some

logger = logging.getLogger(__name__)

WEIGHTS = "model.weights.h5"
# Of the tables of a run; what looks like a number is text there, too.
TEXT_COLUMNS = ("scan_id", "participant_id", "session_id", "site", "family", "person", "sex")


def recipe_of_run(recipe: Recipe, version: int = 3) -> Recipe:
    """Returns the recipe of a run with the version of preparing that it was fitted with, where none is named.

    Runs name theirs since there are several; before, there was the third.
    """
    if "version" in recipe.preprocess.model_fields_set:
        return recipe
    return recipe.model_copy(update={"preprocess": recipe.preprocess.model_copy(update={"version": version})})


def mostly_oriented(doubts: pd.Series) -> bool:
    """Returns whether the headers of most images said which way their axes run, by the column `doubts` of their table;
    True of no image."""
    known = [has_orientation(cell.split(",")) if isinstance(cell, str) else True for cell in doubts]
    return not known or sum(known) > len(known) / 2


@dataclasses.dataclass(frozen=True)
class Run:
    """One run directory.

    Attributes:
        directory: where it lies. It holds recipe.yaml (resolved), run.json (versions, recipe, precision, fingerprint),
            split.tsv, subjects.tsv, grid.json (where and in what units samples are written), history.csv, log.txt,
            tensorboard/, checkpoint/ while unfinished, model.weights.h5, latents.npz, metrics.json, and manifest.json
            (digests of these, written last).
    """

    directory: Path

    @functools.cached_property
    def recipe(self) -> Recipe:
        """The resolved recipe of the run."""
        return recipe_of_run(load_recipe(self._file("recipe.yaml")))

    @functools.cached_property
    def facts(self) -> dict[str, Any]:
        """run.json: format, versions, the recipe it began with, precision and why, data fingerprint."""
        facts = self._json("run.json")
        check_format(facts.get("format", 1), self.directory)
        check_content(facts, Facts, self.directory / "run.json")
        return facts

    @functools.cached_property
    def grid(self) -> dict[str, Any]:
        """grid.json: zooms (mm), volume_shape, centre (mm); median_low, median_scale and median_surround (native units;
        see `intensities`)."""
        grid = self._json("grid.json")
        check_grid(grid, self.directory / "grid.json")
        return grid

    @property
    def intensities(self) -> Intensities:
        """How grey levels become intensities as the training people's images have them, in the median."""
        grid = self.grid
        return Intensities(grid.get("median_low", 0.0), grid["median_scale"], grid.get("median_surround"))

    @property
    def affine(self) -> np.ndarray:
        """(4, 4) affine that places a volume of the model's grid where the training heads lie."""
        return grid_affine(self.grid["centre"], self.grid["zooms"], self.grid["volume_shape"])

    @functools.cached_property
    def split(self) -> pd.DataFrame:
        """Columns participant_id and split, one row a person."""
        return self._table("split.tsv", ("participant_id", "split"))

    @functools.cached_property
    def subjects(self) -> pd.DataFrame:
        """One row an image: the cohort's columns and what was measured while preparing."""
        return self._table("subjects.tsv", ("scan_id", "participant_id"))

    def is_oriented(self, scan_ids=None) -> bool:
        """Whether the headers of most images said which way their axes run; what is made of images claims no more.

        Args:
            scan_ids: of the images; None for those of the training people.
        """
        if "doubts" not in self.subjects:
            return True
        if scan_ids is None:
            training = self.split.loc[self.split["split"] == "train", "participant_id"]
            doubts = self.subjects.loc[self.subjects["participant_id"].isin(training), "doubts"]
        else:
            doubts = self.subjects.loc[self.subjects["scan_id"].isin(list(scan_ids)), "doubts"]
        return mostly_oriented(doubts)

    @property
    def covariates(self) -> Covariates | None:
        """The covariates that the model of the run is given beside latents; None where it is given none."""
        names = self.recipe.model.covariates
        return Covariates.of(self.subjects, self.split, names) if names else None

    def conditions(self, scan_ids) -> np.ndarray | None:
        """Returns the covariates of the people of images, (images, condition) float32; None if the model has none."""
        if self.covariates is None:
            return None
        return self.covariates.encode(self.subjects.set_index("scan_id").loc[list(scan_ids)])

    @property
    def metrics(self) -> dict[str, Any]:
        """metrics.json: the figures of a finished run."""
        metrics = self._json("metrics.json")
        check_content(metrics, Metrics, self.directory / "metrics.json")
        return metrics

    @property
    def collapse(self) -> str | None:
        """What is to be known of whatever is made of this run, in words, because its posterior collapsed; else None."""
        found = collapse_of_figures(self.metrics) if (self.directory / "metrics.json").is_file() else None
        if found is None:
            return None
        return (
            f"{self.directory}: the posterior collapsed: {found[0]} of {found[1]} latent variables are active, so the "
            "heads that are made of them hardly differ, and a probe of them amplifies traces. "
            f"{advise(self.recipe, Course.of(self.recipe, self.metrics))}"
        )

    @property
    def probe_results(self) -> dict[str, Any] | None:
        """probe.json: what `mrigen probe` found; None while it has not looked."""
        return self._json("probe.json") if (self.directory / "probe.json").is_file() else None

    @property
    def is_complete(self) -> bool:
        """Whether the fit ended and wrote its figures."""
        return all((self.directory / name).is_file() for name in ("metrics.json", WEIGHTS))

    @property
    def weights_path(self) -> Path:
        """Path of the weights.

        Raises:
            RunError: the run has none.
        """
        path = self.directory / WEIGHTS
        if not path.is_file():
            raise RunError(
                f"{self.directory}: no {WEIGHTS}, expected the weights of a finished fit. "
                f"Finish it with `mrigen.resume('{self.directory}')`, or name another run with `run`."
            )
        return path

    def build_model(self):
        """Returns the model of the run with the weights that a fit begins with."""
        from mrigen.models.building import build_model

        shape, precision, seed = self.grid["volume_shape"], self.facts["precision"], self.recipe.training.seed
        return build_model(self.recipe.model, shape, precision, seed, self.covariates)

    def load_model(self):
        """Returns the model of the run with its best weights; no code of the run folder is executed."""
        path = self.weights_path
        model = self.build_model()
        load_weights(model, path, "weights of the model in recipe.yaml", REPAIR)
        return model

    def open_dataset(self):
        """Returns the `Dataset` of the run: its people, volumes and split, checked to be those it was fitted on.

        Raises:
            CohortError: they are not.
        """
        from mrigen.data.dataset import open_dataset

        dataset = open_dataset(self.recipe, self.split)
        if dataset.cache.key != self.facts["data_fingerprint"]:
            raise CohortError(
                f"{self.directory}: got images that differ from those of the run (fingerprint {dataset.cache.key}, "
                f"expected {self.facts['data_fingerprint']}). Restore the data, or fit again."
            )
        return dataset

    def load_latents(self, split: str | None = None) -> dict[str, np.ndarray]:
        """Returns scan_id (scans,) str, loc (scans, latent) and, for a VAE, scale (scans, latent).

        Args:
            split: of whom: "train", "validation" or "heldout"; everyone if None.
        """
        path = self._file("latents.npz")
        try:
            with np.load(path, allow_pickle=False) as content:
                latents = {name: content[name] for name in content.files}
        except (OSError, ValueError, EOFError, zlib.error, zipfile.BadZipFile, NotImplementedError) as error:
            # NumPy takes what is no archive for a pickle, and says how to load that.
            reason = "no archive of arrays" if "allow_pickle" in str(error) else " ".join(str(error).split())[:200]
            raise RunError(f"{path}: cannot be read ({reason}). Restore the file, or fit again.") from None
        _check_latents(latents, path)
        size = self.recipe.model.latent_dim
        if size is None and (self.directory / "metrics.json").is_file():
            size = self.metrics.get("latent_dim")
        strangers = set(latents["scan_id"]) - set(self.subjects["scan_id"])
        if strangers or size not in (None, latents["loc"].shape[1]):
            got = (
                f"latents of {some(sorted(strangers), 3)}" if strangers else f"{latents['loc'].shape[1]} latents a scan"
            )
            expected = "those of the run's people" if strangers else str(size)
            raise RunError(f"{path}: got {got}, expected {expected}. Restore the file, or fit again.")
        if split is None:
            return latents
        people = self.subjects.merge(self.split, on="participant_id").query("split == @split")["scan_id"]
        chosen = np.isin(latents["scan_id"], people.to_numpy(dtype=str))
        return {name: values[chosen] for name, values in latents.items()}

    def save_latents(self, latents: dict[str, np.ndarray]) -> None:
        """Writes latents.npz; see `load_latents`."""
        with atomic_path(self.directory / "latents.npz") as temporary, open(temporary, "wb") as file:
            np.savez(file, **latents)  # type: ignore[arg-type]
        note_file(self.directory, "latents.npz")

    def _file(self, name: str) -> Path:
        path = self.directory / name
        if not path.is_file():
            raise RunError(
                f"{self.directory}: no {name}, expected a run folder made by mrigen fit. Name another with `run`."
            )
        return path

    def _json(self, name: str) -> dict[str, Any]:
        path = self._file(name)
        try:
            content = read_json(path)
        except (ValueError, RecursionError) as error:
            raise RunError(f"{path}: not valid JSON ({error}). Restore the file, or fit again.") from None
        if not isinstance(content, dict):
            raise RunError(
                f"{path}: got a {type(content).__name__}, expected an object of keys. Restore the file, or fit again."
            )
        return with_place(content, str(path))

    def _table(self, name: str, columns: tuple[str, ...]) -> pd.DataFrame:
        path = self._file(name)
        try:
            texts = ("scan_id", "participant_id", "session_id", "site", "family", "person", "sex")
            table = read_written_table(path, texts)
        except (ValueError, UnicodeDecodeError) as error:
            raise RunError(f"{path}: not a table ({error}). Restore the file, or fit again.") from None
        missing = [column for column in columns if column not in table]
        if missing:
            raise RunError(f"{path}: no column {missing[0]}. Restore the file, or fit again.")
        empty = [column for column in columns if table[column].isna().any()]
        if empty:
            raise RunError(f"{path}: got a row without {empty[0]}, expected one in each. {REPAIR}")
        return table


def open_run(directory: str | os.PathLike | None = None, root: str | os.PathLike = "runs", is_told: bool = True) -> Run:
    """Returns a finished run; that its posterior collapsed is said.

    Args:
        directory: the run; the newest complete one under `root` if None.
        root: folder of runs.
        is_told: whether a collapse is said.

    Raises:
        RunError: there is none, or it is not a run, or it has no weights, or it is being fitted, or its files are not
            those that the fit wrote.
    """
    run = newest_run(root) if directory is None else Run(Path(directory))
    if not run.directory.is_dir():
        raise RunError(f"{directory}: no such folder, expected a run made by mrigen fit. Check `run`.")
    refuse_held(run.directory)
    _ = run.recipe, run.facts, run.grid, run.weights_path
    faults = manifest_faults(run.directory)
    if faults:
        raise RunError(faults)
    if is_told and run.collapse is not None:
        logger.warning(run.collapse)
    return run


def load_weights(model, path: Path, expected: str, repair: str) -> None:
    """Gives a Keras model the weights in a file; no code is executed.

    Args:
        model: built. path: of the file.
        expected: what should be in it. repair: what to do where it is not.

    Raises:
        RunError: it is another file, or holds values that are no numbers.
    """
    try:
        model.load_weights(path)
    # Of h5py and Keras, which both have several.
    except (OSError, ValueError, LookupError, RuntimeError, TypeError, AttributeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise RunError(f"{path}: cannot be loaded ({reason}), expected {expected}. {repair}") from None
    broken = [weight.path for weight in model.weights if not np.isfinite(np.asarray(weight)).all()]
    if broken:
        raise RunError(
            f"{path}: {broken[0]} (of {len(broken)}) holds values that are no numbers, expected finite ones. {repair}"
        )


def _check_latents(latents: dict[str, np.ndarray], path: Path) -> None:
    expected = "expected scan_id, loc and, of a VAE, scale, a row of finite numbers an image"
    names, loc, others = latents.get("scan_id"), latents.get("loc"), latents.get("scale")
    if (
        names is None
        or loc is None
        or names.ndim != 1
        or names.dtype.kind != "U"
        or loc.ndim != 2
        or not len(loc) == len(set(names)) == len(names) > 0
        or (others is not None and others.shape != loc.shape)
    ):
        shapes = {name: values.shape for name, values in latents.items()}
        raise RunError(f"{path}: got {shapes}, {expected}. Restore the file, or fit again.")
    for values in (loc, others):
        if values is not None and not (values.dtype.kind == "f" and np.isfinite(values).all()):
            raise RunError(f"{path}: got values that are no numbers, {expected}. Restore the file, or fit again.")
    if others is not None and (others < 0).any():
        raise RunError(f"{path}: got scales below 0, {expected}. Restore the file, or fit again.")


def newest_run(root: str | os.PathLike = "runs") -> Run:
    """Returns the complete run under `root` whose figures are newest.

    Raises:
        RunError: there is no complete run.
    """
    return complete_runs(root)[-1]


def complete_runs(root: str | os.PathLike = "runs") -> list[Run]:
    """Returns the complete runs under `root`, that with the newest figures last.

    Raises:
        RunError: there is no complete run.
    """
    finished = [Run(path.parent) for path in Path(root).glob("*/metrics.json")]
    finished = [run for run in finished if run.is_complete]
    if not finished:
        raise RunError(
            f"{Path(root)}: no complete run, expected at least one. Make one with mrigen fit, or name a run."
        )
    return sorted(finished, key=lambda run: (run.directory / "metrics.json").stat().st_mtime_ns)


def describe_versions() -> dict[str, str]:
    """Returns the versions of Python, mrigen and the libraries that decide about figures."""
    names = ("mrigen", "tensorflow", "keras", "tensorflow-probability", "numpy", "scipy", "scikit-learn", "nibabel")
    return {"python": platform.python_version()} | {name: importlib.metadata.version(name) for name in names}


def write_facts(run: Run, facts: dict[str, Any]) -> None:
    """Writes run.json."""
    write_json(run.directory / "run.json", {"format": RUN_FORMAT, **facts, "versions": describe_versions()})
