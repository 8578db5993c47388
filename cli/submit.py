"""`mrigen submit`."""

import functools

import click
from mrigen_cli.common import announce, by_option, common_options, set_option


def _resources(command):
    """Adds what a job asks for, gathered into `resources`."""

    @click.option("--partition", metavar="NAME", help="Partition (queue) of the cluster.")
    @click.option("--time", metavar="D-HH:MM:SS", help="Time limit; at its end the job saves and queues again.")
    @click.option("--gpus-per-node", type=click.IntRange(min=0), help="GPUs on each node.")
    @click.option("--mem", metavar="SIZE", help="Main memory of each node, such as 32G.")
    @click.option("--cpus-per-task", type=click.IntRange(min=1), help="Cores on each node.")
    @click.option("--sbatch", "others", multiple=True, metavar="OPTION", help="Any option of sbatch; may be repeated.")
    @click.option("--dry-run", is_flag=True, help="Print the script; write and submit nothing.")
    @functools.wraps(command)
    def wrapped(*args, partition, time, gpus_per_node, mem, cpus_per_task, others, nodes=1, **kwargs):
        from mrigen.cluster import Resources

        resources = Resources(partition, time, nodes, gpus_per_node, mem, cpus_per_task, tuple(others))
        return command(*args, resources=resources, **kwargs)

    return wrapped


@click.group()
def submit():
    """Send work to a SLURM cluster, as a plain batch script that queues itself again until it is done."""


@submit.command("fit")
@click.argument("recipe")
@set_option
@click.option("--resume", type=click.Path(), metavar="RUN", help="Run to begin or to go on with.  [default: a new one]")
@click.option("--nodes", type=click.IntRange(min=1), default=1, show_default=True, help="Nodes; each runs one process.")
@_resources
@common_options
def fit(recipe, overrides, resume, resources, dry_run):
    """Submit a fit of RECIPE, and print the job's number.

    The job survives its time limit, preemption, kills and failures of nodes: it goes on from its last checkpoint.
    """
    from mrigen.cluster import fit_job
    from mrigen.recipe import recipe_name
    from mrigen.runs.naming import new_run_directory, reserve_run_directory

    job = fit_job(recipe, resume or new_run_directory(recipe_name(recipe)), overrides, resources)
    if not dry_run and resume is None:  # Another submit of the same second may have the same idea.
        run = reserve_run_directory(recipe_name(recipe))
        job = fit_job(recipe, run, overrides, resources)
    run = job.about["run"]
    if dry_run:
        click.echo(job.script, nl=False)
        return
    number = job.submit()
    announce(f"{job.folder}/job.sh makes {run}; mrigen jobs tells how it goes")
    click.echo(number)


@submit.command("sweep")
@click.argument("recipes", nargs=-1, metavar="[RECIPE]...")
@set_option
@click.option("--over", multiple=True, metavar="KEY=VALUES", help="A key to search over, as mrigen sweep takes it.")
@click.option("--space", type=click.Path(), metavar="FILE", help="A YAML file of keys and values.")
@click.option("--search", type=click.Choice(["grid", "tpe"]), help="How to search.  [default: grid where it is finite]")
@click.option("-n", "--trials", type=click.IntRange(min=1), help="Trials of tpe.  [default: 20]")
@by_option
@click.option("--seed", type=int, default=0, show_default=True, help="Of the search.")
@click.option("--prune", is_flag=True, help="End trials that are worse than the median of the others so far.")
@click.option("-o", "--out", type=click.Path(), metavar="FOLDER", help="The sweep.  [default: sweeps/<recipe>-<time>]")
@click.option("--resume", type=click.Path(), metavar="FOLDER", help="A sweep that is there; its unfinished trials.")
@click.option("--at-once", type=click.IntRange(min=1), default=4, show_default=True, help="Trials at one time.")
@_resources
@common_options
def sweep(
    recipes, overrides, over, space, search, trials, objective, seed, prune, out, resume, at_once, resources, dry_run
):
    """Submit a sweep of RECIPE as a job array, a trial a task, and print the job's number.

    When all tasks have ended, mrigen sweep --resume FOLDER writes the tables and the plot.
    """
    from mrigen_cli.sweep import plan_from_options

    from mrigen.cluster import sweep_job
    from mrigen.sweeps import Sweep, new_sweep_folder

    if resume is not None:
        folder, plan = resume, Sweep(resume).plan
        tasks = len(Sweep(resume).waiting())
    else:
        plan = plan_from_options(recipes, overrides, over, space, search, trials, objective, seed, prune, False)
        folder, tasks = out or new_sweep_folder(plan.name), plan.num_trials
    job = sweep_job(plan.name, folder, tasks, resources, at_once)
    if dry_run:
        click.echo(job.script, nl=False)
        return
    if resume is None:
        Sweep.begin(folder, plan)
    number = job.submit()
    announce(f"{job.folder}/job.sh runs {tasks} trials of {folder}; mrigen jobs tells how they go")
    click.echo(number)
