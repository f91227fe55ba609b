"""The widgets as a person meets them: Chromium opens the notebooks in JupyterLab, and the standalone page.

One server and one browser serve all tests. A test opens a notebook once and asserts everything about it; `moved` says which
panes of an explorer changed their picture."""
import importlib.util
import io
import shutil
from functools import partial

import browser
import nbformat
import numpy as np
import pytest
from browser import (changing, check, drag, drop_file, labeled, notebook, paste, press, screenshot_array, settled,
                     standalone, until, watched)
from conftest import PMSGAN, ROOT
from PIL import Image

pytestmark = pytest.mark.browser
MISSING = ("needs Chromium or Chrome (Debian: apt-get install chromium; any other: PMSGAN_CHROMIUM=path) "
           "and playwright (pip install -e '.[dev]')")

@pytest.fixture(scope="module")
def chromium():
    "The browser"
    if not importlib.util.find_spec("playwright") or not (path := browser.chromium_path()): pytest.skip(MISSING)
    with browser.chromium(path) as context: yield context

@pytest.fixture(scope="module")
def lab(chromium, tmp_path_factory):
    "JupyterLab over a copy of the course, with the data where the notebooks look for them"
    course = tmp_path_factory.mktemp("lab")/"course"
    for name in ("nbs", "data"):
        shutil.copytree(ROOT/name, course/name, ignore=shutil.ignore_patterns(".ipynb_checkpoints"))
    with browser.jupyterlab(course) as server: yield server

@pytest.fixture(scope="module")
def opened(chromium, lab):
    "opened(path): a notebook after all of its cells have run"
    return partial(notebook, chromium, lab)

def write(folder, name, *sources):
    "A notebook of these cells"
    kernel = {"kernelspec": {"display_name": "python3", "language": "python", "name": "python3"}}
    nbformat.write(nbformat.v4.new_notebook(metadata=kernel, cells=[nbformat.v4.new_code_cell(s) for s in sources]),
                   folder/name)
    return f"{folder.name}/{name}"

def unlike(a, b): return a.shape != b.shape or (a != b).any() # screenshots

def pictures(explorer): return explorer.locator(".pmsgan-frame img").evaluate_all("all => all.map(i => i.src)")
def sentence_of(explorer): return explorer.locator(".pmsgan-said").first.text_content().strip()

def find(page, label, last=False):
    "The first explorer with this label, or the last, brought into view and its pictures loaded"
    # JupyterLab keeps only what is near the view in the page
    found = page.locator(f".pmsgan-explorer.pmsgan-{label}")
    found = found.last if last else found.first
    content = "window.jupyterapp?.shell.currentWidget.content"
    cells = range(page.evaluate(f"{content}?.widgets.length ?? 0"))
    if last and cells: page.evaluate(f"{content}.scrollToItem({len(cells)-1}, 'start')") # away from the others
    for i in reversed(cells) if last else cells:
        if found.count(): break
        page.evaluate(f"{content}.scrollToItem({i}, 'start')")
        page.wait_for_timeout(30)
    found.wait_for()
    found.scroll_into_view_if_needed()
    loaded = "all => all.length > 0 && all.every(i => i.complete && i.naturalWidth)"
    until(lambda: found.locator(".pmsgan-frame img").evaluate_all(loaded), what=f"pictures of {label}")
    return found

def moved(explorer, act, *args, seconds=15, **kwargs):
    "Calls act(...); the names of the panes whose pictures changed, once they have come to rest"
    names = lambda: explorer.locator(".pmsgan-pane figcaption").all_text_contents()
    before = dict(zip(names(), pictures(explorer)))
    act(*args, **kwargs)
    until(lambda: pictures(explorer) != list(before.values()), seconds,
          f"no picture changed ({sentence_of(explorer)!r})")
    settled(explorer, pictures)
    return [n for n, src in zip(names(), pictures(explorer)) if before.get(n) != src]

def refused(explorer, act, *args, seconds=15):
    "Calls act(...), which must lead to a sentence and leave the pictures as they are; the sentence"
    # a drag before it may still bring pictures, each after most of a second on one thread
    before = settled(explorer, pictures, quiet=1)
    with changing(explorer, sentence_of, seconds) as seen: act(*args)
    assert pictures(explorer) == before and "Traceback" not in seen.after
    return seen.after

def control(explorer, name):
    return explorer.locator(f".pmsgan-control-{name}").locator("[role=slider], select, input, button").first

def turn(explorer, name, key="ArrowRight", times=1): press(control(explorer, name), key, times)

def choose(explorer, name, option): control(explorer, name).select_option(label=option)

def test_cell_that_raises(opened, lab):
    path = write(lab.folder/"nbs", "raises.ipynb", "1/0")
    with pytest.raises(AssertionError, match="ZeroDivisionError"), opened(path): pass

def test_callback_that_raises(opened, lab):
    "JupyterLab shows such a traceback in its log only"
    path = write(lab.folder/"nbs", "callback.ipynb",
                 "import ipywidgets as W\nb = W.Button(description='go')\nb.on_click(lambda _: 1/0)\nb")
    with pytest.raises(AssertionError, match="ZeroDivisionError"), opened(path) as page:
        labeled(page, "go").click()
        until(lambda: page.title() and page.problems)

@pytest.mark.parametrize("what,message", [
    ("setTimeout(() => { throw new Error('mine') })", "error on the page: mine"),
    ("console.error('mine')", "console: mine"),
    ("fetch('https://example.com/a').catch(() => 0)", "a request to https://example.com/a")])
def test_page_that_errs(chromium, what, message):
    with pytest.raises(AssertionError, match=message), watched(chromium, "about:blank") as page:
        page.evaluate(what)
        page.wait_for_timeout(100)

def zooms_in_step(explorer):
    "+ and 0 on the panes: every picture moves alike, and back"
    zoom = lambda e: e.locator(".pmsgan-frame img").evaluate_all("all => all.map(i => i.style.transform)")
    with changing(explorer, zoom): press(explorer.locator(".pmsgan-panes"), "+", 2)
    assert len(set(settled(explorer, zoom))) == 1
    with changing(explorer, zoom): press(explorer.locator(".pmsgan-panes"), "0")

def test_panels(opened):
    "A first explorer, one zoom in all panes"
    with opened("nbs/workshop/panels.ipynb") as page:
        explorer = find(page, "first-face")
        slider = explorer.get_by_role("slider", name="light")
        before = screenshot_array(explorer)
        moved(explorer, press, slider, "ArrowRight", 20)
        assert slider.get_attribute("aria-valuetext") and unlike(screenshot_array(explorer), before)
        zooms_in_step(explorer)

def tagged():
    "The sources of the cells that are tagged explorer, in the chapters before the explorer's own"
    cells = [c for p in sorted((ROOT/"nbs").glob("[01]*_*.ipynb")) if p.name < "14" for c in nbformat.read(p, 4).cells]
    return [c.source for c in cells if "explorer" in c.metadata.get("tags", ())]

SMALL = { # label -> what is moved, and how many panes must change at least
    "eff": {"row": 3, "strength": 3}, "csasp": {"rate": 2, "source": 1}, "dff": {"shift": 4, "lift": 2},
    "mssa": {"rgb1": 4, "temperature": 2}, "generator": {"blocks": 2, "column": 2}, "training-steps": {"step": 4}}

def test_small_explorers(opened, lab):
    "Those of chapters 03 to 07 and 10, in one notebook"
    sources = tagged()
    assert len(sources) == 2*len(SMALL)
    with opened(write(lab.folder/"nbs", "small.ipynb", *sources)) as page:
        for label, controls in SMALL.items():
            explorer = find(page, label)
            before = screenshot_array(explorer)
            for name, panes in controls.items():
                assert len(moved(explorer, turn, explorer, name, "ArrowLeft")) >= panes, (label, name)
            assert unlike(screenshot_array(explorer), before)
            moved(explorer, drag, control(explorer, next(iter(controls))), 30)
        explorer = find(page, "generator")
        moved(explorer, choose, explorer, "table-II", "(a) one stage")
        assert "one stage" in refused(explorer, choose, explorer, "output", "y2")

def text_of(explorer): return explorer.locator(".pmsgan-text").first.text_content().strip()

def picture_file(size, kind="png", color=(200, 30, 30)):
    out = io.BytesIO()
    Image.new("RGB", size, color).save(out, kind)
    return out.getvalue()

def test_stages(opened, lab):
    "The whole notebook as a reader runs it"
    with opened("nbs/workshop/explorer.ipynb") as page:
        explorer = find(page, "stages")
        untouched = settled(explorer, pictures, quiet=1.5)
        final, intake = explorer.locator('[data-name="final"] img'), explorer.locator(".pmsgan-intake")
        before = screenshot_array(final)
        assert {"source", "stage 3", "stage 2", "final", "target"} <= set(moved(explorer, turn, explorer, "face"))
        assert np.abs(screenshot_array(final).astype(int)-before).mean() > 2
        moved(explorer, turn, explorer, "face", "ArrowLeft")
        assert not unlike(screenshot_array(final), before) and len(untouched) == len(pictures(explorer))
        moved(explorer, drag, control(explorer, "face"), 40) # by mouse
        # the face's parameters
        explorer.locator(".jupyter-widget-Collapse-header, .lm-AccordionPanel-title").first.click()
        assert "final" in moved(explorer, turn, explorer, "smile", times=5)
        zooms_in_step(explorer)
        moved(explorer, choose, explorer, "difference",
              explorer.locator(".pmsgan-control-difference option:not(:checked)").first.text_content())
        for data, name, word in ((b"hello", "notes.txt", "notes.txt"), (picture_file((1, 1)), "dot.png", "1×1"),
                                 (picture_file((64, 64))[:90], "cut.png", "cut.png")):
            assert word in refused(explorer, drop_file, intake, name, data, "image/png")
        assert "target" not in moved(explorer, drop_file, intake, "portrait.png",
                                     (ROOT/"data"/"portrait.png").read_bytes(), "image/png")
        assert not explorer.locator('[data-name="target"]').count(), "a picture of one's own has no target"
        moved(explorer, drop_file, intake, "large.jpg", picture_file((6000, 4000), "jpeg"), "image/jpeg", seconds=30)
        assert "No face" in text_of(explorer)
        moved(explorer, paste, intake, picture_file((90, 120)))
        explorer.get_by_role("button", name="Camera").click()
        moved(explorer, explorer.get_by_role("button", name="Take the picture").click)
        refuses_checkpoints(explorer, lab)

def refuses_checkpoints(explorer, lab):
    "A missing file, no checkpoint, one that holds something else: a sentence each, and the field shows what is used"
    (lab.folder/"nbs"/"other.safetensors").write_bytes(b"hello")
    explorer.locator(".jupyter-widget-Collapse-header, .lm-AccordionPanel-title").nth(1).click()
    path = control(explorer, "checkpoint-path")
    before = path.input_value()
    def enter(text):
        path.fill(text)
        path.press("Enter")
    for text in ("nowhere.safetensors", "other.safetensors", "../data/portrait.png"):
        assert text.split("/")[-1] in refused(explorer, enter, text)
        until(lambda: path.input_value() == before, what="the path that is used")

LIVE = """from pmsgan.faces import face
from pmsgan.generator import GeneratorConfig
from pmsgan.live import TrainingExplorer
from pmsgan.losses import VGG19Features
from pmsgan.pyramid import to_tensor
from pmsgan.training import TrainConfig, Trainer
pairs = [dict(source=to_tensor(f.images["photo"]), target=to_tensor(f.images["sketch"]), name=str(i)) for i in range(4) for f in [face(i, 32)]]
config = TrainConfig(steps=1000, size=32)
trainer = Trainer(pairs, VGG19Features(("relu1_1", "relu2_1"), random=True), GeneratorConfig.preset("tiny"), config, "cpu")
explorer = TrainingExplorer(trainer)
explorer"""

@pytest.fixture(scope="module")
def three(opened, lab):
    "Three explorers in one notebook of a user's own"
    make = ["from pmsgan.attention import AttentionExplorer\nfrom pmsgan.switchboard import Switchboard",
            "AttentionExplorer()", "Switchboard()", LIVE]
    with opened(write(lab.folder/"nbs", "three.ipynb", *make)) as page: yield page

@pytest.fixture
def explorers(three):
    "The same, and what went wrong is laid to the test in which it did"
    yield three
    check(three)

def test_attention(explorers):
    explorer = find(explorers, "attention")
    for what, panes in {"channel attention": 8, "fusion gates": 6, "tensors": 16, "a pixel": 7, "masks": 10}.items():
        moved(explorer, choose, explorer, "look-at", what)
        assert explorer.locator(".pmsgan-pane").count() == panes, what
    before = screenshot_array(explorer)
    assert {"mask on x", "D1"} <= set(moved(explorer, turn, explorer, "channel"))
    assert unlike(screenshot_array(explorer), before)
    moved(explorer, choose, explorer, "look-at", "a pixel")
    frame = explorer.locator(".pmsgan-frame").first
    box = frame.bounding_box()
    assert "|∂y/∂x|" in moved(explorer, frame.click, position={"x": box["width"]*.5, "y": box["height"]*.7})
    assert text_of(explorer).startswith("Pixel (64, 89)")
    moved(explorer, press, explorer.locator(".pmsgan-panes"), "ArrowRight")
    assert text_of(explorer).startswith("Pixel (65, 89)")
    assert {"x", "y"} <= set(moved(explorer, turn, explorer, "face"))
    assert {"x", "y"} <= set(moved(explorer, drag, control(explorer, "face"), 30))
    assert "notes.txt" in refused(explorer, drop_file, explorer.locator(".pmsgan-intake"), "notes.txt", b"hello",
                                  "text/plain")

def test_switchboard(explorers):
    explorer = find(explorers, "switchboard")
    if not control(explorer, "dff").is_checked(): explorer.get_by_role("button", name="All on").click()
    before = screenshot_array(explorer)
    changed = moved(explorer, press, control(explorer, "dff"), "Space")
    assert "final altered" in changed and "final" not in changed and "DFF off" in text_of(explorer)
    assert unlike(screenshot_array(explorer), before)
    moved(explorer, choose, explorer, "silence", "stage 2")
    moved(explorer, press, control(explorer, "silence"), "ArrowDown")
    assert "stage 3" in text_of(explorer)
    moved(explorer, choose, explorer, "swap", "CSASP1")
    assert "second face" in moved(explorer, turn, explorer, "second")
    assert "second face" in moved(explorer, drag, control(explorer, "second"), 30)
    assert "source" in moved(explorer, turn, explorer, "face")
    moved(explorer, explorer.get_by_role("button", name="All on").click)
    assert control(explorer, "dff").is_checked() and explorer.locator(".pmsgan-control-second [disabled]").count()
    refused(explorer, drop_file, explorer.locator(".pmsgan-intake"), "notes.txt", b"hello", "text/plain")
    moved(explorer, drop_file, explorer.locator(".pmsgan-intake"), "portrait.png",
          (ROOT/"data"/"portrait.png").read_bytes(), "image/png")

def test_training(explorers):
    "Start, Stop and Resume, and looking back while it goes on"
    explorer = find(explorers, "training")
    status = explorer.locator(".pmsgan-status")
    button = lambda name: explorer.get_by_role("button", name=name, exact=True)
    says = lambda l: l.text_content()
    moved(explorer, button("Start").click, seconds=30)
    with changing(explorer, pictures): pass # by itself
    assert "training" in says(status)
    turn(explorer, "step", "ArrowLeft")
    until(lambda: not control(explorer, "follow").is_checked(), what="follow is unchecked")
    there = settled(explorer, text_of)
    explorers.wait_for_timeout(1500)
    assert text_of(explorer) == there and "training" in says(status), "it goes on while we look back"
    with changing(status, says): button("Stop").click()
    until(lambda: "stopped after step" in says(status), what="stopped")
    stopped = settled(status, says, quiet=1)
    with changing(explorer, pictures): control(explorer, "full").click()
    moved(explorer, drag, control(explorer, "smooth"), 30)
    with changing(status, says): button("Resume").click()
    control(explorer, "follow").click()
    with changing(explorer, pictures): pass
    assert "training" in says(status) and says(status) != stopped
    with changing(status, says): button("Stop").click()
    until(lambda: "stopped after step" in says(status), what="stopped again")

SHOWN = {"15_inside": ("stages", "switchboard", "attention", "attention"), "workshop/attention": ("attention",),
         "workshop/switchboard": ("switchboard",), "workshop/page": ("stages",)}

@pytest.mark.parametrize("path,labels", SHOWN.items(), ids=lambda v: v if isinstance(v, str) else "")
def test_explorers_stay(opened, path, labels):
    "After Run all, each explorer that a notebook shows is there, and answers"
    with opened(f"nbs/{path}.ipynb", seconds=300) as page:
        for i, label in enumerate(labels):
            explorer = find(page, label, last=label in labels[:i])
            assert moved(explorer, turn, explorer, "face", seconds=30)
        if path == "workshop/page":
            page.locator(".pmsgan-page").get_by_role("tab", name="Attention").click()
            assert moved(find(page, "attention"), turn, find(page, "attention"), "channel")

def test_training_explorers_stay(opened):
    "After Run all, the recorded run can be looked through, and nobody has pressed Start yet"
    with opened("nbs/workshop/live.ipynb", seconds=300) as page:
        recorded = find(page, "training")
        with changing(recorded, pictures): turn(recorded, "step", "ArrowLeft", 5)
        live = find(page, "training", last=True)
        status = live.locator(".pmsgan-status")
        assert status.text_content() == "not started"
        moved(live, live.get_by_role("button", name="Start", exact=True).click, seconds=30)
        until(lambda: "training" in status.text_content(), what="training")
        live.get_by_role("button", name="Stop", exact=True).click()
        until(lambda: "stopped after step" in status.text_content(), what="stopped")

def test_standalone_page(chromium, run, tmp_path):
    "`pmsgan explore` with all of its tabs"
    with standalone([PMSGAN, "explore", "--run", run], tmp_path) as url, watched(chromium, url) as page:
        page.get_by_role("tab").first.wait_for(timeout=60_000)
        names = page.get_by_role("tab").all_text_contents()
        assert names == ["Stages", "Attention", "Switchboard", "Training"]
        for n, (name, label) in enumerate(zip(names, ("stages", "attention", "switchboard", "training")), 1):
            page.get_by_role("tab", name=name).click()
            explorer = find(page, label)
            assert page.locator(".pmsgan-explorer").count() == n, "what is not looked at is not drawn"
            before = screenshot_array(explorer)
            if label == "training": turn(explorer, "step", "ArrowLeft")
            else: moved(explorer, turn, explorer, "face")
            settled(explorer, pictures)
            assert unlike(screenshot_array(explorer), before)
            if label != "training": moved(explorer, drag, control(explorer, "face"), 20)
