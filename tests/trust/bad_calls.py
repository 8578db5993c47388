"""Command lines, and tables of latents and norms, that are refused."""

from pathlib import Path

from tests.trust.registry import Case, write


def call(what: str, words: str, **options) -> Case:
    """Returns the case of a command line."""
    return Case(what, words, **options)


def latents(what: str, text: str) -> Case:
    """Returns the case of a table of latents."""
    return Case(what, "mrigen decode new.tsv --run run", write("new.tsv", text), run=True, tensorflow=True)


# Of calls that a finished run answers, or would.
MODEL = {"run": True, "tensorflow": True}
LOC = "\t".join(f"loc_{n:03d}" for n in range(1, 9))
VALUES = "\t".join(["0.5"] * 8)


def _taken(folder: Path) -> None:
    write("table.csv", "precious")(folder)


CASES = [
    call("no such verb", "mrigen dance"),
    call("no such option", "mrigen sample --loud", hidden=((r"(No such option).*", r"\1 <and which is near>"),)),
    call("a word where a number belongs", "mrigen sample -n ten"),
    call("a number out of its range", "mrigen sample --seed -1"),
    call("an option without its value", "mrigen sample --run"),
    call("a word too many", "mrigen runs a b"),
    call("nothing to fit", "mrigen fit"),
    call("two options that exclude each other", "mrigen fit vae --resume a --run b"),
    call("no cohort", "mrigen fit vae"),
    call("a cohort that is not there", "mrigen fit vae --set data.root=/nowhere"),
    call("no heads at all", "mrigen sample -n 0 --run run", **MODEL),
    call("a temperature below zero", "mrigen sample --temperature=-1 --run run", **MODEL),
    call("a density that there is not", "mrigen sample --density kde --run run", **MODEL),
    call("a covariate that there is not", "mrigen sample --given height=3 --run run", run=True),
    call("an age that is a word", "mrigen sample --given age=old --run run", run=True),
    call("displacements of a model without any", "mrigen sample --fields --run run", **MODEL),
    call("a file that is there already", "mrigen compare run -o table.csv", build=_taken, run=True),
    call("another kind of file", "mrigen encode -o latents.xls --run run", **MODEL),
    call("a person whom the run does not know", "mrigen interpolate sub-a sub-b --run run", **MODEL),
    call("an image that is not there", "mrigen reconstruct gone.nii.gz --run run", **MODEL),
    call("groups by a column that is not there", "mrigen template --by height --run run", **MODEL),
    call("a column that there is not to sort by", "mrigen compare run --sort height", run=True),
    call("a classifier that there is not", "mrigen probe --classifiers tree --run run", run=True),
    call("a target among the confounds", "mrigen probe --target age --confounds age --run run", run=True),
    call("a part of an evaluation that there is not", "mrigen evaluate --only looks --run run", **MODEL),
    call("resuming with another recipe", "mrigen fit --resume run --set training.epochs=9", **MODEL),
    call("a run where another is", "mrigen fit smoke --run run", **MODEL),
    call(
        "a folder that is no run", "mrigen fit smoke --run here", build=write("here/precious.txt", "x"), tensorflow=True
    ),
    call("nobody to make", "mrigen phantom -n 0 -o here"),
    call("no brain of this voxel size", "mrigen phantom -n 4 --zooms 0 -o here"),
    call("a search over nothing", "mrigen sweep smoke --over training.epochs="),
    call("a search over an unknown key", "mrigen sweep smoke --over training.epoch=1,2"),
    call("a sweep that is not there", "mrigen sweep --resume gone"),
    call("an option of sbatch that is none", "mrigen submit fit smoke --sbatch constraint=a100 --dry-run"),
    call("a time that is two words", "mrigen submit fit smoke --time '1 day' --dry-run"),
    call("no jobs", "mrigen jobs"),
    latents("latents without ids", f"{LOC}\n{VALUES}\n"),
    latents("latents of nobody", f"participant_id\t{LOC}\n"),
    latents("latents of one person twice", f"participant_id\t{LOC}\na\t{VALUES}\na\t{VALUES}\n"),
    latents("an id that leads out of the folder", f"participant_id\t{LOC}\n../../a\t{VALUES}\n"),
    latents("latents of another length", "participant_id\tloc_001\na\t0.5\n"),
    latents("a latent that is a word", f"participant_id\t{LOC}\na\t{VALUES.replace('0.5', 'high', 1)}\n"),
    latents("a table without latents", "participant_id\tage\na\t30\n"),
]  # fmt: skip
