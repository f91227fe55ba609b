"The package comes from the notebooks, the notebooks are clean and complete, links and order are right."
import ast
import graphlib
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import CHAPTERS, ROOT, WORKSHOP

sys.path.insert(0, str(ROOT/"tools"))
from make_readme import readme
from tidy_outputs import LIVE, strip

NOTEBOOKS = [*CHAPTERS, *WORKSHOP, ROOT/"nbs"/"index.ipynb"]
DOCS = [*ROOT.glob("*.md"), *ROOT.glob("data/**/*.md"), *ROOT.glob("nbs/**/*.md")]
each_chapter = pytest.mark.parametrize("path", CHAPTERS, ids=lambda p: p.stem)
each_taught = pytest.mark.parametrize("path", [p for p in CHAPTERS if p.stem[:2] != "00"], ids=lambda p: p.stem)
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

def contents(folder, pattern): return {str(p.relative_to(folder)): p.read_text(encoding="utf-8") for p in folder.rglob(pattern)}

def assert_same(before, after, remedy):
    changed = sorted(k for k in before.keys() | after.keys() if before.get(k) != after.get(k))
    assert not changed, f"{', '.join(changed)}: {remedy}"

def test_package_is_exported(copy):
    before = contents(copy/"pmsgan", "*.py")
    nbdev("nbdev_export", copy)
    assert_same(before, contents(copy/"pmsgan", "*.py"), "out of step with the notebooks; run `make clean-notebooks`")

def test_no_stale_modules():
    "nbdev_export leaves the module of a notebook that is gone or was renamed"
    modules = {p.stem for p in (ROOT/"pmsgan").glob("*.py")}-{"__init__", "_modidx"}
    assert modules == {m for p in [*CHAPTERS, *WORKSHOP] if (m := module_of(p))}

def test_notebooks_are_clean(copy):
    before = contents(copy/"nbs", "*.ipynb")
    nbdev("nbdev_clean", copy)
    assert_same(before, contents(copy/"nbs", "*.ipynb"), "not clean; run `make clean-notebooks`")

def test_readme_is_made():
    assert (ROOT/"README.md").read_text(encoding="utf-8") == readme(), "README.md is out of step with nbs/index.ipynb; run `make readme`"

@each_notebook
def test_outputs(path):
    assert path.stat().st_size < 700_000, "a notebook has less than 700 KB"
    ids = [c.get("id") for c in cells(path)]
    assert all(ids) and len(set(ids)) == len(ids), "every cell has an id of its own"
    for c in cells(path, "code"):
        for o in c["outputs"]:
            assert o["output_type"] != "error", source(c)
            assert LIVE not in o.get("data", ()), f"a live widget is stored, which shows nothing without its kernel; run `make clean-notebooks`: {source(c)}"
            assert o.get("name") != "stderr", f"a warning is stored: {''.join(o.get('text', ''))[:300]}"

def test_live_widgets_are_stripped():
    still, live = {"data": {"image/png": "…", "text/plain": "…"}}, {"data": {LIVE: {}, "image/png": "…"}}
    notebook = {"metadata": {"widgets": {}}, "cells": [{"cell_type": "markdown"}, {"cell_type": "code", "outputs": [still, live, {"name": "stdout"}]}]}
    assert strip(notebook) and not strip(notebook)
    assert notebook["cells"][1]["outputs"][1] == {"data": {"image/png": "…"}} and len(still["data"]) == 2

def words(path): return sum(len(source(c).split()) for c in cells(path, "markdown"))

@each_chapter
def test_length(path):
    "A main line that can be read in one sitting: everything before the folded section Checks"
    found = cells(path)
    main = next((i for i, c in enumerate(found) if source(c).startswith("## Checks")), len(found))
    limit = 1200 if path.stem.startswith("00") else 2000 # solutions and checks included
    assert main <= 60 and len(found) <= 70 and words(path) <= limit, f"{main} cells before Checks, {len(found)} in all, {words(path)} words"

@each_notebook
def test_code(path):
    "Exported cells that fit on a screen, lines that fit on a page, no export that a reader would run"
    for c in cells(path, "code"):
        lines = source(c).splitlines()
        if any(l.startswith("#| export") for l in lines): assert len(lines)-1 <= 40, f"an exported cell has {len(lines)-1} lines: {lines[1]}"
        assert "nbdev_export()" not in source(c)
        long = [l for l in lines if len(l) > 120]
        assert not long, f"longer than 120 characters: {long[0]}"

@pytest.mark.parametrize("path", [*CHAPTERS, *WORKSHOP], ids=lambda p: p.stem)
def test_parameters(path):
    tagged = [source(c) for c in cells(path, "code") if "parameters" in c["metadata"].get("tags", ())]
    if not cells(path, "code"): return # a page of text
    assert len(tagged) == 1 and 'profile = "fast"' in tagged[0], "one cell is tagged parameters and sets the profile"

@each_taught
def test_form(path):
    text = "\n".join(source(c) for c in cells(path, "markdown"))
    for part in ("## Recap", "## Exercises", "<details>", "## Next"): assert part in text, f"{part} is missing"
    folded = [c for c in cells(path, "markdown") if source(c).startswith("## Checks")]
    assert all(c["metadata"].get("jp-MarkdownHeadingCollapsed") for c in folded), "the section Checks is folded"
    if path.stem < "11": assert any("network(" in source(c) for c in cells(path, "code")), "the figure of the network is missing"

def module_of(path):
    found = re.search(r"#\|\s*default_exp (\w+)", "\n".join(source(c) for c in cells(path, "code")))
    return found and found[1]

def imported(module):
    "The modules of the package that a module imports, at its top or inside a function"
    for node in ast.walk(ast.parse((ROOT/"pmsgan"/f"{module}.py").read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module and (node.level or node.module.startswith("pmsgan.")):
            yield node.module.removeprefix("pmsgan.")

def order_of_workshop():
    "Module -> (place, number of the last chapter that it may use), from the table in nbs/workshop/README.md"
    rows = re.findall(r"^\| \[(\w+)\]\(\w+\.ipynb\) \|.*\| (\d\d|none) \|$", (ROOT/"nbs/workshop/README.md").read_text(encoding="utf-8"), re.M)
    return {name: (i, "" if last == "none" else last) for i, (name, last) in enumerate(rows)}

def test_order_of_chapters():
    "A chapter imports from earlier chapters and from the workshop"
    order, workshop = [m for p in CHAPTERS if (m := module_of(p))], {m for p in WORKSHOP if (m := module_of(p))}
    for i, module in enumerate(order):
        for name in imported(module): assert name in workshop or name in order[:i], f"{module} imports {name}, which comes later"

def test_order_of_workshop():
    "The workshop imports from what stands above it in its own table, and from the chapters named there"
    number, order = {module_of(p): p.stem[:2] for p in CHAPTERS}, order_of_workshop()
    assert set(order) == {m for p in WORKSHOP if (m := module_of(p))}
    for module, (place, last) in order.items():
        for name in imported(module):
            if name in number: assert number[name] <= last, f"{module} imports chapter {number[name]}, {name}"
            else: assert order[name][0] < place, f"{module} imports {name}, which stands below it in nbs/workshop/README.md"

def test_no_circles():
    "Chapters and workshop together: every module can be imported first"
    graph = {m: set(imported(m)) for p in [*CHAPTERS, *WORKSHOP] if (m := module_of(p))}
    assert list(graphlib.TopologicalSorter(graph).static_order())

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

def test_references():
    "Every number in brackets in the prose is in the list of references"
    known = set(re.findall(r'<a id="(\d+)"></a>', "\n".join(source(c) for c in cells(ROOT/"nbs/workshop/references.ipynb"))))
    for p in NOTEBOOKS:
        text = "\n".join(source(c) for c in cells(p, "markdown"))
        text = re.sub(r"```.*?```|`[^`\n]*`|\$\$.*?\$\$|\$[^$\n]*\$|\]\([^)]*\)", "", text, flags=re.S) # code, formulas, links' targets
        cited = set(re.findall(r"\[(\d+)[\]]", text))
        assert cited <= known, f"{p.name}: {', '.join(sorted(cited-known))} not in references"
