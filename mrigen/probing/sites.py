"""How well the site of a scan is predicted from latents: what harmonising is to take away."""

import dataclasses

import numpy as np

from mrigen.errors import CohortError
from mrigen.probing.harmonise import harmonised
from mrigen.probing.inputs import ProbeInputs
from mrigen.probing.protocol import run_probe
from mrigen.probing.result import ProbeResult
from mrigen.probing.rows import learner_of
from mrigen.probing.targets import Target


def predict_site(inputs: ProbeInputs, seed: int = 0, **settings) -> ProbeResult:
    """Returns how well the site is predicted from latents as they are, and harmonised in each fold.

    Sites of fewer than two families are left out.

    Args:
        inputs: of people of at least two such sites.
        seed: of the folds.
        settings: of `run_probe`.
    """
    sites, codes = np.unique(inputs.site, return_inverse=True)
    families = np.array([len(np.unique(inputs.groups[codes == code])) for code in range(len(sites))])
    chosen = np.flatnonzero(families[codes] > 1)
    kept = select(inputs, chosen)
    sites, codes = np.unique(kept.site, return_inverse=True)
    if len(sites) < 2:
        raise CohortError(
            f"got {len(sites)} sites of several families, expected at least two. Leave out `harmonise`.",
            parameter="harmonise='site'",
        )
    target = Target("site", tuple(sites.tolist()))
    kept = dataclasses.replace(kept, targets=codes, target=target)
    learn = learner_of(target)
    predictors = {"latents": learn(kept.latents), "latents_harmonised": learn(harmonised(kept.latents, kept.site))}
    return run_probe(kept, seed=seed, predictors=predictors, **settings)


def select(inputs: ProbeInputs, rows: np.ndarray) -> ProbeInputs:
    """Returns the inputs of some people."""
    arrays = {field.name: getattr(inputs, field.name) for field in dataclasses.fields(inputs)}
    return ProbeInputs(**{k: v[rows] if isinstance(v, np.ndarray) else v for k, v in arrays.items()})
