"Training from outside: exact resuming in its variants, bf16, loader processes, two processes."
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from conftest import ENV, PMSGAN, inside, train_words
from safetensors.torch import load_file

from pmsgan.comparison import CycleGAN, Pix2Pix, UNetSameLosses
from pmsgan.generator import GeneratorConfig
from pmsgan.losses import VGG19Features
from pmsgan.runs import load_generator
from pmsgan.training import TrainConfig, Trainer

pytestmark = pytest.mark.slow

def weights(run): return load_file(run/"generator.safetensors")

def ok(done): assert done.returncode == 0, done.stdout+done.stderr

@pytest.mark.parametrize("more", [["--batch", 2, "--workers", 1], ["--precision", "bf16", "--ablation", "a", "--flip", "no"]], ids=["batch and workers", "bf16 and one stage"])
def test_longer_is_the_same(more, pairs, tmp_path):
    "Two steps and then two more are four steps"
    ok(inside(*train_words(pairs, tmp_path/"a", "--steps", 2, *more)))
    ok(inside("train", "--out", tmp_path/"a", "--resume", "--steps", 4, "--device", "cpu", *(["--workers", 1] if "--workers" in more else [])))
    ok(inside(*train_words(pairs, tmp_path/"b", "--steps", 4, *more)))
    a, b = weights(tmp_path/"a"), weights(tmp_path/"b")
    assert all(torch.equal(a[k], b[k]) for k in a)

def test_seed(pairs, run, tmp_path):
    "The same seed gives the same network, another seed another"
    ok(inside(*train_words(pairs, tmp_path/"same", "--steps", 3)))
    ok(inside(*train_words(pairs, tmp_path/"other", "--steps", 3, "--seed", 1)))
    a, same, other = weights(run), weights(tmp_path/"same"), weights(tmp_path/"other")
    assert all(torch.equal(a[k], same[k]) for k in a)
    assert any(not torch.equal(a[k], other[k]) for k in a)

def test_two_processes(pairs, tmp_path):
    "Two processes with one pair each make the steps of one process with two pairs"
    torchrun = Path(sys.executable).with_name("torchrun")
    words = [torchrun, "--standalone", "--nproc_per_node", "2", "--no-python", PMSGAN, *train_words(pairs, tmp_path/"two", "--steps", 2)]
    ok(subprocess.run(list(map(str, words)), capture_output=True, text=True, timeout=300, env=ENV))
    ok(inside(*train_words(pairs, tmp_path/"one", "--steps", 2, "--batch", 2)))
    two, one = weights(tmp_path/"two"), weights(tmp_path/"one")
    assert load_generator(tmp_path/"two")[1]["record"]["processes"] == 2
    apart = torch.cat([(two[k]-one[k]).abs().flatten() for k in one])
    assert apart.mean() < 1e-6, f"mean difference {apart.mean()}"

def trainer(method=Trainer, device="cpu", **more):
    picture = torch.linspace(-1, 1, 3*64*64).view(3, 64, 64)
    pairs = [dict(source=picture, target=-picture, name="a")]
    features = VGG19Features(("relu1_1", "relu2_1"), random=True)
    return method(pairs, features, GeneratorConfig.preset("tiny", blocks=1), TrainConfig(steps=2, size=64, feature_scale="none", **more), device)

@pytest.mark.parametrize("method", [Trainer, Pix2Pix, CycleGAN, UNetSameLosses])
def test_nothing_is_left_on_the_cpu(method):
    "On the meta device, which holds shapes only, an operation with a tensor of another device fails; ema and checkpointing too"
    more = dict(ema=.9, checkpointing=True) if method is Trainer else {}
    t = trainer(method, "meta", **more).fit()
    assert t.step == 2 and {v.device.type for v in t.losses.values()} == {"meta"}

def test_checkpointing_changes_nothing():
    a, b = trainer().fit(), trainer(checkpointing=True).fit()
    assert all(torch.equal(p, q) for p, q in zip(a.generator.parameters(), b.generator.parameters()))
    assert "forward" not in vars(b.generator.encoders[0]), "the blocks' own forward is back after each step"

def test_precision_is_settled_at_the_start(monkeypatch):
    monkeypatch.setattr("pmsgan.training.has_bf16", lambda device: False)
    assert trainer(precision="auto").config.precision == "fp32"
    with pytest.warns(UserWarning, match="emulates bf16"): trainer(precision="bf16")
    monkeypatch.setattr("pmsgan.training.has_bf16", lambda device: True)
    assert trainer(precision="auto").config.precision == "bf16"
