"The package comes from the notebooks, the notebooks are clean and complete, links and order are right."
import ast
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT
from make_readme import readme
from strip_widgets import LIVE, strip

CHAPTERS = sorted((ROOT/"nbs").glob("[0-9][0-9]*_*.ipynb"))
NOTEBOOKS = [*CHAPTERS, ROOT/"nbs"/"index.ipynb"]
DOCS = [*ROOT.glob("*.md"), *ROOT.glob("data/**/*.md")]
each_chapter = pytest.mark.parametrize("path", CHAPTERS, ids=lambda p: p.stem)
each_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)

def cells(path, kind=None):
    return [c for c in json.loads(path.read_text(encoding="utf-8"))["cells"] if kind in (None, c["cell_type"])]

def source(cell): return "".join(cell["source"])

@pytest.fixture(scope="module")
def copy(tmp_path_factory):
    "The parts of the project that nbdev reads, in another place"
    to = tmp_path_factory.mktemp("copy")
    for name in ("nbs", "pmsgan"): shutil.copytree(ROOT/name, to/name, ignore=shutil.ignore_patterns("__pycache__", ".ipynb_checkpoints"))
    for name in ("settings.ini", "setup.py", "pyproject.toml", "README.md"): shutil.copy(ROOT/name, to)
    return to

def nbdev(command, cwd):
    done = subprocess.run([Path(sys.executable).with_name(command)], cwd=cwd, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr

def contents(folder, pattern): return {p.name: p.read_text(encoding="utf-8") for p in folder.glob(pattern)}

def assert_same(before, after, remedy):
    changed = sorted(k for k in before.keys() | after.keys() if before.get(k) != after.get(k))
    assert not changed, f"{', '.join(changed)}: {remedy}"

def test_package_is_exported(copy):
    before = contents(copy/"pmsgan", "*.py")
    nbdev("nbdev_export", copy)
    assert_same(before, contents(copy/"pmsgan", "*.py"), "out of step with the notebooks; run `make clean-notebooks`")

def test_notebooks_are_clean(copy):
    before = contents(copy/"nbs", "*.ipynb")
    nbdev("nbdev_clean", copy)
    assert_same(before, contents(copy/"nbs", "*.ipynb"), "not clean; run `make clean-notebooks`")

def test_readme_is_made():
    assert (ROOT/"README.md").read_text(encoding="utf-8") == readme(), "README.md is out of step with nbs/index.ipynb; run `make readme`"

@each_notebook
def test_outputs(path):
    assert path.stat().st_size < 1_000_000, "a notebook has less than 1 MB"
    ids = [c.get("id") for c in cells(path)]
    assert all(ids) and len(set(ids)) == len(ids), "every cell has an id of its own"
    for c in cells(path, "code"):
        for o in c["outputs"]:
            assert o["output_type"] != "error", source(c)
            assert LIVE not in o.get("data", ()), f"a live widget is stored, which shows nothing without its kernel; run `make clean-notebooks`: {source(c)}"
            assert o.get("name") != "stderr", f"a warning is stored: {''.join(o.get('text', ''))[:300]}"

def test_live_widgets_are_stripped():
    still, live = {"data": {"image/png": "…", "text/plain": "…"}}, {"data": {LIVE: {}, "image/png": "…"}}
    notebook = {"cells": [{"cell_type": "markdown"}, {"cell_type": "code", "outputs": [still, live, {"name": "stdout"}]}]}
    assert strip(notebook) and not strip(notebook)
    assert notebook["cells"][1]["outputs"][1] == {"data": {"image/png": "…"}} and len(still["data"]) == 2

@each_chapter
def test_form(path):
    tagged = [source(c) for c in cells(path, "code") if "parameters" in c["metadata"].get("tags", ())]
    assert len(tagged) == 1 and 'profile = "fast"' in tagged[0], "one cell is tagged parameters and sets the profile"
    text = "\n".join(source(c) for c in cells(path, "markdown"))
    for part in ("## Summary", "## Exercises", "<details>"): assert part in text, f"{part} is missing"
    for c in cells(path, "code"):
        lines = source(c).splitlines()
        if any(l.startswith("#| export") for l in lines): assert len(lines) <= 40, f"an exported cell has {len(lines)} lines: {lines[1]}"
        assert "nbdev_export()" not in source(c)

def module_of(path):
    return re.search(r"#\|\s*default_exp (\w+)", "\n".join(source(c) for c in cells(path, "code")))[1]

def test_order_of_chapters():
    "A chapter imports only from chapters before it"
    order = [module_of(p) for p in CHAPTERS]
    for i, module in enumerate(order):
        for node in ast.walk(ast.parse((ROOT/"pmsgan"/f"{module}.py").read_text(encoding="utf-8"))):
            if not isinstance(node, ast.ImportFrom) or not node.module: continue
            name = node.module.removeprefix("pmsgan").removeprefix(".")
            if name and (node.level or node.module.startswith("pmsgan")): assert name in order[:i], f"{module} imports {name}, which comes later"

@pytest.mark.parametrize("path", [*NOTEBOOKS, *DOCS], ids=lambda p: p.name)
def test_links(path):
    "Relative links lead to files that exist"
    text = "\n".join(source(c) for c in cells(path, "markdown")) if path.suffix == ".ipynb" else path.read_text(encoding="utf-8")
    text = re.sub(r"```.*?```|`[^`\n]*`", "", text, flags=re.S) # code may look like a link
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        if not re.match(r"[a-z]+:|#", link): assert (path.parent/link.split("#")[0]).exists(), f"{link} leads nowhere"

def test_no_paths_of_one_machine():
    "Nothing names a place that exists on one machine only"
    found = []
    for p in [*NOTEBOOKS, *DOCS, *ROOT.glob("pmsgan/*.py"), *ROOT.glob(".github/**/*.yml"), ROOT/"Makefile", ROOT/"settings.ini"]:
        text = p.read_text(encoding="utf-8")
        if p.suffix == ".ipynb": # pictures are base64 and may contain anything
            text = "\n".join(source(c)+"".join("".join(o.get("text", "")) for o in c.get("outputs", ())) for c in cells(p))
        found += [f"{p.name}: {m}" for m in re.findall(r"(?<![\w.])(?:/(?:home|root|work|tmp|Users)/\w+|\.\./shared)", text)]
    assert not found, found
