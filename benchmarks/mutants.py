"""Whether the tests notice when the code is wrong: python -m benchmarks.mutants (hours on one core; it goes on)

Small faults are planted one at a time (a sign, a comparison, a constant, a branch that is never taken), and the tests
that reach the line are run until one fails, those that cost little first. Expected: at least 85 % of the mutants are
killed, and every survivor is named in mutants.tsv: equivalent, with the reason, or open.

    python -m pip install cosmic-ray coverage
    python -m benchmarks.mutants                    # all; writes build/mutants.jsonl as it goes
    python -m benchmarks.mutants splits losses      # some modules
    python -m benchmarks.mutants --table            # the table, of what is known
    python -m benchmarks.mutants --again            # survivors alone, against the tests as they are now

The mutants are cosmic-ray's: its operators, drawn by a seed, a place first and then an operator that fits there. Its
runner begins a process for each, which here is ten seconds of TensorFlow before the first test; so the mutants of a
module are run in children of one process that has the libraries loaded, and in a copy of the project, so that processes
which tests begin see the mutant, too.
"""

import ast
import hashlib
import importlib
import json
import os
import random
import resource
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import click

ROOT = Path(__file__).parents[1]
OUT = ROOT / "build" / "mutants.jsonl"
NAMED = Path(__file__).with_name("mutants.tsv")
# Name -> (number of mutants, files that they are planted in, tests in the order of their cost).
MODULES = {
    "losses": (20, ["losses.py"], ["tests/test_losses.py"]),
    "distributions": (
        30,
        ["distributions/likelihoods.py", "distributions/posteriors.py", "distributions/priors.py"],
        [
            "tests/distributions",
            "tests/test_losses.py",
            "tests/models/test_adapt.py",
            "tests/models/test_objectives.py",
            "tests/models/test_vae.py",
        ],
    ),
    "warps": (
        30,
        ["layers/warping.py", "layers/fields.py"],
        ["tests/layers/test_warping.py", "tests/layers/test_fields.py"],
    ),
    "volumes": (
        30,
        ["imaging/volumes.py", "imaging/headers.py"],
        [
            "tests/imaging/test_headers.py",
            "tests/imaging/test_volumes.py",
            "tests/imaging/test_containers.py",
            "tests/imaging/test_bad_images.py",
            "tests/imaging/test_maps.py",
            "tests/data/test_preprocess.py",
        ],
    ),
    "splits": (30, ["data/splits.py", "data/persons.py"], ["tests/data/test_splits.py", "tests/data/test_persons.py"]),
    "probing": (
        30,
        ["probing/measures.py", "probing/folds.py", "probing/targets.py", "probing/deconfounding.py"],
        [
            "tests/probing/test_probe_measures.py",
            "tests/probing/test_probe_targets.py",
            "tests/probing/test_deconfounding.py",
            "tests/probing/test_probe_confounds.py",
            "tests/probing/test_probe_predictors.py",
            "tests/probing/test_probe_sites.py",
            "tests/probing/test_probe_leaks.py",
        ],
    ),
    "resume": (
        30,
        ["training/state.py", "training/epochs.py", "training/callbacks.py", "runs/holding.py", "system/claims.py"],
        [
            "tests/system/test_claims.py",
            "tests/runs/test_holding.py",
            "tests/training/test_callbacks.py",
            "tests/training/test_resuming.py",
        ],
    ),
}
# Loaded once a module of ours.
WARM = (
    "numpy", "pandas", "scipy.ndimage", "scipy.optimize", "scipy.stats", "sklearn.linear_model", "sklearn.svm",
    "sklearn.model_selection", "nibabel", "h5py", "matplotlib.figure", "pytest", "pydantic", "ruamel.yaml",
    "tensorflow", "keras", "tensorflow_probability.python.distributions", "click.testing",
)  # fmt: skip
SEED = 0
# A mutant that computes so many times as long as the tests take without one hangs; of time that passes it gets more, so
# that a busy machine kills none.
PATIENCE, LEAST_SECONDS, BUSY = 4.0, 60.0, 20.0


@click.command()
@click.argument("modules", nargs=-1, type=click.Choice(list(MODULES)))
@click.option("--table", is_flag=True, help="Print the table of what is known, and the survivors.")
@click.option("--again", is_flag=True, help="Run survivors again.")
@click.option("-o", "--out", type=click.Path(path_type=Path), default=OUT, show_default=True)
def main(modules: tuple[str, ...], table: bool, again: bool, out: Path) -> None:
    """Plant faults, and count those that the tests find."""
    if table:
        print_table(read(out))
        return
    out.parent.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        copy = copy_project(Path(folder))
        for module in modules or MODULES:
            known = {row["id"]: row for row in read(out)}
            done = {key for key, row in known.items() if not (again and row["outcome"] == "survived")}
            todo = [mutant for mutant in draw(module) if mutant["id"] not in done]
            if todo:
                for result in run_module(module, todo, copy):
                    with open(out, "a") as file:
                        file.write(json.dumps(result) + "\n")
    print_table(read(out))


def copy_project(folder: Path) -> Path:
    """Returns a copy of what tests need."""
    for name in ("mrigen", "cli", "recipes", "tests", "benchmarks", "docs"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__", "generated", "images"))
    for name in ("pyproject.toml", "setup.py", "README.md"):
        shutil.copy(ROOT / name, folder)
    return folder


def draw(module: str, seed: int = SEED) -> list[dict]:
    """Returns the mutants of a module, each with what tells it from all others: file, operator, occurrence, source."""
    number, files, _ = MODULES[module]
    places: dict[tuple, list[tuple[str, int]]] = {}
    for file in files:
        for place, operator, occurrence in find_places((ROOT / "mrigen" / file).read_text()):
            places.setdefault((file, place), []).append((operator, occurrence))
    generator = random.Random(f"{seed} {module}")
    chosen = generator.sample(sorted(places), min(number, len(places)))
    mutants = []
    for file, place in chosen:
        source = (ROOT / "mrigen" / file).read_text()
        candidates = generator.sample(places[file, place], len(places[file, place]))
        found = next((one for one in candidates if _can_be_made(source, *one)), None)
        if found is None:
            continue
        operator, occurrence = found
        digest = hashlib.sha256(source.encode()).hexdigest()[:8]
        name = f"{file}:{place[0][0]}:{place[0][1]} {operator.removeprefix('core/')} {digest}"
        mutants.append(
            {
                "id": name,
                "module": module,
                "file": file,
                "line": place[0][0],
                "operator": operator,
                "occurrence": occurrence,
            }
        )
    return mutants


def find_places(source: str) -> Iterator[tuple[tuple, str, int]]:
    """Yields (place, operator, occurrence) of what cosmic-ray can change in a source, but for annotations of types."""
    import cosmic_ray.ast
    import cosmic_ray.plugins

    tree = cosmic_ray.ast.get_ast(source)
    nodes = list(cosmic_ray.ast.ast_nodes(tree))
    spans = list(_annotations(source))
    for name in cosmic_ray.plugins.operator_names():
        if name.startswith("core/Variable"):  # These want names to be told.
            continue
        operator, occurrence = cosmic_ray.plugins.get_operator(name)(), 0
        for node in nodes:
            for place in operator.mutation_positions(node):
                if not any(low <= place[0] < high for low, high in spans):
                    yield place, name, occurrence
                occurrence += 1


def _annotations(source: str) -> Iterator[tuple[tuple[int, int], tuple[int, int]]]:
    for node in ast.walk(ast.parse(source)):
        for name in ("annotation", "returns"):
            found = getattr(node, name, None)
            if isinstance(found, ast.AST):
                yield (found.lineno, found.col_offset), (found.end_lineno, found.end_col_offset)


def mutate(source: str, operator: str, occurrence: int) -> str:
    """Returns a source with one fault."""
    import cosmic_ray.plugins
    from cosmic_ray.mutating import mutate_code

    changed = mutate_code(source, cosmic_ray.plugins.get_operator(operator)(), occurrence)
    if changed is None:
        raise ValueError(f"{operator}: no occurrence {occurrence}")
    return changed


def _can_be_made(source: str, operator: str, occurrence: int) -> bool:
    # cosmic-ray fails to replace exceptions with dotted names.
    try:
        ast.parse(mutate(source, operator, occurrence))
    except (AttributeError, ValueError, SyntaxError):
        return False
    return True


def run_module(module: str, mutants: list[dict], copy: Path) -> Iterator[dict]:
    """Yields the outcome of each mutant: killed (by which test), survived, or timeout, which counts as killed."""
    tests = MODULES[module][2]
    os.environ.update(PYTHONPATH=str(copy), PYTHONDONTWRITEBYTECODE="1", TF_CPP_MIN_LOG_LEVEL="3")
    sys.dont_write_bytecode = True
    # The copy's packages, not those that are installed; none of them is loaded in this process.
    sys.path.insert(0, str(copy))
    for name in [name for name in sys.modules if name.split(".")[0] in ("mrigen", "mrigen_cli", "mrigen_recipes")]:
        del sys.modules[name]
    for name in WARM:
        importlib.import_module(name)
    outcome, seconds, said = run_tests(tests, copy, 3600.0, learn=True)
    print(f"{module}: without a fault the tests take {seconds:.0f} s", file=sys.stderr, flush=True)
    if outcome != "survived":
        raise SystemExit(f"{module}: the tests fail without a fault ({outcome}): {said}")
    known = json.loads((copy / "known.json").read_text())
    for number, mutant in enumerate(mutants, 1):
        path = copy / "mrigen" / mutant["file"]
        original = path.read_text()
        changed = mutate(original, mutant["operator"], mutant["occurrence"])
        try:
            path.write_text(changed)
            chosen, usual = choose_tests(mutant, known)
            outcome, seconds, said = run_tests(chosen, copy, max(LEAST_SECONDS, PATIENCE * usual))
        finally:
            path.write_text(original)
        line = mutant["line"] - 1
        before, after = original.splitlines(), changed.splitlines()
        shown = {"before": before[line].strip(), "after": after[line].strip() if line < len(after) else ""}
        print(
            f"{module} {number} of {len(mutants)}: {outcome} {seconds:.0f} s {mutant['id']}",
            file=sys.stderr,
            flush=True,
        )
        yield {**mutant, **shown, "outcome": outcome, "seconds": round(seconds, 1), "by": said}


def choose_tests(mutant: dict, known: dict) -> tuple[list[str], float]:
    """Returns the tests that reach the line of a mutant, the quick ones first, and what they take without a fault.

    Lines that are run when a module is loaded, or by a fixture, are for all tests.
    """
    reached = known["reached"].get(f"{mutant['file']}:{mutant['line']}") or list(known["seconds"])
    reached = sorted(reached, key=lambda test: known["seconds"][test])
    return reached, sum(known["seconds"][test] for test in reached)


def run_tests(tests: list[str], copy: Path, patience: float, learn: bool = False) -> tuple[str, float, str]:
    """Returns the outcome of tests in a child of this process, its seconds, and the first test that failed.

    Args:
        learn: whether known.json is written, what each test takes and which lines it reaches.
    """
    began, log = time.monotonic(), copy / "output.txt"
    child = os.fork()
    if child == 0:
        _be_child(tests, copy, log, learn, int(patience))
    while True:
        pid, status = os.waitpid(child, os.WNOHANG)
        if pid:
            break
        if time.monotonic() - began > BUSY * patience:
            os.killpg(child, signal.SIGKILL)
            os.waitpid(child, 0)
            return "timeout", time.monotonic() - began, ""
        time.sleep(0.1)
    code = os.waitstatus_to_exitcode(status)
    if code in (-signal.SIGXCPU, -signal.SIGKILL):
        return "timeout", time.monotonic() - began, ""
    text = log.read_text(errors="replace") if log.is_file() else ""
    failed = [line for line in text.splitlines() if line.startswith(("FAILED ", "ERROR "))]
    said = failed[0][:200] if failed else text[-300:] if code else ""
    return ("survived" if code == 0 else "killed"), time.monotonic() - began, said


def _be_child(tests: list[str], copy: Path, log: Path, learn: bool, patience: int) -> None:
    try:
        os.setsid()
        used = int(time.process_time())  # By the process that it came from.
        resource.setrlimit(resource.RLIMIT_CPU, (used + patience, used + patience))
        os.chdir(copy)
        output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(output, 1)
        os.dup2(output, 2)
        sys.stdout, sys.stderr = os.fdopen(1, "w"), os.fdopen(2, "w")
        import pytest

        options = ["-x", "-q", "-p", "no:cacheprovider", "--rootdir", str(copy), "--basetemp", str(copy / "tmp")]
        # In the order in which they are named, not file by file.
        clock = _Clock()
        if learn:
            import coverage

            tracer = coverage.Coverage(data_file=None, include=[str(copy / "mrigen" / "*")])
            tracer.set_option("run:dynamic_context", "test_function")
            tracer.start()
        code = int(pytest.main([*options, *tests], plugins=[clock]))
        if learn:
            tracer.stop()
            (copy / "known.json").write_text(json.dumps(_learned(tracer.get_data(), clock, copy)))
        sys.stdout.flush()
    except BaseException as error:
        print(error, file=sys.stderr, flush=True)
        code = 99
    os._exit(code)


class _Clock:
    """A plugin of pytest: what each test function takes, all its cases together."""

    def __init__(self):
        self.seconds: dict[str, float] = {}

    def pytest_runtest_logreport(self, report):
        name = report.nodeid.split("[")[0]
        self.seconds[name] = self.seconds.get(name, 0.0) + report.duration


def _learned(data, clock: _Clock, copy: Path) -> dict:
    # A context is a test's module and name, with dots.
    tests = {name.removesuffix(".py").replace(".py::", ".").replace("/", "."): name for name in clock.seconds}
    reached = {}
    for path in data.measured_files():
        for line, contexts in data.contexts_by_lineno(path).items():
            found = {tests[key] for context in contexts if context for key in tests if key.endswith(f".{context}")}
            # Run by no test, or also outside of one: by a fixture, or as the module is loaded.
            reached[f"{Path(path).relative_to(copy / 'mrigen')}:{line}"] = [] if "" in contexts else sorted(found)
    return {"seconds": clock.seconds, "reached": reached}


def read(path: Path) -> list[dict]:
    """Returns the newest outcome of every mutant that was run."""
    if not path.is_file():
        return []
    return list({row["id"]: row for row in map(json.loads, path.read_text().splitlines())}.values())


def named() -> dict[tuple[str, str, str], tuple[str, str]]:
    """Returns (file, the line before, the line after) -> (verdict, reason) of survivors that were read."""
    if not NAMED.is_file():
        return {}
    rows = [line.split("\t") for line in NAMED.read_text().splitlines()[1:]]
    return {(file, before, after): (verdict, reason) for file, before, after, verdict, reason in rows}


def print_table(rows: list[dict]) -> None:
    """Prints mutants by module as Markdown, and the survivors that nobody has named."""
    verdicts = named()
    header = ("module", "mutants", "killed", "of them by time", "survived", "equivalent", "killed of the others")
    print("| " + " | ".join(header) + " |\n|:--" + "|--:" * (len(header) - 1) + "|")
    unread, sums = [], [0, 0, 0, 0, 0]
    for module in MODULES:
        drawn = {mutant["id"] for mutant in draw(module)}
        own = [row for row in rows if row["id"] in drawn]
        survivors = [row for row in own if row["outcome"] == "survived"]
        known = [verdicts.get((row["file"], row["before"], row["after"])) for row in survivors]
        unread += [row for row, verdict in zip(survivors, known, strict=True) if verdict is None]
        equivalent = sum(verdict is not None and verdict[0] == "equivalent" for verdict in known)
        timeouts = sum(row["outcome"] == "timeout" for row in own)
        counts = [len(own), len(own) - len(survivors), timeouts, len(survivors) - equivalent, equivalent]
        sums = [one + other for one, other in zip(sums, counts, strict=True)]
        _print_row(module, counts)
    _print_row("all", sums)
    for row in unread:
        print(f"\n{row['id']}\n    {row['before']}\n    {row['after']}")


def _print_row(name: str, counts: list[int]) -> None:
    others = counts[0] - counts[4]
    print(f"| {name} | " + " | ".join(map(str, counts)) + f" | {counts[1] / others:.0%} |" if others else f"| {name} |")


if __name__ == "__main__":
    main()
