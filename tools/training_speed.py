#!/usr/bin/env python3
"""How long a training step takes, by part, before and after: this checkout against another one.

    python tools/training_speed.py --against ../before --out data/results/training_speed_cpu.json

Each variant lives in a process of its own (memory settings concern a whole process); they take turns, one step each."""
import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SWITCHES = "layout", "batch", "memory", "bf16" # channels last; `both`; `keep_memory`; precision. "checkpointing" costs time

def work(size, threads, switches):
    "A worker: answers `step` and `parts` on standard input with seconds"
    import torch
    from pmsgan import training
    from pmsgan.discriminators import Discriminators
    from pmsgan.generator import GeneratorConfig
    from pmsgan.losses import VGG19Features, d_loss, g_adv_loss, perceptual_loss
    from pmsgan.pyramid import pyramid
    torch.set_num_threads(threads)
    new, features = hasattr(Discriminators, "both"), VGG19Features(("relu1_1", "relu2_1", "relu3_1"), verbose=False)
    if new and "layout" not in switches:
        training.Trainer.layout = torch.contiguous_format
        features.to(memory_format=torch.contiguous_format)
    if new and "batch" not in switches: Discriminators.both = lambda self, real, fake: (self(real), self(fake))
    if "memory" in switches: training.keep_memory()
    gen = torch.Generator().manual_seed(0)
    x, y = (torch.rand(1, 3, size, size, generator=gen)*2-1 for _ in range(2))
    more = dict(checkpointing=True) if "checkpointing" in switches else {}
    config = training.TrainConfig(size=size, precision="bf16" if "bf16" in switches else "fp32", **more)
    preset = "fast" if "fast" in switches else "small"
    t = training.Trainer([], features, GeneratorConfig.preset(preset), config, "cpu")
    t.scales = dict.fromkeys(features.layers, 1.)
    G, D = t.generator, t.discriminators
    step = lambda: t.train_step(x, y, [(0, False)]) # the target's features are computed once
    ys, xl = pyramid(y), x.contiguous(memory_format=getattr(t, "layout", torch.contiguous_format))
    with torch.no_grad(), t.autocast(): fakes, real = [f.detach() for f in G(xl)[:3]], [features(v) for v in ys]
    leaves = [f.clone().requires_grad_() for f in fakes]
    def generator():
        with t.autocast(): out = G(xl)[:3]
        torch.autograd.backward(out, [torch.full_like(o, 1e-3) for o in out])
    def judges():
        with t.autocast(): d = d_loss(*D.both(ys, fakes)) if new else d_loss(D(ys), D(fakes))
        d.backward()
    def judged():
        with training.frozen(D), t.autocast(): adv = g_adv_loss(D(leaves))
        adv.backward()
    def vgg():
        with t.autocast(): p = perceptual_loss([features(f) for f in leaves], real)
        p.backward()
    def adam(): t.g_opt.step(); t.d_opt.step()
    parts = dict(generator=generator, discriminators=judges, judgment=judged, vgg=vgg, adam=adam)
    def seconds(f):
        start = time.perf_counter(); f()
        return time.perf_counter()-start
    for f in (step, step, *parts.values()): f()
    for line in sys.stdin:
        print(json.dumps(seconds(step) if line.strip() == "step" else {k: seconds(f) for k, f in parts.items()}), flush=True)

def compare(size, threads, variants, rounds):
    "Medians of each variant's step and parts, in milliseconds; variants take turns"
    def start(checkout, switches):
        words = [sys.executable, __file__, "--worker", str(size), str(threads), *switches]
        env = {**os.environ, "PYTHONPATH": str(checkout), "OMP_NUM_THREADS": str(threads)}
        return subprocess.Popen(words, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    def ask(p, what):
        p.stdin.write(what+"\n"); p.stdin.flush()
        return json.loads(p.stdout.readline())
    running = {name: start(*v) for name, v in variants.items()}
    for p in running.values(): ask(p, "step") # also waits until all are ready
    steps, parts = ({n: [] for n in running} for _ in range(2))
    for i in range(rounds):
        for n, p in running.items():
            steps[n].append(ask(p, "step"))
            if i < 3: parts[n].append(ask(p, "parts"))
    for p in running.values(): p.stdin.close(); p.wait()
    ms = lambda v: round(1000*statistics.median(v), 1)
    rows = {n: dict(step=ms(steps[n]), spread=[round(1000*f(steps[n]), 1) for f in (min, max)],
                    **{k: ms([p[k] for p in parts[n]]) for k in parts[n][0]}) for n in running}
    for r in rows.values(): r["ratio"] = round(rows["before"]["step"]/r["step"], 2)
    return rows

def main():
    if sys.argv[1:2] == ["--worker"]: return work(int(sys.argv[2]), int(sys.argv[3]), sys.argv[4:])
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--against", type=Path, required=True, help="folder of another checkout, the state before")
    p.add_argument("--out", type=Path, help="JSON; new measurements join those that are there")
    p.add_argument("--sizes", type=int, nargs="+", default=[64, 128, 256])
    p.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    p.add_argument("--rounds", type=int, default=5, help="steps of each variant")
    p.add_argument("--each", action="store_true", help="also each switch alone")
    o = p.parse_args()
    import torch
    from pmsgan.tools import cpu_name
    rounding = SWITCHES[:3]
    variants = dict(before=(o.against.resolve(), ()), fp32=(ROOT, rounding), bf16=(ROOT, SWITCHES),
                    **{"preset fast": (ROOT, (*rounding, "fast")), "preset fast, bf16": (ROOT, (*SWITCHES, "fast"))})
    if o.each: variants |= {"none of them": (ROOT, ()), **{f"{s} alone": (ROOT, (s,)) for s in SWITCHES},
                            "bf16 and checkpointing": (ROOT, (*SWITCHES, "checkpointing"))}
    found = json.loads(o.out.read_text()) if o.out and o.out.exists() else {"rows": []}
    found |= dict(what="milliseconds of a training step, preset small if not said, batch 1, VGG-19 to relu3_1, targets' features kept",
                  command="python tools/training_speed.py --against BEFORE", before="7cb0b92", cpu=cpu_name(),
                  cores=os.cpu_count(), system=platform.system(), python=platform.python_version(), torch=torch.__version__)
    for size in o.sizes:
        for threads in o.threads:
            for name, row in compare(size, threads, variants, o.rounds).items():
                key = dict(size=size, threads=threads, variant=name)
                found["rows"] = [r for r in found["rows"] if {k: r[k] for k in key} != key]+[key | row]
                print(key | row, flush=True)
            if o.out: o.out.write_text(json.dumps(found, indent=1)+"\n")

if __name__ == "__main__": main()
