"""What the latents know of the sex, shown on the whole image: a walk along the probe's direction, maps, saliency."""

import dataclasses
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import tensorflow as tf
from matplotlib.figure import Figure
from sklearn.metrics import roc_auc_score

from mrigen.data.covariates import COLUMNS
from mrigen.data.pipeline import read_volumes
from mrigen.data.tables import first_visits
from mrigen.errors import CohortError, Fault, UsageError
from mrigen.imaging.figures import plot_contact_sheet, plot_map, save_figure
from mrigen.imaging.headers import ALIGNED, SCANNER
from mrigen.imaging.volumes import Nifti1Image, array_of, make_image, write_image, zooms_of
from mrigen.layers import jacobian_determinant
from mrigen.models import LatentModel
from mrigen.models.batches import BATCH_SIZE, pad_batch
from mrigen.probing.confounds import ConfoundRegressor
from mrigen.probing.direction import Direction, fit_direction, resample_families
from mrigen.runs import Run
from mrigen.runs.encoding import decode_batches, decode_latents
from mrigen.system.files import refuse_taken, write_json
from mrigen.system.progress import progress_bar

# Enough for the mean of a map; the gradients of a whole cohort would take as long as a fit.
MOST_SALIENT_PEOPLE = 32
NUM_SALIENCY_STEPS = 16
# Added to the standard deviation of a map: a quarter of a grey level of an image of 8 bits.
SMALLEST_SPREAD = 1e-3


@dataclasses.dataclass(frozen=True, repr=False)
class Explanation:
    """What changes from women to men in the images that a run decodes, on the model's grid.

    Attributes:
        direction: along which the sex changes in the latent space.
        sequence: (x, y, z, step) image, from a woman's mean score to a man's, in [0, 1].
        maps: name -> (x, y, z) image: "difference", the last of the sequence minus the first; "growth" (models that
            warp a template), the logarithm of how much larger a man's tissue is than a woman's at a voxel;
            "difference_z", "growth_z", their means over their standard deviations in refits to resampled families;
            "saliency", integrated gradients of the score through the encoder, from the mean image to a person's,
            turned so that positive voxels speak for the person's own sex, the mean of up to `MOST_SALIENT_PEOPLE`.
        counterfactuals: participant_id -> (x, y, z, 2) image: as the person is decoded, and with the other sex's mean
            score.
        background: (x, y, z) image between women and men.
        confounds: taken out of the latents first.
        num_people, num_heldout: on whom the probe was fitted, and scored.
        heldout_roc_auc: of the probe; None without held-out people of both sexes.
        num_bootstrap, seed: of the refits.
        directory: where `write` puts the files unless told otherwise.
    """

    direction: Direction
    sequence: Nifti1Image
    maps: dict[str, Nifti1Image]
    counterfactuals: dict[str, Nifti1Image]
    background: Nifti1Image
    confounds: tuple[str, ...]
    num_people: int
    num_heldout: int
    heldout_roc_auc: float | None
    num_bootstrap: int
    seed: int
    directory: Path

    def __repr__(self) -> str:
        score = "unknown" if self.heldout_roc_auc is None else f"{self.heldout_roc_auc:.3f}"
        return (
            f"Explanation of sex: {self.sequence.shape[3]} images from women to men, maps {', '.join(self.maps)}; "
            f"ROC AUC of {self.num_heldout} held-out people {score}"
        )

    @property
    def scores(self) -> np.ndarray:
        """(step,) scores of the sequence, in log-odds without bias."""
        return np.linspace(*self.direction.ends, self.sequence.shape[3])

    def plot(self, name: str = "sequence") -> Figure:
        """Returns a figure: middle slices of the sequence, or of a map beside its z, over the background.

        Args:
            name: "sequence", "difference", "growth", "saliency", or a participant of `counterfactuals`.

        Raises:
            UsageError: there is nothing of that name.
        """
        zooms = zooms_of(self.sequence.affine)
        if name == "sequence":
            volumes = list(np.moveaxis(array_of(self.sequence), -1, 0))
            return plot_contact_sheet(volumes, [f"{score:+.1f}" for score in self.scores], zooms, len(volumes))
        if name in self.counterfactuals:
            own, other = np.moveaxis(array_of(self.counterfactuals[name]), -1, 0)
            return plot_map(own, {"other sex minus own": other - own}, zooms)
        if name not in self._plotted:
            known = ", ".join([*self._plotted, *self.counterfactuals])
            raise UsageError(f"got {name!r}, expected one of {known}. Choose one.", parameter="name")
        maps = {name: array_of(self.maps[name])}
        if f"{name}_z" in self.maps:
            maps[f"{name}, z"] = array_of(self.maps[f"{name}_z"])
        return plot_map(array_of(self.background), maps, zooms)

    @property
    def _plotted(self) -> list[str]:
        return ["sequence", *(name for name in self.maps if not name.endswith("_z"))]

    @staticmethod
    def check_target(
        run: Run,
        directory: str | os.PathLike | None = None,
        force: bool = False,
        *,
        confounds: Sequence[str] = (),
        participants: Sequence[str] = (),
        num_steps: int = 7,
        num_bootstrap: int = 100,
    ) -> None:
        """Refuses, before `explain` takes its time, what it and `write` would refuse.

        Args:
            run: that is to be explained.
            directory, force: as for `write`.
            confounds, participants, num_steps, num_bootstrap: as for `explain`.

        Raises:
            UsageError: a number out of range, an unknown confound or participant, or a file is there already.
        """
        _check(run, confounds, participants, num_steps, num_bootstrap)
        directory = _default_directory(run) if directory is None else Path(directory)
        refuse_taken(_paths(directory, _map_names(run.recipe.model.warps_template), participants), force)

    def write(self, directory: str | os.PathLike | None = None, force: bool = False) -> list[Path]:
        """Writes the images, the figures and explanation.json, and returns the paths.

        They are sequence.nii.gz, a .nii.gz for each of `maps`, <participant>_counterfactual.nii.gz, a .png for each but
        the z (which is in that of its map), and explanation.json: who, the probe's AUC, its regularisation, the
        confounds.

        Args:
            directory: the folder; RUN/explanation by default.
            force: whether files of that name are replaced.

        Raises:
            UsageError: a file is there already.
        """
        directory = self.directory if directory is None else Path(directory)
        *paths, description = _paths(directory, list(self.maps), list(self.counterfactuals))
        refuse_taken([*paths, description], force)
        images = [self.sequence, *self.maps.values(), *self.counterfactuals.values()]
        for path, image in zip(paths, images, strict=True):
            write_image(path, image)
        figures = {f"{name}.png": name for name in self._plotted}
        figures |= {f"{name}_counterfactual.png": name for name in self.counterfactuals}
        for file, name in figures.items():
            save_figure(self.plot(name), directory / file)
        write_json(
            description,
            {
                "target": "sex",
                "classes": ["F", "M"],
                "confounds": list(self.confounds),
                "num_people": self.num_people,
                "num_heldout": self.num_heldout,
                "heldout_roc_auc": self.heldout_roc_auc,
                "ends": list(map(float, self.direction.ends)),
                "c": self.direction.c,
                "num_bootstrap": self.num_bootstrap,
                "seed": self.seed,
            },
        )
        return [*paths, *(directory / file for file in figures), description]


def explain(
    run: Run,
    *,
    confounds: Sequence[str] = (),
    participants: Sequence[str] = (),
    num_steps: int = 7,
    num_bootstrap: int = 100,
    seed: int = 0,
) -> Explanation:
    """Returns what changes from women to men in the images that a run decodes; nothing is written.

    The probe is fitted on people that are not held out, and scored on those that are.

    Args:
        run: a finished run.
        confounds: of sex, age, head_size, site (not sex): taken out of the latents by linear regression first, so that
            the images differ by what goes with sex beyond them.
        participants: ids of whom to show as the other sex.
        num_steps: images in the sequence.
        num_bootstrap: refits.
        seed: of the refits.

    Raises:
        UsageError: a number out of range, an unknown confound or participant.
        CohortError: too few women or men.

    References:
        Sundararajan, Taly and Yan 2017, Axiomatic attribution for deep networks.
    """
    given = (confounds, participants)
    confounds, participants = ((value,) if isinstance(value, str) else tuple(value) for value in given)
    _check(run, confounds, participants, num_steps, num_bootstrap)
    people = _people(run, confounds)
    unknown = [name for name in participants if name not in people["participant_id"]]
    if unknown:
        raise UsageError(
            f"got {unknown[0]}, whose sex or confounds are unknown, expected both. Name another.",
            parameter="participants",
        )
    fitted = people["split"] != "heldout"
    condition = None if run.covariates is None else run.conditions(run.load_latents("train")["scan_id"]).mean(axis=0)
    latents, targets, groups = (people[name][fitted] for name in ("latents", "targets", "groups"))
    direction = fit_direction(latents, targets, groups)
    model = run.load_model()

    def image(array: np.ndarray) -> Nifti1Image:
        return make_image(array, run.affine, SCANNER if run.is_oriented() else ALIGNED)

    walk = direction.at(np.linspace(*direction.ends, num_steps))
    volumes = np.clip(decode_latents(model, walk, _repeat(condition, num_steps)), 0.0, 1.0)
    middle = np.clip(decode_latents(model, direction.at([0.0]), _repeat(condition, 1))[0], 0.0, 1.0)
    generator = np.random.default_rng(seed)
    refits = [resample_families(targets, groups, generator) for _ in range(num_bootstrap)]
    refits = [fit_direction(latents[rows], targets[rows], groups[rows], direction.c) for rows in refits]
    with progress_bar("Explaining", num_bootstrap, "refits") as advance:
        pairs = _maps_with_z(model, direction, refits, condition, advance)
    maps = {name: values for name, (values, _) in pairs.items()}
    maps |= {f"{name}_z": z for name, (_, z) in pairs.items()}
    maps["saliency"] = _saliency(run, model, direction, people, seed)
    heldout = ~fitted
    both = len(np.unique(people["targets"][heldout])) == 2
    score = direction.scores(people["latents"][heldout])
    return Explanation(
        direction=direction,
        sequence=image(np.moveaxis(volumes, 0, -1)),
        maps={name: image(values) for name, values in maps.items()},
        counterfactuals={name: image(_counterfactual(run, model, direction, people, name)) for name in participants},
        background=image(middle),
        confounds=confounds,
        num_people=int(fitted.sum()),
        num_heldout=int(heldout.sum()),
        heldout_roc_auc=float(roc_auc_score(people["targets"][heldout], score)) if both else None,
        num_bootstrap=num_bootstrap,
        seed=seed,
        directory=_default_directory(run),
    )


def _default_directory(run: Run) -> Path:
    return run.directory / "explanation"


def _map_names(warps_template: bool) -> list[str]:
    names = ["difference", "growth"] if warps_template else ["difference"]
    return [*names, *(f"{name}_z" for name in names), "saliency"]


def _paths(directory: Path, maps: Sequence[str], participants: Sequence[str]) -> list[Path]:
    """Returns the files of an explanation but for the figures: those of images, and explanation.json."""
    names = ["sequence", *maps, *(f"{name}_counterfactual" for name in participants)]
    return [*(directory / f"{name}.nii.gz" for name in names), directory / "explanation.json"]


def _check(run: Run, confounds, participants, num_steps, num_bootstrap) -> None:
    faults = [
        Fault(f"got {value}, expected an integer >= 2. Set {example} for a start.", name)
        for name, value, example in (("num_steps", num_steps, 7), ("num_bootstrap", num_bootstrap, 100))
        if value < 2
    ]
    known = [name for name in COLUMNS if name != "sex"]
    faults += [
        Fault(f"got {name!r}, expected {', '.join(known)}. Name one of these.", "confounds")
        for name in confounds
        if name not in known
    ]
    ids, table = set(run.subjects["participant_id"]), run.directory / "subjects.tsv"
    faults += [
        Fault(f"got {name!r}, expected somebody of {table}. Check the spelling.", "participants")
        for name in participants
        if name not in ids
    ]
    if faults:
        raise UsageError(faults)


def _people(run: Run, confounds: Sequence[str]) -> dict[str, np.ndarray]:
    """Returns scan_id, participant_id, targets, groups, split and latents (without the confounds) of people whose sex
    is known, the first visit of each."""
    latents = run.load_latents()
    table = run.subjects.merge(run.split, on="participant_id").set_index("scan_id").loc[list(latents["scan_id"])]
    columns = [COLUMNS[name] for name in confounds]
    known = table["sex"].isin(["F", "M"]) & first_visits(table) & table[columns].notna().all(axis=1)
    people = table[known]
    values = latents["loc"][known.to_numpy()].astype(np.float64)
    if not len(people):
        raise CohortError(
            "sex: got nobody whose sex and confounds are known to the run, expected F and M. "
            "Fit again with the column of sex in data.sex_column, or leave out `confounds`."
        )
    if columns:
        design = pd.get_dummies(people[columns], drop_first=True).to_numpy(dtype=float)
        fitted = (people["split"] != "heldout").to_numpy()
        matrix = np.concatenate([values, design], axis=1)
        values = ConfoundRegressor(design.shape[1]).fit(matrix[fitted]).transform(matrix)
    return {
        "scan_id": people.index.to_numpy(dtype=str),
        "participant_id": people["participant_id"].to_numpy(dtype=str),
        "targets": (people["sex"] == "M").to_numpy(dtype=int),
        "groups": people["family"].fillna(people["participant_id"]).to_numpy(dtype=str),
        "split": people["split"].to_numpy(dtype=str),
        "latents": values,
    }


def _maps_with_z(
    model: LatentModel, direction: Direction, refits: Sequence[Direction], condition, advance
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Returns the maps of a direction and their mean over standard deviation in refits, (x, y, z) float32 each."""
    ways = [direction, *refits]
    ends = np.concatenate([way.at(way.ends) for way in ways])
    first, sums, squares, done = {}, {}, {}, 0
    for parts in decode_batches(model, ends, _repeat(condition, len(ends))):
        for row in range(0, len(parts["reconstruction"]), 2):
            for name, values in _maps({key: part[row : row + 2] for key, part in parts.items()}).items():
                if not done:
                    first[name], sums[name], squares[name] = values, 0.0, 0.0
                else:
                    # Apart from the map itself, so that equal maps cancel exactly.
                    away = np.subtract(values, first[name], dtype=np.float64)
                    sums[name], squares[name] = sums[name] + away, squares[name] + away**2
            done += 1
            advance(int(done > 1))
    maps = {}
    for name, values in first.items():
        mean = sums[name] / len(refits)
        spread = np.sqrt(np.maximum(squares[name] - len(refits) * mean**2, 0.0) / (len(refits) - 1))
        # Where nothing is decoded, hardly anything varies: no evidence, not infinite evidence.
        z = (values + mean) / (spread + SMALLEST_SPREAD)
        maps[name] = (values.astype(np.float32), z.astype(np.float32))
    return maps


def _maps(parts: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Returns the man's image minus the woman's, (x, y, z), and where a template is warped the logarithm of the growth.

    Args:
        parts: what is decoded of a woman and a man, in this order.
    """
    woman, man = np.clip(parts["reconstruction"][..., 0], 0.0, 1.0)
    if "displacement" not in parts:
        return {"difference": man - woman}
    # The displacement leads from an image into the template: where that shrinks, the image is the larger one.
    woman_log, man_log = np.log(np.maximum(jacobian_determinant(parts["displacement"]).numpy(), 1e-3))
    return {"difference": man - woman, "growth": woman_log - man_log}


def _saliency(run: Run, model: LatentModel, direction: Direction, people, seed: int) -> np.ndarray:
    """Returns the mean integrated gradients (x, y, z) float32 of the score of people's own sex."""
    cache = run.open_dataset().cache
    chosen = np.arange(len(people["targets"]))
    if len(chosen) > MOST_SALIENT_PEOPLE:
        chosen = np.sort(np.random.default_rng(seed).choice(chosen, MOST_SALIENT_PEOPLE, replace=False))
    rows = pd.Index(cache.table["scan_id"]).get_indexer(people["scan_id"][chosen])
    volumes = read_volumes(cache, rows)[..., None]
    baseline, weights = volumes.mean(axis=0), tf.constant(direction.weights, tf.float32)

    @tf.function(autograph=False)
    def gradients(batch):
        with tf.GradientTape() as tape:
            tape.watch(batch)
            latents = model.posterior(batch, refined=False)["loc"]  # Refining leaves derivatives as they are.
            score = tf.linalg.matvec(tf.cast(latents, tf.float32), weights)
        return tape.gradient(score, batch)

    total = np.zeros(baseline.shape, np.float64)
    for step in (np.arange(NUM_SALIENCY_STEPS) + 0.5) / NUM_SALIENCY_STEPS:
        for start in range(0, len(volumes), BATCH_SIZE):
            some = slice(start, start + BATCH_SIZE)
            away = volumes[some] - baseline
            gradient = gradients(pad_batch(tf.constant(baseline + step * away)))[: len(away)].numpy()
            sign = 2.0 * people["targets"][chosen][some] - 1.0
            total += np.einsum("n,nxyzc->xyzc", sign, gradient * away)
    return (total[..., 0] / (NUM_SALIENCY_STEPS * len(volumes))).astype(np.float32)


def _counterfactual(run: Run, model: LatentModel, direction: Direction, people, name: str) -> np.ndarray:
    """Returns the image of one person as it is decoded, and with the other sex's mean score, (x, y, z, 2) float32."""
    latents = run.load_latents()
    scan_id = run.subjects.loc[run.subjects["participant_id"] == name, "scan_id"].iloc[0]
    own = latents["loc"][latents["scan_id"] == scan_id].astype(np.float64)
    index = np.flatnonzero(people["participant_id"] == name)
    # How far the person is from the other sex is read from the latents without the confounds.
    score = direction.scores(people["latents"][index])
    other = direction.ends[1 - people["targets"][index[0]]]
    pair = np.concatenate([own, own + (other - score)[:, None] * direction.pattern])
    volumes = np.clip(decode_latents(model, pair, run.conditions([scan_id] * 2)), 0.0, 1.0)
    return np.moveaxis(volumes, 0, -1)


def _repeat(condition, count: int):
    return None if condition is None else np.repeat(condition[None], count, axis=0)
