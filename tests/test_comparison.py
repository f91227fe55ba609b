"What chapter 13's notebook cannot test about itself: mixed precision, and trials through the harness"
import json

import pytest
import torch
from safetensors.torch import load_file

from pmsgan.comparison import CycleGAN, Pix2Pix, UNetSameLosses
from pmsgan.experiments import run_trial
from pmsgan.losses import VGG19Features
from pmsgan.training import TrainConfig

METHODS = [type(m.__name__, (m,), dict(width=8)) for m in (Pix2Pix, UNetSameLosses, CycleGAN)] # narrow, to be quick


@pytest.fixture(scope="module")
def pairs():
    gen = torch.Generator().manual_seed(0)
    return [dict(source=torch.rand(3, 32, 32, generator=gen)*2-1, target=torch.rand(3, 32, 32, generator=gen)*2-1, name=str(i)) for i in range(3)]


@pytest.fixture(scope="module")
def features(): return VGG19Features(("relu1_1",), random=True)


@pytest.mark.parametrize("method", METHODS, ids=lambda m: m.__name__)
def test_trial(method, pairs, features, tmp_path):
    "The same seed gives the same generator and the same pictures; another seed does not"
    def trial(seed, folder):
        row = run_trial(method, pairs[:2], pairs[2:], features, TrainConfig(size=32, steps=3, seed=seed), tmp_path/folder, "cpu")
        return row, load_file(tmp_path/folder/"generator.safetensors"), (tmp_path/folder/"pictures"/"2.png").read_bytes()
    (row, a, p), (_, b, q), (_, c, _) = trial(0, "a"), trial(0, "b"), trial(1, "c")
    assert row["steps"] == 3 and row["betas"] == [0.5, 0.99 if method.__name__ == "UNetSameLosses" else 0.999]
    assert json.loads((tmp_path/"a"/"trial.json").read_text()) == row
    assert all(torch.equal(a[k], b[k]) for k in a) and p == q
    assert not all(torch.equal(a[k], c[k]) for k in a)


@pytest.mark.parametrize("method", METHODS, ids=lambda m: m.__name__)
def test_bf16(method, pairs, features):
    "Convolutions in bfloat16, weights and losses in float32"
    t = method(pairs, features, config=TrainConfig(size=32, steps=2, precision="bf16"), device="cpu").fit()
    assert {p.dtype for p in t.generator.parameters()} == {torch.float32}
    assert {v.dtype for v in t.losses.values()} == {torch.float32}
    assert all(v.isfinite() for v in t.losses.values())


@pytest.mark.parametrize("method", METHODS, ids=lambda m: m.__name__)
def test_nan_is_refused(method, pairs, features):
    "A NaN stops the run before the weights are touched"
    t = method(pairs, features, config=TrainConfig(size=32, steps=1), device="cpu")
    before = {k: v.clone() for k, v in t.generator.state_dict().items()}
    x, y = pairs[0]["source"][None], pairs[0]["target"][None].clone()
    y[..., 0, 0] = float("nan")
    with pytest.raises(FloatingPointError, match="at step 1"): t.train_step(x, y, [(0, False)])
    assert all(torch.equal(v, before[k]) for k, v in t.generator.state_dict().items())
