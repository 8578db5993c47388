"""What is to be known of the rows of a probe that rest on latents of a collapsed posterior."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from mrigen.probing.plan import ProbePlan
from mrigen.probing.rows import against_row
from mrigen.runs import Run
from mrigen.statistics.collapse import collapse_of_figures


def collapse_notes(
    run: Run, predictors: Iterable[str], plan: ProbePlan, encoders: Sequence[Run] = ()
) -> dict[str, str]:
    """Returns what is to be known of rows that rest on latents of a collapsed posterior, by predictor.

    The posterior means of such a run differ by traces that its decoder ignores; a probe, which standardises them, tells
    more by these than any head that the run makes.

    Args:
        run: that is probed.
        predictors: names of the rows.
        plan: may name another run.
        encoders: runs of the folds of the nested protocol.
    """
    notes = {}
    others = {} if plan.against is None else {against_row(plan): Run(Path(plan.against))}
    folds = [encoder for encoder in encoders if collapse_of_figures(encoder.metrics) is not None]
    for name in predictors:
        # A draw shows what is left of the traces under the noise: it needs no mark.
        if name not in others and ("latents" not in name.split("_") or name == "latents_draw"):
            continue
        found = collapse_of_figures(others.get(name, run).metrics)
        if found is not None:
            notes[name] = (
                f"collapsed ({found[0]} of {found[1]} latent variables are active): traces that the decoder ignores, "
                "scaled up; see latents_draw"
            )
        elif folds and name not in others:
            notes[name] = f"the encoders of {len(folds)} of {len(encoders)} nested folds collapsed"
    return notes


def join_notes(first: Mapping[str, str], second: Mapping[str, str], names: Iterable[str]) -> dict[str, str]:
    """Returns the notes of both about some rows; a row that both speak of has one after the other.

    Example:
        >>> join_notes({"latents": "collapsed"}, {"latents": "few people"}, ["latents", "pca"])
        {'latents': 'collapsed; few people'}
    """
    both = {name: [notes[name] for notes in (first, second) if name in notes] for name in names}
    return {name: "; ".join(said) for name, said in both.items() if said}
