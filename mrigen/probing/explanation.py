"""What the latents know of the sex, shown on the whole image: heads along the probe's direction, maps, saliency."""

import dataclasses
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import tensorflow as tf
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import GridSearchCV
from sklearn.preprocessing import StandardScaler

from mrigen.data.covariates import COLUMNS
from mrigen.data.pipeline import read_volumes
from mrigen.errors import CohortError, UsageError
from mrigen.imaging.figures import draw_contact_sheet, draw_map
from mrigen.imaging.volumes import write_volume
from mrigen.layers import jacobian_determinant
from mrigen.models import LatentModel
from mrigen.models.batches import BATCH_SIZE, pad_batch
from mrigen.probing.confounds import ConfoundRegressor
from mrigen.probing.predictors import LOGISTIC_C, stratified_group_folds
from mrigen.runs import Run
from mrigen.runs.encoding import decode_batches, decode_latents
from mrigen.system.files import refuse_taken, write_json
from mrigen.system.progress import progress_bar

NUM_FOLDS = 5
# Enough for the mean of a map; the gradients of a whole cohort would take as long as a fit.
MOST_SALIENT_PEOPLE = 32
NUM_SALIENCY_STEPS = 16
# Added to the standard deviation of a map: a quarter of a grey level of an image of 8 bits.
SMALLEST_SPREAD = 1e-3


@dataclasses.dataclass(frozen=True)
class Direction:
    """The way through the latent space along which the sex changes.

    Attributes:
        middle: (latent,) mean latents of the people it was fitted on.
        weights: (latent,) of the logistic probe: its score is `weights @ (latents - middle)`, in log-odds without bias.
        pattern: (latent,) what goes with a score of 1 in the latents of people.
        ends: mean scores of women and of men.
        c: inverse regularisation of the probe.
    """

    middle: np.ndarray
    weights: np.ndarray
    pattern: np.ndarray
    ends: tuple[float, float]
    c: float

    def scores(self, latents: np.ndarray) -> np.ndarray:
        """Returns the score of each of `latents` (n, latent)."""
        return (latents - self.middle) @ self.weights

    def at(self, scores) -> np.ndarray:
        """Returns the latents (n, latent) on the way through the middle that have these scores."""
        return self.middle + np.asarray(scores)[:, None] * self.pattern


def fit_direction(latents: np.ndarray, target: np.ndarray, groups: np.ndarray, c: float | None = None) -> Direction:
    """Returns the direction of a logistic probe, as the pattern that goes with its score.

    The weights of a probe also undo what other latents have in common, so that a walk along them shows changes that no
    person has; the regression of the latents on the score does not.

    Args:
        latents: (n, latent).
        target: (n,) int, 0 (F) or 1 (M).
        groups: (n,) str, families; undivided where `c` is chosen.
        c: inverse regularisation; chosen by log loss in cross-validation if None.

    References:
        Haufe et al. 2014, On the interpretation of weight vectors of linear models, NeuroImage 87.
    """
    scaler = StandardScaler().fit(latents)
    inputs = scaler.transform(latents)
    options = {"class_weight": "balanced", "max_iter": 1000}
    if c is None:
        folds = stratified_group_folds(target, groups, NUM_FOLDS, 0)
        if not folds:
            raise CohortError(
                "sex: got too few women or men (families counted once), expected at least 2 of each among the people "
                "that are not held out. Name the column with data.sex_column."
            )
        search = GridSearchCV(
            LogisticRegression(**options), {"C": LOGISTIC_C}, scoring="neg_log_loss", cv=folds, refit=False
        )
        c = float(search.fit(inputs, target).best_params_["C"])
    weights = LogisticRegression(C=c, **options).fit(inputs, target).coef_[0] / scaler.scale_
    middle = latents.mean(axis=0)
    scores = (latents - middle) @ weights
    # A probe that found nothing leads nowhere.
    spread = max(float(scores @ scores), np.finfo(np.float64).tiny)
    pattern = (latents - middle).T @ scores / spread
    return Direction(middle, weights, pattern, (scores[target == 0].mean(), scores[target == 1].mean()), c)


def explain(
    run: Run,
    confounds: Sequence[str] = (),
    participants: Sequence[str] = (),
    num_steps: int = 7,
    num_bootstrap: int = 100,
    directory: str | os.PathLike | None = None,
    force: bool = False,
    seed: int = 0,
) -> list[Path]:
    """Writes what changes from women to men in the heads that a run decodes, and returns the paths.

    The probe is fitted on people that are not held out, and scored on those that are. Written, on the model's grid:

    - sequence.nii.gz, .png: heads from a woman's mean score to a man's, (x, y, z, step) in [0, 1];
    - difference.nii.gz: the last of them minus the first; difference_z.nii.gz: its mean over its standard deviation
      in refits to resampled families; difference.png: both on the middle head;
    - growth.nii.gz, growth_z.nii.gz, growth.png (morphing models): the logarithm of how much larger a man's tissue is
      than a woman's at a voxel;
    - saliency.nii.gz, .png: integrated gradients of the score through the encoder, from the mean head to a person's,
      turned so that positive voxels speak for the person's own sex; the mean of up to `MOST_SALIENT_PEOPLE`;
    - <participant>_counterfactual.nii.gz, .png for each of `participants`: the head as it is decoded, and with the
      other sex's mean score, (x, y, z, 2);
    - explanation.json: who, the probe's AUC on held-out people, its regularisation, the confounds.

    Args:
        run: a finished run.
        confounds: of sex, age, head_size, site (not sex): taken out of the latents by linear regression first, so that
            the heads differ by what goes with sex beyond them.
        participants: ids of whom to show as the other sex.
        num_steps: heads in the sequence.
        num_bootstrap: refits.
        directory: where to write; RUN/explanation by default.
        force: whether files of that name are replaced.
        seed: of the refits.

    Raises:
        UsageError: a number out of range, an unknown confound or participant, or a file is there already.
        CohortError: too few women or men.

    References:
        Sundararajan, Taly and Yan 2017, Axiomatic attribution for deep networks.
    """
    _check(run, confounds, participants, num_steps, num_bootstrap)
    directory = Path(directory) if directory is not None else run.directory / "explanation"
    is_morph = run.recipe.model.kind == "morph"
    maps = ("difference", "growth") if is_morph else ("difference",)
    paths = {
        name: directory / f"{name}.nii.gz" for name in ("sequence", *maps, *(f"{name}_z" for name in maps), "saliency")
    } | {name: directory / f"{name}_counterfactual.nii.gz" for name in participants}
    refuse_taken([*paths.values(), directory / "explanation.json"], force)
    people = _people(run, confounds)
    unknown = [name for name in participants if name not in people["participant_id"]]
    if unknown:
        raise UsageError(
            f"--participant: got {unknown[0]}, whose sex or confounds are unknown, expected both. Name another."
        )
    fitted = people["split"] != "heldout"
    told = None if run.covariates is None else run.conditions(run.load_latents("train")["scan_id"]).mean(axis=0)
    latents, target, groups = (people[name][fitted] for name in ("latents", "target", "groups"))
    direction = fit_direction(latents, target, groups)
    model = run.load_model()
    zooms = run.grid["zooms"]

    walk = direction.at(np.linspace(*direction.ends, num_steps))
    heads = np.clip(decode_latents(model, walk, _repeat(told, num_steps)), 0.0, 1.0)
    middle = np.clip(decode_latents(model, direction.at([0.0]), _repeat(told, 1))[0], 0.0, 1.0)
    write_volume(paths["sequence"], np.moveaxis(heads, 0, -1), run.affine)
    titles = [f"{step:+.1f}" for step in np.linspace(*direction.ends, num_steps)]
    draw_contact_sheet(list(heads), titles, directory / "sequence.png", zooms, columns=num_steps)

    generator = np.random.default_rng(seed)
    refits = [_resample(target, groups, generator) for _ in range(num_bootstrap)]
    refits = [fit_direction(latents[rows], target[rows], groups[rows], direction.c) for rows in refits]
    with progress_bar("Explaining", num_bootstrap, "refits") as advance:
        for name, (values, z) in _maps_with_z(model, direction, refits, told, is_morph, advance).items():
            write_volume(paths[name], values, run.affine)
            write_volume(paths[f"{name}_z"], z, run.affine)
            draw_map(middle, {name: values, f"{name}, z": z}, directory / f"{name}.png", zooms)

    saliency = _saliency(run, model, direction, people, seed)
    write_volume(paths["saliency"], saliency, run.affine)
    draw_map(middle, {"saliency": saliency}, directory / "saliency.png", zooms)
    for name in participants:
        _write_counterfactual(run, model, direction, people, name, paths[name])
    heldout = ~fitted
    both = len(np.unique(people["target"][heldout])) == 2
    score = direction.scores(people["latents"][heldout])
    write_json(
        directory / "explanation.json",
        {
            "target": "sex",
            "classes": ["F", "M"],
            "confounds": list(confounds),
            "num_people": int(fitted.sum()),
            "num_heldout": int(heldout.sum()),
            "heldout_roc_auc": float(roc_auc_score(people["target"][heldout], score)) if both else None,
            "ends": list(map(float, direction.ends)),
            "c": direction.c,
            "num_bootstrap": num_bootstrap,
            "seed": seed,
        },
    )
    pictures = [path.with_name(path.name.replace(".nii.gz", ".png")) for path in paths.values()]
    return [*paths.values(), *(path for path in pictures if path.is_file()), directory / "explanation.json"]


def _check(run: Run, confounds, participants, num_steps, num_bootstrap) -> None:
    faults = [
        f"{option}: got {value}, expected an integer >= {least}. Set {example} for a start."
        for option, value, least, example in (
            ("--steps", num_steps, 2, 7),
            ("--bootstrap", num_bootstrap, 2, 100),
        )
        if value < least
    ]
    known = [name for name in COLUMNS if name != "sex"]
    faults += [
        f"--confounds: got {name!r}, expected {', '.join(known)}. Name one of these." for name in confounds
        if name not in known
    ]  # fmt: skip
    ids = set(run.subjects["participant_id"])
    faults += [
        f"--participant: got {name!r}, expected somebody of {run.directory / 'subjects.tsv'}. Check the spelling."
        for name in participants
        if name not in ids
    ]
    if faults:
        raise UsageError(faults)


def _people(run: Run, confounds: Sequence[str]) -> dict[str, np.ndarray]:
    """Returns scan_id, participant_id, target, groups, split and latents (without the confounds) of people whose sex
    is known, the first visit of each."""
    latents = run.load_latents()
    table = run.subjects.merge(run.split, on="participant_id").set_index("scan_id").loc[list(latents["scan_id"])]
    columns = [COLUMNS[name] for name in confounds]
    known = table["sex"].isin(["F", "M"]) & ~table["participant_id"].duplicated() & table[columns].notna().all(axis=1)
    people = table[known]
    values = latents["loc"][known.to_numpy()].astype(np.float64)
    if not len(people):
        raise CohortError(
            "sex: got nobody whose sex and confounds are known, expected F and M in participants.tsv. "
            "Name the column with data.sex_column, or leave out --confounds."
        )
    if columns:
        told = pd.get_dummies(people[columns], drop_first=True).to_numpy(dtype=float)
        fitted = (people["split"] != "heldout").to_numpy()
        matrix = np.concatenate([values, told], axis=1)
        values = ConfoundRegressor(told.shape[1]).fit(matrix[fitted]).transform(matrix)
    return {
        "scan_id": people.index.to_numpy(dtype=str),
        "participant_id": people["participant_id"].to_numpy(dtype=str),
        "target": (people["sex"] == "M").to_numpy(dtype=int),
        "groups": people["family"].fillna(people["participant_id"]).to_numpy(dtype=str),
        "split": people["split"].to_numpy(dtype=str),
        "latents": values,
    }


def _resample(target: np.ndarray, groups: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Returns rows of families that are drawn with replacement, until both sexes are among them."""
    members = [np.flatnonzero(groups == name) for name in np.unique(groups)]
    while True:
        rows = np.concatenate([members[k] for k in generator.integers(len(members), size=len(members))])
        if len(np.unique(target[rows])) == 2:
            return rows


def _maps_with_z(
    model: LatentModel, direction: Direction, refits: Sequence[Direction], told, is_morph: bool, advance
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Returns the maps of a direction and their mean over standard deviation in refits, (x, y, z) float32 each."""
    ways = [direction, *refits]
    ends = np.concatenate([way.at(way.ends) for way in ways])
    first, sums, squares, done = {}, {}, {}, 0
    for parts in decode_batches(model, ends, _repeat(told, len(ends))):
        for row in range(0, len(parts["reconstruction"]), 2):
            for name, values in _maps({key: part[row : row + 2] for key, part in parts.items()}, is_morph).items():
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


def _maps(parts: dict[str, np.ndarray], is_morph: bool) -> dict[str, np.ndarray]:
    """Returns the man's head minus the woman's, (x, y, z), and for a morphing model the logarithm of the growth.

    Args:
        parts: what is decoded of a woman and a man, in this order.
    """
    woman, man = np.clip(parts["reconstruction"][..., 0], 0.0, 1.0)
    if not is_morph:
        return {"difference": man - woman}
    # The displacement leads from a head into the template: where that shrinks, the head is the larger one.
    woman_log, man_log = np.log(np.maximum(jacobian_determinant(parts["displacement"]).numpy(), 1e-3))
    return {"difference": man - woman, "growth": woman_log - man_log}


def _saliency(run: Run, model: LatentModel, direction: Direction, people, seed: int) -> np.ndarray:
    """Returns the mean integrated gradients (x, y, z) float32 of the score of people's own sex."""
    cache = run.open_dataset().cache
    chosen = np.arange(len(people["target"]))
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
            sign = 2.0 * people["target"][chosen][some] - 1.0
            total += np.einsum("n,nxyzc->xyzc", sign, gradient * away)
    return (total[..., 0] / (NUM_SALIENCY_STEPS * len(volumes))).astype(np.float32)


def _write_counterfactual(run: Run, model: LatentModel, direction: Direction, people, name: str, path: Path) -> None:
    latents = run.load_latents()
    scan_id = run.subjects.loc[run.subjects["participant_id"] == name, "scan_id"].iloc[0]
    own = latents["loc"][latents["scan_id"] == scan_id].astype(np.float64)
    index = np.flatnonzero(people["participant_id"] == name)
    # How far the person is from the other sex is told by the latents without the confounds.
    score = direction.scores(people["latents"][index])
    other = direction.ends[1 - people["target"][index[0]]]
    pair = np.concatenate([own, own + (other - score)[:, None] * direction.pattern])
    told = run.conditions([scan_id] * 2)
    heads = np.clip(decode_latents(model, pair, told), 0.0, 1.0)
    write_volume(path, np.moveaxis(heads, 0, -1), run.affine)
    picture = path.with_name(path.name.replace(".nii.gz", ".png"))
    draw_map(heads[0], {"other sex minus own": heads[1] - heads[0]}, picture, run.grid["zooms"])


def _repeat(told, count: int):
    return None if told is None else np.repeat(told[None], count, axis=0)
