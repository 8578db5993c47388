"""The network of detail of a run: a folder of its own beside the model, made after it and bound to its weights."""

from pathlib import Path
from typing import Any

from pydantic import ValidationError

from mrigen.data.memo import file_digest
from mrigen.errors import RunError
from mrigen.recipe.detail_keys import DetailRecipe
from mrigen.runs.run import Run
from mrigen.system.files import read_json, write_json

FOLDER = "detail"
FACTS = "detail.json"
WEIGHTS = "detail.weights.h5"


def detail_folder(run: Run) -> Path:
    """Returns the folder of what draws a run's detail."""
    return run.directory / FOLDER


def has_detail(run: Run) -> bool:
    """Whether a run has a network of detail that is finished."""
    return (detail_folder(run) / FACTS).is_file()


def learn_again(run: Run) -> str:
    """Returns what to do about detail that is damaged."""
    return f"Restore the file, or learn the detail again (`mrigen.learn_detail('{run.directory}', force=True)`)."


def write_detail_facts(run: Run, settings: DetailRecipe, figures: dict[str, Any]) -> None:
    """Writes detail.json, last of all: with it the network is finished.

    Args:
        run: whose it is. settings: by which it was learned. figures: what is known of it.
    """
    folder = detail_folder(run)
    facts = {
        "settings": settings.model_dump(mode="json"),
        "weights": file_digest(folder / WEIGHTS),
        "model": file_digest(run.weights_path),
        **figures,
    }
    write_json(folder / FACTS, facts)


def read_detail_facts(run: Run) -> tuple[dict[str, Any], DetailRecipe]:
    """Returns detail.json of a run, and the settings in it, checked to belong to its files.

    Raises:
        RunError: a file is missing, damaged, or belongs to other weights.
    """
    folder = detail_folder(run)
    path = folder / FACTS
    try:
        facts = read_json(path)
        settings = DetailRecipe.model_validate(facts["settings"])
        digests = {name: str(facts[name]) for name in ("weights", "model")}
    except (OSError, ValueError, KeyError, TypeError, ValidationError) as error:
        reason = " ".join(str(error).split())[:120]
        raise RunError(
            f"{path}: cannot be read ({reason}), expected what is known of the detail. {learn_again(run)}"
        ) from None
    if not (folder / WEIGHTS).is_file() or file_digest(folder / WEIGHTS) != digests["weights"]:
        raise RunError(f"{folder / WEIGHTS}: is not the file that was learned (by its digest). {learn_again(run)}")
    if file_digest(run.weights_path) != digests["model"]:
        raise RunError(
            f"{path}: was learned of a model with other weights than {run.weights_path.name}, expected those. "
            f"{learn_again(run)}"
        )
    return facts, settings


def read_progress(folder: Path) -> dict | None:
    """Returns where an unfinished training of a network stands, or None.

    Raises:
        RunError: its files are damaged.
    """
    path = folder / "checkpoint" / "progress.json"
    if not path.is_file():
        return None
    try:
        state = read_json(path)
        step, _, _ = int(state["step"]), float(state["seconds"]), list(state["history"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        reason = " ".join(str(error).split())[:120]
        raise RunError(f"{path}: cannot be read ({reason}). Begin anew with `force=True`.") from None
    if not checkpoint_path(folder, step).is_file():
        raise RunError(
            f"{checkpoint_path(folder, step)}: no such file, expected what {path.name} names. Begin anew with "
            "`force=True`."
        )
    return state


def checkpoint_path(folder: Path, step: int) -> Path:
    """Returns the path of an unfinished network's weights after so many steps."""
    return folder / "checkpoint" / f"step-{step:08d}.weights.h5"
