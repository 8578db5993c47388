"""Recipes, and changes of them with --set, that are refused."""

from tests.trust.registry import Case, write

SHOW = "mrigen recipe show my.yaml"
ALIASES = "a: &a [1, 1, 1, 1, 1, 1, 1, 1, 1]\n" + "".join(
    f"{after}: &{after} [{', '.join(['*' + before] * 9)}]\n" for before, after in zip("abcdefg", "bcdefgh", strict=True)
)


def recipe(what: str, text: str | bytes) -> Case:
    """Returns the case of a file."""
    return Case(what, SHOW, write("my.yaml", text))


def setting(what: str, words: str) -> Case:
    """Returns the case of a change of a shipped recipe."""
    return Case(what, f"mrigen recipe show vae --set {words}")


CASES = [
    Case("no such recipe", "mrigen recipe show vaee"),
    Case("a folder in the place of a recipe", "mrigen recipe show my", lambda folder: (folder / "my").mkdir()),
    recipe("an unknown key", "training: {epoch: 3}\n"),
    recipe("an unknown block", "nodel: {kind: vae}\n"),
    recipe("an unknown model family", "model: {kind: vea}\n"),
    recipe("a number out of range", "model: {latent_dim: -3}\n"),
    recipe("text where a number belongs", "training: {batch_size: '4'}\n"),
    recipe("a number that is none", "training: {learning_rate: .nan}\n"),
    recipe("an infinite number", "model: {beta: .inf}\n"),
    recipe("a list where a block belongs", "model: [vae]\n"),
    recipe("an empty block", "data:\n"),
    recipe("a list at the top", "- vae\n- smoke\n"),
    recipe("fractions that do not sum to 1", "data: {split: {train: 0.9, validation: 0.1, heldout: 0.2}}\n"),
    recipe("a cohort without a folder", "data: {cohorts: [{name: a}]}\n"),
    recipe("several faults at once", "model: {latent_dim: 0}\ntraining: {epochs: many}\n"),
    recipe("a bracket that does not close", "model: [\n"),
    recipe("a tab for indentation", "model:\n\tbeta: 1\n"),
    recipe("one key twice", "model:\n  beta: 1\n  beta: 2\n"),
    recipe("two documents in a file", "model: {beta: 1}\n---\nmodel: {beta: 2}\n"),
    recipe("a tag that would build an object", "data: !!python/object/apply:os.system [touch made]\n"),
    recipe("a tag that its word does not fit", "data: {root: !!float ''}\n"),
    recipe("a date that there is not", "data: {root: 2020-13-45}\n"),
    recipe("a control character", b"model: \x00\n"),
    recipe("blocks in blocks without end", "data: " + "[" * 100_000),
    recipe("a comment of two megabytes", "#" + "x" * 2_000_000),
    recipe("aliases of aliases of aliases", ALIASES + "data:\n  exclude: *h\n"),
    recipe("a file that is no text", b"\xff\xfe\x00\x01"),
    recipe("what moves a terminal's cursor", 'training: {"epo\\e[2Jch": 3}\n'),
    recipe("a list of ids that is not there", "data: {exclude: gone.txt}\n"),
    setting("a change without a value", "training.epochs"),
    setting("a change of an unknown key", "training.epoch=3"),
    setting("a change below what is no block", "training.seed.more=3"),
    setting("a change that is no YAML", "'training.epochs=['"),
    setting("a change with nothing in it", "training.epochs="),
]
