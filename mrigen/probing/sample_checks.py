"""Whether samples are what was asked for, by predictors that learned from real volumes, not by the run."""

import dataclasses
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from scipy import stats

from mrigen.data.covariates import COLUMNS
from mrigen.data.pipeline import read_volumes
from mrigen.errors import CohortError, UsageError
from mrigen.imaging.volumes import read_volume
from mrigen.probing.predictors import KernelSVMPredictor, StandardizedVoxels
from mrigen.runs import Run
from mrigen.statistics.pca import gram_matrix, gram_scores
from mrigen.system.files import read_written_table, write_json

# Principal components of the volumes that ages and head sizes are predicted from.
NUM_COMPONENTS = 50
# Fewer samples of a sex than this have no median to compare.
FEWEST = 3


@dataclasses.dataclass(frozen=True)
class SampleCheck:
    """How samples fare under one covariate.

    Attributes:
        name: of the covariate.
        num_samples: samples with a value of it.
        share_right: of the samples, sexes that a linear support vector machine on voxels calls as asked for; None for
            another covariate. share_right_real: the same of held-out real people.
        extreme_p: the smaller, over both sexes, of the one-sided Mann-Whitney p that samples have more extreme scores
            than held-out real people of that sex.
        correlation: of the values asked for with those that ridge regression on principal components predicts;
            None for sex, or where all are equal. correlation_real: the same of held-out real people.
        mean_error: predicted minus asked for, in the units of the covariate. mean_error_real: of held-out real people.
    """

    name: str
    num_samples: int
    share_right: float | None = None
    share_right_real: float | None = None
    extreme_p: float | None = None
    correlation: float | None = None
    correlation_real: float | None = None
    mean_error: float | None = None
    mean_error_real: float | None = None

    def in_words(self) -> str:
        """Returns one line."""
        if self.share_right is not None:
            real = (
                "" if self.share_right_real is None else f" (held-out real people: {100 * self.share_right_real:.0f} %)"
            )
            extreme = "" if self.extreme_p is None else f"; p of samples being more extreme {self.extreme_p:.2g}"
            return (
                f"{self.name}: {100 * self.share_right:.0f} % of {self.num_samples} samples are called rightly by a "
                f"linear SVM on real voxels{real}{extreme}"
            )
        parts = [
            f"{what} {ours:.2f}" + ("" if real is None else f" (held-out real people: {real:.2f})")
            for what, ours, real in (
                ("correlation of asked and predicted", self.correlation, self.correlation_real),
                ("mean error", self.mean_error, self.mean_error_real),
            )
            if ours is not None
        ]
        return f"{self.name}: {'; '.join(parts)}, {self.num_samples} samples, ridge regression on real voxels"


@dataclasses.dataclass(frozen=True)
class SampleChecks(Sequence):
    """How samples fare under each covariate.

    Attributes:
        checks: one a covariate; this is also a sequence of them.
        directory: where `write` puts the file unless told otherwise.
    """

    checks: tuple[SampleCheck, ...]
    directory: Path

    def __len__(self) -> int:
        return len(self.checks)

    def __getitem__(self, index):
        return self.checks[index]

    def to_frame(self) -> pd.DataFrame:
        """Returns one row a covariate, with the attributes of `SampleCheck`."""
        return pd.DataFrame([dataclasses.asdict(check) for check in self.checks])

    def write(self, directory: str | os.PathLike | None = None) -> list[Path]:
        """Writes check.json, in place of an earlier one, and returns its path.

        Args:
            directory: the folder; by default that of the samples.
        """
        path = (self.directory if directory is None else Path(directory)) / "check.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, {check.name: dataclasses.asdict(check) for check in self.checks})
        return [path]


def check_samples(run: Run, samples, *, native_units: bool | None = None) -> SampleChecks:
    """Returns how well samples show the covariates that they were drawn with.

    What decides is trained on the real volumes of the run's training people; nothing of the run's model is used.

    Args:
        run: that the samples are of.
        samples: what `sample` returned; or the paths of its files, where manifest.tsv beside them says what was asked
            for.
        native_units: whether the samples are in the training cohort's units; as `samples` says if None.

    Raises:
        UsageError: the samples have no covariates. CohortError: the cohort is not that of the run.
    """
    manifest, images, folder = _open_samples(run, samples)
    names = [name for name in ("sex", "age", "head_size") if name in manifest and manifest[name].notna().any()]
    if not names:
        raise UsageError(f"{folder}: got samples without sex, age or head size, expected some. Draw them with `given`.")
    dataset = run.open_dataset()
    train, heldout = dataset.rows("train"), dataset.rows("heldout")
    rows = np.concatenate([train, heldout])
    arrays = np.stack(images).astype(np.float32)
    if getattr(samples, "native_units", False) if native_units is None else native_units:
        arrays = run.intensities.to_levels(arrays)
    volumes = np.concatenate([read_volumes(dataset.cache, rows), arrays]).reshape(len(rows) + len(arrays), -1)
    people = dataset.cache.table.iloc[rows]
    is_training = np.arange(len(volumes)) < len(train)
    is_sample = np.arange(len(volumes)) >= len(rows)
    groups = np.concatenate(
        [people["participant_id"].to_numpy(dtype=str), manifest["participant_id"].to_numpy(dtype=str)]
    )
    checks = []
    for name in names:
        values = pd.concat([people[COLUMNS[name]], manifest[name]], ignore_index=True)
        known = values.notna().to_numpy()
        parts = [np.flatnonzero(known & chosen) for chosen in (is_training, ~is_training & ~is_sample, is_sample)]
        check = _check_sex if name == "sex" else _check_number
        checks.append(check(name, values, volumes, groups, *parts))
    return SampleChecks(tuple(checks), folder)


def _open_samples(run: Run, samples) -> tuple[pd.DataFrame, list[np.ndarray], Path]:
    """Returns the manifest, the volumes and the folder of samples."""
    if hasattr(samples, "to_frame"):
        volumes = [np.asarray(image.dataobj) for image in samples]
        return samples.to_frame(), volumes, Path(getattr(samples, "directory", None) or run.directory / "samples")
    folder = Path(samples[0]).parents[2]
    try:
        manifest = read_written_table(folder / "manifest.tsv", na_values=["n/a", ""])
    except (OSError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise CohortError(f"{folder / 'manifest.tsv'}: not a table ({reason}). Make the samples anew.") from None
    return manifest, [read_volume(path).array for path in samples], folder


def _check_sex(name, values, volumes, groups, train, real, samples) -> SampleCheck:
    targets = (values == "M").to_numpy(dtype=int)
    predictor = KernelSVMPredictor(StandardizedVoxels(volumes), "linear")
    scored = predictor.fit_score(targets, groups, train, np.concatenate([real, samples]), seed=0)
    right = scored.prediction == targets[np.concatenate([real, samples])]
    score, extremes = dict(zip([*real, *samples], scored.score, strict=True)), []
    for sex, sign in ((1, 1.0), (0, -1.0)):
        ours, theirs = ([sign * score[row] for row in rows if targets[row] == sex] for rows in (samples, real))
        if min(len(ours), len(theirs)) >= FEWEST:
            extremes.append(float(stats.mannwhitneyu(ours, theirs, alternative="greater").pvalue))
    return SampleCheck(
        name,
        len(samples),
        share_right=float(right[len(real) :].mean()),
        share_right_real=float(right[: len(real)].mean()) if len(real) else None,
        extreme_p=min(extremes, default=None),
    )


def _check_number(name, values, volumes, groups, train, real, samples) -> SampleCheck:
    from sklearn.linear_model import RidgeCV
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    numbers = values.to_numpy(dtype=float)
    features = gram_scores(gram_matrix(volumes), train, NUM_COMPONENTS)
    model = make_pipeline(StandardScaler(), RidgeCV(np.logspace(-2, 5, 15))).fit(features[train], numbers[train])
    figures = []
    for rows in (samples, real):
        predicted = model.predict(features[rows]) if len(rows) else np.zeros(0)
        differ = len(rows) >= FEWEST and np.ptp(numbers[rows]) > 0
        figures.append(float(np.corrcoef(numbers[rows], predicted)[0, 1]) if differ else None)
        figures.append(float((predicted - numbers[rows]).mean()) if len(rows) else None)
    return SampleCheck(
        name,
        len(samples),
        correlation=figures[0],
        mean_error=figures[1],
        correlation_real=figures[2],
        mean_error_real=figures[3],
    )
