"""What a probe found: scores, folds, and the figures made of them."""

import dataclasses
import functools

import pandas as pd

from mrigen.errors import UsageError
from mrigen.probing.intervals import percentile_interval
from mrigen.probing.measures import summarize
from mrigen.probing.permutation import PermutationTest
from mrigen.probing.targets import SEX, Target

TRANSDUCTIVE, HELDOUT, LEAVE_SITE_OUT = "transductive", "heldout", "leave-site-out"
EXTERNAL, NESTED = "external", "nested"
PROTOCOLS = {
    TRANSDUCTIVE: "repeated cross-validation over all people; transductive: the encoder saw images of test people",
    HELDOUT: "encoder and probe fitted on training and validation people, scored once on held-out people",
    LEAVE_SITE_OUT: "fitted on all other sites, scored on the site left out; the encoder saw images of test people",
    NESTED: "cross-validation with the encoder fitted anew in every fold; nothing saw the people that are tested",
    EXTERNAL: "encoder and probe fitted on people of the run, scored once on those of another cohort",
}
SCORE_COLUMNS = ("predictor", "protocol", "repeat", "participant_id", "score", "prediction", "target")


@dataclasses.dataclass(frozen=True)
class LearningCurve:
    """Figures by the number of training people.

    Attributes:
        rows: predictor, num_training (the mean over folds), then the figures and intervals of `ProbeResult.rows`.
        meaning: of the target.
    """

    rows: tuple[dict, ...]
    meaning: Target


@dataclasses.dataclass(frozen=True)
class ProbeResult:
    """Every score a probe gave, and the figures made of them.

    Attributes:
        scores: one row a predictor, protocol, repeat and person: `SCORE_COLUMNS`. Scores are log-odds (logistic) or
            scaled decision values (support vector machines), larger means class 1 (M); of three or more classes the
            score of the predicted one, with a column `score.<class>` for each; predictions, for numbers.
        folds: repeat, fold, participant_id: the people that the transductive protocol tests in each fold; one table,
            because it is the same for every predictor.
        settings: predictor, protocol, repeat, fold, setting: the regularisation chosen inside each training part.
        predictors: names, in the order of the rows.
        num_subjects: protocol -> people scored, or that would have been.
        num_bootstrap, seed: of the intervals.
        meaning: of the target.
        site_folds: site, participant_id of the people that leave-site-out tests; None where it was not asked for.
        permutation: the permutation test of the latents, or None.
        telling_site: of how well sites can be told, or None.
        nested_folds: fold, participant_id of the people that the nested protocol tests; None where it was not run.
        learning_curve: figures by the number of training people, or None.
    """

    scores: pd.DataFrame
    folds: pd.DataFrame
    settings: pd.DataFrame
    predictors: tuple[str, ...]
    num_subjects: dict[str, int]
    num_bootstrap: int
    seed: int
    meaning: Target = SEX
    site_folds: pd.DataFrame | None = None
    permutation: PermutationTest | None = None
    telling_site: "ProbeResult | None" = None
    nested_folds: pd.DataFrame | None = None
    learning_curve: LearningCurve | None = None

    @property
    def protocols(self) -> dict[str, str]:
        """Those that were asked for, with what they do."""
        return {name: PROTOCOLS[name] for name in PROTOCOLS if name in self.num_subjects}

    @functools.cached_property
    def _tables(self) -> dict[tuple[str, str], pd.DataFrame]:
        scored = dict(list(self.scores.groupby(["protocol", "predictor"])))
        nobody = self.scores.iloc[:0]
        return {
            (protocol, name): scored.get((protocol, name), nobody)
            for protocol in self.protocols
            for name in self.predictors
        }

    @functools.cached_property
    def _summaries(self) -> dict[tuple[str, str], dict]:
        return {key: self._summarize(table) for key, table in self._tables.items()}

    def _summarize(self, table: pd.DataFrame) -> dict[str, dict]:
        return summarize(table, self.meaning, self.num_bootstrap, self.seed)

    def rows(self) -> list[dict]:
        """Returns one dict a protocol and predictor: the figures and their 95 % intervals, ready for JSON.

        Figures are None, and intervals [None, None], for a protocol that could not be run.
        """
        return [
            {"predictor": name, "protocol": protocol}
            | {key: value for metric in self.meaning.metrics for key, value in self._figures(protocol, name, metric)}
            | {"num_subjects": self._num_scored(protocol, name)}
            for protocol in self.protocols
            for name in self.predictors
        ]

    def _figures(self, protocol: str, name: str, metric: str) -> list[tuple[str, object]]:
        summary = self._summaries[protocol, name][metric]
        return [(metric, summary["value"]), (f"{metric}_ci", list(summary["ci"]))]

    def _num_scored(self, protocol: str, name: str) -> int:
        return self._tables[protocol, name]["participant_id"].nunique() or self.num_subjects[protocol]

    def comparisons(self) -> list[dict]:
        """Returns `paired_difference` of `latents` against each other predictor, by protocol and figure."""
        return [
            paired_difference(self, "latents", other, protocol, metric)
            for protocol in self.protocols
            for other in self.predictors
            if other != "latents"
            for metric in self.meaning.compared
        ]

    def _on_the_same_people(self, protocol: str, a: str, b: str) -> tuple[dict, dict, int]:
        tables = [self._tables[protocol, name] for name in (a, b)]
        people = [set(table["participant_id"]) for table in tables]
        if people[0] == people[1]:
            return *(self._summaries[protocol, name] for name in (a, b)), self._num_scored(protocol, a)
        shared = people[0] & people[1]
        summaries = (self._summarize(table[table["participant_id"].isin(shared)]) for table in tables)
        return *summaries, len(shared)


def paired_difference(result: ProbeResult, a: str, b: str, protocol: str, metric: str = "roc_auc") -> dict:
    """Returns how much better predictor `a` is than `b` for the same people, with a 95 % interval.

    Both are computed on the same resamples of people, so what makes a person easy for both cancels. Where one of them
    scores some people only, these are compared.

    Args:
        result: of `run_probe`.
        a, b: names of predictors.
        protocol: a key of `PROTOCOLS` that was run.
        metric: 'roc_auc', 'balanced_accuracy' or 'accuracy'; of numbers 'r', 'r2' or 'mae'.

    Returns:
        predictor, baseline, protocol, metric, difference (a - b), ci [low, high], num_subjects; difference None and
        ci [None, None] for a protocol that could not be run.

    Raises:
        UsageError: for a name that `result` does not have.
    """
    for what, name, known in (
        ("predictor", a, result.predictors),
        ("predictor", b, result.predictors),
        ("protocol", protocol, tuple(result.protocols)),
        ("metric", metric, result.meaning.metrics),
    ):
        if name not in known:
            raise UsageError(
                f"paired_difference: {what}: got {name!r}, expected one of {', '.join(known)}. Name one of these."
            )
    *summaries, num_people = result._on_the_same_people(protocol, a, b)
    first, second = (summary[metric] for summary in summaries)
    difference, interval = None, [None, None]
    if first["value"] is not None and second["value"] is not None:
        difference = first["value"] - second["value"]
        interval = percentile_interval(first["samples"] - second["samples"])
    return {
        "predictor": a,
        "baseline": b,
        "protocol": protocol,
        "metric": metric,
        "difference": difference,
        "ci": interval,
        "num_subjects": num_people,
    }
