"""Tables of people that are refused; no image is opened before."""

from collections.abc import Callable
from pathlib import Path

from tests.trust.registry import Case, together, write

CHECK = "mrigen check smoke --set data.source=files --set data.root=people"
HEADER = "participant_id\tsex\tage\tsite\tfamily\n"
ROWS = [f"sub-{n:02d}\t{'FM'[n % 2]}\t{20 + n}\t{'ab'[n % 2]}\tf{n // 2}\n" for n in range(1, 7)]
SPLIT = [
    "sub-01\ttrain",
    "sub-02\ttrain",
    "sub-03\ttrain",
    "sub-04\tvalidation",
    "sub-05\tvalidation",
    "sub-06\theldout",
]


def people(table: str | bytes | None = HEADER + "".join(ROWS), number: int = 6) -> Callable[[Path], object]:
    """Returns what makes a BIDS folder of people whose images are empty files."""

    def build(folder: Path) -> None:
        for person in (f"sub-{n:02d}" for n in range(1, number + 1)):
            write(f"people/{person}/anat/{person}_T1w.nii.gz", person)(folder)
        write("people/dataset_description.json", '{"Name": "people", "BIDSVersion": "1.8.0"}')(folder)
        if table is not None:
            write("people/participants.tsv", table)(folder)

    return build


def table(what: str, text: str | bytes, more: str = "") -> Case:
    """Returns the case of a participants.tsv."""
    return Case(what, CHECK + more, people(text))


def rows(*changed: str) -> str:
    """Returns a table whose first rows are these."""
    return HEADER + "".join(f"{row}\n" for row in changed) + "".join(ROWS[len(changed) :])


def images(what: str, text: str, name: str = "list.tsv") -> Case:
    """Returns the case of a table of images."""
    call = f"mrigen check smoke --set data.source=files --set data.root={name}"
    return Case(what, call, together(people(None), write(name, text)))


def split(what: str, text: str) -> Case:
    """Returns the case of a file that says who is in which split."""
    call = CHECK + " --set data.split.file=split.tsv"
    return Case(what, call, together(people(), write("split.tsv", text)))


def beside(what: str, name: str, text: str | bytes) -> Case:
    """Returns the case of a further file of a cohort."""
    return Case(what, CHECK, together(people(), write(f"people/{name}", text)))


def _no_images(folder: Path) -> None:
    write("people/notes.txt", "nothing")(folder)


def _folder_for_a_table(folder: Path) -> None:
    people(None)(folder)
    (folder / "people" / "list.tsv").mkdir()


CASES = [
    Case("no such folder of a cohort", CHECK),
    Case("a cohort without an image", CHECK, _no_images),
    Case("a file that is no table in the place of a cohort", CHECK, write("people", "nothing")),
    table("a row with a cell too few", rows("sub-01\tF\t21\ta")),
    table("a row with a cell too many", rows("sub-01\tF\t21\ta\tf0\tx")),
    table("commas where tabs belong", "participant_id,sex,age\nsub-01,F,20\n"),
    table("an empty table", ""),
    table("a table that is no text", b"\xff\xfe\x00participant_id\tsex\n"),
    table("two columns of one name", "participant_id\tsex\tsex\nsub-01\tF\tM\n"),
    table("no column of ids", "who\tsex\nsub-01\tF\n"),
    table("one person in two rows", rows("sub-01\tF\t21\ta\tf0", "sub-01\tM\t22\ta\tf0")),
    table("codes of sex that nobody explains", HEADER + "".join(ROWS).replace("\tF\t", "\t2\t")),
    table("a word of sex that is not known", rows("sub-01\tfemme\t21\ta\tf0")),
    table("ages that are no years", HEADER + "".join(f"sub-{n:02d}\tF\t{n}000\ta\tf\n" for n in range(1, 7))),
    table("an excluded person whom nobody knows", rows(), more=" --set data.exclude=[sub-77]"),
    table("everybody excluded", rows(), more=" --set data.exclude=[sub-01,sub-02,sub-03,sub-04,sub-05,sub-06]"),
    table("a condition on a column that is not there", rows(), more=" --set data.where.group=patient"),
    table("a condition that nobody meets", rows(), more=" --set data.where.site=c"),
    table("a column of sex that is not there", rows(), more=" --set data.sex_column=gender"),
    table("images of a suffix that is not there", rows(), more=" --set data.suffix=T2w"),
    table("a mask that is not there", rows(), more=" --set data.mask=brains"),
    beside("descriptions of columns that are no JSON", "participants.json", "{"),
    beside("descriptions of columns that are a list", "participants.json", "[1, 2]"),
    beside("a table of sessions without a column of sessions", "sub-01/sub-01_sessions.tsv", "a\tb\n1\t2\n"),
    images("a table of images without a column of paths", "participant_id\timages\nsub-01\tx.nii\n"),
    images("a path where there is no file", "participant_id\tpath\nsub-01\tgone.nii.gz\n"),
    images("a path of a file that is no image", "participant_id\tpath\nsub-01\tpeople/dataset_description.json\n"),
    images(
        "one image in two rows",
        "participant_id\tpath\n" + "sub-01\tpeople/sub-01/anat/sub-01_T1w.nii.gz\n" * 2,
    ),
    images("an image without an id", "participant_id\tpath\nn/a\tpeople/sub-01/anat/sub-01_T1w.nii.gz\n"),
    images(
        "a quotation mark that does not close", 'participant_id,path\n"sub-01,x.nii\nsub-02,y.nii\n', name="list.csv"
    ),
    Case(
        "a folder in the place of a table",
        CHECK + "/list.tsv",
        _folder_for_a_table,
    ),
    Case("too few people to divide", CHECK, people(None, 2)),
    split("a split without its columns", "id\tpart\nsub-01\ttrain\n"),
    split("a split that is not there for somebody", "participant_id\tsplit\n" + "\n".join(SPLIT[:5])),
    split(
        "somebody of a split who is not of the cohort", "participant_id\tsplit\n" + "\n".join([*SPLIT, "sub-77\ttrain"])
    ),
    split("one person in two splits", "participant_id\tsplit\n" + "\n".join([*SPLIT, "sub-01\theldout"])),
    split("a split of an unknown name", "participant_id\tsplit\n" + "\n".join([*SPLIT[:5], "sub-06\ttest"])),
    split("a split without anybody to train", "participant_id\tsplit\n" + "\n".join(SPLIT).replace("train", "heldout")),
    split("a family in two splits", "participant_id\tsplit\n" + "\n".join([*SPLIT[:2], "sub-03\theldout", *SPLIT[3:]])),
]
