"""Contenders side by side: each in its own process, only one of them at work at any moment."""

import contextlib
import dataclasses
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

ROOT = Path(__file__).parents[1]
# Two frameworks share one GPU, so none may take all of its memory at once.
ENVIRONMENT = {"TF_CPP_MIN_LOG_LEVEL": "3", "TF_FORCE_GPU_ALLOW_GROWTH": "true", "MRIGEN_QUIET": "1"}
# Of a process that failed, the last lines are shown.
LOG_LINES = 12


@dataclasses.dataclass(frozen=True)
class Contender:
    """Who takes part: a name for the table, and what `benchmarks.worker` needs to make it.

    Attributes:
        name: as the table shows it.
        factory: `module:function`, see `benchmarks.worker`.
        settings: arguments of the factory; plain JSON.
    """

    name: str
    factory: str
    settings: dict[str, Any] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass
class Measured:
    """What a contender did.

    Attributes:
        contender: who.
        facts: what its factory said of it, such as the number of parameters.
        rounds: the figures of each round.
        problem: why there are none, or None.
    """

    contender: Contender
    facts: dict[str, Any] = dataclasses.field(default_factory=dict)
    rounds: list[dict[str, float | None]] = dataclasses.field(default_factory=list)
    problem: str | None = None

    def take(self, reply: dict[str, Any]) -> None:
        """Keeps what a reply of the worker holds."""
        self.facts = reply.get("facts", self.facts)
        self.rounds += [reply["figures"]] if "figures" in reply else []
        self.problem = reply.get("problem")

    def values(self, figure: str) -> list[float]:
        """Returns a figure of every round that has it."""
        return [figures[figure] for figures in self.rounds if figures.get(figure) is not None]

    def median(self, figure: str) -> float | None:
        """Returns the median of a figure over the rounds, or None."""
        values = self.values(figure)
        return statistics.median(values) if values else None


def alternate(contenders: Sequence[Contender], num_rounds: int) -> list[Measured]:
    """Returns what the contenders did in rounds that take turns, so that a slow minute of the machine meets them all.

    All stay alive meanwhile, but each waits, idle, while another works.
    """
    everyone = [Measured(contender) for contender in contenders]
    with contextlib.ExitStack() as stack:
        workers = []
        for measured in everyone:
            workers.append(stack.enter_context(_Worker(measured.contender)))
            measured.take(workers[-1].reply())
        for number in range(num_rounds):
            for measured, worker in zip(everyone, workers, strict=True):
                if measured.problem is None:
                    measured.take(worker.ask())
                    click.echo(f"  round {number + 1} of {num_rounds}: {_told(measured)}", err=True)
    return everyone


def one_by_one(contenders: Sequence[Contender], num_rounds: int = 1) -> list[Measured]:
    """Returns what the contenders did, each alone in a fresh process: for memory, which must not be shared."""
    return [alternate([contender], num_rounds)[0] for contender in contenders]


class _Worker:
    """The process of a contender; a context that ends it."""

    def __init__(self, contender: Contender):
        click.echo(f"  starting {contender.name}", err=True)
        self.log = tempfile.TemporaryFile("w+", errors="replace")  # noqa: SIM115 (closed by __exit__)
        self.process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.worker", contender.factory, json.dumps(contender.settings)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.log,
            text=True,
            cwd=ROOT,
            env={**os.environ, **ENVIRONMENT},
        )

    def __enter__(self) -> "_Worker":
        return self

    def __exit__(self, *error) -> None:
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.close()
        self.process.wait()
        self.process.stdout.close()
        self.log.close()

    def ask(self) -> dict[str, Any]:
        """Returns the reply to a request for a round."""
        print("round", file=self.process.stdin, flush=True)
        return self.reply()

    def reply(self) -> dict[str, Any]:
        """Returns the next reply; {"problem": why} where the process ended instead, and shows the end of its log."""
        line = self.process.stdout.readline()
        if line:
            return json.loads(line)
        status = self.process.wait()
        self.log.seek(0)
        click.echo("".join(self.log.readlines()[-LOG_LINES:]), err=True, nl=False)
        return {"problem": "killed (out of memory?)" if status < 0 else "failed"}


def _told(measured: Measured) -> str:
    figures = {} if measured.problem else measured.rounds[-1]
    shown = ", ".join(f"{name} {value:.4g}" for name, value in figures.items() if value is not None)
    return f"{measured.contender.name}: {measured.problem or shown}"
