"""`mrigen sweep`."""

import click
from mrigen_cli.common import announce, by_option, common_options, set_option


@click.command()
@click.argument("recipes", nargs=-1, metavar="[RECIPE]...")
@click.option(
    "--over", multiple=True, metavar="KEY=VALUES", help="A key to search over: 16,32,64 or 1..4 or 0.5..4:log."
)
@click.option("--space", type=click.Path(), metavar="FILE", help="The same as a YAML file of keys and values.")
@set_option
@click.option("--search", type=click.Choice(["grid", "tpe"]), help="How to search.  [default: grid where it is finite]")
@click.option("-n", "--trials", type=click.IntRange(min=1), help="Trials of tpe.  [default: 20]")
@by_option
@click.option("--seed", type=int, default=0, show_default=True, help="Of the search.")
@click.option("--prune", is_flag=True, help="End trials that are worse than the median of the others so far.")
@click.option("--jobs", type=click.IntRange(min=1), default=1, show_default=True, help="Fits at a time.")
@click.option(
    "-o", "--out", type=click.Path(), metavar="FOLDER", help="Folder to make.  [default: sweeps/<recipe>-<time>]"
)
@click.option("--resume", type=click.Path(), metavar="FOLDER", help="Go on with a sweep, or help another worker at it.")
@click.option("--take", type=click.IntRange(min=1), help="Make so many trials at most.")
@click.option("--probe", is_flag=True, help="Probe each run in the end, so that comparison.md tells sex as well.")
@common_options
def sweep(recipes, over, space, overrides, search, trials, objective, seed, prune, jobs, out, resume, take, probe):
    """Fit RECIPE with other values of some keys, and print the run that is best for validation people.

    Of several recipes, each is a trial (with --over, each with each value); 'paper/*' stands for all that are like it.
    A trial whose latents collapsed cannot win. Each trial is a run in FOLDER/trials; trials.csv, comparison.md and
    importance.png are written beside. Any number of workers, on any hosts, may share FOLDER by --resume.
    """
    from mrigen_cli.fit import stoppable

    from mrigen.sweeps import Sweep, new_sweep_folder

    if resume is not None:
        if recipes or over or space or overrides or out:
            raise click.UsageError(
                "--resume takes the sweep as it began: drop RECIPE, --over, --space, --set and --out."
            )
        work = Sweep(resume)
    else:
        plan = plan_from_options(recipes, overrides, over, space, search, trials, objective, seed, prune)
        work = Sweep.begin(out or new_sweep_folder(plan.name), plan)
        announce(f"{plan.num_trials} trials in {work.directory}, by {plan.search}")
    with stoppable() as stop, stop.heard():
        work.work(jobs, take, should_stop=lambda: stop.asked)
    left = len(work.waiting())
    if left:
        announce(f"{left} trials are left; mrigen sweep --resume {work.directory} goes on")
        return
    if probe:
        probe_all(work.complete_runs())
    paths = work.write_results()
    announce(work.render())
    announce(f"Written: {', '.join(map(str, paths))}")
    best = work.best()
    if best is None:
        from mrigen.errors import TrainingError

        fault = work.explain_no_best()
        if take is None:
            raise TrainingError(fault)
        announce(fault)  # A worker that was to make some trials has made them.
        return
    click.echo(best.directory)


def probe_all(runs) -> None:
    """Probes the runs that are not, one after the other; a fault is said, and the next one is looked at."""
    from mrigen_cli.common import load_tensorflow

    from mrigen.errors import MrigenError

    load_tensorflow()
    from mrigen.probing import probe

    for run in runs:
        if run.probe_results is not None:
            continue
        announce(f"{run.directory}: telling sex from the latents")
        try:
            probe(run).write()
        except MrigenError as error:
            announce(f"{run.directory}: not probed: {error.faults[0]}")


def plan_from_options(recipes, overrides, over, space, search, trials, objective, seed, prune, is_here=True):
    """Returns the checked plan of a sweep; nothing is written."""
    from mrigen.sweeps import plan_sweep

    if not recipes:
        raise click.UsageError(
            "give a RECIPE, or --resume FOLDER. Example: mrigen sweep vae --over model.latent_dim=16,32"
        )
    return plan_sweep(
        recipes, over, space=space, overrides=overrides, search=search, trials=trials, objective=objective, seed=seed,
        prune=prune, is_here=is_here,
    )  # fmt: skip
