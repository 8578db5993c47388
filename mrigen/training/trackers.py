"""Trackers of experiments beside the run's own files: MLflow and Weights & Biases, by their own Keras callbacks.

Both are extras of the installation. What a tracker calls the run is kept in the run's `trackers.json`, so that a fit
that goes on is one run there, too; an epoch that broke off after it was reported may be there twice, at the same step.
"""

import contextlib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import keras

from mrigen.errors import TrainingError
from mrigen.system.files import read_json, write_json

# What the packages would tell their makers beside what they are asked to keep; whoever wants that may set them.
NO_TELEMETRY = {"MLFLOW_DISABLE_TELEMETRY": "true", "WANDB_ERROR_REPORTING": "false"}
NAMES = "trackers.json"


@contextlib.contextmanager
def tracked(names: Sequence[str], directory: Path, facts: dict[str, Any]) -> Iterator[list[keras.callbacks.Callback]]:
    """Yields the callbacks of trackers, and reports at the end whether the fit ended as it should.

    Args:
        names: of "mlflow", "wandb".
        directory: of the run.
        facts: of the run; its settings are reported once.

    Raises:
        TrainingError: a tracker cannot be reached, or refuses.
    """
    for variable, value in NO_TELEMETRY.items():
        os.environ.setdefault(variable, value)
    with contextlib.ExitStack() as stack:
        callbacks = []
        for name in names:
            begin = {"mlflow": _mlflow, "wandb": _wandb}[name]
            callbacks.append(stack.enter_context(begin(directory, facts)))
        yield callbacks


@contextlib.contextmanager
def _mlflow(directory: Path, facts: dict[str, Any]) -> Iterator[keras.callbacks.Callback]:
    import mlflow
    import mlflow.keras

    store, is_local = directory.parent.resolve(), not os.environ.get("MLFLOW_TRACKING_URI")
    if is_local:  # The runs of one folder share a store.
        mlflow.set_tracking_uri(f"sqlite:///{store / 'mlflow.db'}")
    kept = _name_of(directory, "mlflow")
    try:
        if is_local and mlflow.get_experiment_by_name("mrigen") is None:
            with contextlib.suppress(mlflow.exceptions.MlflowException):  # Another fit was quicker.
                mlflow.create_experiment("mrigen", (store / "mlflow").as_uri())
        if not os.environ.get("MLFLOW_EXPERIMENT_NAME"):
            mlflow.set_experiment("mrigen")
        run = mlflow.start_run(run_id=kept) if kept else mlflow.start_run(run_name=directory.name)
        if kept is None:
            mlflow.log_dict(facts, "run.json")
            mlflow.set_tags({"recipe": facts.get("recipe", ""), "run": str(directory.resolve())})
            _keep_name(directory, "mlflow", run.info.run_id)
    except mlflow.exceptions.MlflowException as error:
        raise _refused("mlflow", error, "MLFLOW_TRACKING_URI") from None
    status = "KILLED"  # What MLflow calls a run that may go on.
    try:
        yield mlflow.keras.MlflowCallback()
        status = "FINISHED"
    finally:
        mlflow.end_run(status)


@contextlib.contextmanager
def _wandb(directory: Path, facts: dict[str, Any]) -> Iterator[keras.callbacks.Callback]:
    import wandb
    from wandb.integration.keras import WandbMetricsLogger

    kept = _name_of(directory, "wandb")
    try:
        run = wandb.init(
            project=os.environ.get("WANDB_PROJECT", "mrigen"), name=directory.name, id=kept,
            resume="allow" if kept else None, dir=str(directory), config=facts,
        )  # fmt: skip
    except wandb.errors.Error as error:
        raise _refused("wandb", error, "WANDB_MODE=offline") from None
    if kept is None:
        _keep_name(directory, "wandb", run.id)
    status = 1
    try:
        yield WandbMetricsLogger(log_freq="epoch")
        status = 0
    finally:
        run.finish(exit_code=status)


def _name_of(directory: Path, tracker: str) -> str | None:
    path = directory / NAMES
    return read_json(path).get(tracker) if path.is_file() else None


def _keep_name(directory: Path, tracker: str, name: str) -> None:
    path = directory / NAMES
    write_json(path, {**(read_json(path) if path.is_file() else {}), tracker: name})


def _refused(tracker: str, error: Exception, setting: str) -> TrainingError:
    said = " ".join(str(error).split())
    return TrainingError(
        f"training.trackers: {tracker} cannot begin ({said}), expected a place to write to. See {setting}, or leave it "
        "out; the run goes on with mrigen fit."
    )
