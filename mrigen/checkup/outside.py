"""Programs beside Python: SLURM's commands, a browser."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from typing import Any

from mrigen.checkup.result import Finding

# What mrigen submit and mrigen jobs call; the last is asked only where a cluster keeps accounts.
SLURM = ("sbatch", "srun", "scontrol", "squeue")
ACCOUNTS = "sacct"
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "firefox", "microsoft-edge", "brave-browser", "open")
PATIENCE = 10


def find_partitions() -> tuple[list[dict[str, Any]], str]:
    """Returns the partitions of SLURM (name, is_default, state, time, nodes, gpus), and why there are none."""
    command = shutil.which("sinfo")
    if command is None:
        return [], "no sinfo"
    query = [command, "-h", "-o", "%P|%a|%l|%D|%G"]
    try:
        ended = subprocess.run(query, capture_output=True, text=True, timeout=PATIENCE)
    except (OSError, subprocess.TimeoutExpired) as error:
        return [], " ".join(str(error).split())[:200]
    if ended.returncode:
        return [], " ".join(ended.stderr.split())[:200] or f"exit status {ended.returncode}"
    rows: dict[str, dict[str, Any]] = {}
    for line in ended.stdout.splitlines():
        name, state, time, nodes, generic = (line.split("|") + [""] * 5)[:5]
        row = rows.setdefault(
            name, {"name": name.rstrip("*"), "is_default": name.endswith("*"), "state": state, "time": time, "nodes": 0}
        )
        row["nodes"] += int(nodes) if nodes.isdigit() else 0
        row["gpus"] = row.get("gpus", False) or "gpu" in generic
    return list(rows.values()), "" if rows else "it lists no partitions"


def check_slurm(partitions: list[dict[str, Any]], reason: str) -> Iterator[Finding]:
    """Yields what there is of SLURM.

    Args:
        partitions, reason: of `find_partitions`.
    """
    missing = [name for name in SLURM if shutil.which(name) is None]
    if len(missing) == len(SLURM):
        yield Finding("slurm", "well", "not here; only mrigen submit and mrigen jobs need it, on a login node")
        return
    if missing:
        remedy = "Install SLURM's client programs, or submit from a login node."
        yield Finding("slurm", "note", f"no {', '.join(missing)}: mrigen submit needs them", remedy)
    elif not partitions:
        remedy = "Ask the administrator whether the controller (slurmctld) runs, and see scontrol ping."
        yield Finding("slurm", "note", f"its commands are there, but sinfo says: {reason}", remedy)
    else:
        named = [_describe(row) for row in partitions]
        shown = named if len(named) <= 6 else [*named[:6], f"{len(named) - 6} more"]
        accounts = "" if shutil.which(ACCOUNTS) else "; no sacct: jobs are forgotten minutes after their end"
        yield Finding("slurm", "well", f"partitions {', '.join(shown)}{accounts}")
    if "SLURM_JOB_ID" in os.environ:
        yield Finding("slurm", "well", f"this is job {os.environ['SLURM_JOB_ID']}")


def _describe(row: dict[str, Any]) -> str:
    details = [f"{row['nodes']} node{'s' * (row['nodes'] != 1)}", row["time"]]
    details += ["GPUs"] * row["gpus"] + ["the default"] * row["is_default"] + [row["state"]] * (row["state"] != "up")
    return f"{row['name']} ({', '.join(details)})"


def check_browser() -> Finding:
    """Returns whether there is a browser; nothing needs one, pages are for whoever opens them."""
    found = next((name for name in BROWSERS if shutil.which(name)), None)
    if found is None:
        return Finding("browser", "well", "none here, and none is needed: pages such as qc.html open on any machine")
    return Finding("browser", "well", f"{found}; pages such as qc.html open there")
