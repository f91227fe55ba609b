"""Stored outputs that a reader can use (`make clean-notebooks`): no live widgets, and pictures no larger than they need to be.

A widget needs the kernel that made it; its still picture stays. A PNG gets a palette of its own, or becomes a JPEG, where the
eye cannot tell: no patch of 2×2 pixels may change by more than 12 of 255 levels, so a thin colored line keeps its color."""
import base64
import io
import json
from pathlib import Path

import numpy as np
from PIL import Image

ROOT = Path(__file__).resolve().parent.parent
LIVE = "application/vnd.jupyter.widget-view+json"

def patches(im):
    "Means of 2×2 pixels, once from the first and once from the second row and column"
    a = np.asarray(im.convert("RGB"), float)
    four = lambda b: b[:len(b)//2*2, :b.shape[1]//2*2].reshape(len(b)//2, 2, b.shape[1]//2, 2, 3).mean((1, 3)).ravel()
    return np.concatenate([four(a), four(a[1:, 1:])])

def smaller(png, most=12):
    "(mime type, bytes): the picture with a palette or as JPEG, whichever is smallest among those that look the same; else as it was"
    im = Image.open(io.BytesIO(png))
    if im.mode == "P" or len(png) < 10_000: return "image/png", png
    flat = Image.alpha_composite(Image.new("RGBA", im.size, "white"), im.convert("RGBA")).convert("RGB") # pages are white
    palette = flat.quantize(256, method=Image.Quantize.MEDIANCUT, kmeans=3)
    dithered = flat.quantize(palette=palette, dither=Image.Dither.FLOYDSTEINBERG)
    found = [(len(png)*.8, "image/png", png)]
    for kind, picture, options in (("png", palette, dict(optimize=True)), ("png", dithered, dict(optimize=True)),
                                   ("jpeg", flat, dict(quality=90, subsampling=0, optimize=True))):
        out = io.BytesIO()
        picture.save(out, kind, **options)
        same = np.abs(patches(Image.open(out))-patches(flat)).max() <= most
        if same: found.append((len(out.getvalue()), f"image/{kind}", out.getvalue()))
    return min(found)[1:]

def strip(notebook):
    "Removes live views from the outputs of a notebook that was read as JSON; says whether there were any"
    data = [o["data"] for c in notebook["cells"] for o in c.get("outputs", ()) if LIVE in o.get("data", ())]
    for d in data: del d[LIVE]
    state = notebook["metadata"].pop("widgets", None) # the state of widgets without their kernel
    return bool(data) or state is not None

def shrink(notebook):
    "Makes the stored PNGs smaller; says whether any changed"
    changed = False
    for c in notebook["cells"]:
        for o in c.get("outputs", ()):
            if "image/png" not in (d := o.get("data", {})): continue
            old = base64.b64decode(d["image/png"])
            kind, new = smaller(old)
            if new == old: continue
            del d["image/png"]
            d[kind], changed = base64.b64encode(new).decode(), True
    return changed

if __name__ == "__main__":
    for path in sorted((ROOT/"nbs").rglob("*.ipynb")):
        notebook = json.loads(path.read_text(encoding="utf-8"))
        if strip(notebook) | shrink(notebook):
            path.write_text(json.dumps(notebook, indent=1, ensure_ascii=False, sort_keys=True)+"\n", encoding="utf-8")
