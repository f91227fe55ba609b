"""PMSGAN: parallel multistage GANs for face image translation (photo to sketch, sketch to photo, portrait drawing, sketch to anime).

The notebooks in nbs/ build every part of it; this package is what they export. What most people need is here:

    from pmsgan import GeneratorConfig, PairDataset, TrainConfig, Trainer, VGG19Features

    pairs = PairDataset("photos", "sketches", size=256)           # two folders, files of equal name
    trainer = Trainer(pairs, VGG19Features(), GeneratorConfig.preset("small"), TrainConfig(steps=20_000))
    trainer.fit()

    from pmsgan import load_generator, read_image, to_image, to_tensor, translate

    generator, about = load_generator("data/checkpoints/sketch.safetensors")
    y = translate(generator, to_tensor(read_image("me.jpg").resize((256, 256)))).y   # 1×3×256×256 in [-1, 1]
    to_image(y[0])                                                # 256×256×3, uint8

Everything else stands in the module of its notebook: pmsgan.generator, pmsgan.losses, pmsgan.evaluation, ...
On the command line: pmsgan --help
"""
__version__ = "0.1.0"

from importlib import import_module
from typing import TYPE_CHECKING

_HOME = dict( # name -> module; loaded when first asked for, so that `pmsgan --help` need not wait for torch
    Generator="generator", GeneratorConfig="generator", Discriminators="discriminators",
    PairDataset="pyramid", to_tensor="pyramid", to_image="pyramid", read_image="images", face="faces",
    VGG19Features="losses", Trainer="training", TrainConfig="training", Callback="training", Checkpoint="training",
    History="training", translate="training", load_generator="runs", save_generator="runs", evaluate="evaluation")

__all__ = ["__version__", *_HOME]

if TYPE_CHECKING: # what an editor and a type checker see
    from .discriminators import Discriminators
    from .evaluation import evaluate
    from .faces import face
    from .generator import Generator, GeneratorConfig
    from .images import read_image
    from .losses import VGG19Features
    from .pyramid import PairDataset, to_image, to_tensor
    from .runs import load_generator, save_generator
    from .training import Callback, Checkpoint, History, TrainConfig, Trainer, translate

def _with_parameters(obj):
    "`obj`, with the comments beside its parameters added to its docstring, where help() shows them"
    from fastcore.docments import docments
    about = docments(obj, full=True)
    notes = {name: " ".join(p["docment"].split()) for name, p in about.items() if p.get("docment") and name != "self"}
    returned = notes.pop("return", None)
    parts = [obj.__doc__ or ""]
    if notes: parts.append("\n".join(["Parameters:", *(f"    {name}: {note}" for name, note in notes.items())]))
    if returned: parts.append(f"Returns: {returned}")
    obj.__doc__ = "\n\n".join(parts)
    if isinstance(obj, type):
        for name, method in vars(obj).items():
            if not name.startswith("_") and hasattr(method, "__code__"): _with_parameters(method)
    return obj

def __getattr__(name):
    if name not in _HOME: raise AttributeError(f"module 'pmsgan' has no attribute {name!r}; it has {', '.join(_HOME)}")
    obj = globals()[name] = _with_parameters(getattr(import_module(f".{_HOME[name]}", __name__), name))
    return obj

def __dir__(): return [*__all__, *(name for name in globals() if name.startswith("__"))]
