"What several test files share: a few small pairs, the command, and the table of timings."
import contextlib
import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from pmsgan.commands import main

ROOT = Path(__file__).resolve().parent.parent
CHAPTERS = sorted((ROOT/"nbs").glob("[0-9][0-9]_*.ipynb"))
WORKSHOP = sorted((ROOT/"nbs"/"workshop").glob("*.ipynb"))
PMSGAN = Path(sys.executable).with_name("pmsgan")
REAL_PAIRS = Path(os.environ.get("PMSGAN_REAL_PAIRS", ROOT.parent/"shared"/"data"/"cuhk_student"/"train")) # of the CUHK student database
WEIGHTS = Path(os.environ.get("PMSGAN_WEIGHTS", ROOT.parent/"shared"/"weights"))
QUICK = ["--size", "32", "--preset", "tiny", "--features", "random", "--layers", "relu1_1,relu2_1", "--device", "cpu"]
os.environ["OMP_NUM_THREADS"] = "1" # the same sums in every process
ENV = {**os.environ, "PYTHONUNBUFFERED": "1"}
TIMINGS = {} # notebook -> seconds, filled by test_notebooks

def pmsgan(*words, **kwargs):
    "Runs the installed command as a user would"
    return subprocess.run([PMSGAN, *map(str, words)], capture_output=True, text=True, timeout=300, env=ENV, **kwargs)

def inside(*words):
    "The same within this process, which saves the seconds in which torch is imported"
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try: status = main([str(w) for w in words])
        except SystemExit as e: status = e.code
    return subprocess.CompletedProcess(words, status, out.getvalue(), err.getvalue())

def train_words(pairs, out, *more):
    "A short training run on `pairs`"
    return ["train", "--source", pairs/"photo", "--target", pairs/"drawing", "--out", out, *QUICK, *more]

@pytest.fixture(scope="session")
def pairs(tmp_path_factory):
    "Six pairs at 32 pixels, made by the command"
    out = tmp_path_factory.mktemp("pairs")
    done = inside("faces", "--n", 6, "--size", 32, "--out", out)
    assert done.returncode == 0, done.stderr
    return out

@pytest.fixture(scope="session")
def run(pairs, tmp_path_factory):
    "A finished run of three steps"
    out = tmp_path_factory.mktemp("runs")/"run"
    done = inside(*train_words(pairs, out, "--steps", 3))
    assert done.returncode == 0, done.stderr
    return out

def pytest_terminal_summary(terminalreporter):
    if not TIMINGS: return
    terminalreporter.section("seconds for each notebook")
    for name, seconds in TIMINGS.items(): terminalreporter.write_line(f"{seconds:7.1f}  {name}")
    path = ROOT/"runs"/"notebook_seconds.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(TIMINGS, indent=1)+"\n")
