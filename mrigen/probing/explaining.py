"""What changes from women to men in the images of a run: a walk along the probe's direction, maps, saliency."""

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd
from scipy import ndimage

from mrigen.data.pipeline import read_volumes
from mrigen.errors import UsageError
from mrigen.imaging.headers import ALIGNED, SCANNER
from mrigen.imaging.volumes import Nifti1Image, make_image
from mrigen.models import LatentModel
from mrigen.probing.direction import Direction
from mrigen.probing.explained_people import ExplainedPeople, explained_people, probe_figures, reason_to_withhold
from mrigen.probing.explanation import Explanation, check_request, default_directory
from mrigen.probing.growth import growth_spacing
from mrigen.probing.map_tests import MapTest, maps_with_tests
from mrigen.probing.map_texts import label_image
from mrigen.probing.saliency import NUM_STEPS, draw_pairs, saliency
from mrigen.runs import Run
from mrigen.runs.encoding import decode_latents
from mrigen.system.progress import progress_bar

# Above this, of intensities from 0 to 1, there is something of a head.
VISIBLE = 0.05


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
    check_request(run, confounds, participants, num_steps, num_permutations)
    people = explained_people(run, confounds)
    unknown = [name for name in participants if name not in people.table["participant_id"].to_numpy()]
    if unknown:
        raise UsageError(
            f"got {unknown[0]}, whose sex or confounds are unknown, expected both. Name another.",
            parameter="participants",
        )
    direction = people.direction()
    figures = probe_figures(people, seed)
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
        num_people=int(people.fitted.sum()),
        num_heldout=int((~people.fitted).sum()),
        num_permutations=num_permutations,
        seed=seed,
        growth_spacing=None,
        is_oriented=run.is_oriented(),
        directory=default_directory(run),
    )
    if withheld:
        return explanation
    model = run.load_model()

    def image(array: np.ndarray) -> Nifti1Image:
        return make_image(array, run.affine, SCANNER if explanation.is_oriented else ALIGNED)

    cache = run.open_dataset().cache

    def volumes(scan_ids) -> np.ndarray:
        return read_volumes(cache, pd.Index(cache.table["scan_id"]).get_indexer(scan_ids))[..., None]

    condition = _mean_condition(run)
    women, men = draw_pairs(people.targets[people.fitted], seed)
    with progress_bar("Explaining", num_permutations + NUM_STEPS * len(women), "heads") as advance:
        tests = maps_of_people(run, model, people, direction, num_permutations, seed, advance)
        names = people.table.index.to_numpy(dtype=str)[people.fitted]
        salient, gained = saliency(model, direction.weights, volumes(names[women]), volumes(names[men]), advance)
    maps = {name: test.values for name, test in tests.items()}
    maps |= {f"{name}_z": test.z for name, test in tests.items()}
    maps |= {f"{name}_strength": test.strength for name, test in tests.items()}
    maps |= {f"{name}_mask": test.mask.astype(np.uint8) for name, test in tests.items()}
    maps["saliency"] = salient
    maps = {name: image(values) for name, values in maps.items()}
    for name, one in maps.items():
        label_image(one, name, tests)
    return dataclasses.replace(
        explanation,
        sequence=image(
            np.moveaxis(_heads(model, direction, np.linspace(*direction.ends, num_steps), condition), 0, -1)
        ),
        maps=maps,
        tests=tests,
        counterfactuals={name: image(_counterfactual(run, model, direction, people, name)) for name in participants},
        growth_spacing=growth_spacing(model, run.grid["zooms"]) if "growth" in tests else None,
        background=image(_heads(model, direction, [0.0], condition)[0]),
        saliency_sums=(float(salient.sum(dtype=np.float64)), gained),
    )


def maps_of_people(
    run: Run,
    model: LatentModel,
    people: ExplainedPeople,
    direction: Direction,
    num_permutations: int = 300,
    seed: int = 0,
    advance: Callable[[int], None] = lambda count: None,
) -> dict[str, MapTest]:
    """Returns the maps of a direction of these people with their tests, inside the head that lies on its middle.

    Args:
        run: that the people are of. model: of the run.
        direction: fitted on the people that are not held out.
        num_permutations, seed, advance: see `maps_with_tests`.
    """
    condition, fitted = _mean_condition(run), people.fitted
    latents, targets, groups, sites, confounds = (
        None if values is None else values[fitted]
        for values in (people.latents, people.targets, people.groups, people.sites, people.confounds)
    )
    return maps_with_tests(
        model, direction, latents, targets, groups, sites, confounds,
        zooms=run.grid["zooms"], inside=_head(_heads(model, direction, [0.0], condition)[0]), condition=condition,
        num_permutations=num_permutations, seed=seed, advance=advance,
    )  # fmt: skip


def _mean_condition(run: Run) -> np.ndarray | None:
    """Returns the mean covariates (condition,) of the training people, of a model that is told any."""
    return None if run.covariates is None else run.conditions(run.load_latents("train")["scan_id"]).mean(axis=0)


def _heads(model: LatentModel, direction: Direction, scores, condition: np.ndarray | None) -> np.ndarray:
    """Returns the images (score, x, y, z) on the way of a direction, in [0, 1]."""
    conditions = None if condition is None else np.repeat(condition[None], len(scores), axis=0)
    return np.clip(decode_latents(model, direction.at(scores), conditions), 0.0, 1.0)


def _head(background: np.ndarray) -> np.ndarray:
    """Returns the voxels (x, y, z) of a decoded head and one around it."""
    return ndimage.binary_dilation(ndimage.binary_fill_holes(background > VISIBLE), np.ones((3, 3, 3), bool))


def _counterfactual(
    run: Run, model: LatentModel, direction: Direction, people: ExplainedPeople, name: str
) -> np.ndarray:
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
