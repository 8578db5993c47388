"""Fuzzes targets for as long as is wanted: python -m tests.trust.fuzzing [TARGET ...] --minutes 10"""

import os
import sys
import tempfile
import time
from pathlib import Path

import click
from hypothesis import HealthCheck, Phase, given, seed, settings

from tests.trust import targets
from tests.trust.tampering import two_runs
from tests.trust.targets import TARGETS, Target

# Drawn in the test suite, always the same ones.
FEW = 60
BATCH = 250
HEALTH = (HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large, HealthCheck.large_base_example)


def fuzz(target: Target, minutes: float, first_seed: int = 0, find: int = 20) -> tuple[int, list[str]]:
    """Returns how many values were met, and what went wrong, each kind of it once.

    Args:
        target: of `TARGETS`. minutes: after which no more are drawn.
        first_seed: of the first values; the next are drawn with the next seed.
        find: how many kinds are enough.
    """
    until, met, kinds, number = time.monotonic() + 60 * minutes, 0, {}, first_seed

    def meet(value):
        nonlocal met
        if time.monotonic() > until:
            return
        met += 1
        try:
            target.meet(value)
        except BaseException as error:
            if isinstance(error, (KeyboardInterrupt, SystemExit)):
                raise
            reason = " ".join(f"{type(error).__name__}: {error}".split())[:600]
            kind = "".join(letter for letter in reason if not letter.isdigit())[:110]
            if kind not in kinds or len(repr(value)) < len(repr(kinds[kind][0])):
                kinds[kind] = (value, reason)

    while time.monotonic() < until and len(kinds) < find:
        run = settings(
            max_examples=BATCH, deadline=None, database=None, phases=(Phase.generate,), suppress_health_check=HEALTH
        )
        run(seed(number)(given(target.values)(meet)))()
        number += 1
    return met, [f"{value!r}: {reason}" for value, reason in kinds.values()]


@click.command()
@click.argument("names", nargs=-1, type=click.Choice(list(TARGETS)))
@click.option("--minutes", default=10.0, show_default=True, help="A target.")
@click.option("--seed", "first_seed", default=0, show_default=True, help="Of the first values.")
@click.option(
    "--run", type=click.Path(path_type=Path), help="A finished run of the recipe smoke.  [default: a new one]"
)
def main(names: tuple[str, ...], minutes: float, first_seed: int, run: Path | None) -> None:
    """Prints a line a target, and what went wrong; exits with 1 if anything did."""
    with tempfile.TemporaryDirectory() as folder:
        os.environ.setdefault("MRIGEN_CACHE", str(Path(folder, "cache")))
        if {"command lines", "run folders"} & set(names or TARGETS):
            targets.RUNS = two_runs(Path(folder), run)
        clean = {name: _report(name, minutes, first_seed) for name in names or TARGETS}
    sys.exit(not all(clean.values()))


def _report(name: str, minutes: float, first_seed: int) -> bool:
    """Prints how a target was met, and returns whether nothing went wrong."""
    started = time.process_time()
    met, wrong = fuzz(TARGETS[name], minutes, first_seed)
    seconds = time.process_time() - started
    print(f"{name}: {met} values in {seconds:.0f} s of the CPU, {len(wrong)} kinds went wrong", flush=True)
    for line in wrong:
        print(f"    {line}", flush=True)
    return not wrong


if __name__ == "__main__":
    main()
