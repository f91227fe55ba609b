"""Pairs from disk, tensors in [-1, 1], and the pyramid x, x2, x3"""
import os
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageOps, UnidentifiedImageError

EXTENSIONS = (".png", ".jpg", ".jpeg", ".bmp", ".webp", ".tif", ".tiff", ".ppm", ".pgm")
FITS = ("resize", "pad", "crop")

def pick_device(
    name:str="auto" # "auto", or a torch device such as "cpu", "cuda", "cuda:1", "mps"; `PMSGAN_DEVICE` decides what "auto" means
) -> torch.device: # the device to run on
    "The device to run on: the named one, else `PMSGAN_DEVICE`, else CUDA where there is one, else the CPU; raises ValueError when it is absent"
    if name == "auto": name = os.environ.get("PMSGAN_DEVICE", "auto")
    if name == "auto": name = "cuda" if torch.cuda.is_available() else "cpu"
    try: torch.empty(1, device=name)
    except Exception as e: raise ValueError(f"device {name!r} cannot be used here ({str(e).splitlines()[0]}): use 'auto' or 'cpu'") from None
    return torch.device(name)

def to_rgb(
    im:Image.Image # a picture in any of Pillow's modes
) -> Image.Image: # the same picture, 8-bit RGB
    "8-bit RGB from grey, palette, CMYK, 16-bit or transparent pictures; transparency is laid over white"
    if im.mode.startswith("I;16") or im.mode in ("I", "F"):
        a = np.asarray(im).astype(np.float64)
        if im.mode == "F": a = a*255 if a.max() <= 1 else a
        else: a = a/257 # Pillow opens 16-bit grey as "I;16" or "I": 65535 is white
        return Image.fromarray(a.round().clip(0, 255).astype(np.uint8)).convert("RGB")
    if im.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in im.info:
        im = im.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", im.size, "white"), im).convert("RGB")
    return im.convert("RGB")

def read_image(
    path # a picture file
) -> Image.Image: # 8-bit RGB, upright
    "Reads a picture as upright 8-bit RGB; FileNotFoundError or ValueError name the file"
    path = Path(path)
    if not path.is_file(): raise FileNotFoundError(f"{path}: no such picture")
    try:
        with Image.open(path) as im: return to_rgb(ImageOps.exif_transpose(im))
    except UnidentifiedImageError: raise ValueError(f"{path}: not a picture that Pillow can read; convert it to PNG or JPEG") from None
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as e:
        raise ValueError(f"{path}: damaged or cut short ({e}); replace it or remove it") from None

def fit_image(
    im:Image.Image, # RGB
    size:int, # side of the result in pixels
    fit:str="resize" # "resize": scale both sides, as the paper; "pad": keep the aspect on a black square; "crop": keep the aspect, cut the centre square
) -> Image.Image: # size×size
    "A square picture of the network's size"
    if fit not in FITS: raise ValueError(f"fit {fit!r}: expected one of {', '.join(FITS)}")
    if im.size == (size, size): return im
    if fit == "resize": return im.resize((size, size), Image.Resampling.BICUBIC)
    f = ImageOps.pad if fit == "pad" else ImageOps.fit
    return f(im, (size, size), Image.Resampling.BICUBIC)

def to_tensor(
    im # RGB picture or uint8 array H×W×3
) -> torch.Tensor: # 3×H×W, float32 in [-1, 1]
    "Pixels 0…255 to [-1, 1], channels first"
    a = np.ascontiguousarray(im) # H×W×3
    if a.ndim != 3 or a.shape[2] != 3: raise ValueError(f"expected an RGB picture H×W×3, got shape {a.shape}: use `to_rgb` first")
    return torch.from_numpy(a.copy()).permute(2, 0, 1).float().div_(127.5).sub_(1) # 3×H×W

def to_image(
    x:torch.Tensor # 3×H×W in [-1, 1]
) -> np.ndarray: # H×W×3, uint8
    "A tensor back to pixels, clipped to the range"
    if x.ndim != 3: raise ValueError(f"expected one picture 3×H×W, got shape {tuple(x.shape)}: take one item of the batch")
    return x.detach().float().cpu().add(1).mul(127.5).round().clamp(0, 255).byte().permute(1, 2, 0).numpy()

def halve(
    x:torch.Tensor # B×C×H×W, H and W even
) -> torch.Tensor: # B×C×H/2×W/2
    "Half the height and width: each pixel is the mean of 2×2"
    if x.shape[-1] % 2 or x.shape[-2] % 2: raise ValueError(f"cannot halve {x.shape[-2]}×{x.shape[-1]}: both sides must be even")
    return F.avg_pool2d(x, 2)

class Pyramid(NamedTuple):
    "The three inputs, or targets, of the three stages (III-A)"
    x:torch.Tensor  # B×3×H×W
    x2:torch.Tensor # B×3×H/2×W/2
    x3:torch.Tensor # B×3×H/4×W/4

def pyramid(
    x:torch.Tensor # B×C×H×W, H and W divisible by 4
) -> Pyramid: # x and its halves and quarters
    "x, x2, x3 of section III-A"
    if x.shape[-1] % 4 or x.shape[-2] % 4 or min(x.shape[-2:]) < 4:
        raise ValueError(f"cannot halve {x.shape[-2]}×{x.shape[-1]} twice: both sides must be divisible by 4")
    x2 = halve(x)
    return Pyramid(x, x2, halve(x2))

def list_images(
    folder # a folder of pictures, or one picture
) -> dict: # stem -> path, sorted by stem
    "The pictures directly in a folder by stem; raises when there are none, or when two share a stem"
    folder = Path(folder)
    if folder.is_file(): return {folder.stem: folder}
    if not folder.is_dir(): raise FileNotFoundError(f"{folder}: no such folder")
    found = {}
    for p in sorted(folder.iterdir()):
        if p.suffix.lower() not in EXTENSIONS or p.name.startswith("."): continue
        if p.stem in found: raise ValueError(f"{folder}: {found[p.stem].name} and {p.name} share a stem; keep one of them")
        found[p.stem] = p
    if not found: raise FileNotFoundError(f"{folder}: holds no pictures ({', '.join(EXTENSIONS)})")
    return found

def match_stems(
    source, # folder of source pictures
    target  # folder of target pictures
) -> list: # (stem, source path, target path), sorted by stem
    "Pairs by equal stem; raises ValueError naming what has no partner"
    s, t = list_images(source), list_images(target)
    lone = [(k, target) for k in s.keys()-t.keys()] + [(k, source) for k in t.keys()-s.keys()]
    if lone:
        shown = ", ".join(f"{k} (missing in {d})" for k, d in sorted(lone, key=lambda o: o[0])[:8])
        raise ValueError(f"{len(lone)} pictures without a partner: {shown}{', …' if len(lone) > 8 else ''}; "
                         "give both files of a pair the same name before the extension, or remove the lone ones")
    return [(k, s[k], t[k]) for k in s]

class PairDataset(torch.utils.data.Dataset):
    "Pairs of equal stem in two folders; item: dict(source, target, name), tensors 3×size×size in [-1, 1]"
    def __init__(self,
        source, # folder of source pictures
        target, # folder of target pictures, same stems
        size:int=256, # side in pixels, divisible by 4
        fit:str="resize" # see `fit_image`
    ):
        if size % 4 or size < 4: raise ValueError(f"size {size}: must be a multiple of 4, so that it can be halved twice")
        if fit not in FITS: raise ValueError(f"fit {fit!r}: expected one of {', '.join(FITS)}")
        self.pairs, self.size, self.fit = match_stems(source, target), size, fit
    def __len__(self): return len(self.pairs)
    def __getitem__(self, i):
        name, s, t = self.pairs[i]
        a, b = read_image(s), read_image(t)
        if a.size != b.size:
            raise ValueError(f"{s} is {a.width}×{a.height} but {t} is {b.width}×{b.height}: a pair must be aligned pixel by pixel; bring both to one size first")
        if min(a.size) < 4: raise ValueError(f"{s} is {a.width}×{a.height}: too small to be halved twice; use pictures of at least 4×4")
        return dict(source=to_tensor(fit_image(a, self.size, self.fit)), # 3×size×size
                    target=to_tensor(fit_image(b, self.size, self.fit)), name=name)
