"""How often the held-out people of a run were looked at: what was looked at often was chosen by, knowingly or not."""

import datetime
from collections.abc import Mapping
from typing import Any

from mrigen.runs import Run
from mrigen.system.files import read_json, write_json

FILE = "heldout_looks.json"


def record_look(run: Run, settings: Mapping[str, Any]) -> None:
    """Writes into the run that an evaluation looks at its held-out people."""
    path = run.directory / "evaluation" / FILE
    path.parent.mkdir(exist_ok=True)
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    write_json(path, [*_looks(run), {"when": now, "settings": dict(settings)}])


def count_looks(run: Run) -> int:
    """Returns how often evaluations looked at the held-out people of a run."""
    return len(_looks(run))


def _looks(run: Run) -> list[dict[str, Any]]:
    path = run.directory / "evaluation" / FILE
    return read_json(path) if path.is_file() else []
