"""The same person under another covariate: as another scanner, sex or age would show the head."""

import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from mrigen.data.covariates import COLUMNS, Covariates
from mrigen.data.pipeline import read_volumes
from mrigen.data.preprocess import grid_affine
from mrigen.errors import UsageError
from mrigen.generation.densities import choose_density
from mrigen.imaging.figures import draw_contact_sheet
from mrigen.imaging.volumes import write_volume
from mrigen.runs import Run
from mrigen.runs.encoding import decode_latents
from mrigen.system.files import refuse_taken, write_table
from mrigen.system.progress import progress_bar

# People in the picture: three heads each.
MOST_PICTURED = 7


def transfer(
    run: Run,
    given: Mapping[str, str | float],
    *,
    split: str = "heldout",
    keep_detail: bool = False,
    directory: str | os.PathLike | None = None,
    force: bool = False,
) -> list[Path]:
    """Writes people's heads as they would be with other covariates, and returns their paths.

    A model that was told covariates decodes the latents of a person with the values that are `given`, and with the
    person's own otherwise. Of another model the latents are moved by what ridge regression says that the covariates add
    to them; people whose own values are unknown are then left out.

    Args:
        run: a finished run.
        given: the new values, such as {"site": "B"}.
        split: of whom: "train", "validation" or "heldout".
        keep_detail: whether what the model does not reconstruct of a person's own image is added again, so that only
            what the covariates change is changed.
        directory: where to write `<scan id>_desc-transferred_T1w.nii.gz`, at the person's place, intensities in [0, 1],
            and transfer.tsv; RUN/transfer by default.
        force: whether files of that name are replaced.

    Raises:
        UsageError: nothing given, an unknown covariate or value, nobody to transfer, or a file is there already.
        CohortError: the cohort is not that of the run, or its training people do not differ in a covariate.
    """
    if not given:
        raise UsageError("--given: got nothing, expected a covariate to change, such as --given site=B.")
    covariates = run.covariates or Covariates.of(run.subjects, run.split, list(given))
    covariates.check(given)
    latents = run.load_latents(split)
    people = pd.DataFrame({"scan_id": latents["scan_id"]}).merge(run.subjects, on="scan_id", how="left")
    model, told = run.load_model(), run.covariates is not None
    if not told:
        people = people[people[[COLUMNS[name] for name in given]].notna().all(axis=1)]
    if not len(people):
        raise UsageError(f"--split {split}: got nobody whose covariates are known, expected one person or more.")
    directory = Path(directory) if directory is not None else run.directory / "transfer"
    paths = [directory / f"{scan_id}_desc-transferred_T1w.nii.gz" for scan_id in people["scan_id"]]
    refuse_taken(paths, force)
    loc = latents["loc"][people.index]
    before = covariates.encode(people)
    after = covariates.encode(people.assign(**{COLUMNS[name]: value for name, value in given.items()}))
    moved = loc
    if not told:
        moved = loc + (after - before) @ choose_density(run, model, "gaussian", covariates=covariates).effects
    dataset = run.open_dataset()
    rows = pd.Index(dataset.cache.table["scan_id"]).get_indexer(people["scan_id"])
    originals = read_volumes(dataset.cache, rows)
    with progress_bar("Transferring", len(paths)) as advance:
        own = decode_latents(model, loc, before if told else None)
        new = decode_latents(model, moved, after if told else None)
        heads = np.clip(originals + new - own if keep_detail else new, 0.0, 1.0)
        for path, head, person in zip(paths, heads, people.itertuples(), strict=True):
            centre = (person.centre_x, person.centre_y, person.centre_z)
            write_volume(path, head, grid_affine(centre, run.grid["zooms"], run.grid["volume_shape"]))
            advance(1)
    table = people[["scan_id", "participant_id"]].assign(path=[path.name for path in paths])
    for name, value in given.items():
        table[f"{name}_before"], table[f"{name}_after"] = people[COLUMNS[name]], value
    write_table(directory / "transfer.tsv", table)
    count = min(MOST_PICTURED, len(paths))
    pictures = [head for number in range(count) for head in (originals[number], own[number], heads[number])]
    titles = [
        f"{people['scan_id'].iloc[number]} {what}" for number in range(count) for what in ("image", "model", "new")
    ]
    draw_contact_sheet(pictures, titles, directory / "transfer.png", run.grid["zooms"], columns=3)
    return paths
