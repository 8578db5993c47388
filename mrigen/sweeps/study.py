"""A sweep's folder: trials are chosen by Optuna, made by any number of workers, and compared."""

import contextlib
import dataclasses
import datetime
import html
import json
import logging
import math
import os
import signal
import sys
import time
import warnings
import zlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from mrigen.errors import Interrupted, MrigenError, UsageError
from mrigen.recipe import dump_recipe, load_recipe
from mrigen.runs import Run
from mrigen.runs.comparison import MISSING, compare, show_figure
from mrigen.runs.comparison import render_table as render_comparison
from mrigen.runs.listing import read_history
from mrigen.statistics.collapse import least_active
from mrigen.sweeps.importance import plot_importances
from mrigen.sweeps.objectives import OF_FIT
from mrigen.sweeps.space import RECIPE, Plan, Span
from mrigen.sweeps.workers import Claim, TrialFit, share_machine, worker_name
from mrigen.system.claims import STALE_SECONDS
from mrigen.system.files import atomic_path, read_json, temporary_directory, write_json, write_text
from mrigen.system.wording import counted

logger = logging.getLogger(__name__)

FIT = (sys.executable, "-c", "from mrigen_cli.main import main; main()", "fit")
POLL_SECONDS = 0.5
# A trial whose fit is killed again and again has failed.
MOST_ATTEMPTS = 5
EVALUATE = (*FIT[:-1], "evaluate", "--quiet")
_REQUEUE = Interrupted.exit_status


def new_sweep_folder(name: str) -> Path:
    """Returns sweeps/<name>-<time>, a folder that does not exist."""
    return Path("sweeps") / f"{name}-{datetime.datetime.now():%Y%m%d-%H%M%S}"


class Sweep:
    """A sweep folder: its plan, its trials and, once they are made, the table of them and the best run.

    Args:
        directory: of a sweep that `begin` made.

    Raises:
        UsageError: it is none.
    """

    def __init__(self, directory: str | os.PathLike):
        import optuna
        from optuna.storages.journal import JournalFileBackend

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self.directory = Path(directory)
        path = self.directory / "sweep.json"
        if not path.is_file():
            raise UsageError(f"{directory}: no sweep.json, expected a folder made by mrigen sweep. Check the path.")
        content = read_json(path)
        space = {key: Span(**{**span, "values": tuple(span["values"])}) for key, span in content.pop("space").items()}
        several = space[RECIPE].values if RECIPE in space else ()
        recipes = {name: load_recipe(self._recipe_path(name)) for name in several or (content["name"],)}
        first = next(iter(recipes.values()))
        self.plan = Plan(recipe=first, space=space, recipes=recipes if several else {}, **content)
        self._storage = optuna.storages.JournalStorage(JournalFileBackend(str(self.directory / "journal.log")))
        self._study = optuna.create_study(
            storage=self._storage,
            study_name="sweep",
            directions=[objective.direction for objective in self.plan.objectives],
            load_if_exists=True,
        )

    @classmethod
    def begin(cls, directory: str | os.PathLike, plan: Plan) -> "Sweep":
        """Makes the folder of a sweep, all trials waiting, and returns it.

        Raises:
            UsageError: something is there already.
        """
        directory = Path(directory)
        taken = UsageError(
            f"{directory}: is there already, expected a new folder. Name another with `directory`, or go on with "
            f"`mrigen.resume_sweep({str(directory)!r})`."
        )
        if directory.exists():
            raise taken
        # It appears with all its trials, or not at all: a sweep that has some of them would never have the others.
        with temporary_directory(directory.parent, directory.name) as new:
            for name in ("trials", "claims", "logs"):
                (new / name).mkdir(parents=True)
            for name, recipe in (plan.recipes or {plan.name: plan.recipe}).items():
                dump_recipe(recipe, new / f"{name}.yaml")
            names = [field.name for field in dataclasses.fields(plan) if field.name not in ("recipe", "recipes")]
            content = {name: getattr(plan, name) for name in names}
            content["space"] = {key: dataclasses.asdict(span) for key, span in plan.space.items()}
            write_json(new / "sweep.json", content)
            sweep = cls(new)
            for point in sweep._points():
                sweep._study.enqueue_trial(point)
            try:
                os.rename(new, directory)  # Of two sweeps begun at once, one has it.
            except OSError:
                if not directory.exists():
                    raise
                raise taken from None
        return cls(directory)

    def _points(self) -> list[dict[str, str]]:
        if self.plan.search == "tpe":
            return [{}] * self.plan.num_trials
        points: list[dict[str, str]] = [{}]
        for key, span in self.plan.space.items():
            points = [point | {key: json.dumps(value)} for point in points for value in span.values]
        return points

    def trials(self) -> list:
        """Returns Optuna's frozen trials."""
        return self._study.get_trials(deepcopy=False)

    def waiting(self) -> list:
        """Returns the trials that are not finished, those at work included."""
        return [trial for trial in self.trials() if not trial.state.is_finished()]

    def run_directory(self, number: int) -> Path:
        """Returns the folder of a trial's run."""
        return self.directory / "trials" / f"trial-{number:04d}"

    def _recipe_path(self, name: str) -> Path:
        return self.directory / f"{name}.yaml"

    def recipe_path(self, trial) -> Path:
        """Returns the recipe of a trial."""
        return self._recipe_path(json.loads(trial.params[RECIPE]) if RECIPE in self.plan.space else self.plan.name)

    def overrides(self, trial) -> list[str]:
        """Returns `key=value` of a trial."""
        return [
            f"{key}={trial.params[key] if span.values else json.dumps(trial.params[key])}"
            for key, span in self.plan.space.items()
            if key != RECIPE
        ]

    def work(
        self,
        jobs: int = 1,
        take: int | None = None,
        program: Sequence[str] | None = None,
        should_stop: Callable[[], bool] = lambda: False,
    ) -> None:
        """Makes trials until none waits; trials of other workers are left to them, those of dead ones taken over.

        Args:
            jobs: fits at a time; each has its share of the cores and of the GPUs.
            take: trials to make at most.
            program: the command line of `mrigen fit`; this environment's.
            should_stop: asks to end; fits at work save first.

        Raises:
            Interrupted: it was asked to stop.
        """
        owner, taken = worker_name(self.directory / "claims"), 0
        slots: dict[int, TrialFit] = {}
        shares = share_machine(jobs)
        try:
            while True:
                # Before its fits are looked after: who asks this worker may have asked them as well.
                if should_stop():
                    raise Interrupted(
                        f"{self.directory}: stopped as asked; all of it is saved. Go on with "
                        f"`mrigen.resume_sweep({str(self.directory)!r})`."
                    )
                for index, fit in list(slots.items()):
                    if self._look_after(fit):
                        del slots[index]
                while len(slots) < jobs and (take is None or taken < take):
                    claimed = self._claim_next(owner)
                    if claimed is None:
                        break
                    trial, claim = claimed
                    index = min(set(range(jobs)) - set(slots))
                    slots[index] = self._begin_fit(trial, claim, program or FIT, shares[index])
                    taken += 1
                    named = [self.recipe_path(trial).stem] if RECIPE in self.plan.space else []
                    logger.info(f"trial {trial.number}: {', '.join([*named, *self.overrides(trial)])}")
                if not slots:
                    return
                time.sleep(POLL_SECONDS)
        finally:
            for fit in slots.values():
                fit.process.send_signal(signal.SIGTERM)
            for fit in slots.values():
                fit.process.wait()
                fit.claim.release()

    def _begin_fit(self, trial, claim: Claim, program: Sequence[str], environment: Mapping[str, str]) -> TrialFit:
        settings = [part for setting in self.overrides(trial) for part in ("--set", setting)]
        command = [*program, str(self.recipe_path(trial)), *settings, "--resume", str(self.run_directory(trial.number))]
        return TrialFit(trial, claim, command, self.directory / "logs" / f"trial-{trial.number:04d}.txt", environment)

    def _claim_next(self, owner: str):
        """Returns a trial and the claim on it: one that a dead worker left, or the next that waits, or None."""
        from optuna.trial import TrialState

        for trial in self.trials():
            if trial.state != TrialState.RUNNING:
                continue
            if set(trial.params) != set(self.plan.space):
                # Its worker is choosing values, or died while it did.
                if (datetime.datetime.now() - trial.datetime_start).total_seconds() > STALE_SECONDS:
                    with contextlib.suppress(Exception):
                        self._study.tell(trial.number, state=TrialState.FAIL)
                        self._study.enqueue_trial(
                            self._points()[trial.number] if trial.number < self.plan.num_trials else {}
                        )
                continue
            claim = Claim.take(self.directory / "claims", trial.number, owner)
            if claim is not None:
                return trial, claim
        if not any(trial.state == TrialState.WAITING for trial in self.trials()):
            return None
        self._study.sampler = self._sampler(owner)
        trial = self._study.ask()
        if trial.number >= self.plan.num_trials and "fixed_params" not in self.trials()[trial.number].system_attrs:
            self._study.tell(trial, state=TrialState.FAIL)  # Another worker had the last one.
            return None
        for key, span in self.plan.space.items():
            span.suggest(trial, key)
        claim = Claim.take(self.directory / "claims", trial.number, owner)
        return None if claim is None else (self.trials()[trial.number], claim)

    def _sampler(self, owner: str):
        import optuna

        begun = sum(trial.state != optuna.trial.TrialState.WAITING for trial in self.trials())
        worker = zlib.crc32(os.environ.get("SLURM_ARRAY_TASK_ID", "").encode())
        seed = int(np.random.SeedSequence([self.plan.seed, worker, begun]).generate_state(1)[0])
        with warnings.catch_warnings():
            # What Optuna 5 has instead asks for the trial's own object, which a worker that takes it over lacks.
            warnings.simplefilter("ignore")
            return optuna.samplers.TPESampler(
                seed=seed,
                constant_liar=True,
                constraints_func=lambda trial: [trial.user_attrs.get("too_few_active", 0.0)],
            )

    def _look_after(self, fit: TrialFit) -> bool:
        """Returns whether a trial needs no more looking after, having said in the journal what became of it."""
        from optuna.trial import TrialState

        number = fit.trial.number
        if not fit.claim.beat():
            fit.process.kill()  # Another worker thought this one dead, and has the trial.
            fit.process.wait()
            return True
        if self.plan.prune and not fit.pruned and self._is_hopeless(fit):
            fit.pruned = True
            fit.process.send_signal(signal.SIGTERM)
        status = fit.process.poll()
        if status is None:
            return False
        run = Run(self.run_directory(number))
        if status == 0 and not fit.pruned and self._parts and not fit.is_evaluating:
            fit.evaluate([*EVALUATE, "--run", str(run.directory), "--only", ",".join(self._parts)])
            return False
        state, values, said = TrialState.FAIL, None, ""
        if fit.pruned and status == _REQUEUE:
            state, said = TrialState.PRUNED, "pruned"
        elif status in (0,):
            try:
                figures, too_few = self._figures(run)
                values = [each.told(figures[each.name]) for each in self.plan.objectives]
                self._storage.set_trial_user_attr(fit.trial._trial_id, "figures", figures)
                self._storage.set_trial_user_attr(fit.trial._trial_id, "too_few_active", too_few)
                listed = ", ".join(f"{name} {value:.6g}" for name, value in figures.items())
                state, said = TrialState.COMPLETE, listed + " (collapsed)" * (too_few > 0)
            except MrigenError as error:
                said = error.faults[0]
        elif (status == _REQUEUE or status < 0 or status > 128) and fit.attempts < MOST_ATTEMPTS:
            logger.info(f"trial {number}: its fit ended with {status}; going on")
            fit.start()
            return False
        else:
            said = f"failed with {status}: {fit.last_words()}"
            self._storage.set_trial_user_attr(fit.trial._trial_id, "fault", said)
        self._study.tell(number, values, state=state)
        fit.claim.release()
        logger.info(f"trial {number}: {said}")
        return True

    @property
    def _parts(self) -> list[str]:
        """The parts of an evaluation that have what the sweep goes by."""
        return list(dict.fromkeys(objective.part for objective in self.plan.objectives if objective.part is not None))

    def _figures(self, run: Run) -> tuple[dict[str, float], float]:
        """Returns what a finished run is judged by, and by how much too few latent variables are active."""
        metrics, too_few = run.metrics, 0.0
        figures = {objective.name: objective.of(run) for objective in self.plan.objectives}
        if metrics["kl_nats"] is not None:
            people = metrics.get("num_subjects", {}).get("train")
            too_few = least_active(metrics["latent_dim"], people) - metrics["active_units"]
        return figures, too_few

    def _is_hopeless(self, fit: TrialFit) -> bool:
        import optuna

        training, name = load_recipe(self.recipe_path(fit.trial)).training, f"val_{OF_FIT[self.plan.objective]}"
        rows = read_history(self.run_directory(fit.trial.number))
        new = [row for row in rows if row["epoch"] > fit.seen_epoch and math.isfinite(row.get(name, math.nan))]
        for row in new:
            fit.seen_epoch = int(row["epoch"])
            self._storage.set_trial_intermediate_value(fit.trial._trial_id, fit.seen_epoch, row[name])
        if not new:
            return False
        # Before the KL weight is up, and while a collapse is no fault yet, a figure says little.
        warm = training.kl_warmup_epochs + max(5, -(-training.epochs // 5))
        pruner = optuna.pruners.MedianPruner(n_startup_trials=4, n_warmup_steps=warm)
        return pruner.prune(self._study, self._study.get_trials(deepcopy=False)[fit.trial.number])

    def table(self) -> pd.DataFrame:
        """Returns one row a trial, best first: trial, the keys, state, the figures, collapse, run, fault.

        A collapsed trial comes after all others that are complete, whatever its figure. With several figures the column
        `frontier` says of which trials no other is better in one of them and as good in the rest; these come first.
        """
        rows, objectives = [], self.plan.objectives
        frontier = self._frontier() if len(objectives) > 1 else []
        for trial in self.trials():
            collapsed = trial.user_attrs.get("too_few_active", 0.0) > 0
            row = {"trial": trial.number}
            row |= {key: trial.params.get(key) for key in self.plan.space}
            if row.get(RECIPE) is not None:
                row[RECIPE] = json.loads(row[RECIPE])
            figures = trial.user_attrs.get("figures") or (
                {objectives[0].name: trial.values[0]} if trial.values else {}  # Of a sweep before there were several.
            )
            row |= {"state": trial.state.name.lower()} | {each.name: figures.get(each.name) for each in objectives}
            if len(objectives) > 1:
                row["frontier"] = "yes" if trial.number in frontier else "no"
            row |= {"collapse": ("yes" if collapsed else "no") if trial.state.name == "COMPLETE" else None}
            row |= {"run": str(self.run_directory(trial.number)), "fault": trial.user_attrs.get("fault")}
            is_complete, value = row["state"] == "complete", row[objectives[0].name]
            cost = objectives[0].cost(value) if is_complete and value is not None else math.inf
            behind = len(objectives) > 1 and trial.number not in frontier
            rows.append(((not is_complete, collapsed, behind, cost, trial.number), row))
        return pd.DataFrame([row for _, row in sorted(rows, key=lambda item: item[0])])

    def _frontier(self) -> list[int]:
        """Returns the numbers of the trials that no other trial dominates, of those that did not collapse."""
        costs = {
            trial.number: [each.cost(trial.user_attrs["figures"][each.name]) for each in self.plan.objectives]
            for trial in self.trials()
            if trial.state.name == "COMPLETE" and trial.user_attrs.get("too_few_active", 0.0) <= 0
        }

        def is_dominated(own: list[float]) -> bool:
            return any(
                other != own and all(a <= b for a, b in zip(other, own, strict=True)) for other in costs.values()
            )

        return [number for number, own in costs.items() if not is_dominated(own)]

    def __repr__(self) -> str:
        return f"Sweep({str(self.directory)!r}): {self._summary()}"

    def _repr_html_(self) -> str:
        table = self.table().drop(columns="fault").to_html(index=False, na_rep=MISSING, border=0)
        return f"<p>{html.escape(repr(self))}</p>{table}"

    def _summary(self) -> str:
        trials, best = self.trials(), self.best()
        waiting = sum(not trial.state.is_finished() for trial in trials)
        said = [counted(len(trials), "trial", "trials"), f"by {self.plan.search} for the best {self.plan.objective}"]
        said += [f"{waiting} to be made"] if waiting else []
        return ", ".join([*said, "none is best" if best is None else f"best {best.directory}"])

    def render(self, format: str = "text") -> str:
        """Returns the table as "text", "markdown" or "csv"."""
        figures = [objective.name for objective in self.plan.objectives]
        also = ["frontier"] if len(figures) > 1 else []
        names = ["trial", *self.plan.space, "state", *figures, *also, "collapse", "run", "fault"]
        shown = {name: show_figure(name, ".6g" if name in figures else "") for name in names}
        words = ("state", "frontier", "collapse", "run", "fault", *self.plan.space)
        return render_comparison(self.table(), format, shown, words)

    def best(self) -> Run | None:
        """Returns the run that won; None while no trial is complete that has not collapsed."""
        first = self.table().iloc[0]
        if first["state"] != "complete" or first["collapse"] == "yes":
            return None
        return Run(Path(first["run"]))

    def explain_no_best(self) -> str:
        """Returns why no run won: what became of the trials, in words, and where to look."""
        table = self.table()
        collapsed, failed = table[table["collapse"] == "yes"], table[table["state"] == "fail"]
        counts = table["state"].value_counts()
        numbers = {
            "collapsed": len(collapsed),
            "failed": len(failed),
            "pruned": counts.get("pruned", 0),
            "not made yet": counts.get("waiting", 0) + counts.get("running", 0),
        }
        became = ", ".join(f"{number} {what}" for what, number in numbers.items() if number)
        trials = counted(len(table), "trial", "trials")
        said = [f"{self.directory}: got {became} of {trials}, expected one that is complete and whose latents speak."]
        faults = failed["fault"].dropna()
        if len(faults):
            said.append(f"The first fault: {str(faults.iloc[0]).rstrip('.')}. See {self.directory / 'logs'}.")
        if len(collapsed):
            said.append(f"See `mrigen.diagnose({collapsed['run'].iloc[0]!r})`.")
        return " ".join(said)

    def complete_runs(self) -> list[Run]:
        """Returns the runs of the complete trials, those of several recipes in the order of the trials, else best
        first."""
        table = self.table()
        if RECIPE in self.plan.space:
            table = table.sort_values("trial")
        return [Run(Path(run)) for run in table.loc[table["state"] == "complete", "run"]]

    def write_results(self) -> list[Path]:
        """Writes trials.csv, and with two complete trials comparison.md and importance.png; returns the paths."""
        paths = [self.directory / "trials.csv"]
        write_text(paths[0], self.render("csv"))
        done = self.complete_runs()
        if len(done) >= 2:
            paths.append(self.directory / "comparison.md")
            write_text(paths[-1], render_comparison(compare(done), "markdown"))
            importances = self._importances()
            if importances:
                paths.append(self.directory / "importance.png")
                figure = plot_importances(importances, self.plan.objectives[0].name)
                with atomic_path(paths[-1]) as temporary:
                    figure.savefig(temporary, format="png", metadata={"Software": None})
        return paths

    def _importances(self) -> dict[str, float]:
        import optuna

        values = {trial.values[0] for trial in self.trials() if trial.state.name == "COMPLETE"}
        if len(values) < 2:
            return {}
        evaluator = optuna.importance.FanovaImportanceEvaluator(seed=self.plan.seed)
        try:
            return optuna.importance.get_param_importances(
                self._study, evaluator=evaluator, target=lambda trial: trial.values[0]
            )
        except (ValueError, RuntimeError, ZeroDivisionError):  # Too few trials to tell.
            return {}
