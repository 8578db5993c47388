"""What the verbs share: their common options, and how a command speaks."""

import functools
import logging
import os
import sys

import click
from mrigen_cli.words import translate, translate_fault

from mrigen.errors import Fault, MrigenError


def common_options(command):
    """Adds -q/--quiet and --debug, and sets up logging to stderr before the command runs."""

    @click.option("-q", "--quiet", is_flag=True, help="Only results and errors.")
    @click.option("--debug", is_flag=True, help="Show the traceback of an error and TensorFlow's own log.")
    @functools.wraps(command)
    def wrapped(*args, quiet, debug, **kwargs):
        set_up_logging(quiet, debug)
        own = click.get_current_context().command
        try:
            return command(*args, **kwargs)
        except MrigenError as error:
            # Said here, because here it is known which parameter is which flag.
            error.faults = tuple(Fault(translate_fault(fault, own)) for fault in error.faults)
            error.args = ("\n".join(error.faults),)
            raise

    return wrapped


run_option = click.option(
    "--run", "run_directory", type=click.Path(), help="The run to use.  [default: the newest under runs/]"
)
given_option = click.option(
    "--given", metavar="NAME=VALUE,...", help="Covariates: sex (F, M), age (years), head_size (ml), site."
)
set_option = click.option(
    "--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Change a key of the recipe; may be repeated."
)
by_option = click.option(
    "--by",
    "objective",
    metavar="FIGURE,...",
    help="Figures of validation people: elbo, mse, sex_auc, or any of mrigen evaluate --parts.  [default: elbo of a "
    "VAE, else mse]",
)


class _Stderr(logging.StreamHandler):
    """Writes to whatever stderr is at the moment: a progress bar takes its place for a while, to stay below."""

    def __init__(self):
        logging.Handler.__init__(self)

    @property
    def stream(self):
        return sys.stderr


class _Words(logging.Formatter):
    """Says with flags what the library says with parameters."""

    def format(self, record):
        context = click.get_current_context(silent=True)
        return translate(super().format(record), None if context is None else context.command)


def set_up_logging(quiet: bool, debug: bool) -> None:
    """Sends the library's log lines to stderr, and silences TensorFlow unless asked otherwise."""
    if not debug:
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
        import warnings

        warnings.filterwarnings("ignore", module="keras")
    logger = logging.getLogger("mrigen")
    logger.setLevel(logging.DEBUG if debug else logging.INFO)
    handler = _Stderr()
    handler.setLevel(logging.WARNING if quiet else logging.DEBUG if debug else logging.INFO)
    handler.setFormatter(_Words("%(message)s"))
    logger.handlers = [handler]
    if quiet:
        # Progress bars ask the terminal; a quiet command behaves as if there were none.
        os.environ["MRIGEN_QUIET"] = "1"


def load_tensorflow() -> None:
    """Imports TensorFlow and finds the devices, without its greeting unless --debug asks for it."""
    from mrigen.system import backend

    backend.load_tensorflow(quiet=logging.getLogger("mrigen").level != logging.DEBUG)


def announce(text: str) -> None:
    """Writes a line to stderr, unless the command is quiet."""
    if not os.environ.get("MRIGEN_QUIET"):
        click.echo(text, err=True)


def find_run(directory: str | None):
    """Returns the run that was named, or the newest one, and says which."""
    from mrigen.runs import open_run

    run = open_run(directory)
    if directory is None:
        announce(f"Run: {run.directory} (newest)")
    return run
