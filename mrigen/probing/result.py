"""What a probe found: scores, folds, and the figures made of them; its files."""

import dataclasses
import functools
import html
import os
import re
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from mrigen.errors import UsageError
from mrigen.imaging.figures import save_figure
from mrigen.probing.calibration import plot_calibration
from mrigen.probing.curves import LearningCurve
from mrigen.probing.intervals import holm
from mrigen.probing.permutation import PermutationTest
from mrigen.probing.plan import ProbePlan
from mrigen.probing.roc import plot_roc
from mrigen.probing.score_table import PROTOCOLS, TRANSDUCTIVE
from mrigen.probing.summaries import INTERVALS, Summary, summarize
from mrigen.probing.targets import SEX, Target
from mrigen.probing.training_variance import Contributions
from mrigen.system.files import write_json, write_table

# What latents add to confounds.
ALSO_COMPARED = (("confounds_and_latents", "confounds"),)


@dataclasses.dataclass(frozen=True, repr=False)
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
        seed: of folds and fits.
        target: what is predicted.
        site_folds: site, participant_id of the people that leave-site-out tests; None where it was not asked for.
        permutation: the permutation test of the latents, or None.
        site_prediction: of how well the site can be predicted, or None.
        nested_folds: fold, participant_id of the people that the nested protocol tests; None where it was not run.
        learning_curve: figures by the number of training people, or None.
        plan: what was asked.
        cohort: name of the other cohort that was scored; None where the people are those of the run.
        deconfounded_permutation: the permutation test of `latents_deconfounded`, or None.
        stand_ins: predictor -> metric -> what people add to a stand-in of it in the transductive protocol.
        directory: where `write` puts the files unless told otherwise: the folder of the run; None without a run.
        notes: sentences that whoever reads the figures has to know.
        row_notes: predictor -> what is to be known of its rows.
    """

    scores: pd.DataFrame
    folds: pd.DataFrame
    settings: pd.DataFrame
    predictors: tuple[str, ...]
    num_subjects: dict[str, int]
    seed: int
    target: Target = SEX
    site_folds: pd.DataFrame | None = None
    permutation: PermutationTest | None = None
    site_prediction: "ProbeResult | None" = None
    nested_folds: pd.DataFrame | None = None
    learning_curve: LearningCurve | None = None
    plan: ProbePlan = dataclasses.field(default_factory=ProbePlan)
    cohort: str | None = None
    directory: Path | None = None
    notes: tuple[str, ...] = ()
    row_notes: dict[str, str] = dataclasses.field(default_factory=dict)
    deconfounded_permutation: PermutationTest | None = None
    stand_ins: dict[str, dict[str, Contributions]] = dataclasses.field(default_factory=dict)

    def __repr__(self) -> str:
        return f"ProbeResult of {self.target.name}: {len(self.predictors)} predictors, " + ", ".join(
            f"{name} ({count} people)" for name, count in self.num_subjects.items()
        )

    def _repr_html_(self) -> str:
        metrics = self.target.metrics
        rows = [
            {"protocol": row["protocol"], "predictor": row["predictor"]}
            | {metric: _in_words(row[metric], row[f"{metric}_ci"]) for metric in metrics}
            | {"people": row["num_subjects"]}
            for row in self.rows()
        ]
        notes = [*self.notes, *(f"{name}: {text}" for name, text in self.row_notes.items())]
        return (
            f"<p>Probe of {self.target.name}, 95 % intervals</p>"
            + pd.DataFrame(rows).to_html(index=False)
            + "".join(f"<p>{html.escape(note)}</p>" for note in notes)
        )

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
    def _summaries(self) -> dict[tuple[str, str], Summary]:
        return {
            (protocol, name): summarize(
                table, self.target, stand_in=self.stand_ins.get(name) if protocol == TRANSDUCTIVE else None
            )
            for (protocol, name), table in self._tables.items()
        }

    def rows(self) -> list[dict]:
        """Returns one dict a protocol and predictor: the figures and their 95 % intervals, ready for JSON.

        An interval rests on `num_subjects` people of `num_families` families; where folds are sites, on `num_folds`
        sites; `interval_by` is a key of `mrigen.probing.summaries.INTERVALS`.
        Figures are None, and intervals [None, None], for a protocol that could not be run.
        """
        return [
            {"predictor": name, "protocol": protocol}
            | {key: value for metric in self.target.metrics for key, value in self._figures(protocol, name, metric)}
            | self._counts(protocol, name)
            for protocol in self.protocols
            for name in self.predictors
        ]

    def to_frame(self) -> pd.DataFrame:
        """Returns `rows` as a table: an interval is in two columns, such as roc_auc_low and roc_auc_high."""
        return pd.DataFrame(
            {
                name: value
                for key, found in row.items()
                for name, value in (
                    zip((f"{key[:-3]}_low", f"{key[:-3]}_high"), found, strict=True)
                    if key.endswith("_ci")
                    else [(key, found)]
                )
            }
            for row in self.rows()
        )

    def plot_roc(self) -> Figure:
        """Returns the ROC curves, a panel a protocol; see `mrigen.probing.roc.plot_roc`.

        Raises:
            UsageError: the target has not two classes.
        """
        self._refuse_unless_binary()
        areas = {(row["protocol"], row["predictor"]): (row["roc_auc"], row["roc_auc_ci"]) for row in self.rows()}
        return plot_roc(self.scores, {key: area for key, area in areas.items() if area[0] is not None}, self.target)

    def plot_calibration(self, predictor: str = "latents") -> Figure:
        """Returns the calibration curve of a logistic predictor, a panel a protocol.

        Raises:
            UsageError: the target has not two classes, or the predictor has no scores.
        """
        self._refuse_unless_binary()
        return plot_calibration(self.scores, list(self.protocols), predictor, self.target)

    def plot_learning_curve(self) -> Figure:
        """Returns the first measure of each predictor against the number of training people.

        Raises:
            UsageError: the plan did not ask for a learning curve.
        """
        if self.learning_curve is None:
            raise UsageError("got a probe without a learning curve, expected one with it. Set `learning_curve=True`.")
        return self.learning_curve.plot()

    def _refuse_unless_binary(self) -> None:
        if self.target.task != "binary":
            raise UsageError(
                f"got a probe of {self.target.name}, expected a target of two classes. See `ProbeResult.to_frame()`."
            )

    def path(self, ending: str, directory: str | os.PathLike | None = None) -> Path:
        """Returns where `write` puts the file of an ending: probe_roc.png, probe_age_folds.tsv, or, of another cohort,
        probe_external-ds1_roc.png.

        Raises:
            UsageError: neither `directory` nor the result says in which folder.
        """
        directory = self.directory if directory is None else directory
        if directory is None:
            raise UsageError("got nothing, expected a folder: this probe is of no run. Name one.", "directory")
        return output_path(Path(directory), self.target.name, ending, self.cohort)

    def write(self, directory: str | os.PathLike | None = None) -> list[Path]:
        """Writes the probe, in place of an earlier one, and returns the paths.

        They are probe.json (rows and paired comparisons), probe_scores.tsv, probe_folds.tsv, for two classes
        probe_roc.png and probe_calibration.png, and what else was asked for; probe_<target>.json and so on of another
        target than sex, probe_external-<cohort>.json of another cohort.

        Args:
            directory: the folder; that of the run by default.

        Raises:
            UsageError: see `path`.
        """
        figures = {}
        if self.target.task == "binary":
            figures |= {"_roc.png": self.plot_roc, "_calibration.png": self.plot_calibration}
        if self.learning_curve is not None:
            figures["_learning_curve.png"] = self.plot_learning_curve
        tables = {
            "_scores.tsv": self.scores,
            "_folds.tsv": self.folds if len(self.folds) else None,
            "_site_folds.tsv": self.site_folds,
            "_nested_folds.tsv": self.nested_folds,
        }
        tables = {ending: table for ending, table in tables.items() if table is not None}
        paths = {ending: self.path(ending, directory) for ending in (".json", *figures, *tables)}
        paths[".json"].parent.mkdir(parents=True, exist_ok=True)
        for ending, plot in figures.items():
            # The legends of the ROC hang below the axes: "tight" makes room for as many lines as there are.
            save_figure(plot(), paths[ending], bbox_inches="tight" if ending == "_roc.png" else None)
        for ending, table in tables.items():
            write_table(paths[ending], table)
        write_json(paths[".json"], self.as_dict())
        return list(paths.values())

    def as_dict(self) -> dict:
        """Returns the content of probe.json."""
        content = {
            "target": self.target.name,
            "classes": None if self.target.classes is None else list(self.target.classes),
            "seed": self.seed,
            "protocols": self.protocols,
            "rows": self.rows(),
            "intervals": {name: INTERVALS[name] for name in dict.fromkeys(row["interval_by"] for row in self.rows())},
            "comparisons": self.comparisons(),
        }
        if self.notes:
            content["notes"] = list(self.notes)
        if self.row_notes:
            content["row_notes"] = self.row_notes
        if self.plan.confounds:
            content["confounds"] = list(self.plan.confounds)
            content["reliability"] = dict(self.plan.reliability)
        if self.plan.against:
            content["against"] = str(self.plan.against)
        if self.learning_curve is not None:
            content["learning_curve"] = list(self.learning_curve.rows)
        if self.permutation is not None:
            content["permutation"] = self.permutation.as_dict()
        if self.deconfounded_permutation is not None:
            content["deconfounded_permutation"] = self.deconfounded_permutation.as_dict()
        if self.site_prediction is not None:
            content["telling_site"] = self.site_prediction.rows()
        return content

    def _figures(self, protocol: str, name: str, metric: str) -> list[tuple[str, object]]:
        summary = self._summaries[protocol, name]
        return [(metric, summary.value(metric)), (f"{metric}_ci", summary.interval(metric))]

    def _counts(self, protocol: str, name: str) -> dict[str, int | str]:
        summary = self._summaries[protocol, name]
        return {
            "num_subjects": summary.num_subjects or self.num_subjects[protocol],
            "num_families": summary.num_families or self.num_subjects[protocol],
            "num_folds": len(summary.folds),
            "interval_by": summary.interval_by,
        }

    def comparisons(self) -> list[dict]:
        """Returns `paired_difference` of `latents` against each other predictor, and of `ALSO_COMPARED`, by
        protocol and figure.

        `p_holm` holds for all comparisons of one figure together (Holm), but for those with `dummy`.
        """
        pairs = [("latents", other) for other in self.predictors if other != "latents"]
        pairs += [pair for pair in ALSO_COMPARED if set(pair) <= set(self.predictors)]
        found = [
            paired_difference(self, *pair, protocol, metric)
            for protocol in self.protocols
            for pair in pairs
            for metric in self.target.compared
        ]
        for metric in self.target.compared:
            declared = [
                row for row in found if row["metric"] == metric and row["p"] is not None and row["baseline"] != "dummy"
            ]
            for row, corrected in zip(declared, holm([row["p"] for row in declared]), strict=True):
                row["p_holm"] = corrected
        return found

    def _on_the_same_people(self, protocol: str, a: str, b: str) -> tuple[Summary, Summary]:
        tables = [self._tables[protocol, name] for name in (a, b)]
        first, second = (set(zip(table["repeat"], table["participant_id"], strict=True)) for table in tables)
        if first == second:
            return self._summaries[protocol, a], self._summaries[protocol, b]
        repeats = set.intersection(*(set(table["repeat"]) for table in tables))
        shared = set.intersection(*(set(table["participant_id"]) for table in tables))
        return tuple(
            summarize(table[table["participant_id"].isin(shared) & table["repeat"].isin(repeats)], self.target)
            for table in tables
        )


def output_path(directory: Path, target: str, ending: str, cohort: str | None = None) -> Path:
    """Returns where the files of a probe are; see `ProbeResult.path`.

    Example:
        >>> output_path(Path("run"), "age", "_folds.tsv").as_posix()
        'run/probe_age_folds.tsv'
    """
    names = ["probe"] + ([f"external-{cohort}"] if cohort else []) + ([] if target == "sex" else [target])
    stem = "_".join(re.sub(r"[^\w.-]", "-", name) for name in names)
    return directory / f"{stem}{ending}"


def _in_words(value: float | None, interval: list) -> str:
    return "-" if value is None else f"{value:.3f} [{interval[0]:.3f}, {interval[1]:.3f}]"


def paired_difference(result: ProbeResult, a: str, b: str, protocol: str, metric: str = "roc_auc") -> dict:
    """Returns how much better predictor `a` is than `b` for the same people, with a 95 % interval.

    Both are computed in the same folds, so what makes a person easy for both cancels. Where one of them scores some
    people only, or has fewer repeats, these are compared.

    Args:
        result: of `run_probe`.
        a, b: names of predictors.
        protocol: a key of `PROTOCOLS` that was run.
        metric: 'roc_auc', 'balanced_accuracy' or 'accuracy'; of numbers 'r', 'r2' or 'mae'.

    Returns:
        predictor, baseline, protocol, metric, difference (a - b), ci [low, high], p (two-sided), num_subjects;
        difference and p None and ci [None, None] for a protocol that could not be run.

    Raises:
        UsageError: for a name that `result` does not have.
    """
    for what, name, known in (
        ("predictor", a, result.predictors),
        ("predictor", b, result.predictors),
        ("protocol", protocol, tuple(result.protocols)),
        ("metric", metric, result.target.metrics),
    ):
        if name not in known:
            raise UsageError(
                f"paired_difference: {what}: got {name!r}, expected one of {', '.join(known)}. Name one of these."
            )
    first, second = result._on_the_same_people(protocol, a, b)
    return {
        "predictor": a,
        "baseline": b,
        "protocol": protocol,
        "metric": metric,
        **first.difference(second, metric),
        "num_subjects": first.num_subjects or result.num_subjects[protocol],
    }
