import importlib.util
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def generate():
    spec = importlib.util.spec_from_file_location("generate", ROOT / "docs" / "generate.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_docs_of_commands_and_recipes_are_up_to_date(generate):
    assert (ROOT / "docs" / "cli.md").read_text() == generate.render_cli()
    assert (ROOT / "docs" / "recipes.md").read_text() == generate.render_recipes()


def test_the_readme_holds_the_two_commands():
    lines = [line for line in (ROOT / "README.md").read_text().splitlines() if line.startswith("python3 -m venv")]
    assert len(lines) == 2
    assert lines[0].endswith("python -m pip install . && mrigen demo")
    assert lines[1].endswith("python -m pip install -e '.[test]' && python -m pytest -n 2")


def test_links_of_the_docs_lead_somewhere():
    for page in [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]:
        for target in re.findall(r"\]\(([^)#]+?)\)", page.read_text()):
            if "://" not in target:
                assert (page.parent / target).exists(), f"{page.name}: {target}"


def test_keys_named_in_docs_and_recipes_exist(generate):
    known = set(re.findall(r"`((?:data|preprocess|model|training)\.[a-z_0-9.]+)`", generate.render_recipes()))
    blocks = {key.rsplit(".", count)[0] for key in known for count in range(1, key.count(".") + 1)}
    pages = {ROOT / "README.md", *(ROOT / "docs").glob("*.md"), *(ROOT / "recipes").rglob("*.yaml")}
    for page in sorted(pages - {ROOT / "docs" / "errors.md"}):  # It shows what becomes of keys that there are not.
        text = page.read_text()
        for key in re.findall(r"(?<![\w./])((?:data|preprocess|model|training)\.[a-z_]+(?:\.[a-z_]+)*)(?==|`|:)", text):
            assert key in known | blocks, f"{page.name}: {key}"


def test_the_code_of_the_python_page_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    page = (ROOT / "docs" / "python.md").read_text()
    scope = {}
    for match in re.finditer(r"```python\n(.*?)```", page, re.DOTALL):
        # As many lines above it as on the page, so that an error names the page's own line.
        code = "\n" * page[: match.start(1)].count("\n") + match[1]
        exec(compile(code, str(ROOT / "docs" / "python.md"), "exec"), scope)
    assert scope["run"].is_complete and len(scope["images"]) == 4
    assert {path.name for path in tmp_path.iterdir()} == {"runs", "samples"}
