"""Whether a classifier tells samples from never-seen people, and whether that classifier sees what is bad at all."""

import dataclasses
from collections.abc import Callable, Mapping

import numpy as np

from mrigen.evaluation.contenders import made_people, pca_volumes
from mrigen.evaluation.heads import CONTENDERS, FLOOR, MEAN, PCA, Heads, Material
from mrigen.evaluation.known_bad import softened, with_shaped_noise
from mrigen.evaluation.random_filters import PatchNetwork, VolumeNetwork, coarsened
from mrigen.evaluation.result import HALF, FigureKind, PartResult, Row
from mrigen.probing.intervals import family_variance, independent_people, interval, of_cross_validation
from mrigen.probing.measures import roc_auc
from mrigen.probing.predictors import LogisticPredictor, Predictor, PrincipalComponents, stratified_group_folds

NUM_COMPONENTS, NUM_DRAWN_COMPONENTS = 20, 64
# Folds of a cross-validation, at most; how often it is repeated; heads of each side in a fold, at least.
NUM_FOLDS, NUM_REPEATS, FEWEST_IN_FOLD = 5, 2, 4
# Fewer heads than this of a side are not compared.
FEWEST = 2 * FEWEST_IN_FOLD
# The AUC at which a classifier has to tell each of the known bad ones, so that it counts.
POWER = 0.9
NO_POWER = "no power"
# What of a head is darker than this is air, on average over people.
DARKEST_HEAD = 0.1

BLURRED, NOISY, NOISY_SAMPLES = "blurred", "shaped_noise", "samples_with_noise"
KNOWN_BAD = {
    PCA: CONTENDERS[PCA],
    BLURRED: "training people, blurred by half a voxel (standard deviation)",
    NOISY: "draws of that Gaussian, with noise of the power that they lack at each frequency",
}
FIGURES: Mapping[str, FigureKind] = {
    "told_linear": FigureKind("AUC of telling from never-seen people, linear on 20 principal components", HALF),
    "told_network": FigureKind("AUC of telling from never-seen people, a small 3D network on whole volumes", HALF),
    "told_patches": FigureKind("AUC of telling from never-seen people, a small 3D network on patches", HALF),
    "told_8_mm": FigureKind("the same on patches, where heads are averaged to voxels of 8 mm", HALF),
    "told_16_mm": FigureKind("the same on patches, where heads are averaged to voxels of 16 mm", HALF),
}
# Voxels, mm, that heads are averaged to, to see down to which detail they are told. What is bad at each size: draws in
# principal components need not be at such.
COARSE = {"told_8_mm": 8.0, "told_16_mm": 16.0}
COARSE_BAD = (MEAN, BLURRED)


@dataclasses.dataclass(frozen=True)
class Classifier:
    """A way of telling two sets of heads apart.

    Attributes:
        figure: a key of `FIGURES`.
        look: volumes (n, x, y, z) -> what is looked at, (n, features); it knows no other volumes.
        learn: of what was looked at, of both sets, makes a predictor.
    """

    figure: str
    look: Callable[[np.ndarray], np.ndarray]
    learn: Callable[[np.ndarray], Predictor] = LogisticPredictor


@dataclasses.dataclass(frozen=True)
class Telling:
    """How well two sets of heads are told apart.

    Attributes:
        auc: the mean over folds.
        low, high: of its 95 % interval.
        num_heads: of each side.
    """

    auc: float
    low: float
    high: float
    num_heads: int


def judge(material: Material) -> PartResult:
    """Returns the ROC AUC at which three classifiers tell each contender from never-seen people.

    A classifier is fitted in folds of a cross-validation that keep families whole. It counts only where, with as many
    heads, it tells each of `KNOWN_BAD` at an AUC of .9 or more; where it does not, its values are in `facts` alone.
    The one on patches is asked again with heads that were averaged to larger voxels; there it has to tell the mean head
    and heads that were blurred by half of such a voxel.

    References:
        Lopez-Paz and Oquab 2017, Revisiting classifier two-sample tests, ICLR.
    """
    facts = {"known_bad": KNOWN_BAD, "power": POWER}
    rows, notes = _judge(material, classifiers(material.taught, material.seed), tuple(KNOWN_BAD), facts)
    for figure, size in COARSE.items():
        factor = round(size / float(np.prod(material.zooms)) ** (1.0 / 3.0))
        if factor < 2:
            rows += [Row(figure, name, None, note="the grid is no finer") for name in material.contenders]
            continue
        coarse = _coarser(material, factor)
        found = _judge(coarse, (_on_patches(figure, coarse.taught, material.seed),), COARSE_BAD, facts)
        rows, notes = rows + found[0], notes + found[1]
    return PartResult(tuple(rows), tuple(notes), facts=facts)


def _judge(material, chosen, known_bad, facts) -> tuple[list[Row], list[str]]:
    """Returns rows and notes of some classifiers; adds to `facts`."""
    groups = dict(material.contenders) | _made_bad(material)
    rows, notes = [], []
    for classifier in chosen:
        unseen = classifier.look(material.unseen.volumes)
        tellings = {
            name: tell(classifier, unseen, classifier.look(heads.volumes), material.unseen, heads, material.seed)
            for name, heads in groups.items()
        }
        blind = tuple(name for name in known_bad if name in groups and not _is_told(tellings[name]))
        for name, telling in tellings.items():
            rows.append(_row(classifier.figure, name, telling, bool(blind) and name not in (BLURRED, NOISY)))
        notes += _notes(classifier.figure, tellings, blind)
        kept = {name: None if telling is None else dataclasses.asdict(telling) for name, telling in tellings.items()}
        facts[classifier.figure] = {"has_power": not blind, "tells": kept}
    return rows, notes


def classifiers(taught: Heads, seed: int = 0) -> tuple[Classifier, ...]:
    """Returns the classifiers; of `taught` they know only where the head is."""
    return (
        Classifier(
            "told_linear",
            lambda volumes: volumes.reshape(len(volumes), -1),
            lambda volumes: LogisticPredictor(PrincipalComponents(volumes, NUM_COMPONENTS)),
        ),
        Classifier("told_network", VolumeNetwork(seed)),
        _on_patches("told_patches", taught, seed),
    )


def _on_patches(figure: str, taught: Heads, seed: int) -> Classifier:
    return Classifier(figure, PatchNetwork(taught.volumes.mean(axis=0) > DARKEST_HEAD, seed))


def _coarser(material: Material, factor: int) -> Material:
    """Returns the material with voxels `factor` times as large (brains as they were)."""

    def coarser(heads: Heads) -> Heads:
        return dataclasses.replace(heads, volumes=np.stack([coarsened(each, factor) for each in heads.volumes]))

    contenders = {name: coarser(heads) for name, heads in material.contenders.items()}
    return dataclasses.replace(
        material, unseen=coarser(material.unseen), taught=coarser(material.taught), contenders=contenders
    )


def tell(
    classifier: Classifier, unseen: np.ndarray, others: np.ndarray, people: Heads, heads: Heads, seed: int = 0
) -> Telling | None:
    """Returns how well a classifier tells two sets of heads apart; None where there are too few of them.

    Args:
        classifier: which.
        unseen: (n, features) what it sees of the real ones.
        others: (m, features) of the others.
        people: the n real ones.
        heads: the m others.
        seed: of the folds.
    """
    count = min(len(people), len(heads))
    labels = np.repeat([0, 1], [len(people), len(heads)])
    families = np.concatenate([people.families, heads.families])
    num_folds = min(NUM_FOLDS, count // FEWEST_IN_FOLD)
    figures, everyone = [], classifier.learn(np.concatenate([unseen, others]))
    for repeat in range(NUM_REPEATS if count >= FEWEST else 0):
        for train, test in stratified_group_folds(labels, families, num_folds, seed + repeat):
            if len(np.unique(labels[test])) == 2:
                scored = everyone.fit_score(labels, families, train, test, seed)
                figures.append((test, roc_auc(labels[test] == 1, scored.score)))
    if not figures:
        return None
    estimate = of_cross_validation(
        [figure.value for _, figure in figures],
        [family_variance(figure.influence, families[test], labels[test]) for test, figure in figures],
        [independent_people(families[test], labels[test]) for test, _ in figures],
        1.0 / (num_folds - 1),
    )
    return Telling(estimate.value, *interval("roc_auc", estimate), count)


def _made_bad(material: Material) -> dict[str, Heads]:
    """Returns the heads that are known to be bad and no contenders, and samples with noise where a run made them."""
    contenders, taught, count = material.contenders, material.taught, len(material.unseen)
    floor = contenders.get(FLOOR, taught.take(np.arange(min(count, len(taught)))))
    made = {}
    if PCA not in contenders:
        drawn = pca_volumes(taught.volumes, count, NUM_DRAWN_COMPONENTS, material.seed)
        made[PCA] = Heads(drawn, made_people(count, PCA), np.zeros(drawn.shape, bool))
    drawn = contenders.get(PCA) or made[PCA]
    made[BLURRED] = dataclasses.replace(floor, volumes=softened(floor.volumes))
    noisy = {NOISY: drawn} | ({NOISY_SAMPLES: material.samples} if material.run is not None else {})
    for name, heads in noisy.items():
        volumes = with_shaped_noise(heads.volumes, taught.volumes, material.seed)
        made[name] = dataclasses.replace(heads, volumes=volumes)
    return made


def _is_told(telling: Telling | None) -> bool:
    return telling is not None and telling.auc >= POWER


def _row(figure: str, name: str, telling: Telling | None, hidden: bool) -> Row:
    if telling is None:
        return Row(figure, name, None, note="too few heads")
    if hidden:
        return Row(figure, name, None, n=telling.num_heads, note=NO_POWER)
    return Row(figure, name, telling.auc, telling.low, telling.high, n=telling.num_heads)


def _notes(figure: str, tellings: Mapping[str, Telling | None], blind: tuple[str, ...]) -> list[str]:
    if all(telling is None for telling in tellings.values()):
        return [f"{figure}: fewer than {FEWEST} heads of a side (families counted once) cannot be told apart."]
    if blind:
        told = ", ".join(f"{name} {_in_words(tellings[name])}" for name in blind)
        return [f"{figure} has no power with so many heads: it should tell what is bad at {POWER:g} or more ({told})."]
    floor = tellings.get(FLOOR)
    if floor is not None and not floor.low <= 0.5 <= floor.high:
        return [
            f"{figure}: people that were learned from are told from never-seen ones ({floor.auc:.2f}); something other "
            "than being made tells them apart, such as a site, and may tell samples apart, too."
        ]
    return []


def _in_words(telling: Telling | None) -> str:
    return "too few" if telling is None else f"{telling.auc:.2f}"
