"README.md from nbs/index.ipynb (`make readme`): nbconvert, and links that are right from the root."
import posixpath
import re
from pathlib import Path

import nbformat
from nbconvert import MarkdownExporter

ROOT = Path(__file__).resolve().parent.parent
NOTE = "<!-- Made from nbs/index.ipynb by `make readme`; edit the notebook. -->\n"

def from_root(match):
    "](images/a.png) in nbs/ is ](nbs/images/a.png) in the root"
    target = match[1]
    if re.match(r"[a-z]+:|#", target): return match[0]
    return f"]({posixpath.normpath(posixpath.join('nbs', target))})"

def readme():
    "The text that README.md must have"
    notebook = nbformat.read(ROOT/"nbs"/"index.ipynb", 4)
    notebook.metadata["language_info"] = {"name": "python"} # nbdev_clean removes it; it colours the code
    text, _ = MarkdownExporter().from_notebook_node(notebook)
    text = re.sub(r"\]\(([^)\s]+)\)", from_root, text)
    return NOTE + re.sub(r"[ \t]+\n", "\n", re.sub(r"\n{3,}", "\n\n", text)).strip() + "\n"

if __name__ == "__main__": (ROOT/"README.md").write_text(readme(), encoding="utf-8")
