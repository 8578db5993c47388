"""The figures of every epoch, as a table and as JSON lines."""

import csv
import io
import json
import math
import os
from pathlib import Path

import keras

from mrigen.system.files import atomic_path
from mrigen.training.callbacks import Progress


class History(keras.callbacks.Callback):
    """Appends one line an epoch to history.csv, and the same to history.jsonl, before the checkpoint of that epoch.

    Args:
        path: of history.csv; the other lies beside it.
        progress: where the fit stands; lines of later epochs (of a fit that broke off) are dropped first.
    """

    def __init__(self, path: Path, progress: Progress):
        super().__init__()
        self.path = path
        self.progress = progress

    def on_train_begin(self, logs=None):
        if not self.path.is_file():
            return
        content = self.path.read_bytes()
        content = content[: content.rfind(b"\n") + 1]  # A line that broke off may look like one of another epoch.
        rows = list(csv.DictReader(io.StringIO(content.decode("utf-8"), newline="")))
        rows = [row for row in rows if int(row["epoch"]) < self.progress.epoch]
        with atomic_path(self.path) as temporary, open(temporary, "w", newline="") as file:
            if rows:
                writer = csv.DictWriter(file, list(rows[0]))
                writer.writeheader()
                writer.writerows(rows)
        with atomic_path(self.path.with_suffix(".jsonl")) as temporary, open(temporary, "w") as file:
            file.writelines(map(json_line, rows))

    def on_epoch_end(self, epoch, logs=None):
        row = {"epoch": str(epoch), **{name: f"{float(value):.8g}" for name, value in (logs or {}).items()}}
        with open(self.path, "a", newline="") as file:
            writer = csv.DictWriter(file, list(row))
            if file.tell() == 0:
                writer.writeheader()
            writer.writerow(row)
            file.flush()
            os.fsync(file.fileno())
        # Made anew of the table when a fit goes on, so it need not be on the disk yet.
        with open(self.path.with_suffix(".jsonl"), "a") as file:
            file.write(json_line(row))


def json_line(row: dict[str, str]) -> str:
    """Returns a row of history.csv as a line of JSON; what is no number is null.

    Example:
        >>> json_line({"epoch": "0", "loss": "12.5", "val_loss": "nan"})
        '{"epoch": 0, "loss": 12.5, "val_loss": null}\\n'
    """
    figures = {name: float(value) for name, value in row.items() if name != "epoch"}
    figures = {name: value if math.isfinite(value) else None for name, value in figures.items()}
    return json.dumps({"epoch": int(row["epoch"]), **figures}) + "\n"
