"The stopwatch takes turns, its statistics are right, and `pmsgan benchmark` from outside."
import json
import math
import re
import subprocess
import sys
import threading

import pytest
import torch
from conftest import ENV, ROOT, inside, pmsgan
from PIL import Image

from pmsgan import runtime
from pmsgan.generator import Generator, GeneratorConfig
from pmsgan.pyramid import pyramid
from pmsgan.runtime import alternate, at_once, benchmark, benchmark_table, critical_path, in_turn, part_costs, plot_benchmark, ratio, spread, stage_tasks

class Clock:
    "Time passes only where it is told to"
    def __init__(self): self.t, self.calls = 0., []
    def __call__(self): return self.t
    def task(self, name, **steps):
        def step(k, seconds):
            def run(before):
                self.calls.append((name, k, before))
                self.t += seconds
                return k
            return run
        return {k: step(k, v) for k, v in steps.items()}

def test_turns_are_taken():
    clock = Clock()
    tasks = {n: clock.task(n, net=s) for n, s in dict(a=1., b=2., c=3.).items()}
    times = alternate(tasks, rounds=8, warmup=2, now=clock)
    assert {n: t["net"] for n, t in times.items()} == dict(a=[1.]*8, b=[2.]*8, c=[3.]*8)
    rounds = [[n for n, *_ in clock.calls[i:i+3]] for i in range(0, 30, 3)]
    assert len(clock.calls) == 30 and all(sorted(r) == ["a", "b", "c"] for r in rounds) # warm-up, too
    assert len({tuple(r) for r in rounds}) > 2 # in another order

def test_the_seed_decides_the_order():
    def order(seed):
        clock = Clock()
        alternate({n: clock.task(n, net=1.) for n in "abcd"}, 6, now=clock, seed=seed)
        return clock.calls
    assert order(1) == order(1) != order(2)

def test_steps_are_timed_apart_and_handed_on():
    clock = Clock()
    times = alternate(dict(a=clock.task("a", read=1., network=5., write=2.)), 3, warmup=0, now=clock)
    assert times == dict(a=dict(read=[1.]*3, network=[5.]*3, write=[2.]*3))
    assert clock.calls[:3] == [("a", "read", None), ("a", "network", "read"), ("a", "write", "network")]

def test_no_round_begins_after_the_limit():
    for limit, expected in ((0., 1), (9., 3), (12., 4), (math.inf, 10)): # a round takes 3; warm-up does not count
        clock = Clock()
        times = alternate({n: clock.task(n, net=s) for n, s in dict(a=1., b=2.).items()}, 10, limit, now=clock)
        assert [len(t["net"]) for t in times.values()] == [expected]*2, limit

def test_nothing_is_recorded_for_gradients():
    seen = []
    alternate(dict(a=dict(net=lambda _: seen.append((torch.is_inference_mode_enabled(), torch.is_grad_enabled())))), 1)
    assert set(seen) == {(True, False)}

def test_bad_arguments():
    with pytest.raises(ValueError, match="0 tasks"): alternate({})
    with pytest.raises(ValueError, match="0 rounds"): alternate(dict(a={}), 0)
    with pytest.raises(ValueError, match="no times"): spread([])
    with pytest.raises(ValueError, match="2 and 1 times"): ratio([1, 2], [1])
    with pytest.raises(ValueError, match="about, and rows"): benchmark_table({})
    with pytest.raises(ValueError, match="only GPUs"): benchmark(("pmsgan-small",), (32,), device="cpu", precision="tf32")
    with pytest.raises(ValueError, match="system 'dalle'"): benchmark(("dalle",), device="cpu")

def test_statistics():
    assert spread([4., 1., 2., 3., 100.]) == dict(median=3., q1=2., q3=4., least=1.)
    assert ratio([2., 4., 60.], [1., 2., 30.]) == dict(median=2., q1=2., q3=2., least=2.) # a slow round cancels

def test_too_little_memory_is_said_before_building(monkeypatch):
    monkeypatch.setattr(runtime, "free_memory", lambda device="cpu": 10**6)
    monkeypatch.setattr(runtime, "_measure", lambda *_: pytest.fail("built something"))
    with pytest.raises(ValueError, match=r"need about 0\.\d GB together, and 0\.0 GB are free; time fewer"):
        benchmark(("pmsgan-small", "pix2pix"), (64,), device="cpu")

@pytest.fixture(scope="module")
def record():
    "Two cheap systems"
    threads = torch.get_num_threads()
    made = benchmark(("pmsgan-small", "pix2pix"), (32, 64), (1, 2), rounds=2, device="cpu", threads=1)
    assert torch.get_num_threads() == threads
    return made

def test_record(record):
    again = json.loads(json.dumps(record, allow_nan=False))
    assert again == record and len(record["rows"]) == 8
    for r in record["rows"]:
        assert set(r["seconds"]) == {"read", "network", "write"} and all(len(v) == 2 and min(v) > 0 for v in r["seconds"].values())
        assert r["memory"] is None or r["memory"] > 0
    assert record["about"]["machine"]["threads"] == 1 and record["about"]["precision"] == "fp32"

def test_table_and_plot(record):
    import matplotlib.pyplot as plt
    text = benchmark_table(record)
    assert text.count("| parameters |") == 4 and "| 64², batch 2 |" in text
    assert len(re.findall(r"^\| pix2pix .* 1\.00 \(1\.00 to 1\.00\)", text, re.M)) == 4 # compared with itself
    ax = plot_benchmark(record, 32, 2)
    assert [t.get_text() for t in ax.get_yticklabels()] == ["PMSGAN, preset small", "pix2pix"] and "32², batch 2" in ax.get_xlabel()
    with pytest.raises(ValueError, match="size 48"): plot_benchmark(record, 48, 1)
    plt.close("all")

@pytest.mark.parametrize("row", "abcde")
def test_who_waits_for_whom(row):
    "The tasks are the generator, in whatever order"
    torch.manual_seed(0)
    g = Generator(GeneratorConfig.ablation(row, "tiny")).eval()
    tasks, x = stage_tasks(g), torch.rand(1, 3, 32, 32)*2-1
    with torch.inference_mode(): out, turn, once = g(x, trace=True), in_turn(tasks, pyramid(x)), at_once(tasks, pyramid(x))
    last = "y" if row == "e" else "rgb1"
    for made in (turn, once): assert torch.equal(made[last], out.y)
    for name in tasks: assert torch.equal(once[name], out.trace[name]), name

def test_critical_path():
    g = Generator(GeneratorConfig.preset("tiny"))
    seconds = dict.fromkeys(stage_tasks(g), 1.)
    whole, path = critical_path(stage_tasks(g), seconds)
    assert whole == len(path) and path[:5] == ["E1", "EFF2", "E2", "EFF3", "E3"] and path[-1] == "y"
    assert critical_path(stage_tasks(g, chained=False), seconds)[0] < whole

def test_an_error_in_a_thread_arrives():
    g = Generator(GeneratorConfig.preset("tiny"))
    before = threading.active_count()
    with pytest.raises(ValueError, match="EFF"): at_once(stage_tasks(g), [torch.zeros(1, 3, 32, 32)]*3)
    assert threading.active_count() == before

def test_costs_are_the_generators():
    from pmsgan.systems import count
    config = GeneratorConfig.preset("tiny")
    costs = part_costs(config, 64)
    assert sum(c["multiply_adds"] for c in costs.values()) == count(Generator(config), 64)["multiply_adds"]
    c1, pixels = config.widths[0], 64*64
    head = 4*(c1*pixels+3*pixels+3*c1*9+3)+4*2*3*pixels # convolution reads features and weights, writes; tanh reads, writes
    assert costs["rgb1"]["bytes"] == head

def test_command(tmp_path):
    done = pmsgan("benchmark", "--systems", "pmsgan-small,pix2pix", "--size", "64", "--size", "32", "--rounds", 2, "--threads", 1, "--device", "cpu",
                  "--json", tmp_path/"times.json", "--plot", tmp_path/"times.png")
    assert done.returncode == 0, done.stderr
    made = json.loads((tmp_path/"times.json").read_text())
    assert made["about"]["command"].startswith("pmsgan benchmark --systems pmsgan-small,pix2pix --size 64")
    assert [(r["system"], r["size"]) for r in made["rows"]] == [(n, s) for s in (64, 32) for n in ("pmsgan-small", "pix2pix")]
    assert "in memory at once" in done.stdout and "× pix2pix" in done.stdout
    assert Image.open(tmp_path/"times.png").width > 500
    assert sorted(p.name for p in tmp_path.iterdir()) == ["times.json", "times.png"]

@pytest.mark.parametrize("words, said", [
    (["--systems", "pix2pix", "--size", "64,40"], "pix2pix cannot do 40×40"), (["--json", "times.txt"], "--json"), (["--plot", "times.svg"], "--plot"),
    (["--systems", "pmsgan-small", "--device", "abacus"], "abacus"), (["--systems", "pmsgan-small", "--size", "32", "--precision", "tf32", "--device", "cpu"], "tf32")])
def test_command_with_bad_arguments(words, said, tmp_path):
    done = inside("benchmark", *words)
    assert done.returncode == 1 and said in done.stderr and done.stderr.count("\n") == 1, done.stderr

@pytest.mark.parametrize("words", [["--systems", "dalle"], ["--size", "big"], ["--size", "2"], ["--rounds", 0], ["--batch", "0"], ["--precision", "int3"]], ids=str)
def test_command_typed_wrong(words): assert inside("benchmark", *words).returncode == 2

def test_gpu_day_without_a_gpu(tmp_path):
    if torch.cuda.is_available(): pytest.skip("there is a GPU")
    done = subprocess.run([sys.executable, ROOT/"tools/gpu_day.py", "--out", tmp_path/"day"], capture_output=True, text=True, env=ENV)
    assert done.returncode == 1 and "no CUDA device" in done.stderr and done.stderr.count("\n") == 1 and not (tmp_path/"day").exists()
