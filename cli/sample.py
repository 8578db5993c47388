"""`mrigen sample`."""

import click
from mrigen_cli.common import announce, common_options, find_run, given_option, load_tensorflow, run_option


@click.command()
@click.option("-n", "--num", "num_samples", type=int, default=10, show_default=True, help="How many heads.")
@run_option
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Seed of the draws.")
@click.option("-o", "--out", type=click.Path(), help="Folder to write to.  [default: RUN/samples]")
@click.option("--temperature", type=float, default=1.0, show_default=True, help="Factor on the spread of the draws.")
@click.option("--density", default="auto", show_default=True, help="auto, prior, gaussian, gmm, flow or two-stage.")
@given_option
@click.option(
    "--check", is_flag=True, help="Say whether a classifier of real heads sees the covariates in the samples."
)
@click.option("--native-units", is_flag=True, help="Intensities in the training cohort's own units, not 0 to 1.")
@click.option("--fields", is_flag=True, help="morph: also the displacement into the template, and its log-Jacobian.")
@click.option(
    "--detail/--no-detail", default=None, help="Draw fine structure, or not.  [default: where the run has learned it]"
)
@click.option("--force", is_flag=True, help="Replace samples that were made with other settings.")
@common_options
def sample(
    num_samples, run_directory, seed, out, temperature, density, given, check, native_units, fields, detail, force
):
    """Write synthetic heads of a run as NIfTI, and print their paths."""
    from mrigen.data.covariates import parse_given

    given = parse_given(given)
    run = find_run(run_directory)
    load_tensorflow()
    from mrigen.generation.sampling import Samples

    samples = Samples(
        run,
        num_samples,
        seed=seed,
        temperature=temperature,
        density=density,
        given=given,
        native_units=native_units,
        fields=fields,
        detail=detail,
    )
    paths = samples.write(out, force)
    announce(f"Picture: {samples.picture_path(out)}")
    if check:
        from mrigen.probing import check_samples

        checks = check_samples(run, paths, native_units=native_units)
        checks.write()
        for check in checks:
            announce(check.in_words())
    for path in paths:
        click.echo(path)
