"""Every chapter from top to bottom through papermill, two at a time.

PMSGAN_PROFILE=full uses the longer settings, PMSGAN_DEVICE=cuda a GPU (one chapter at a time),
PMSGAN_KEEP=DIR keeps the executed notebooks."""
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from conftest import CHAPTERS, ENV, TIMINGS, WORKSHOP

NOTEBOOKS = [*WORKSHOP, *CHAPTERS]
PROFILE = os.environ.get("PMSGAN_PROFILE", "fast")
LIMIT = 300 if PROFILE == "fast" else 3600 # seconds for one cell
AT_ONCE = 1 if os.environ.get("PMSGAN_DEVICE", "cpu") != "cpu" else 2

def execute(notebook, folder):
    "Seconds, and what papermill said when it failed"
    start = time.perf_counter()
    done = subprocess.run([sys.executable, "-m", "papermill", notebook, folder/notebook.name, "--cwd", notebook.parent, "--no-progress-bar",
                           "--execution-timeout", str(LIMIT), "-p", "profile", PROFILE], capture_output=True, text=True, env=ENV)
    return time.perf_counter()-start, done.stderr if done.returncode else None

@pytest.fixture(scope="module")
def results(request, tmp_path_factory):
    "A future for each notebook that was asked for; the later, longer chapters start first"
    folder = Path(os.environ["PMSGAN_KEEP"]).resolve() if "PMSGAN_KEEP" in os.environ else tmp_path_factory.mktemp("executed")
    folder.mkdir(parents=True, exist_ok=True)
    wanted = {i.callspec.params["notebook"] for i in request.session.items if "notebook" in getattr(i, "fixturenames", ()) and i.module is request.module}
    with ThreadPoolExecutor(AT_ONCE) as pool: yield {n: pool.submit(execute, n, folder) for n in reversed(NOTEBOOKS) if n in wanted}

@pytest.mark.notebook
@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda n: n.stem)
def test_papermill(notebook, results):
    seconds, error = results[notebook].result()
    TIMINGS[notebook.stem] = round(seconds, 1)
    assert error is None, error[-6000:]
