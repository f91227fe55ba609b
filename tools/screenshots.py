"""Screenshots of the explorers for the README (`make screenshots`): nbs/images/explorer_*.png.

They are taken from the standalone page in a real browser, with the generator in the box; the run that the training explorer
shows is made for the purpose, from procedural faces."""
import os
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent/"tests")) # whose way of using a browser this is

import browser
from browser import settled
from conftest import PMSGAN, ROOT, pmsgan
from PIL import Image
from test_browser import choose, find, moved, pictures, turn

def save(explorer, name):
    "What is seen of an explorer, as a small PNG"
    hide = "h => { h.hidden = h.textContent.startsWith('LPIPS') }" # it names folders of this machine
    explorer.evaluate(f"e => e.querySelectorAll('.pmsgan-hint').forEach({hide})")
    settled(explorer, pictures, quiet=1)
    image = Image.fromarray(browser.screenshot_array(explorer)).quantize(256, Image.Quantize.MEDIANCUT,
                                                                         dither=Image.Dither.NONE)
    image.save(ROOT/"nbs"/"images"/f"explorer_{name}.png", optimize=True)
    print(name, image.size)

def make_run(folder):
    "A short training run"
    for words in (["faces", "--n", 24, "--size", 64, "--seed", 300, "--out", folder/"pairs"],
                  ["train", "--source", folder/"pairs"/"photo", "--target", folder/"pairs"/"drawing", "--out",
                   folder/"run", "--size", 64, "--preset", "small",
                   "--features", "random", "--layers", "relu1_1,relu2_1,relu3_1", "--steps", 400, "--samples-every",
                   40, "--ema", .99]):
        done = pmsgan(*words)
        assert done.returncode == 0, done.stderr

def stages(explorer):
    for _ in range(3): moved(explorer, turn, explorer, "face")
    save(explorer, "stages")

def attention(explorer):
    moved(explorer, choose, explorer, "look-at", "a pixel")
    save(explorer, "attention")

def switchboard(explorer):
    moved(explorer, turn, explorer, "face") # 4; the second face is 3
    moved(explorer, choose, explorer, "swap", "CSASP3")
    save(explorer, "switchboard")

def training(explorer):
    turn(explorer, "step", "ArrowLeft", 8)
    save(explorer, "training")

def main():
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        make_run(folder)
        os.chdir(folder) # so that paths on the page are short
        words = [PMSGAN, "explore", ROOT/"data"/"checkpoints"/"sketch.safetensors", "--run", "run"]
        with (browser.chromium(width=1060, height=1400) as context, browser.standalone(words, folder) as url,
              browser.watched(context, url) as page):
            page.get_by_role("tab").first.wait_for(timeout=90_000)
            for f in (stages, attention, switchboard, training):
                page.get_by_role("tab", name=f.__name__.capitalize()).click()
                f(find(page, f.__name__))

if __name__ == "__main__": main()
