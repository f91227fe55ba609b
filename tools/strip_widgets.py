"Stored outputs without live widgets (`make clean-notebooks`): a widget needs the kernel that made it; its still picture stays."
import json
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LIVE = "application/vnd.jupyter.widget-view+json"

def strip(notebook):
    "Removes live views from the outputs of a notebook that was read as JSON; says whether there were any"
    data = [o["data"] for c in notebook["cells"] for o in c.get("outputs", ()) if LIVE in o.get("data", ())]
    for d in data: del d[LIVE]
    return bool(data)

if __name__ == "__main__":
    for path in sorted((ROOT/"nbs").rglob("*.ipynb")):
        notebook = json.loads(path.read_text(encoding="utf-8"))
        if strip(notebook): path.write_text(json.dumps(notebook, indent=1, ensure_ascii=False, sort_keys=True)+"\n", encoding="utf-8")
