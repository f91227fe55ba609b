"""Alternate updates, checkpoints, resume, progress, many devices"""
import json
import os
import tempfile
import time
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass, field
from pathlib import Path

import safetensors.torch as st
import torch
import torch.distributed as dist
from safetensors import SafetensorError, safe_open
from tqdm.auto import tqdm

from pmsgan.discriminators import MIN_TRAIN_SIZE, Discriminators
from pmsgan.faces import sheet
from pmsgan.generator import Generator, GeneratorConfig
from pmsgan.losses import d_loss, full_loss, g_adv_loss, perceptual_loss
from pmsgan.pyramid import fit_image, pick_device, pyramid, read_image, to_image, to_tensor

@dataclass
class TrainConfig:
    "How to train; the defaults are section IV-A.1's, or stated in the chapter as ours"
    steps:int = 1000          # generator updates; the paper gives no number
    batch:int = 1
    size:int = 256            # side of the pictures, pixels
    lr:float = 2e-4           # fixed
    betas:tuple = (0.5, 0.99) # Adam
    lambda_adv:float = 1.     # equation (3)
    lambda_p:float = 5.
    flip:bool = True          # mirror half of the pairs; ours
    ema:float = 0.            # decay of an average of the generator's weights; 0: none, as the paper
    seed:int = 0
    precision:str = "fp32"    # or "bf16": autocast, losses stay float32
    feature_scale:str = "targets" # divide each layer's term by its mean activation on the targets, or "none": equation (2) as printed
    cache_mb:int = 2048       # features of the targets that are kept, so that they are computed once
    workers:int = 0           # processes that load pictures

    def __post_init__(self):
        self.betas = tuple(self.betas)
        if self.precision not in ("fp32", "bf16"): raise ValueError(f"precision {self.precision!r}: expected fp32 or bf16")
        if self.feature_scale not in ("targets", "none"): raise ValueError(f"feature_scale {self.feature_scale!r}: expected targets or none")
        if self.size % 4 or self.size < MIN_TRAIN_SIZE: raise ValueError(f"size {self.size}: must be a multiple of 4, at least {MIN_TRAIN_SIZE}")
        for f in ("steps", "batch"):
            if getattr(self, f) < 1: raise ValueError(f"{f} {getattr(self, f)}: must be at least 1")

# files ----------------------------------------------------------------------
FORMAT = "pmsgan-1"

@contextmanager
def atomic(
    path # the final name
):
    "Gives a temporary name in the same folder and renames it to `path` only when all went well"
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    fd, tmp = tempfile.mkstemp(dir=path.parent, prefix=f".{path.stem}-", suffix=path.suffix)
    os.close(fd)
    try:
        yield Path(tmp)
        os.chmod(tmp, 0o644)
        os.replace(tmp, path)
    finally: Path(tmp).unlink(missing_ok=True)

def save_json(path, obj):
    "Writes JSON atomically"
    with atomic(path) as tmp: tmp.write_text(json.dumps(obj, indent=1)+"\n", encoding="utf-8")

def save_tensors(
    path, # a .safetensors file
    tensors:dict, # name -> tensor
    info:dict # goes into the header as JSON
):
    "Writes safetensors with its configuration in the header, atomically"
    tensors = {k: v.detach().cpu().contiguous() for k, v in tensors.items()}
    with atomic(path) as tmp: st.save_file(tensors, tmp, metadata={"pmsgan": json.dumps({"format": FORMAT, **info})})

def load_tensors(
    path
) -> tuple: # dict of tensors, dict of information
    "Reads what `save_tensors` wrote; ValueError when the file is not ours"
    path = Path(path)
    if not path.is_file(): raise FileNotFoundError(f"{path}: no such checkpoint")
    try:
        with safe_open(path, "pt", device="cpu") as f:
            info = json.loads((f.metadata() or {}).get("pmsgan", "null"))
            tensors = {k: f.get_tensor(k) for k in f.keys()}
    except (SafetensorError, OSError, json.JSONDecodeError) as e:
        raise ValueError(f"{path}: not a safetensors checkpoint, or damaged ({e}); expected a file that `pmsgan train` wrote") from None
    if not info or info.get("format") != FORMAT: raise ValueError(f"{path}: not a PMSGAN checkpoint of format {FORMAT}; expected a file that `pmsgan train` wrote")
    return tensors, info

def save_generator(
    path, # a .safetensors file; the same information goes beside it as .json, for people
    generator:Generator,
    record:dict=None # how it was trained
):
    "A generator alone, with its configuration and its training record"
    info = dict(kind="generator", config=generator.config.to_dict(), record=record or {})
    save_tensors(path, generator.state_dict(), info)
    save_json(Path(path).with_suffix(".json"), info)

def load_generator(
    path, # a checkpoint, or the folder of a run
    device="cpu"
) -> tuple: # the generator in eval mode, its information
    "A trained generator; its architecture comes from the file itself"
    path = Path(path)
    if path.is_dir(): path = path/"generator.safetensors"
    tensors, info = load_tensors(path)
    if info.get("kind") != "generator": raise ValueError(f"{path}: holds a {info.get('kind')}, not a generator; use generator.safetensors of the same run")
    try:
        g = Generator(GeneratorConfig.from_dict(info["config"]))
        g.load_state_dict(tensors)
    except (RuntimeError, TypeError, KeyError, ValueError) as e: raise ValueError(f"{path}: weights and configuration do not belong together ({str(e).splitlines()[0]})") from None
    return g.to(device).eval(), info

# data, step by step ---------------------------------------------------------
class StepSampler:
    "The pair and the flip of every step as a function of seed and step alone, so that a resumed run sees what it would have seen"
    def __init__(self, n:int, config:TrainConfig, start:int=0, rank:int=0, world:int=1):
        self.n, self.c, self.start, self.rank, self.world = n, config, start, rank, world
    def __len__(self): return (self.c.steps-self.start)*self.c.batch
    def draw(self, k): # k: how many pairs were drawn before
        epoch, at = divmod(k, self.n)
        gen = torch.Generator().manual_seed(self.c.seed*1_000_003+epoch)
        order = torch.randperm(self.n, generator=gen)
        flips = torch.rand(self.n, generator=gen) < 0.5
        return int(order[at]), bool(flips[at]) and self.c.flip
    def __iter__(self):
        for s in range(self.start, self.c.steps):
            for b in range(self.c.batch): yield self.draw((s*self.world+self.rank)*self.c.batch+b)

class FlippedPairs(torch.utils.data.Dataset):
    "A dataset of pairs, asked by (index, flip)"
    def __init__(self, pairs): self.pairs = pairs
    def __getitem__(self, key):
        i, flip = key
        item = self.pairs[i]
        s, t = item["source"], item["target"] # 3×H×W each
        return (s.flip(-1), t.flip(-1), i, flip) if flip else (s, t, i, flip)

def set_start(seed): torch.manual_seed(seed)

# the trainer ----------------------------------------------------------------
class CancelTraining(Exception):
    "Raised by a callback to end the run in good order"

class Callback:
    "Methods that the trainer calls; override what you need"
    def before_fit(self, trainer): pass
    def after_step(self, trainer): pass
    def after_fit(self, trainer): pass

class Trainer:
    "Alternate updates of discriminators and generator (IV-A.1)"
    def __init__(self,
        pairs, # dataset of dict(source, target, name), tensors 3×size×size
        features, # `VGG19Features`, or any module that gives a dict of maps
        generator_config:GeneratorConfig=None,
        config:TrainConfig=None,
        device="auto",
        callbacks=()
    ):
        self.config, self.device = config or TrainConfig(), pick_device(device)
        self.rank, self.world = (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)
        torch.manual_seed(self.config.seed)
        self.generator = Generator(generator_config).to(self.device)
        self.discriminators = Discriminators(self.config.size, self.generator.config.stages).to(self.device)
        self.average = {k: v.detach().clone() for k, v in self.generator.state_dict().items()} if self.config.ema else None
        opt = dict(lr=self.config.lr, betas=self.config.betas)
        self.g_opt = torch.optim.Adam(self.generator.parameters(), **opt)
        self.d_opt = torch.optim.Adam(self.discriminators.parameters(), **opt)
        self.pairs, self.features, self.callbacks = pairs, features.to(self.device), list(callbacks)
        self.step, self.losses, self.cache, self.cached_bytes = 0, {}, {}, 0
        self.scales = None

    # features of the targets --------------------------------------------------
    def measure_scales(self, most=200):
        "Each layer's mean activation on the full-size targets, the divisor of its term"
        if self.config.feature_scale == "none": return {}
        total, n = {}, min(len(self.pairs), most)
        with torch.no_grad():
            for i in range(n):
                for k, f in self.features(self.pairs[i]["target"][None].to(self.device)).items():
                    total[k] = total.get(k, 0.) + f.float().mean().item()/n
        return {k: max(v, 1e-8) for k, v in total.items()}

    def target_features(self, ys, indices, flips):
        "Features of y, y2, y3; a fixed target's are computed once and kept while there is room"
        per_item = []
        for b, key in enumerate(zip(indices, flips)):
            if key not in self.cache:
                with torch.no_grad(): f = [self.features(y[b:b+1]) for y in ys]
                size = sum(t.numel()*t.element_size() for d in f for t in d.values())
                if self.cached_bytes+size > self.config.cache_mb*2**20:
                    per_item.append(f)
                    continue
                self.cache[key], self.cached_bytes = f, self.cached_bytes+size
            per_item.append(self.cache[key])
        return [{k: torch.cat([f[j][k] for f in per_item]) for k in per_item[0][j]} for j in range(len(ys))]

    # one step ------------------------------------------------------------------
    def autocast(self):
        return torch.autocast(self.device.type, torch.bfloat16) if self.config.precision == "bf16" else nullcontext()

    def update(self, loss, model, opt):
        opt.zero_grad(set_to_none=True)
        loss.backward()
        if self.world > 1: average_gradients(model, self.world)
        opt.step()

    def check(self, **losses):
        for name, v in losses.items():
            if not torch.isfinite(v):
                last = self.last_checkpoint() or "none was written yet"
                raise FloatingPointError(f"{name} is {v.item()} at step {self.step+1}; nothing after it was saved. Last good checkpoint: {last}. "
                                         "Lower the rate (--lr), or train in fp32")

    def last_checkpoint(self):
        return next((str(c.path) for c in self.callbacks if isinstance(c, Checkpoint) and c.path.exists()), None)

    def train_step(self, x, y, indices, flips): # B×3×H×W each
        "Discriminators first, then the generator"
        ys = pyramid(y)[:self.generator.config.stages]
        with self.autocast():
            out = self.generator(x)
            fakes = [o for o in out[:3] if o is not None]
            d = d_loss(self.discriminators(ys), self.discriminators([f.detach() for f in fakes]))
        self.check(d_loss=d)
        self.update(d, self.discriminators, self.d_opt)
        self.discriminators.requires_grad_(False) # the generator's step does not need their gradients
        with self.autocast():
            adv = g_adv_loss(self.discriminators(fakes))
            p = perceptual_loss([self.features(f) for f in fakes], self.target_features(ys, indices, flips), self.scales)
        g = full_loss(adv, p, self.config.lambda_adv, self.config.lambda_p)
        self.check(g_loss=g)
        self.update(g, self.generator, self.g_opt)
        self.discriminators.requires_grad_(True)
        if self.average is not None: self.update_average()
        self.losses = dict(d=d.detach(), adv=adv.detach(), p=p.detach(), full=g.detach())

    @torch.no_grad()
    def update_average(self):
        decay = min(self.config.ema, (1+self.step)/(10+self.step)) # a short memory at first, or the start would linger
        for k, v in self.generator.state_dict().items(): self.average[k].lerp_(v, 1-decay)

    # the run -----------------------------------------------------------------
    def loader(self):
        sampler = StepSampler(len(self.pairs), self.config, self.step, self.rank, self.world)
        return torch.utils.data.DataLoader(FlippedPairs(self.pairs), self.config.batch, sampler=sampler, num_workers=self.config.workers,
                                           pin_memory=self.device.type == "cuda", persistent_workers=False)

    def fit(self):
        "Trains from the present step to `config.steps`"
        if self.scales is None: self.scales = self.measure_scales()
        self.generator.train()
        self.call("before_fit")
        try:
            for x, y, indices, flips in self.loader():
                self.train_step(x.to(self.device), y.to(self.device), indices.tolist(), flips.tolist())
                self.step += 1
                self.call("after_step")
        except CancelTraining: pass
        finally: self.call("after_fit")
        return self

    def call(self, name):
        for c in self.callbacks: getattr(c, name)(self)

    def final_generator(self):
        "The generator to use: the averaged one where `ema` is on"
        if self.average is None: return self.generator
        g = Generator(self.generator.config).to(self.device)
        g.load_state_dict(self.average)
        return g

    # state ---------------------------------------------------------------------
    def record(self): return dict(step=self.step, train=asdict(self.config), layers=list(getattr(self.features, "layers", ())),
                                  features=Path(str(getattr(self.features, "source", ""))).name, pairs=len(self.pairs), device=self.device.type,
                                  losses={k: round(float(v), 6) for k, v in self.losses.items()})

    def save_state(self, path):
        "Everything that a resumed run needs, in one file"
        t = {f"generator.{k}": v for k, v in self.generator.state_dict().items()}
        t |= {f"discriminators.{k}": v for k, v in self.discriminators.state_dict().items()}
        t |= {f"average.{k}": v for k, v in (self.average or {}).items()}
        for name, opt in (("g_opt", self.g_opt), ("d_opt", self.d_opt)):
            for i, s in opt.state_dict()["state"].items(): t |= {f"{name}.{i}.{k}": torch.as_tensor(v) for k, v in s.items()}
        save_tensors(path, t, dict(kind="state", config=self.generator.config.to_dict(), record=self.record(), scales=self.scales))

    def load_state(self, path):
        "Continues from `save_state`; ValueError when the file belongs to another configuration"
        t, info = load_tensors(path)
        if info.get("kind") != "state": raise ValueError(f"{path}: holds a {info.get('kind')}; resume needs state.safetensors")
        theirs, ours = GeneratorConfig.from_dict(info["config"]), self.generator.config
        if theirs != ours:
            diff = ", ".join(f"{k} {v} (asked for {ours.to_dict()[k]})" for k, v in theirs.to_dict().items() if v != ours.to_dict()[k])
            raise ValueError(f"{path}: was trained with another configuration: {diff}; use the same preset or start a new run")
        part = lambda p: {k[len(p)+1:]: v for k, v in t.items() if k.startswith(p+".")}
        self.generator.load_state_dict(part("generator"))
        self.discriminators.load_state_dict(part("discriminators"))
        if self.average is not None and part("average"): self.average = {k: v.to(self.device) for k, v in part("average").items()}
        for name, opt in (("g_opt", self.g_opt), ("d_opt", self.d_opt)):
            sd, state = opt.state_dict(), {}
            for k, v in part(name).items():
                i, field_name = k.split(".", 1)
                state.setdefault(int(i), {})[field_name] = v
            opt.load_state_dict({**sd, "state": state})
        self.step, self.scales = info["record"]["step"], info["scales"]
        return self

def average_gradients(model, world):
    "The mean of all processes' gradients: all that data parallelism needs here"
    for p in model.parameters():
        if p.grad is not None:
            dist.all_reduce(p.grad)
            p.grad /= world

# callbacks --------------------------------------------------------------------
class Progress(Callback):
    "A bar with losses and pictures per second"
    def __init__(self, every:int=10, desc="training"): self.every, self.desc = every, desc
    def before_fit(self, t):
        self.bar = tqdm(total=t.config.steps, initial=t.step, desc=self.desc, disable=None if t.rank == 0 else True, mininterval=0.5)
        self.start, self.first = time.perf_counter(), t.step
    def after_step(self, t):
        self.bar.update()
        if t.step % self.every == 0 or t.step == t.config.steps:
            rate = (t.step-self.first)*t.config.batch*t.world/(time.perf_counter()-self.start)
            self.bar.set_postfix_str(f"D {t.losses['d']:.3f}  adv {t.losses['adv']:.3f}  perc {t.losses['p']:.3f}  {rate:.1f} img/s")
    def after_fit(self, t): self.bar.close()

class History(Callback):
    "Keeps the losses of every `every`-th step; with a path, appends them as JSON lines"
    def __init__(self, every:int=10, path=None): self.every, self.path, self.rows = every, path and Path(path), []
    def after_step(self, t):
        if t.step % self.every: return
        self.rows.append(dict(step=t.step, **{k: float(v) for k, v in t.losses.items()}))
        if self.path and t.rank == 0:
            with open(self.path, "a", encoding="utf-8") as f: f.write(json.dumps(self.rows[-1])+"\n")

class Checkpoint(Callback):
    "Writes state and generator into a folder every `every` steps and at the end"
    def __init__(self, folder, every:int=500, record:dict=None): self.folder, self.every, self.extra = Path(folder), every, record or {}
    @property
    def path(self): return self.folder/"state.safetensors"
    def save(self, t):
        if t.rank: return
        t.save_state(self.path)
        save_generator(self.folder/"generator.safetensors", t.final_generator(), {**t.record(), **self.extra})
    def after_step(self, t):
        if t.step % self.every == 0 or t.step == t.config.steps: self.save(t)

class Samples(Callback):
    "Writes a sheet of source, stages and target every `every` steps"
    def __init__(self, folder, pairs, every:int=200, cell:int=128): self.folder, self.pairs, self.every, self.cell = Path(folder), pairs, every, cell
    def after_step(self, t):
        if t.rank or not (t.step % self.every == 0 or t.step == t.config.steps): return
        with atomic(self.folder/f"step{t.step:06d}.png") as tmp: stage_sheet(t.final_generator(), self.pairs, t.device, self.cell).save(tmp)

# using it ---------------------------------------------------------------------
@torch.no_grad()
def translate(
    generator:Generator, # trained
    source, # 3×H×W in [-1, 1], or B×3×H×W
):
    "The `Translation` of a picture, or of a batch, on the generator's device"
    x = source[None] if source.ndim == 3 else source
    return generator.eval()(x.to(next(generator.parameters()).device))

def stage_sheet(
    generator:Generator,
    pairs, # dicts of source, target (None where there is none), name
    device="cpu",
    cell:int=128 # pixels of each picture on the sheet
):
    "A labelled sheet, one row a pair: source, stage 3, stage 2, final, target"
    rows, training = [], generator.training
    for item in pairs:
        out = translate(generator, item["source"])
        ims = [item["source"], *(o[0] for o in (out.y3, out.y2, out.y) if o is not None)]
        if item.get("target") is not None: ims.append(item["target"])
        rows.append([to_image(i) for i in ims])
    generator.train(training)
    labels = ["source", *(["stage 3", "stage 2"] if generator.config.stages == 3 else []), "final", "target"]
    return sheet(rows, labels, cell=cell)
