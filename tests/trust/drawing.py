"""What fuzzing draws: contents of recipes, tables and images, values of --set, and command lines."""

import gzip
import json
import typing

import click
import numpy as np
from hypothesis import strategies as st
from pydantic import BaseModel

from mrigen.recipe import Recipe
from mrigen.recipe.loading import section_of
from tests.trust.bad_tables import HEADER, ROWS

WORDS = st.sampled_from(
    ("", "auto", "null", "n/a", "nan", ".nan", ".inf", "-1", "0", "1", "2.5", "1e999", "true", "~", "[]", "{}",
     "vae", "*a",
     "&a [1]", "!!int x", "!!omap", "!!binary x", "!!set {a}", "!!timestamp x", "<<", "%YAML 9", "---", "...",
     "2020-02-30",
     "0x", "0o9", "1_000", "..", "/", "~root", "\x1b[2J", "\ud800", "\x85", "a: b", "? a", "- -", "| ", ">9", "'",
     '"', "#",
     "@", "`", "sex", "people", "x" * 300, "9" * 400)
)  # fmt: skip

PLAIN = st.one_of(st.none(), st.booleans(), st.integers(), st.integers(-3, 70), st.floats(), st.text(max_size=8), WORDS)

VALUES = st.recursive(
    PLAIN,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4) | WORDS, inner, max_size=3),
    max_leaves=6,
)


def keys_of(section: type[BaseModel], prefix: str = "") -> list[str]:
    """Returns the dotted keys of a section and of those in it."""
    from mrigen.models.family import families
    from mrigen.models.keys import ModelRecipe

    found = []
    for name, field in section.model_fields.items():
        inner = section_of(field.annotation)
        found.append(prefix + name)
        if inner is not None and issubclass(inner, ModelRecipe):
            for family in families().values():
                found += keys_of(family.keys, f"{prefix}{name}.")
        elif inner is not None:
            found += keys_of(inner, f"{prefix}{name}.")
    return list(dict.fromkeys(found))


KEYS = st.sampled_from(keys_of(Recipe))


def _nested(changes: list[tuple[str, typing.Any]]) -> str:
    content: dict = {}
    for key, value in changes:
        block = content
        *parents, last = key.split(".")
        for parent in parents:
            if not isinstance(block.get(parent), dict):
                block[parent] = {}
            block = block[parent]
        block[last] = value
    return json.dumps(content, ensure_ascii=False, default=str)


@st.composite
def recipes(draw) -> bytes:
    """Draws the content of a file that should be a recipe."""
    kind = draw(st.integers(0, 3))
    if kind == 0:
        return draw(st.binary(max_size=60))
    if kind == 1:
        lines = draw(
            st.lists(st.tuples(st.integers(0, 6), st.one_of(KEYS, WORDS, st.text(max_size=5)), WORDS), max_size=6)
        )
        return "".join(f"{' ' * indent}{key}: {word}\n" for indent, key, word in lines).encode("utf-8", "surrogatepass")
    text = _nested(draw(st.lists(st.tuples(KEYS, VALUES), min_size=1, max_size=4)))
    if kind == 2:
        at, word = draw(st.integers(0, len(text))), draw(WORDS)
        text = text[:at] + word + text[at + draw(st.integers(0, 4)) :]
    return text.encode("utf-8", "surrogatepass")


@st.composite
def settings_of(draw) -> list[str]:
    """Draws values of --set."""
    texts = st.one_of(WORDS, VALUES.map(lambda value: json.dumps(value, default=str)), st.text(max_size=6))
    keys = st.one_of(
        KEYS, st.text(max_size=5), KEYS.map(lambda key: key + ".x"), KEYS.map(lambda key: key.rpartition(".")[0])
    )
    return draw(
        st.lists(
            st.builds(lambda key, equals, text: key + equals + text, keys, st.sampled_from("====  "), texts),
            min_size=1,
            max_size=3,
        )
    )


CELLS = st.one_of(
    st.sampled_from(
        ("", "n/a", "NaN", "sub-01", "01", "sub-02", "1", "2", "F", "M", "female", "x", "30", "-1", "1e400", "inf",
         "007",
         '"', '"a', 'a"b', "=cmd()", "..", "-dev", "../../x", "é", "a b", "\x00", "\x85",
         "people/sub-01/anat/sub-01_T1w.nii.gz",
         "2001-01-01T00:00:00", "9999-99-99", "2001-01-01T00:00:00+99:99", "10000-01-01", "train", "heldout", "ses-1",
         "/dev/zero", "~nobody/x.nii", "x" * 500, "a/" * 60 + "x.nii", "\u202e", "𝟚", "²", "٣")
    ),
    st.text(max_size=5),
    st.integers().map(str),
    st.floats().map(str),
)  # fmt: skip

COLUMN = st.one_of(
    st.sampled_from(
        ("participant_id", "sex", "age", "site", "family", "path", "mask", "session_id", "acq_time", "split",
         "scan_id", "visit",
         "person", "SEX", "loc_001", "loc_002", "loc_003", "scale_001", "region", "mean", "sd", "p5", "p95", "unit",
         "filename", "")
    ),
    st.text(max_size=4),
)  # fmt: skip

PLACES = (
    "people/participants.tsv", "people/participants.json", "people/sub-01/sub-01_sessions.tsv", "people/sessions.json",
    "people/sub-01/sub-01_scans.tsv", "people/phenotype/x.tsv", "people/phenotype/x.json", "list.tsv", "list.csv",
    "split.tsv", "split.csv", "exclude.txt", "normative.tsv", "normative.csv", "latents.tsv",
)  # fmt: skip


@st.composite
def tables(draw) -> tuple[str, bytes]:
    """Draws where a table lies, and what is in it."""
    place = draw(st.sampled_from(PLACES))
    if place.endswith(".json"):
        return place, json.dumps(
            draw(
                st.dictionaries(
                    COLUMN, VALUES | st.dictionaries(st.sampled_from(("Levels", "Units", "levels")), VALUES), max_size=3
                )
            )
        ).encode()
    if draw(st.integers(0, 9)) == 0:
        return place, draw(st.binary(max_size=80))
    separator = draw(st.sampled_from("\t\t\t\t,; " if place.endswith("tsv") else ",,,;\t"))
    header = draw(st.lists(COLUMN, min_size=1, max_size=6))
    if draw(st.booleans()):
        header = {"split": ["participant_id", "split"], "list": ["participant_id", "path"], "norma": ["region",
        "age", "sex", "mean", "sd"],
                  "laten": ["participant_id", "loc_001"]}.get(place.partition(".")[0][:5],
                  ["participant_id"]) + header  # fmt: skip
    width = st.sampled_from([len(header)] * 8 + [len(header) + 1, max(len(header) - 1, 1)])
    rows = draw(st.lists(width.flatmap(lambda number: st.lists(CELLS, min_size=number, max_size=number)), max_size=5))
    text = draw(st.sampled_from(("\n", "\n", "\r\n", "\r"))).join(separator.join(row) for row in [header, *rows])
    if place == "people/participants.tsv" and draw(st.booleans()):
        text = HEADER + "".join(ROWS) + text.partition("\n")[2]
    return place, text.encode("utf-8", "surrogatepass")


def image_bytes(shape=(12, 13, 14), dtype=np.int16) -> bytes:
    """Returns a small head as NIfTI."""
    import nibabel

    grid = np.stack(np.meshgrid(*(np.linspace(-1, 1, size) for size in shape), indexing="ij"))
    array = (1000 * np.exp(-3 * (grid**2).sum(axis=0))).astype(dtype)
    affine = np.diag([9.0, 9.0, 9.0, 1.0])
    affine[:3, 3] = -50.0
    return nibabel.Nifti1Image(array, affine).to_bytes()


# Of the header of NIfTI-1: offset and type of fields that say how to read.
FIELDS = ((0, "<i4"), *((40 + 2 * n, "<i2") for n in range(8)), (70, "<i2"), (72, "<i2"), *((76 + 4 * n,
"<f4") for n in range(8)),
          (108, "<f4"), (112, "<f4"), (116, "<f4"), (123, "u1"), (252, "<i2"), (254, "<i2"), *((256 + 4 * n,
          "<f4") for n in range(18)),
          (344, "<i4"), (348, "<i4"))  # fmt: skip

NUMBERS = st.one_of(
    st.sampled_from(
        (0, 1, -1, 2, 7, 8, 16, 255, 512, 32767, -32768, 1792, 2304, 1e-40, 1e30, float("nan"), float("inf"), -1e30)
    ),
    st.integers(-(2**31), 2**31 - 1),
    st.floats(width=32),
)


@st.composite
def images(draw) -> tuple[str, bytes]:
    """Draws the name and the content of a file that should be an image."""
    name = draw(st.sampled_from(("x.nii", "x.nii.gz", "x.nii", "x.mgz", "x.mgh", "x.nii.bz2")))
    content = bytearray(image_bytes())
    for offset, kind in draw(st.lists(st.sampled_from(FIELDS), max_size=4)):
        with np.errstate(all="ignore"):
            value = np.float64(draw(NUMBERS))
            packed = (
                np.array(value if kind == "<f4" else int(np.clip(np.nan_to_num(value), -(2**62), 2**62)))
                .astype(kind)
                .tobytes()
            )
        content[offset : offset + len(packed)] = packed
    for _ in range(draw(st.integers(0, 2))):
        at = draw(st.integers(0, len(content) - 1))
        content[at] = draw(st.integers(0, 255))
    if draw(st.integers(0, 3)) == 0:
        content = content[: draw(st.integers(0, len(content)))]
    written = bytes(content)
    if name.endswith(".gz") and draw(st.integers(0, 5)):
        written = gzip.compress(written, 1)
        if draw(st.integers(0, 3)) == 0:
            at = draw(st.integers(0, len(written) - 1))
            written = written[:at] + draw(st.binary(max_size=3)) + written[at + draw(st.integers(0, 3)) :]
    return name, written


TYPED = {
    "integer": st.sampled_from(("0", "1", "2", "-1", "3", "10000000000000", "1.5", "x", "", "nan", "²")),
    "float": st.sampled_from(("0", "1", "-1", "nan", "inf", "-inf", "1e400", "x", "", "0.5")),
    "text": st.sampled_from(
        ("", "run", "gone", ".", "..", "/", "sex", "age", "sex=F", "sex=x", "age=nan", "age=-1", "age=1e9",
         "head_size=inf",
         "site=", "a=b=c", "=", ",", "auto", "gmm", "run/latents.npz", "run/split.tsv", "run/recipe.yaml", "smoke",
         "vae",
         "training.epochs=2", "training.epochs=1,2", "training.epochs=1..9", "model.beta=0.1..2:log",
         "model.beta=nan..1",
         "model.kind=[vae]", "data.root=/", "x" * 300, "\x1b[2J", "a\nb", "#", "*", "paper/*", "[", "{", "~",
         "$HOME", "-", "--",
         "é", "\u202e", "elbo", "mse", "detail", "out", "run/run.json", "people", "sub-phantom0001", "--wrap=x",
         "1:00", "32G",
         "head_size=0.8", "visits", "age=0.5", "logistic", "knn")
    ),
}  # fmt: skip

# What goes on for long, opens programs, or shows tracebacks as it should.
LEFT_OUT = {"--debug", "--help", "--version"}


def _options(command: click.Command) -> list[click.Parameter]:
    return [p for p in command.params if not (isinstance(p, click.Option) and LEFT_OUT & set(p.opts))]


@st.composite
def command_lines(draw) -> list[str]:
    """Draws a verb and words for its options and arguments."""
    from mrigen_cli.main import VERBS, mrigen

    verb = draw(st.sampled_from([name for name in VERBS if name != "demo"]))
    command, words = mrigen.get_command(None, verb), [verb]
    if isinstance(command, click.Group):
        name = draw(st.sampled_from(list(command.commands)))
        command, words = command.commands[name], [*words, name]
    parameters = _options(command)
    chosen = draw(st.lists(st.sampled_from(parameters), max_size=5)) if parameters else []
    chosen += [p for p in parameters if p.name == "run_directory" and draw(st.integers(0, 4))]
    for parameter in chosen:
        kind = "integer" if "integer" in parameter.type.name else "float" if "float" in parameter.type.name else "text"
        if isinstance(parameter.type, click.Choice) and draw(st.booleans()):
            value = draw(st.sampled_from(list(parameter.type.choices)))
        elif parameter.name == "run_directory" and draw(st.integers(0, 4)):
            value = "run"
        else:
            value = draw(TYPED[kind])
        if isinstance(parameter, click.Argument):
            words.append(value)
        elif parameter.is_flag:
            words.append(draw(st.sampled_from(parameter.opts)))
        else:
            words += [draw(st.sampled_from(parameter.opts)), value]
    if verb == "phantom":
        words += ["-n", "4", "--zooms", "8"]
    if draw(st.integers(0, 9)) == 0:
        words.insert(draw(st.integers(0, len(words))), draw(TYPED["text"]))
    return words
