"""How much a registration enlarged or shrank an image: a covariate of size where images were brought to one frame."""

from pathlib import Path

import numpy as np
import pandas as pd

from mrigen.errors import CohortError, UsageError
from mrigen.system.files import open_file
from mrigen.system.wording import limited

COLUMN = "registration_log_det"
_MOST_NAMED = 5


def registration_log_det(table: pd.DataFrame, pattern: str) -> np.ndarray:
    """Returns the logarithm of the determinant of each person's registration, (rows,) float64.

    0.1 says that the registration multiplies volumes by exp(0.1); its sign depends on the direction that the
    matrices have, which must be one for all.

    Args:
        table: one row an image, with participant_id, and session_id where the pattern names it.
        pattern: of the files' paths, with {participant_id} (and {session_id}); text with three or four rows of four
            numbers (FSL), or an ITK transform with a line "Parameters:" of twelve.

    Raises:
        UsageError: the pattern names nobody, or something else. CohortError: files that are missing or hold no matrix.
    """
    if "{participant_id}" not in pattern:
        raise UsageError(
            f"got {pattern}, expected a path with {{participant_id}}. Write for example "
            "'/data/xfm/{participant_id}.mat'.",
            parameter="registration",
        )
    values, faults = np.full(len(table), np.nan), []
    for row, person in enumerate(table.to_dict("records")):
        try:
            path = Path(pattern.format_map({key: person.get(key) for key in ("participant_id", "session_id")}))
        except (KeyError, ValueError, IndexError):
            raise UsageError(
                f"got {pattern}, expected no other names in braces than participant_id and session_id. Rename them.",
                parameter="registration",
            ) from None
        try:
            with open_file(path, mode="r") as file:
                values[row] = _log_det(file.read())
        except OSError:
            faults.append(f"{path}: no such file, expected the registration of {person['participant_id']}. Add it.")
        except ValueError as error:
            faults.append(
                f"{path}: got {error}, expected an affine of three or four rows of four numbers, or an ITK transform. "
                "Write it anew."
            )
    if faults:
        raise CohortError(limited(faults, _MOST_NAMED))
    return values


def _log_det(text: str) -> float:
    parameters = [line.partition(":")[2].split() for line in text.splitlines() if line.startswith("Parameters:")]
    lines = [line.split() for line in text.splitlines() if line.strip() and line[0] != "#"]
    rows = parameters[:1] if parameters else lines
    try:
        numbers = [[float(word) for word in row] for row in rows]
    except ValueError:
        raise ValueError("words") from None
    if parameters and len(numbers[0]) == 12:
        matrix = np.array(numbers[0][:9]).reshape(3, 3)
    elif not parameters and len(numbers) in (3, 4) and all(len(row) == 4 for row in numbers):
        matrix = np.array(numbers)[:3, :3]
    else:
        raise ValueError(f"{sum(map(len, numbers))} numbers in {len(numbers)} rows")
    determinant = abs(np.linalg.det(matrix))
    if not np.isfinite(determinant) or determinant <= 0.0:
        raise ValueError("a matrix without an inverse")
    return float(np.log(determinant))
