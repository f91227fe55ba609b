"""All that needs a GPU, in one call: `python tools/gpu_day.py --out runs/gpu_day`.

1. Table IX at 256² and 512² in every precision (`pmsgan benchmark`), and at 128² for several batches
2. the parts of the generator and its stages in streams (`pmsgan.runtime.study`)
3. the throughput of training at 256² and 512², presets small and paper, fp32 and bf16
4. the whole course in its full profile, chapter by chapter, through papermill

A step that fails does not stop the others; what was finished is not done again when the same is typed again. OUT/summary.json says
what went well, OUT/*.log what was printed. `--dry-run` does a little of everything on a CPU, to see that the script itself works."""
import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import torch

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

def benchmarks(out, dry):
    "Name -> words after `pmsgan`"
    common = ["benchmark", "--device", "cpu" if dry else "cuda", "--rounds", "2" if dry else "50", "--seconds", "5" if dry else "120"]
    some = ["--systems", "pix2pix,pmsgan-small"] if dry else []
    small = ["--systems", "pix2pix,pmsgan,pmsgan-small"]
    size = ["--size", "64" if dry else "256,512"]
    runs = {f"table9_{p}": [*common, *some, *size, "--precision", p] for p in (["fp32"] if dry else ["fp32", "tf32", "bf16", "fp16"])}
    runs["batches"] = [*common, *(some or small), "--size", "32" if dry else "128", "--batch", "1,2" if dry else "1,4,16,64"]
    runs["sizes"] = [*common, *(some or small), "--size", "32,64" if dry else "64,128,256,512,1024"]
    return {k: [*v, "--json", str(out/f"{k}.json"), "--plot", str(out/f"{k}.png")] for k, v in runs.items()}

def parts(out, dry):
    "The study of chapter 14"
    from pmsgan.runtime import study
    from pmsgan.tools import save_json
    for preset in ("tiny",) if dry else ("small", "paper"):
        made = study(preset, 64 if dry else 512, 2 if dry else 30, device="cpu" if dry else "cuda")
        save_json(out/f"parts_{preset}.json", made, indent=None)

def throughput(size, preset, precision, steps, device):
    "Training steps a second and memory, with random pairs and a seeded feature network: the arithmetic is that of the real one"
    from pmsgan.generator import GeneratorConfig
    from pmsgan.losses import VGG19Features
    from pmsgan.runtime import spread, wait
    from pmsgan.training import Callback, TrainConfig, Trainer
    class Watch(Callback):
        "The time of each step"
        def before_fit(self, trainer): self.laps, self.last = [], time.perf_counter()
        def after_step(self, trainer):
            wait(trainer.device)
            now = time.perf_counter()
            self.laps.append(now-self.last)
            self.last = now
    pairs = [dict(source=p[0], target=p[1], name=str(i)) for i, p in enumerate(torch.rand(4, 2, 3, size, size)*2-1)]
    warm, watch = max(2, steps//5), Watch() # the first steps are not counted
    config = TrainConfig(steps=warm+steps, size=size, precision=precision)
    if device == "cuda": torch.cuda.reset_peak_memory_stats()
    Trainer(pairs, VGG19Features(random=True), GeneratorConfig.preset(preset), config, device, [watch]).fit()
    times = watch.laps[warm:]
    memory = torch.cuda.max_memory_allocated() if device == "cuda" else None
    return dict(size=size, preset=preset, precision=precision, steps=steps, seconds=spread(times), memory=memory)

def training(out, dry):
    "Steps a second"
    from pmsgan.runtime import machine
    from pmsgan.tools import save_json
    device = "cpu" if dry else "cuda"
    cases = [(32, "tiny", "fp32", 2)] if dry else [(s, p, q, 50) for s in (256, 512) for p in ("small", "paper") for q in ("fp32", "bf16")]
    rows = []
    for case in cases:
        try: rows.append(throughput(*case, device))
        except torch.cuda.OutOfMemoryError: rows.append(dict(size=case[0], preset=case[1], precision=case[2], error="out of memory"))
        print(json.dumps(rows[-1]), flush=True)
    save_json(out/"training.json", dict(machine=machine(device), rows=rows), indent=None)

def chapters(dry):
    "The notebooks in their order"
    found = sorted((ROOT/"nbs").glob("[0-9][0-9]_*.ipynb"))
    return [p for p in found if p.stem == "01_pyramid"] if dry else found

def run(words, log, env=None):
    "A process of its own, what it prints in a file; raises when it fails"
    with open(log, "w", encoding="utf-8") as f:
        done = subprocess.run([str(w) for w in words], stdout=f, stderr=subprocess.STDOUT, cwd=ROOT, env={**os.environ, **(env or {})})
    if done.returncode: raise RuntimeError(f"exit status {done.returncode}; see {log}")

def plan(out, dry):
    "Name -> what to do"
    pmsgan = [sys.executable, "-c", "import sys; from pmsgan.commands import main; sys.exit(main())"]
    env = {"PYTHONPATH": str(ROOT), "PMSGAN_DEVICE": "cpu" if dry else "cuda"}
    steps = {f"benchmark {k}": lambda k=k, w=w: run([*pmsgan, *w], out/f"{k}.log", env) for k, w in benchmarks(out, dry).items()}
    steps["parts"] = lambda: parts(out, dry)
    steps["training"] = lambda: training(out, dry)
    for p in chapters(dry):
        words = [sys.executable, "-m", "papermill", p, out/p.name, "--cwd", p.parent, "--no-progress-bar", "-p", "profile", "fast" if dry else "full"]
        steps[f"chapter {p.stem}"] = lambda p=p, w=words: run(w, out/f"{p.stem}.log", env)
    return steps

def main():
    a = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    a.add_argument("--out", type=Path, required=True, help="folder for everything")
    a.add_argument("--dry-run", action="store_true", help="a little of everything, on the CPU")
    a.add_argument("--only", default="", help="steps whose names begin so, such as 'benchmark' or 'chapter 1'")
    args = a.parse_args()
    if not (torch.cuda.is_available() or args.dry_run):
        print(f"gpu_day: no CUDA device (torch {torch.__version__}); run it on a machine with a GPU, or add --dry-run", file=sys.stderr)
        return 1
    out = args.out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    summary = json.loads((out/"summary.json").read_text()) if (out/"summary.json").is_file() else {}
    for name, step in plan(out, args.dry_run).items():
        if not name.startswith(args.only) or summary.get(name, {}).get("ok"): continue
        start = time.perf_counter()
        try:
            step()
            summary[name] = dict(ok=True)
        except Exception as e: summary[name] = dict(ok=False, error=f"{type(e).__name__}: {e}"[:500])
        summary[name]["seconds"] = round(time.perf_counter()-start, 1)
        print(f"{name}: {'done' if summary[name]['ok'] else summary[name]['error']} ({summary[name]['seconds']} s)", flush=True)
        (out/"summary.json").write_text(json.dumps(summary, indent=1)+"\n")
    bad = [k for k, v in summary.items() if not v["ok"]]
    print(f"{len(summary)-len(bad)} steps done, {len(bad)} failed; {out/'summary.json'} lists them")
    return 1 if bad else 0

if __name__ == "__main__": sys.exit(main())
