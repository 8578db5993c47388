"""What the latents know of the sex, shown on the whole image: a walk along the probe's direction, maps, saliency."""

import dataclasses
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from scipy import ndimage

from mrigen.data.covariates import COLUMNS
from mrigen.data.pipeline import read_volumes
from mrigen.data.tables import first_visits
from mrigen.errors import CohortError, Fault, UsageError
from mrigen.imaging.figures import plot_contact_sheet, save_figure
from mrigen.imaging.headers import ALIGNED, SCANNER
from mrigen.imaging.maps import Overlay, label_map, plot_overlays
from mrigen.imaging.volumes import Nifti1Image, array_of, make_image, write_image, zooms_of
from mrigen.models import LatentModel
from mrigen.probing.confounds import deconfounded
from mrigen.probing.direction import Direction, fit_direction
from mrigen.probing.inputs import ProbeInputs
from mrigen.probing.map_tests import (
    ERROR_RATE,
    FEWEST_PERMUTATIONS,
    WINDOW_MM,
    MapTest,
    maps_with_tests,
)
from mrigen.probing.predictors import LogisticPredictor
from mrigen.probing.protocol import run_probe
from mrigen.probing.saliency import NUM_STEPS, draw_pairs, saliency
from mrigen.probing.score_table import HELDOUT, TRANSDUCTIVE
from mrigen.runs import Run
from mrigen.runs.encoding import decode_latents
from mrigen.system.files import refuse_taken, write_json
from mrigen.system.progress import progress_bar

CHANCE = 0.5
# Above this, of intensities from 0 to 1, there is something of a head.
VISIBLE = 0.05
# What is measured of people beside covariates, and may be taken out.
MEASURED = ("brain_volume_ml",)
# name -> what it is, its unit, and what a positive voxel says.
MAPS = {
    "difference": ("Intensity of a man with the mean score of men minus that of such a woman", "intensity, 0 to 1"),
    "growth": ("Logarithm of how much larger the tissue at a voxel is in men", "log of a ratio of volumes"),
    "saliency": ("Integrated gradients of the score, through the whole of inference", "log-odds in a voxel"),
}


@dataclasses.dataclass(frozen=True)
class Figure95:
    """A ROC AUC with its interval.

    Attributes:
        roc_auc: the figure.
        low, high: its 95 % interval.
        num_people: who were scored.
        protocol: how: a key of `mrigen.probing.score_table.PROTOCOLS`.
    """

    roc_auc: float
    low: float
    high: float
    num_people: int
    protocol: str

    def __str__(self) -> str:
        return f"{self.roc_auc:.3f} [{self.low:.3f}, {self.high:.3f}] ({self.num_people} people, {self.protocol})"


@dataclasses.dataclass(frozen=True, repr=False)
class Explanation:
    """What changes from women to men in the images that a run decodes, on the model's grid.

    Attributes:
        direction: along which the sex changes in the latent space.
        sequence: (x, y, z, step) image, from a woman's mean score to a man's, in [0, 1]; None where maps are withheld.
        maps: name -> (x, y, z) image: "difference", the last of the sequence minus the first; "growth" (models that
            warp a template), the logarithm of how much larger a man's tissue is than a woman's at a voxel;
            "difference_z", "difference_strength", "difference_mask" and those of growth, these against permuted people,
            the same around a voxel, and where it is beyond the threshold (see `MapTest`); "saliency", integrated
            gradients of the score through the whole of inference, from women to men: positive voxels speak for a man.
        tests: "difference", "growth" -> thresholds and p-values.
        counterfactuals: participant_id -> (x, y, z, 2) image: as the person is decoded, and with the other sex's mean
            score.
        background: (x, y, z) image between women and men; None where maps are withheld.
        figures: protocol -> ROC AUC of the probe, cross-validated and of held-out people, as far as there are any.
        withheld: why there are no images; None where there are.
        saliency_sums: of the map of saliency, and what the score gains from women to men, which it should be.
        confounds: taken out of the latents in every fit.
        num_people, num_heldout: on whom the direction was fitted, and who were held out.
        num_permutations, seed: of the tests.
        is_oriented: whether left and right are known.
        directory: where `write` puts the files unless told otherwise.
    """

    direction: Direction
    sequence: Nifti1Image | None
    maps: dict[str, Nifti1Image]
    tests: dict[str, MapTest]
    counterfactuals: dict[str, Nifti1Image]
    background: Nifti1Image | None
    figures: dict[str, Figure95]
    withheld: str | None
    saliency_sums: tuple[float, float] | None
    confounds: tuple[str, ...]
    num_people: int
    num_heldout: int
    num_permutations: int
    seed: int
    is_oriented: bool
    directory: Path

    def __repr__(self) -> str:
        scores = "; ".join(map(str, self.figures.values()))
        if self.withheld:
            return f"Explanation of sex, withheld: {self.withheld}"
        return (
            f"Explanation of sex: {self.sequence.shape[3]} images from women to men, maps {', '.join(self.maps)}; "
            f"ROC AUC {scores or 'unknown'}"
        )

    @property
    def heldout_roc_auc(self) -> float | None:
        """Of the probe; None without held-out people of both sexes."""
        return self.figures[HELDOUT].roc_auc if HELDOUT in self.figures else None

    @property
    def scores(self) -> np.ndarray:
        """(step,) scores of the sequence, in log-odds without bias.

        Raises:
            UsageError: the images are withheld.
        """
        self._refuse_withheld()
        return np.linspace(*self.direction.ends, self.sequence.shape[3])

    def plot(self, name: str = "sequence") -> Figure:
        """Returns a figure: middle slices of the sequence, or of a map beside its z, over the background.

        Args:
            name: "sequence", "difference", "growth", "saliency", or a participant of `counterfactuals`.

        Raises:
            UsageError: there is nothing of that name, or the images are withheld.
        """
        self._refuse_withheld()
        affine = self.sequence.affine
        if name == "sequence":
            volumes = list(np.moveaxis(array_of(self.sequence), -1, 0))
            titles = [f"{score:+.1f}" for score in self.scores]
            return plot_contact_sheet(volumes, titles, zooms_of(affine), len(volumes))
        if name in self.counterfactuals:
            own, other = np.moveaxis(array_of(self.counterfactuals[name]), -1, 0)
            overlay = Overlay(f"{name}: with the other sex's mean score, minus own", other - own, "intensity, 0 to 1")
            return plot_overlays(own, [overlay], affine, self.is_oriented)
        if name not in self._plotted:
            known = ", ".join([*self._plotted, *self.counterfactuals])
            raise UsageError(f"got {name!r}, expected one of {known}. Choose one.", parameter="name")
        test = self.tests.get(name)
        mask = None if test is None else test.mask
        units = f"{MAPS[name][1]}; women to men"
        overlays = [Overlay(name, array_of(self.maps[name]), units, mask)]
        if test is not None:
            overlays.append(
                Overlay(f"{name}, z; outlined: corrected p < {ERROR_RATE:g}", test.z, "z; women to men", mask)
            )
        return plot_overlays(array_of(self.background), overlays, affine, self.is_oriented)

    @property
    def _plotted(self) -> list[str]:
        return ["sequence", *(name for name in self.maps if name in MAPS)]

    def _refuse_withheld(self) -> None:
        if self.withheld:
            raise UsageError(f"got an explanation that is withheld: {self.withheld}", parameter="withhold")

    @staticmethod
    def check_target(
        run: Run,
        directory: str | os.PathLike | None = None,
        force: bool = False,
        *,
        confounds: Sequence[str] = (),
        participants: Sequence[str] = (),
        num_steps: int = 7,
        num_permutations: int = 300,
    ) -> None:
        """Refuses, before `explain` takes its time, what it and `write` would refuse.

        Args:
            run: that is to be explained.
            directory, force: as for `write`.
            confounds, participants, num_steps, num_permutations: as for `explain`.

        Raises:
            UsageError: a number out of range, an unknown confound or participant, or a file is there already.
        """
        _check(run, confounds, participants, num_steps, num_permutations)
        directory = _default_directory(run) if directory is None else Path(directory)
        refuse_taken(_paths(directory, _map_names(run.recipe.model.warps_template), participants), force)

    def write(self, directory: str | os.PathLike | None = None, force: bool = False) -> list[Path]:
        """Writes the images, the figures and explanation.json, and returns the paths.

        They are sequence.nii.gz, a .nii.gz for each of `maps`, <participant>_counterfactual.nii.gz, a .json of the same
        name that says what each is, a .png for each but the z and the mask (which are in that of their map), and
        explanation.json: who, the probe's AUC, its regularisation, the confounds. Where the images are withheld, it is
        explanation.json alone, with the reason.

        Args:
            directory: the folder; RUN/explanation by default.
            force: whether files of that name are replaced.

        Raises:
            UsageError: a file is there already.
        """
        directory = self.directory if directory is None else Path(directory)
        *paths, description = _paths(directory, list(self.maps), list(self.counterfactuals))
        paths = [] if self.withheld else paths
        refuse_taken([*paths, description], force)
        written = []
        if not self.withheld:
            images = [self.sequence, *self.maps.values(), *self.counterfactuals.values()]
            for path, image in zip(paths, images, strict=True):
                write_image(path, image)
                sidecar = directory / f"{_stem(path)}.json"
                write_json(sidecar, self._describe(_stem(path)))
                written += [path, sidecar]
            plots = {f"{name}.png": name for name in self._plotted}
            plots |= {f"{name}_counterfactual.png": name for name in self.counterfactuals}
            for file, name in plots.items():
                save_figure(self.plot(name), directory / file)
                written.append(directory / file)
        write_json(description, self.as_dict())
        return [*written, description]

    def as_dict(self) -> dict:
        """Returns the content of explanation.json."""
        return {
            "target": "sex",
            "classes": ["F", "M"],
            "direction": "women to men",
            "withheld": self.withheld,
            "confounds": list(self.confounds),
            "num_people": self.num_people,
            "num_heldout": self.num_heldout,
            "heldout_roc_auc": self.heldout_roc_auc,
            "figures": {
                name: {"roc_auc": one.roc_auc, "ci": [one.low, one.high], "num_people": one.num_people}
                for name, one in self.figures.items()
            },
            "ends": list(map(float, self.direction.ends)),
            "c": self.direction.c,
            "maps": {
                name: {
                    "threshold": _finite(test.threshold),
                    "p": test.p_value,
                    "num_voxels": int(test.mask.sum()),
                }
                for name, test in self.tests.items()
            },
            "saliency": None
            if self.saliency_sums is None
            else dict(zip(("sum", "score_gained"), self.saliency_sums, strict=True)),
            "num_permutations": self.num_permutations,
            "seed": self.seed,
        }

    def _describe(self, stem: str) -> dict:
        """Returns the content of the .json beside an image."""
        content = {"Direction": "women to men", "ConfoundsTakenOut": list(self.confounds)}
        if stem == "sequence":
            text = "What the run decodes, from the mean score of women to that of men; one image a step"
            return {"Description": text, "Units": "intensity, 0 to 1", "Scores": self.scores.tolist(), **content}
        name, _, kind = stem.partition("_")
        if stem.endswith("_counterfactual"):
            text = "The person as decoded, and with the mean score of the other sex"
            return {"Description": text, "Units": "intensity, 0 to 1", "ConfoundsTakenOut": list(self.confounds)}
        text, units = MAPS[name]
        content = {"Description": text, "Units": units, "Positive": "more in men", **content}
        if name == "saliency":
            content["Positive"] = "speaks for a man"
        if name not in self.tests:
            return content
        test = self.tests[name]
        if kind == "z":
            content["Units"] = "z: away from the mean of permuted people, over their standard deviation"
        if kind == "mask":
            content["Units"] = "1 where |z| is beyond the threshold, 0 elsewhere"
            del content["Positive"]
        rule = (
            f"largest |z| of any voxel under permutation within sites, families as wholes; {ERROR_RATE:g} family-wise"
        )
        return content | {
            "Threshold": _finite(test.threshold),
            "ThresholdOf": f"{name}_strength.nii.gz",
            "ThresholdRule": rule,
            "P": test.p_value,
            "Mask": f"{name}_mask.nii.gz",
            "NumPermutations": self.num_permutations,
        }


def explain(
    run: Run,
    *,
    confounds: Sequence[str] = (),
    participants: Sequence[str] = (),
    num_steps: int = 7,
    num_permutations: int = 300,
    withhold: bool = True,
    seed: int = 0,
) -> Explanation:
    """Returns what changes from women to men in the images that a run decodes; nothing is written.

    The direction is fitted on people that are not held out. Whether there is anything to show, the probe says: where
    the 95 % interval of its ROC AUC does not lie above one half, cross-validated over everyone (or, where the model was
    told the sex in training, of those held out), there are no images, but the reason.

    Args:
        run: a finished run.
        confounds: of age, head_size, site, brain_volume_ml: taken out of the latents by linear regression, in every
            fit anew, so that the images differ by what goes with sex beyond them.
        participants: ids of whom to show as the other sex.
        num_steps: images in the sequence.
        num_permutations: of people, for the thresholds of the maps.
        withhold: whether images are withheld where the probe does not beat chance.
        seed: of folds, permutations, and who is looked at for the saliency.

    Raises:
        UsageError: a number out of range, an unknown confound or participant.
        CohortError: too few women or men.
    """
    given = (confounds, participants)
    confounds, participants = ((value,) if isinstance(value, str) else tuple(value) for value in given)
    _check(run, confounds, participants, num_steps, num_permutations)
    people = _people(run, confounds)
    unknown = [name for name in participants if name not in people.table["participant_id"].to_numpy()]
    if unknown:
        raise UsageError(
            f"got {unknown[0]}, whose sex or confounds are unknown, expected both. Name another.",
            parameter="participants",
        )
    fitted = people.fitted
    latents, targets, groups, design = (
        None if values is None else values[fitted]
        for values in (people.latents, people.targets, people.groups, people.confounds)
    )
    direction = fit_direction(latents, targets, groups, confounds=design)
    figures = _figures(people, seed)
    withheld = reason_to_withhold(run, figures) if withhold else None
    explanation = Explanation(
        direction=direction,
        sequence=None,
        maps={},
        tests={},
        counterfactuals={},
        background=None,
        figures=figures,
        withheld=withheld,
        saliency_sums=None,
        confounds=confounds,
        num_people=int(fitted.sum()),
        num_heldout=int((~fitted).sum()),
        num_permutations=num_permutations,
        seed=seed,
        is_oriented=run.is_oriented(),
        directory=_default_directory(run),
    )
    if withheld:
        return explanation
    condition = None if run.covariates is None else run.conditions(run.load_latents("train")["scan_id"]).mean(axis=0)
    model = run.load_model()

    def image(array: np.ndarray) -> Nifti1Image:
        return make_image(array, run.affine, SCANNER if explanation.is_oriented else ALIGNED)

    def decode(scores) -> np.ndarray:
        conditions = None if condition is None else np.repeat(condition[None], len(scores), axis=0)
        return np.clip(decode_latents(model, direction.at(scores), conditions), 0.0, 1.0)

    cache = run.open_dataset().cache

    def volumes(scan_ids) -> np.ndarray:
        return read_volumes(cache, pd.Index(cache.table["scan_id"]).get_indexer(scan_ids))[..., None]

    background = decode([0.0])[0]
    women, men = draw_pairs(targets, seed)
    with progress_bar("Explaining", num_permutations + NUM_STEPS * len(women), "heads") as advance:
        tests = maps_with_tests(
            model, direction, latents, targets, groups, people.sites[fitted], design,
            zooms=run.grid["zooms"], inside=_head(background), condition=condition,
            num_permutations=num_permutations, seed=seed, advance=advance,
        )  # fmt: skip
        names = people.table.index.to_numpy(dtype=str)[fitted]
        salient, gained = saliency(model, direction.weights, volumes(names[women]), volumes(names[men]), advance)
    maps = {name: test.values for name, test in tests.items()}
    maps |= {f"{name}_z": test.z for name, test in tests.items()}
    maps |= {f"{name}_strength": test.strength for name, test in tests.items()}
    maps |= {f"{name}_mask": test.mask.astype(np.uint8) for name, test in tests.items()}
    maps["saliency"] = salient
    maps = {name: image(values) for name, values in maps.items()}
    for name, one in maps.items():
        _label(one, name, tests)
    return dataclasses.replace(
        explanation,
        sequence=image(np.moveaxis(decode(np.linspace(*direction.ends, num_steps)), 0, -1)),
        maps=maps,
        tests=tests,
        counterfactuals={name: image(_counterfactual(run, model, direction, people, name)) for name in participants},
        background=image(background),
        saliency_sums=(float(salient.sum(dtype=np.float64)), gained),
    )


def _head(background: np.ndarray) -> np.ndarray:
    """Returns the voxels (x, y, z) of a decoded head and one around it."""
    return ndimage.binary_dilation(ndimage.binary_fill_holes(background > VISIBLE), np.ones((3, 3, 3), bool))


@dataclasses.dataclass(frozen=True)
class _People:
    """People whose sex and confounds are known, the first visit of each.

    Attributes:
        table: one row a person, by scan_id, with the columns of subjects.tsv and the split.
        targets: (n,) int. groups, sites: (n,) str. latents: (n, latent). confounds: (n, confounds) or None.
    """

    table: pd.DataFrame
    targets: np.ndarray
    groups: np.ndarray
    sites: np.ndarray
    latents: np.ndarray
    confounds: np.ndarray | None

    @property
    def fitted(self) -> np.ndarray:
        """(n,) bool, who is not held out."""
        return (self.table["split"] != "heldout").to_numpy()


def _people(run: Run, confounds: Sequence[str]) -> _People:
    latents = run.load_latents()
    table = run.subjects.merge(run.split, on="participant_id").set_index("scan_id").loc[list(latents["scan_id"])]
    columns = [COLUMNS.get(name, name) for name in confounds]
    known = table["sex"].isin(["F", "M"]) & first_visits(table) & table[columns].notna().all(axis=1)
    people = table[known]
    if not len(people):
        raise CohortError(
            "sex: got nobody whose sex and confounds are known to the run, expected F and M. "
            "Fit again with the column of sex in data.sex_column, or leave out `confounds`."
        )
    design = pd.get_dummies(people[columns], drop_first=True).to_numpy(dtype=float) if columns else None
    if design is not None and design.shape[1]:
        design = (design - design.mean(axis=0)) / np.where(design.std(axis=0) > 0, design.std(axis=0), 1.0)
    return _People(
        table=people,
        targets=(people["sex"] == "M").to_numpy(dtype=int),
        groups=people["family"].fillna(people["participant_id"]).to_numpy(dtype=str),
        sites=people["site"].fillna("n/a").to_numpy(dtype=str),
        latents=latents["loc"][known.to_numpy()].astype(np.float64),
        confounds=design if design is not None and design.shape[1] else None,
    )


def _figures(people: _People, seed: int) -> dict[str, Figure95]:
    """Returns what `probe` has of these people in the row `latents`, or without the confounds."""
    features = people.latents
    if people.confounds is not None:
        features = deconfounded(people.latents, people.confounds)
    nothing = np.zeros((len(people.targets), 1), np.float32)
    inputs = ProbeInputs(
        participant_ids=people.table["participant_id"].to_numpy(dtype=str),
        targets=people.targets,
        groups=people.groups,
        site=people.sites,
        split=people.table["split"].to_numpy(dtype=str),
        latents=people.latents,
        latents_draw=None,
        volumes=nothing,
        head_volume=nothing[:, 0],
    )
    result = run_probe(inputs, seed=seed, predictors={"latents": LogisticPredictor(features)})
    return {
        row["protocol"]: Figure95(row["roc_auc"], *row["roc_auc_ci"], row["num_subjects"], row["protocol"])
        for row in result.rows()
        if row["roc_auc"] is not None
    }


def reason_to_withhold(run: Run, figures: Mapping[str, Figure95]) -> str | None:
    """Returns why nothing should be shown, or None where the probe beats chance.

    Args:
        run: whose model may have been told the sex of the people it was trained on.
        figures: of the probe, by protocol.
    """
    told = "sex" in run.recipe.model.covariates  # What latents should not tell is given, too.
    protocol, why = (HELDOUT, "whom the model was not told the sex of, ") if told else (TRANSDUCTIVE, "")
    if protocol not in figures:
        return f"nobody of both sexes was held out, {why}so nobody knows whether there is anything to show."
    if figures[protocol].low > CHANCE:
        return None
    return (
        f"the ROC AUC of the probe, {why}{figures[protocol]}, does not beat chance ({CHANCE:g}): "
        "maps would show differences of these people by chance."
    )


def _label(image: Nifti1Image, stem: str, tests: Mapping[str, MapTest]) -> None:
    name, _, kind = stem.partition("_")
    threshold = tests[name].threshold if name in tests else None
    if kind == "z":
        label_map(image, stem, f"{name}, z, women to men; positive: more in men", is_z=True)
    elif kind == "strength":
        label_map(
            image, stem, f"{name}, rms z in {WINDOW_MM:g} mm, women to men; beyond chance > {threshold:.2f}", threshold
        )
    elif kind == "mask":
        label_map(image, stem, f"{name}, women to men: 1 where strength > {threshold:.2f}")
    else:
        label_map(image, stem, f"{name}, women to men, positive: more in men; {MAPS[name][1]}")


def _counterfactual(run: Run, model: LatentModel, direction: Direction, people: _People, name: str) -> np.ndarray:
    """Returns the image of one person as it is decoded, and with the other sex's mean score, (x, y, z, 2) float32."""
    latents = run.load_latents()
    scan_id = run.subjects.loc[run.subjects["participant_id"] == name, "scan_id"].iloc[0]
    own = latents["loc"][latents["scan_id"] == scan_id].astype(np.float64)
    index = np.flatnonzero(people.table["participant_id"] == name)
    # How far the person is from the other sex is read from the latents without the confounds.
    score = direction.scores(people.latents[index], None if people.confounds is None else people.confounds[index])
    other = direction.ends[1 - people.targets[index[0]]]
    pair = np.concatenate([own, own + (other - score)[:, None] * direction.pattern])
    volumes = np.clip(decode_latents(model, pair, run.conditions([scan_id] * 2)), 0.0, 1.0)
    return np.moveaxis(volumes, 0, -1)


def _default_directory(run: Run) -> Path:
    return run.directory / "explanation"


def _map_names(warps_template: bool) -> list[str]:
    names = ["difference", "growth"] if warps_template else ["difference"]
    return [*names, *(f"{name}_{kind}" for kind in ("z", "strength", "mask") for name in names), "saliency"]


def _paths(directory: Path, maps: Sequence[str], participants: Sequence[str]) -> list[Path]:
    """Returns the files of an explanation but for the figures: those of images, and explanation.json."""
    names = ["sequence", *maps, *(f"{name}_counterfactual" for name in participants)]
    return [*(directory / f"{name}.nii.gz" for name in names), directory / "explanation.json"]


def _stem(path: Path) -> str:
    return path.name.removesuffix(".nii.gz")


def _finite(value: float) -> float | None:
    return value if np.isfinite(value) else None


def _check(run: Run, confounds, participants, num_steps, num_permutations) -> None:
    faults = [
        Fault(f"got {value}, expected an integer >= {least}. Set {example} for a start.", name)
        for name, value, least, example in (
            ("num_steps", num_steps, 2, 7),
            ("num_permutations", num_permutations, FEWEST_PERMUTATIONS, 300),
        )
        if value < least
    ]
    known = [name for name in COLUMNS if name != "sex"] + [name for name in MEASURED if name in run.subjects]
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
