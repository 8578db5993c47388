"""What the latents know of the sex, shown on the whole image: figures and files of what `explain` returns."""

import dataclasses
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from mrigen.data.covariates import COLUMNS
from mrigen.errors import Fault, UsageError
from mrigen.imaging.figures import plot_contact_sheet, save_figure
from mrigen.imaging.maps import Overlay, plot_overlays
from mrigen.imaging.volumes import Nifti1Image, array_of, write_image, zooms_of
from mrigen.probing.direction import Direction
from mrigen.probing.map_tests import ERROR_RATE, FEWEST_PERMUTATIONS, MapTest
from mrigen.probing.map_texts import MAPS, describe_image, finite_or_none, image_paths, map_names, stem_of
from mrigen.probing.score_table import HELDOUT
from mrigen.runs import Run
from mrigen.system.files import write_json
from mrigen.system.targets import refuse_taken, writing

# What is measured of people beside covariates, and may be taken out.
MEASURED = ("brain_volume_ml",)


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
        growth_spacing: (3,) mm between the points of the velocity, below which growth is not told apart; None where no
            template is warped.
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
    growth_spacing: tuple[float, ...] | None
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
        check_request(run, confounds, participants, num_steps, num_permutations)
        directory = default_directory(run) if directory is None else Path(directory)
        refuse_taken(image_paths(directory, map_names(run.recipe.model.warps_template), participants), force)

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
        *paths, description = image_paths(directory, list(self.maps), list(self.counterfactuals))
        paths = [] if self.withheld else paths
        refuse_taken([*paths, description], force)
        with writing([*paths, description]):
            return [*([] if self.withheld else self._write_images(directory, paths)), self._write_facts(description)]

    def _write_images(self, directory: Path, paths: Sequence[Path]) -> list[Path]:
        written = []
        images = [self.sequence, *self.maps.values(), *self.counterfactuals.values()]
        for path, image in zip(paths, images, strict=True):
            write_image(path, image)
            sidecar = directory / f"{stem_of(path)}.json"
            facts = describe_image(
                stem_of(path), self.scores, self.tests, self.confounds, self.num_permutations, self.growth_spacing
            )
            write_json(sidecar, facts)
            written += [path, sidecar]
        plots = {f"{name}.png": name for name in self._plotted}
        plots |= {f"{name}_counterfactual.png": name for name in self.counterfactuals}
        for file, name in plots.items():
            save_figure(self.plot(name), directory / file)
            written.append(directory / file)
        return written

    def _write_facts(self, path: Path) -> Path:
        write_json(path, self.as_dict())
        return path

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
                    "threshold": finite_or_none(test.threshold),
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


def default_directory(run: Run) -> Path:
    """Returns where an explanation of a run is written unless told otherwise."""
    return run.directory / "explanation"


def check_request(run: Run, confounds, participants, num_steps, num_permutations) -> None:
    """Raises UsageError, with all faults, where `explain` cannot do what it is asked for."""
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
