"""Damages runs by a seed, and opens each with a verb: python -m benchmarks.tampering [500] (about a second each)

Every verb that opens a run is asked in turn. Expected: each ends in success or in a line of ours, and nothing that is
written holds a NaN. Prints what did not, and how often each verb ended how; exits with 1 if any did not.
"""

import collections
import os
import sys
import tempfile
from pathlib import Path

import click


@click.command()
@click.argument("number", default=500)
@click.option("--seed", default=0, show_default=True, help="Of the first.")
@click.option("--verb", help="Only this one.")
@click.option(
    "--run", type=click.Path(path_type=Path), help="A finished run of the recipe smoke.  [default: a new one]"
)
def main(number: int, seed: int, verb: str | None, run: Path | None) -> None:
    """Prints one line a fault, and a table."""
    from tests.trust.tampering import VERBS, try_verb, two_runs

    ends, bad = collections.Counter(), 0
    with tempfile.TemporaryDirectory() as folder:
        os.environ.setdefault("MRIGEN_CACHE", str(Path(folder, "cache")))
        finished, other = two_runs(Path(folder), run)
        verbs = [verb] if verb else list(VERBS)
        for index in range(number):
            name = verbs[index % len(verbs)]
            try:
                _, ended = try_verb(name, seed + index, Path(folder, f"{index}"), finished, other)
                ends[name, ended.status] += 1
            except AssertionError as error:
                bad += 1
                print(" ".join(str(error).split())[:600], flush=True)
    statuses = sorted({status for _, status in ends})
    print(f"\n| verb | {' | '.join(map(str, statuses))} |\n|:--|{'--:|' * len(statuses)}")
    for name in verbs:
        print(f"| {name} | {' | '.join(str(ends[name, status]) for status in statuses)} |")
    print(f"\n{number} tamperings, {bad} that did not end well")
    sys.exit(bad > 0)


if __name__ == "__main__":
    main()
