"""The three parallel stages"""
from dataclasses import asdict, dataclass, fields, replace
from typing import NamedTuple

import torch
import torch.nn as nn
import torch.nn.functional as F

from pmsgan.blocks import INITS, NORMS, ResStack, conv, init_weights
from pmsgan.csasp import CSASP
from pmsgan.dff import DFF
from pmsgan.eff import EFF
from pmsgan.mssa import MASKS, MSSA
from pmsgan.pyramid import pyramid

PRESETS = dict(paper=(32, 64, 128), small=(16, 32, 64), tiny=(8, 16, 32))
ABLATIONS = dict(a=dict(stages=1, eff=False, dff=False, csasp=False, mssa=False),
                 b=dict(dff=False, csasp=False, mssa=False),
                 c=dict(csasp=False, mssa=False),
                 d=dict(mssa=False),
                 e=dict())

@dataclass(frozen=True)
class GeneratorConfig:
    "Every choice that the paper leaves open, one field each; a checkpoint carries it"
    widths:tuple = (32, 64, 128) # C1, C2, C3
    blocks:int = 5               # residual blocks in each encoder and decoder (III-A)
    stages:int = 3               # 3, or 1 for ablation (a)
    eff:bool = True              # III-A.1; without it there is only one stage
    csasp:bool = True            # III-A.2; off: Pj = Ej
    dff:bool = True              # III-A.3; off: D(j+1) is not handed up
    mssa:bool = True             # III-A.4; off: y is RGB1
    rates:tuple = (1, 2, 4)      # CSASP's dilation for E1, E2, E3
    dense_layers:int = 4         # EFF's dense block
    growth:int = 16              # channels that each of its layers adds
    mask:str = "channel"         # MSSA's softmax: "channel", "space", or "sigmoid"
    norm:str = "none"            # in the residual blocks: "none" or "instance"
    init:str = "scaled"          # "scaled", or "paper" for N(0, 0.02) (IV-A.1)

    def __post_init__(self):
        for f in ("widths", "rates"): object.__setattr__(self, f, tuple(getattr(self, f))) # JSON has lists
        for f, known in (("norm", NORMS), ("init", INITS), ("mask", MASKS)):
            if getattr(self, f) not in known: raise ValueError(f"{f} {getattr(self, f)!r}: expected one of {', '.join(known)}")
        if self.stages not in (1, 3): raise ValueError(f"stages {self.stages}: expected 3, or 1 for ablation (a)")
        if len(self.widths) != 3 or len(self.rates) != 3: raise ValueError("widths and rates need one value for each of the three stages")
        if self.stages == 1 and (self.eff or self.dff or self.csasp or self.mssa): raise ValueError("one stage has nothing to fuse: eff, dff, csasp and mssa must be off")
        if self.stages == 3 and not self.eff: raise ValueError("without eff the stages do not meet: use stages=1")

    @classmethod
    def preset(cls, name:str, **changes):
        "paper, small or tiny, with changes: GeneratorConfig.preset('small', norm='instance')"
        if name not in PRESETS: raise ValueError(f"preset {name!r}: expected one of {', '.join(PRESETS)}")
        return cls(**{"widths": PRESETS[name], **changes})

    @classmethod
    def ablation(cls, letter:str, preset:str="paper", **changes):
        "Row (a) to (e) of Table II"
        if letter not in ABLATIONS: raise ValueError(f"ablation {letter!r}: expected one of {', '.join(ABLATIONS)}")
        return cls.preset(preset, **{**ABLATIONS[letter], **changes})

    @classmethod
    def from_dict(cls, d:dict):
        "From a checkpoint's JSON; unknown fields raise ValueError"
        unknown = set(d)-{f.name for f in fields(cls)}
        if unknown: raise ValueError(f"unknown fields {', '.join(sorted(unknown))}: the checkpoint was written by another version")
        return cls(**d)

    def to_dict(self): return asdict(self)

class Translation(NamedTuple):
    "What the generator returns, in [-1, 1]"
    y:torch.Tensor          # B×3×H×W
    y2:torch.Tensor = None  # B×3×H/2×W/2; None with one stage
    y3:torch.Tensor = None  # B×3×H/4×W/4; None with one stage
    trace:dict = None       # every intermediate by its paper name, when asked for

class Generator(nn.Module):
    "PMSGAN's generator (Fig. 2): B×3×H×W in [-1, 1] to a `Translation`"
    def __init__(self, config:GeneratorConfig=None):
        super().__init__()
        self.config = c = config or GeneratorConfig()
        w, n = c.widths, c.stages
        self.encoders = nn.ModuleList([ResStack(3 if j == 0 else w[j], w[j], c.blocks, c.norm) for j in range(n)])
        self.decoders = nn.ModuleList([ResStack(w[j], w[j], c.blocks, c.norm) for j in range(n)])
        self.heads = nn.ModuleList([conv(w[j], 3) for j in range(n)])
        self.effs = nn.ModuleList([EFF(w[j-1], w[j], c.dense_layers, c.growth) for j in range(1, n)])
        self.csasps = nn.ModuleList([CSASP(w, j+1, c.rates) for j in range(n)] if c.csasp else [])
        self.dffs = nn.ModuleList([DFF(w[j+1], w[j]) for j in range(n-1)] if c.dff else [])
        self.mssa = MSSA(w[0], c.mask) if c.mssa else None
        init_weights(self, c.init)
        if c.init == "scaled": self._scale_heads()

    @torch.no_grad()
    def _scale_heads(self, by=0.1):
        for head in [*self.heads, *([self.mssa.out] if self.mssa else [])]: head.weight.mul_(by)

    def encode(self, x, note): # x: B×3×H×W
        "E1, E2, E3 (Ej: B×Cj at H, H/2, H/4)"
        xs, es = pyramid(x), []
        for j, encoder in enumerate(self.encoders, 1):
            note(f"x{j}" if j > 1 else "x", xs[j-1])
            inp = xs[0] if j == 1 else note(f"EFF{j}", self.effs[j-2](es[-1], xs[j-1]))
            es.append(note(f"E{j}", encoder(inp)))
        return es

    def decode(self, es, note):
        "D1, D2, D3 and the images of their heads"
        n = len(es)
        ps = [note(f"CSASP{j+1}", self.csasps[j](es)) for j in range(n)] if self.csasps else es
        ds, rgbs = [None]*n, [None]*n
        for j in reversed(range(n)): # the coarsest stage first
            p = ps[j]
            if self.dffs and j < n-1: p = note(f"DFF{j+1}", self.dffs[j](p, ds[j+1]))
            ds[j] = note(f"D{j+1}", self.decoders[j](p))
            rgbs[j] = note(f"rgb{j+1}", torch.tanh(self.heads[j](ds[j])))
        return ds, rgbs

    def forward(self,
        x, # B×3×H×W in [-1, 1]; sides not divisible by 4 are padded by replication, and the results cropped back
        trace:bool=False # also hand out every intermediate, at the padded size
    ) -> Translation:
        h, w = x.shape[-2:]
        if min(h, w) < 4: raise ValueError(f"{h}×{w}: too small to be halved twice; use pictures of at least 4×4")
        if h % 4 or w % 4: x = F.pad(x, (0, -w % 4, 0, -h % 4), mode="replicate")
        seen = {}
        def note(name, t):
            if trace: seen[name] = t
            return t
        ds, rgbs = self.decode(self.encode(x, note), note)
        y = rgbs[0]
        if self.mssa:
            note("mask", self.mssa.mask(*rgbs)) if trace else None
            y = torch.tanh(self.mssa(ds[0], *rgbs))
        note("y", y)
        images = [im[..., :-(-h//2**j), :-(-w//2**j)] for j, im in enumerate([y, *rgbs[1:]])] # back to H×W, ⌈H/2⌉×⌈W/2⌉, ⌈H/4⌉×⌈W/4⌉
        return Translation(*images, *[None]*(3-len(images)), seen if trace else None)

def count_parameters(
    model:nn.Module
) -> int:
    "How many numbers training changes"
    return sum(p.numel() for p in model.parameters() if p.requires_grad)
