"What the notebooks cannot test about the harness: a killed process, and the recorded results"
import re
import subprocess
import sys

import pytest
from conftest import ENV, ROOT

from pmsgan.ablation import ROWS
from pmsgan.results import load_results, read_trials

SCRIPT = """
import os, sys
from pmsgan.ablation import ablation
from pmsgan.experiments import compare
from pmsgan.losses import VGG19Features
from pmsgan.pyramid import PairDataset
from pmsgan.training import Callback, TrainConfig

class Kill(Callback):
    def before_fit(self, t):
        if t.config.seed == 1: os._exit(9) # as the system would: no cleaning up

pairs = PairDataset(sys.argv[1]+"/photo", sys.argv[1]+"/drawing", 32)
pairs = [pairs[i] for i in range(len(pairs))]
rows = compare({"a": ablation("a", "tiny", blocks=1)}, pairs[:4], pairs[4:], VGG19Features(("relu1_1",), random=True), TrainConfig(size=32, steps=1),
               sys.argv[2], (0, 1), ("psnr",), "cpu", lambda: [Kill()]*int(sys.argv[3]))
print(len(rows))
"""

def test_killed_between_trials(pairs, tmp_path):
    run = lambda kill: subprocess.run([sys.executable, "-c", SCRIPT, pairs, tmp_path/"out", str(kill)], capture_output=True, text=True, timeout=300, env=ENV)
    assert run(1).returncode == 9
    first = read_trials(tmp_path/"out")
    assert [r["seed"] for r in first] == [0]
    done = run(0)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "2"
    assert read_trials(tmp_path/"out")[0] == first[0] # its seconds too: it was not trained again

@pytest.mark.parametrize("name", ("cuhk", "faces"))
def test_recorded_table_2(name):
    path = ROOT/"data"/"results"/f"table2_{name}_64.json"
    about, rows = load_results(path) # also checks pairs, size, steps and batch
    words = re.split(r'[\s",:=]+', path.read_text(encoding="utf-8"))
    assert about and not [w for w in words if re.match(r"(/|~|\.\./|[A-Z]:\\)\w", w)], "a path of some machine"
    seeds = {m: [r["seed"] for r in rows if r["method"] == m] for m in ROWS}
    assert seeds["a"] and all(s == seeds["a"] for s in seeds.values()), seeds
    for r in rows: assert r["layers"] == ["relu1_1", "relu2_1", "relu3_1"] and {"lpips-alex", "fsim"} <= set(r["scores"])
