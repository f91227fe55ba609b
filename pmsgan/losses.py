"""Equations (1), (2), (3), and the feature networks they need"""
import importlib.util
import os
import warnings
from pathlib import Path

import torch
import torch.nn as nn
import torch.nn.functional as F

# adversarial loss -----------------------------------------------------------
def d_loss(
    real, # maps of the discriminators on y, y2, y3
    fake  # maps on the generator's images
) -> torch.Tensor: # scalar
    "The discriminators' side of equation (1), least squares: real to 1, fake to 0; summed over scales"
    return sum((1-r.float()).square().mean() + f.float().square().mean() for r, f in zip(real, fake))

def g_adv_loss(
    fake # maps of the discriminators on the generator's images
) -> torch.Tensor: # scalar
    "The generator's side of equation (1): fake to 1; summed over scales"
    return sum((1-f.float()).square().mean() for f in fake)

# weights --------------------------------------------------------------------
WEIGHT_FILES = dict( # torchvision's names first, feature-only files after them
    vgg19=("vgg19-dcbb9e9d.pth", "vgg19_features.pth", "vgg19_features_relu5_1.pth", "vgg19_features_relu4_1.pth", "vgg19_features_relu3_1.pth"),
    alex=("alexnet-owt-7be5be79.pth", "alexnet_features.pth"),
    squeeze=("squeezenet1_1-b8a52dc0.pth", "squeezenet1_1_features.pth"),
    vgg=("vgg16-397923af.pth", "vgg16_features.pth"))

def weight_folders() -> list:
    "Where weights are looked for: `PMSGAN_WEIGHTS`, then torch hub's cache"
    named = os.environ.get("PMSGAN_WEIGHTS")
    return [*([Path(named)] if named else []), Path(torch.hub.get_dir())/"checkpoints"]

def find_weights(
    net:str # "vgg19", "alex", "squeeze" or "vgg"
): # path, or None
    "The first file of ImageNet weights for `net`, or None"
    return next((d/f for d in weight_folders() for f in WEIGHT_FILES[net] if (d/f).is_file()), None)

def load_features(
    net:str, # "vgg19", "alex", "squeeze" or "vgg"
    path=None, # a weight file; None looks in `weight_folders`
    download:bool=False # fetch torchvision's file when none is found
) -> dict: # index of the layer in torchvision's `features` and parameter, e.g. "0.weight" -> tensor
    "A feature network's weights; FileNotFoundError says which file, from where, and where to put it"
    path = Path(path) if path else find_weights(net)
    name = WEIGHT_FILES[net][0]
    url = f"https://download.pytorch.org/models/{name}"
    if path is None and download:
        folder = weight_folders()[0]
        folder.mkdir(parents=True, exist_ok=True)
        path = folder/name
        torch.hub.download_url_to_file(url, path, hash_prefix=path.stem.rsplit("-", 1)[1])
    if path is None or not path.is_file():
        raise FileNotFoundError(f"no ImageNet weights for {net}: download {url} and put it into "
            f"{' or '.join(map(str, weight_folders()))}, or set PMSGAN_WEIGHTS to the folder that has it")
    try: state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as e: raise ValueError(f"{path}: not a file of weights ({str(e).splitlines()[0]}); download {url} again") from None
    if not isinstance(state, dict): raise ValueError(f"{path}: holds no dictionary of weights; download {url} again")
    feats = {k.removeprefix("features."): v for k, v in state.items() if not k.startswith("classifier")}
    if "0.weight" not in feats: raise ValueError(f"{path}: holds no features.0.weight; expected torchvision's {net}")
    return feats

# perceptual loss ------------------------------------------------------------
VGG19_WIDTHS = (64, 64, "M", 128, 128, "M", 256, 256, 256, 256, "M", 512, 512, 512, 512, "M", 512)
VGG19_RELUS = dict(relu1_1=1, relu2_1=6, relu3_1=11, relu4_1=20, relu5_1=29) # index in torchvision's `features`
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

def vgg19_trunk() -> nn.Sequential:
    "VGG-19's convolutions up to relu5_1, numbered as torchvision's `features`"
    net, c = [], 3
    for w in VGG19_WIDTHS:
        if w == "M": net.append(nn.MaxPool2d(2))
        else: net, c = net + [nn.Conv2d(c, w, 3, padding=1), nn.ReLU()], w
    return nn.Sequential(*net)

class VGG19Features(nn.Module):
    "phi_k of equation (2): images in [-1, 1] to a dict of feature maps, frozen"
    def __init__(self,
        layers=tuple(VGG19_RELUS), # names of layers wanted
        path=None, # a weight file; None looks in `weight_folders`
        download:bool=False,
        random:bool=False, # seeded random weights instead: for the demo and tests only
        verbose:bool=True # say which layers a truncated file has
    ):
        super().__init__()
        unknown = [l for l in layers if l not in VGG19_RELUS]
        if unknown or not layers: raise ValueError(f"layers {layers}: expected some of {', '.join(VGG19_RELUS)}")
        trunk = vgg19_trunk()
        self.source = "random" if random else str(path or find_weights("vgg19"))
        self.layers = self._randomise(trunk, layers) if random else self._load(trunk, layers, load_features("vgg19", path, download), verbose)
        last = max(VGG19_RELUS[l] for l in self.layers)
        self.trunk = trunk[:last+1].eval().requires_grad_(False)
        self.register_buffer("mean", torch.tensor(IMAGENET_MEAN).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor(IMAGENET_STD).view(1, 3, 1, 1))

    @staticmethod
    def _randomise(trunk, layers):
        gen = torch.Generator().manual_seed(19)
        for m in trunk:
            if isinstance(m, nn.Conv2d):
                nn.init.kaiming_normal_(m.weight, nonlinearity="relu", generator=gen)
                nn.init.zeros_(m.bias)
        return tuple(layers)

    def _load(self, trunk, layers, feats, verbose):
        own = trunk.state_dict()
        good = {k: v for k, v in feats.items() if k in own and v.shape == own[k].shape}
        convs = [i for i, m in enumerate(trunk) if isinstance(m, nn.Conv2d)]
        have = [i for i in convs if f"{i}.weight" in good and f"{i}.bias" in good]
        depth = next((i for i in convs if i not in have), len(trunk)) # the first convolution that is missing
        usable = tuple(l for l in layers if VGG19_RELUS[l] < depth)
        if not usable: raise ValueError(f"{self.source}: has none of the layers {', '.join(layers)} of VGG-19")
        if len(usable) < len(layers) and verbose:
            print(f"{Path(self.source).name} ends before {', '.join(l for l in layers if l not in usable)}: equation (2) uses {', '.join(usable)}")
        trunk.load_state_dict(good, strict=False)
        return usable

    def forward(self, x): # B×3×H×W in [-1, 1]
        x, wanted, out = ((x+1)/2-self.mean)/self.std, {VGG19_RELUS[l]: l for l in self.layers}, {}
        for i, m in enumerate(self.trunk):
            if isinstance(m, nn.MaxPool2d) and min(x.shape[-2:]) < 2: break # nothing is left to pool in a tiny stage
            x = m(x)
            if i in wanted: out[wanted[i]] = x # B×Ck×Hk×Wk
        return out

def perceptual_loss(
    fake, # features of the generator's y, y2, y3: a dict of layer -> B×Ck×Hk×Wk for each scale
    real, # features of the targets, likewise
    scales=None # layer -> number that divides its term; None: equation (2) as printed
) -> torch.Tensor: # scalar
    "Equation (2): mean absolute difference of features, summed over layers and scales"
    scales = scales or {}
    return sum((f[k].float()-r[k].float()).abs().mean()/scales.get(k, 1.) for f, r in zip(fake, real) for k in f)

def full_loss(
    adv, # L_adv
    p, # L_p
    lambda_adv:float=1., # lambda 1
    lambda_p:float=5. # lambda 2
): # scalar
    "Equation (3)"
    return lambda_adv*adv + lambda_p*p

# LPIPS ----------------------------------------------------------------------
_torchvision_schemas = None # the library must outlive the import

def import_lpips():
    "The lpips package, also where torchvision's compiled operators do not match torch's build"
    global _torchvision_schemas
    try: import lpips
    except RuntimeError as e:
        if "torchvision::nms" not in str(e): raise
        import sys
        for m in [m for m in sys.modules if m.split(".")[0] in ("torchvision", "lpips")]: del sys.modules[m]
        _torchvision_schemas = torch.library.Library("torchvision", "DEF")
        _torchvision_schemas.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        _torchvision_schemas.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        import lpips
    return lpips

class LPIPS(nn.Module):
    "LPIPS [65], version 0.1 of [68]: two batches in [-1, 1], B×3×H×W each, to one distance a picture"
    def __init__(self,
        net:str="alex", # "alex", "squeeze" or "vgg"
        path=None, # a weight file of the trunk
        download:bool=False
    ):
        super().__init__()
        feats = load_features(net, path, download)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore") # lpips calls torchvision by arguments that are going away
            self.model = import_lpips().LPIPS(net=net, pnet_rand=True, verbose=False)
        own = {k: k.split(".", 1)[1] for k in self.model.net.state_dict()} # "slice1.0.weight" is features.0.weight
        missing = [v for v in own.values() if v not in feats]
        if missing: raise ValueError(f"{path or find_weights(net)}: lacks {missing[0]} and {len(missing)-1} more; LPIPS({net}) needs the whole trunk")
        self.model.net.load_state_dict({k: feats[v] for k, v in own.items()})
        self.eval().requires_grad_(False)
    def forward(self, a, b):
        if a.shape != b.shape: raise ValueError(f"sizes differ: {tuple(a.shape)} and {tuple(b.shape)}; LPIPS depends on the size")
        return self.model(a.float(), b.float()).flatten() # B
