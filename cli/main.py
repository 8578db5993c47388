"""`mrigen`: the group of verbs, and what becomes of errors and signals."""

import errno
import importlib
import os
import re
import signal
import sys

import click

# verb -> (module, one line of help); modules are imported when their verb is used.
VERBS = {
    "demo": "Fit, sample and probe on the built-in synthetic cohort: no data, no network.",
    "check": "Say what a fit of a recipe will take: people, memory, disk and time.",
    "qc": "Find the wrong and strange images of a cohort, before a fit or of a run.",
    "prepare": "Make raw scans ready for a fit: bias, place, brain masks, faces; as BIDS derivatives.",
    "fit": "Train the model of a recipe and write a run.",
    "detail": "Learn the fine structure of heads, for the samples of a finished run.",
    "diagnose": "Explain a finished VAE: what its latents say, and what to do.",
    "sample": "Write synthetic heads of a run as NIfTI.",
    "transfer": "Write people's heads as another scanner, sex or age would show them.",
    "template": "Write the mean head of a run, or of each group, as NIfTI.",
    "traverse": "Write sequences of heads along the principal directions of the latents.",
    "encode": "Write the latents of people, of the run or new, as a table.",
    "decode": "Write heads as NIfTI from a table of latents.",
    "reconstruct": "Write what the model makes of images, and what it leaves, in each image's own space.",
    "interpolate": "Write the heads between two people.",
    "latents": "Draw maps of the latents, and test what they have to do with sex, age, head size and site.",
    "segment": "Write brain masks of new heads, by the labels of the training people.",
    "probe": "Classify sex from the latents of a run, beside baselines.",
    "explain": "Write what changes from women to men, voxel by voxel on the whole image.",
    "evaluate": "Say whether synthetic heads are any good, beside real people and known bad ways.",
    "phantom": "Write the built-in synthetic cohort as a BIDS folder.",
    "compare": "Print one table of finished runs.",
    "runs": "List runs, finished or not, with their figures on validation people.",
    "sweep": "Search for the best values of some keys of a recipe, by validation people.",
    "submit": "Send a fit or a sweep to a SLURM cluster.",
    "jobs": "List what was sent to the cluster, and how it goes.",
    "recipe": "Show, list or describe recipes.",
    "doctor": "Say whether this machine can fit, and what to do where it cannot.",
}

# What a file is called while it is written.
_TEMPORARY = re.compile(r"\.tmp-[0-9a-f]{8}-")
_LESS_MEMORY = (
    "Ask for less at a time (a smaller training.batch_size, larger preprocess.zooms, fewer model.channels), end other "
    "programs, or take a larger machine; mrigen check says what a fit takes."
)


class Verbs(click.Group):
    """A group that lists its verbs without importing them."""

    def list_commands(self, ctx):
        return list(VERBS)

    def get_command(self, ctx, name):
        if name not in VERBS:
            return None
        return getattr(importlib.import_module(f"mrigen_cli.{name}"), name)

    def format_commands(self, ctx, formatter):
        with formatter.section("Commands"):
            formatter.write_dl(list(VERBS.items()))


def _show_version(ctx, option, value):
    if value and not ctx.resilient_parsing:
        from mrigen import __version__

        click.echo(f"mrigen {__version__}")
        ctx.exit()


@click.group(cls=Verbs, context_settings={"max_content_width": 100})
@click.option("--version", is_flag=True, is_eager=True, expose_value=False, callback=_show_version, help="Show it.")
def mrigen():
    """Autoencoders and variational autoencoders of whole 3-D brain MRI.

    A first look: mrigen demo. With your data: mrigen fit vae --set data.root=/data/my-bids, then mrigen sample -n 10
    and mrigen probe.

    Exit status: 0 done; 1 failed while running; 2 bad usage, recipe or cohort, and nothing was run; 75 a fit was asked
    to stop (SIGTERM, SIGUSR1), has saved and can go on; 130 or 143 interrupted.
    """


def in_one_line(text: str) -> str:
    """Returns a text without what moves a terminal's cursor or changes its colours: line breaks and escapes are spelt.

    Example:
        >>> in_one_line("a\\x1b[2J")
        'a\\\\x1b[2J'
    """
    return "".join(letter if letter.isprintable() else letter.encode("unicode_escape").decode() for letter in text)


def main(arguments: list[str] | None = None) -> None:
    """Runs the command line and exits with its status; errors are one line a fault on stderr."""
    from mrigen.errors import MrigenError, UsageError

    arguments = sys.argv[1:] if arguments is None else arguments
    debug = "--debug" in arguments
    signal.signal(signal.SIGTERM, _on_sigterm)
    try:
        if any("\ud800" <= letter <= "\udfff" for argument in arguments for letter in argument):
            raise UsageError(
                [
                    f"got {argument}, which is no UTF-8, expected text. Rename the file that it names."
                    for argument in arguments
                    if any("\ud800" <= letter <= "\udfff" for letter in argument)
                ]
            )
        status = mrigen.main(arguments, prog_name="mrigen", standalone_mode=False)
        sys.exit(status if isinstance(status, int) else 0)
    except MrigenError as error:
        if debug:
            raise
        for fault in error.faults:
            click.echo(f"mrigen: {in_one_line(fault)}", err=True)
        sys.exit(error.exit_status)
    except click.ClickException as error:
        error.message = in_one_line(error.message)  # What was typed is echoed.
        error.show()
        sys.exit(error.exit_code)
    except (KeyboardInterrupt, click.Abort):
        click.echo("mrigen: interrupted. What was finished is kept; go on with mrigen fit --resume RUN.", err=True)
        sys.exit(130)
    except BrokenPipeError:
        sys.stderr.close()
        sys.exit(0)
    except OSError as error:
        if debug:
            raise
        hint = {
            errno.ENOSPC: "Free some space; what was finished is kept.",
            errno.EDQUOT: "Free some of your quota; what was finished is kept.",
            errno.EACCES: "Name a folder that you may write to.",
            errno.EROFS: "Name a folder that you may write to.",
        }.get(error.errno, "Check the path.")
        place = in_one_line(_TEMPORARY.sub("", str(error.filename or "writing")))
        click.echo(f"mrigen: {place}: {error.strerror or error}. {hint}", err=True)
        sys.exit(1)
    except Exception as error:  # The border to the user: whatever else goes wrong is one line, too.
        if debug:
            raise
        reason = " ".join(str(error).split())[:300]
        if (
            isinstance(error, MemoryError) or type(error).__name__ == "ResourceExhaustedError"
        ):  # The latter of TensorFlow.
            line = f"out of memory{f' ({reason})' if reason else ''}. {_LESS_MEMORY}"
        elif os.strerror(errno.ENOSPC) in reason:  # TensorFlow has errors of its own for a full disk.
            line = f"{os.strerror(errno.ENOSPC)}. Free some space; what was finished is kept. ({reason})"
        else:
            line = f"{type(error).__name__}: {reason}. This was not foreseen: run again with --debug and report it."
        click.echo(f"mrigen: {in_one_line(line)}", err=True)
        sys.exit(1)


def _on_sigterm(number, frame):
    # Unwinds like any exit, so that temporary files are removed on the way out.
    raise SystemExit(143)
