"""`mrigen check`."""

import click
from mrigen_cli.common import announce, common_options, load_tensorflow, set_option


@click.command()
@click.argument("recipe")
@set_option
@click.option("--json", "as_json", is_flag=True, help="Print the figures as JSON.")
@common_options
def check(recipe, overrides, as_json):
    """Say what a fit of RECIPE will take, before it starts: a few steps on random volumes are measured.

    Everyone's images are read, checked and kept for the fit: what is wrong or strange about them is said, and who has
    sex, age, site, masks and sessions. For a VAE, those of up to 200 training people forecast how many latent variables
    can stay active. More about the images: mrigen qc.
    """
    from mrigen.recipe import load_recipe
    from mrigen.training.refusals import refuse_fit

    resolved = load_recipe(recipe, overrides)
    refuse_fit(resolved, needs_people=False)  # Without a cohort the rest of the plan is said all the same.
    load_tensorflow()
    import dataclasses

    from mrigen.training import plan_fit

    plan = plan_fit(resolved)
    if as_json:
        import json

        click.echo(json.dumps(dataclasses.asdict(plan), indent=2))
    else:
        click.echo(describe_plan(plan, resolved))
    for warning in plan.warnings:
        announce(f"Warning: {warning}")


def describe_plan(plan, recipe) -> str:
    """Returns the plan in a few lines."""
    zooms = [f"{zoom:g}" for zoom in recipe.preprocess.zooms]
    zooms = zooms[0] if len(set(zooms)) == 1 else "x".join(zooms)
    shape = "x".join(map(str, plan.volume_shape))
    images = "no cohort is named: set data.root, or data.source=phantom"
    cache = f"one byte a voxel, in {plan.cache_directory}"
    if plan.num_images is not None:
        images = f"{plan.num_images}, {plan.num_train} of them for training"
        cache = f"{_size(plan.cache_bytes)} in {plan.cache_directory}"
    patch = "" if plan.patch == 1 else f", in patches of {plan.patch} voxels a side"
    step = "not tried"
    if plan.step_seconds is not None:
        step = f"{plan.step_seconds:.2f} s for {plan.batch_size} volumes (measured)"
        if plan.steps is not None:
            step += (
                f"; an epoch of {plan.steps} steps {_time(plan.epoch_seconds)}, "
                f"{recipe.training.epochs} epochs {_time(plan.fit_seconds)}"
            )
    memory = f"about {_size(plan.activation_bytes)} of activations in a step (estimated)"
    if plan.peak_bytes is not None:
        memory = f"{_size(plan.peak_bytes)} at the peak (measured)"
    available = "" if plan.available_bytes is None else f"; {_size(plan.available_bytes)} available"
    rows = {
        "Images": images,
        "Grid": f"{shape} voxels of {zooms} mm{patch}",
        "Model": f"{recipe.model.kind}: {plan.num_parameters:,} parameters, {plan.latent_size} latent variables",
        "Precision": f"{plan.precision}: {plan.precision_reason}",
        "Cache": cache,
        "Memory": memory + available,
        "Step": step,
    }
    if plan.encode_seconds is not None:
        refined = f", refined by {steps} steps" if (steps := recipe.model.chosen_refinement_steps) else ""
        everyone = "" if plan.num_images is None else f"; of all images {_time(plan.num_images * plan.encode_seconds)}"
        rows["Encoding"] = f"{plan.encode_seconds:.2f} s for the latents of an image{refined} (measured){everyone}"
    if plan.forecast is not None:
        rows["Latents"] = plan.forecast.in_words()
    people = {name.capitalize(): text for name, _, text in (line.partition(": ") for line in plan.cohort)}
    lines = [f"{name:10} {text}" for name, text in {**people, **rows}.items()]
    return "\n".join([*lines, *(f"{'Note':10} {note}" for note in plan.notes)])


def _size(number: int) -> str:
    return f"{number / 2**30:.1f} GiB" if number >= 2**30 else f"{number / 2**20:.1f} MiB"


def _time(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.1f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
