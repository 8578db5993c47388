"""Synthetic volumes from a run, as BIDS derivatives that any viewer opens in the right place."""

import functools
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import pandas as pd

import mrigen
from mrigen.data.covariates import COLUMNS, Covariates, as_table, clean_given
from mrigen.data.memo import file_digest
from mrigen.errors import UsageError
from mrigen.generation.densities import choose_density
from mrigen.generation.detailing import DetailArtist, choose_detail
from mrigen.generation.images import DecodedImages, Decoder
from mrigen.imaging.headers import ALIGNED, SCANNER
from mrigen.imaging.volumes import Nifti1Image, make_displacement, make_image
from mrigen.layers import jacobian_determinant
from mrigen.runs import Run
from mrigen.system.files import write_json, write_table


def sample(
    run: Run,
    num_samples: int = 10,
    *,
    seed: int = 0,
    temperature: float = 1.0,
    density: str = "auto",
    given: Mapping[str, str | float] | None = None,
    native_units: bool = False,
    fields: bool = False,
    detail: bool | None = None,
) -> "Samples":
    """Returns synthetic images.

    Sample k depends on the run, the density, the seed, the temperature and k only.

    Args:
        run: a finished run.
        num_samples: how many.
        seed: of the draws.
        temperature: factor on the standard deviation of the draws; below 1 samples are more alike.
        density: "auto", or which; see `choose_density`.
        given: covariates of the people, such as {"sex": "F", "age": 30}. A model that is conditioned on covariates
            takes the others from training people who are like that; of another model the density of the latents alone
            is moved.
        native_units: whether intensities are in the median units of the training cohort; else they lie in [0, 1].
        fields: whether, of a run of a model that warps a template, each sample also has the displacement that leads
            from it into the template, and the logarithm of its Jacobian determinant: negative where the sample is
            larger than the template.
        detail: whether fine structure is drawn that the decoder's smooth mean lacks: plausible, and nobody's own. None
            for wherever the run has learned it; see `mrigen.learn_detail`.

    Raises:
        UsageError: a number out of range, fields or detail of a run that has none, or a covariate, a value or a density
            that is unknown. CohortError: the training people do not differ in a covariate. RunError: damaged files.
    """
    return Samples(
        run,
        num_samples,
        seed=seed,
        temperature=temperature,
        density=density,
        given=given,
        native_units=native_units,
        fields=fields,
        detail=detail,
    ).prepare()


class Samples(DecodedImages):
    """Synthetic images; see `sample`, whose arguments it takes. The latents are drawn when the first is asked for.

    Attributes:
        seed, temperature, density, native_units, fields: as `sample` was given them.
        detail: whether detail is drawn.
        given: likewise; empty where nothing was.
        covariates: that samples have values of; None where there are none.
    """

    folder = "samples"
    description, unit = "Sampling", "subjects"

    def __init__(
        self,
        run: Run,
        num_samples: int = 10,
        *,
        seed: int = 0,
        temperature: float = 1.0,
        density: str = "auto",
        given: Mapping[str, str | float] | None = None,
        native_units: bool = False,
        fields: bool = False,
        detail: bool | None = None,
    ):
        if num_samples < 1:
            raise UsageError(f"got {num_samples}, expected an integer >= 1. Set 10 for a start.", "num_samples")
        if not temperature > 0:
            raise UsageError(
                f"got {temperature:g}, expected a number > 0. Set 1 for the model's own spread.", "temperature"
            )
        super().__init__(run, [f"sub-synth{number + 1:04d}" for number in range(num_samples)], native_units)
        self.seed, self.temperature, self.density, self.fields = seed, temperature, density, fields
        self.given = clean_given(given)
        self.covariates = run.covariates
        if self.covariates is None and self.given:
            self.covariates = Covariates.of(run.subjects, run.split, list(self.given))
        if self.covariates is not None:
            self.covariates.check(self.given)
        if fields and not run.recipe.model.warps_template:
            raise UsageError(
                f"got a run of kind {run.recipe.model.kind}, expected kind morph: only that moves a template. "
                "Leave `fields` out, or name another run with `run`.",
                "fields",
            )

        self.detail = choose_detail(run, detail)

    def prepare(self) -> "Samples":
        _ = self._drawn
        _ = self._artist
        return self

    @functools.cached_property
    def _artist(self) -> DetailArtist | None:
        """Who draws detail; None where none is drawn."""
        return DetailArtist(self.run) if self.detail else None

    def volume(self, index: int) -> np.ndarray:
        index = range(len(self))[index]
        volume = super().volume(index)
        if self._artist is None:
            return volume
        displacement = self.decoder.part(index, "displacement") if self.run.recipe.model.warps_template else None
        return self._artist.draw(volume, displacement, [self.seed, index])

    @functools.cached_property
    def settings(self) -> dict:
        """What samples in one folder have in common."""
        settings = {
            "seed": self.seed,
            "temperature": self.temperature,
            "intensity_units": "native" if self.native_units else "training scale, 0 to 1",
            "density": self.density,
            "weights": file_digest(self.run.weights_path),
        }
        settings["detail"] = self._artist.digest if self.detail else None
        return settings if self.covariates is None else settings | {"given": self.given}

    @functools.cached_property
    def _drawn(self) -> tuple[str, np.ndarray, np.ndarray | None, pd.DataFrame | None]:
        """The name of the density; the latents (n, latent); the covariates that condition the model, (n, condition) or
        None; and the people, one row each, or None."""
        chosen = choose_density(self.run, self.model, self.density, self.seed, self.covariates)
        latents, conditions, people = [], [], []
        for number in range(len(self)):
            generator = np.random.default_rng([self.seed, number])
            person = self._draw_person(generator)
            condition = None if person is None else self.covariates.encode(person)[0]
            latents.append(chosen.draw(generator, self.temperature, condition))
            conditions.append(condition)
            people.append(person)
        return (
            chosen.name,
            np.stack(latents),
            None if self.run.covariates is None else np.stack(conditions),
            None if self.covariates is None else pd.concat(people, ignore_index=True),
        )

    def _draw_person(self, generator: np.random.Generator) -> pd.DataFrame | None:
        """Returns the covariates of one sample, one row, or None where there are none."""
        if self.covariates is None:
            return None
        if self.run.covariates is None:
            return as_table(self.given)
        split, subjects = self.run.split, self.run.subjects
        training = split.loc[split["split"] == "train", "participant_id"]
        return self.covariates.draw(subjects[subjects["participant_id"].isin(training)], self.given, generator)

    @property
    def latents(self) -> np.ndarray:
        """(n, latent) float32, what the samples are decoded from."""
        return self._drawn[1]

    def codes(self):
        return self._drawn[1:3]

    @functools.cached_property
    def decoder(self) -> Decoder:
        moves = self.fields or (self.detail and self.run.recipe.model.warps_template)
        parts = ("reconstruction", "displacement") if moves else ("reconstruction",)
        return Decoder(self.model, *self.codes(), parts)

    def displacement(self, index: int) -> Nifti1Image:
        """Returns the displacement that leads from a sample into the template; see `make_displacement`."""
        space = SCANNER if self.is_oriented(index) else ALIGNED
        return make_displacement(self._displacement(index), self.affine(index), space)

    def log_jacobian(self, index: int) -> Nifti1Image:
        """Returns the logarithm of the Jacobian determinant of a sample's displacement at each voxel."""
        determinant = jacobian_determinant(self._displacement(index)[None]).numpy()[0]
        logarithm = np.log(np.maximum(determinant, np.float32(1e-6)))  # A fold has no logarithm.
        return self._placed(index, logarithm)

    def _placed(self, index: int, volume: np.ndarray) -> Nifti1Image:
        if self.fields and not self.is_oriented(index):
            # A displacement is read in a world: its sample has to lie in the same, if only in one of their own.
            return make_image(volume, self.affine(index), ALIGNED)
        return super()._placed(index, volume)

    def _displacement(self, index: int) -> np.ndarray:
        if not self.fields:
            raise UsageError("got samples without fields, expected some with. Draw them with `fields=True`.")
        return self.decoder.part(range(len(self))[index], "displacement")

    def to_frame(self) -> pd.DataFrame:
        """Returns the manifest: participant_id, path (where `write` puts it), seed, index, temperature, density,
        whether detail was drawn, and the covariates that samples have."""
        name, _, _, people = self._drawn
        manifest = pd.DataFrame(
            {
                "participant_id": self.names,
                "path": [path.as_posix() for path in self.paths("")],
                "seed": self.seed,
                "index": range(len(self)),
                "temperature": self.temperature,
                "density": name,
                "detail": "yes" if self.detail else "no",
            }
        )
        if people is not None:
            for covariate in self.covariates.names:
                manifest[covariate] = people.get(COLUMNS[covariate])
        return manifest

    def _names_frame(self) -> pd.DataFrame:
        return self.to_frame() if "_drawn" in vars(self) else super()._names_frame()

    def paths(self, directory: str | os.PathLike | None = None) -> list[Path]:
        directory = self.target(directory)
        return [directory / name / "anat" / f"{name}_T1w.nii.gz" for name in self.names]

    def check_target(self, directory: str | os.PathLike | None = None, force: bool = False) -> None:
        """Refuses to mix samples of different settings in one folder, or to write among files that are no samples.

        Raises:
            UsageError: naming what is there.
        """
        directory = self.target(directory)
        if force or not directory.exists():
            return
        if all(path.name.startswith(".tmp-") for path in directory.iterdir()):  # Of a command that was killed.
            return
        description = directory / "dataset_description.json"
        try:
            earlier = json.loads(description.read_text())["GeneratedBy"][0]["Parameters"]
        except (OSError, ValueError, KeyError, IndexError, TypeError):
            raise UsageError(
                f"{directory}: holds files that are no samples of mrigen, expected a new folder. "
                "Name another with `directory`."
            ) from None
        changed = [name for name in self.settings if earlier.get(name) != self.settings[name]]
        if changed:
            before = ", ".join(f"{name} {earlier.get(name)}" for name in changed)
            raise UsageError(
                f"{directory}: holds samples with {before}, expected none or the same settings. "
                "Name another folder with `directory`, or replace them with `force=True`."
            )

    def write(self, directory: str | os.PathLike | None = None, force: bool = False) -> list[Path]:
        """Writes the samples as a BIDS derivative, and returns their paths.

        Args:
            directory: where to write; RUN/samples by default. Beside the images (and, where asked for, the fields) go
                manifest.tsv (see `to_frame`), dataset_description.json and contact_sheet.png.
            force: whether samples that were made with other settings are replaced.

        Raises:
            UsageError: samples of other settings, or other files, are there.
        """
        return super().write(directory, force)

    def _files(self, directory: Path, index: int, volume: np.ndarray) -> Iterator[tuple[Path, Nifti1Image]]:
        name = self.names[index]
        folder = directory / name / "anat"
        yield folder / f"{name}_T1w.nii.gz", self._image(index, volume)
        if self.fields:
            yield folder / f"{name}_from-T1w_to-template_mode-image_xfm.nii.gz", self.displacement(index)
            yield folder / f"{name}_desc-logjacobian_map.nii.gz", self.log_jacobian(index)

    def _write(self, directory: Path) -> None:
        write_json(
            directory / "dataset_description.json",
            {
                "Name": f"Synthetic heads of {self.run.directory.name}",
                "BIDSVersion": "1.9.0",
                "DatasetType": "derivative",
                "GeneratedBy": [{"Name": "mrigen", "Version": mrigen.__version__, "Parameters": self.settings}],
            },
        )
        super()._write(directory)
        write_table(directory / "manifest.tsv", self.to_frame())
