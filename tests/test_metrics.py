"""The metrics against published values, and with networks that are too large for the notebook.

PMSGAN_REFERENCE_IMAGES names a folder with pictures that cannot be part of the project: `ex_ref.png`, `ex_p0.png`, `ex_p1.png`
(LPIPS's own repository, `imgs/`), `goldhill.gif`, `goldhill_jpeg.gif`, `I01.BMP`, `i01_01_5.bmp` (piq's repository, `tests/assets/`)."""
import os
import warnings
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
import torch
from conftest import ROOT, WEIGHTS
from PIL import Image

from pmsgan.evaluation import InceptionFeatures, evaluate, frechet, fsim, kid
from pmsgan.images import read_image
from pmsgan.pyramid import to_tensor
from pmsgan.weights import LPIPS, WEIGHT_FILES, import_torchvision

INCEPTION_FILE = WEIGHT_FILES["inception"][0]

IMAGES = Path(os.environ.get("PMSGAN_REFERENCE_IMAGES", ROOT.parent/"shared"/"reference_images"))

def load(name):
    path = IMAGES/name
    if not path.is_file(): pytest.skip(f"no {name} here: PMSGAN_REFERENCE_IMAGES may name a folder that has it")
    return to_tensor(read_image(path))[None]

def trunk(net):
    found = [WEIGHTS/f for f in dict(alex=("alexnet-owt-7be5be79.pth", "alexnet_features.pth"), squeeze=("squeezenet1_1-b8a52dc0.pth", "squeezenet1_1_features.pth"),
                                     vgg=("vgg16-397923af.pth", "vgg16_features.pth"))[net] if (WEIGHTS/f).is_file()]
    return found[0] if found else pytest.skip(f"no ImageNet weights for {net} here: PMSGAN_WEIGHTS may name a folder that has them")

def seeded(shapes, file, seed=1):
    "A file of Kaiming-normal weights"
    gen = torch.Generator().manual_seed(seed)
    torch.save({k: torch.randn(s, generator=gen)*(2/s[1:].numel())**.5 if len(s) > 1
                else torch.full(s, float(k.endswith(("running_var", "bn.weight")))) for k, s in shapes.items()}, file)

@pytest.fixture(scope="module")
def seeded_weights(tmp_path_factory):
    "A folder with seeded networks of all shapes under their real names"
    folder, models = tmp_path_factory.mktemp("weights"), import_torchvision().models
    from pytorch_fid import inception
    for maker, file in (("alexnet", "alexnet_features.pth"), ("squeezenet1_1", "squeezenet1_1_features.pth"), ("vgg16", "vgg16_features.pth")):
        with torch.device("meta"): m = getattr(models, maker)(weights=None)
        seeded({k: v.shape for k, v in m.state_dict().items() if k.startswith("features.")}, folder/file)
    with torch.device("meta"), mock.patch.object(inception, "load_state_dict_from_url", lambda *_, **__: {}), mock.patch.object(torch.nn.Module, "load_state_dict"):
        m = inception.fid_inception_v3()
    seeded({k: v.shape for k, v in m.state_dict().items() if "num_batches" not in k}, folder/INCEPTION_FILE)
    return folder

def faces(folder, n=4, size=64):
    rng = np.random.default_rng(0)
    for name in ("fake", "real"):
        (folder/name).mkdir()
        for i in range(n): Image.fromarray(rng.integers(0, 256, (size, size, 3), dtype=np.uint8)).resize((size, size)).save(folder/name/f"{i}.png")
    return folder/"fake", folder/"real"

@pytest.mark.parametrize("net", ["alex", "squeeze", "vgg"])
def test_lpips_equals_the_package(seeded_weights, net):
    file = next(p for p in seeded_weights.iterdir() if p.name.startswith(dict(alex="alexnet", squeeze="squeezenet", vgg="vgg16")[net]))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = import_torchvision("lpips").LPIPS(net=net, version="0.1", pnet_rand=True, verbose=False).eval()
    state = torch.load(file, weights_only=True)
    theirs.net.load_state_dict({k: state["features."+k.split(".", 1)[1]] for k in theirs.net.state_dict()})
    gen = torch.Generator().manual_seed(2)
    a, b = (torch.rand(2, 3, 48, 56, generator=gen)*2-1 for _ in range(2))
    with torch.no_grad(): ours, theirs = LPIPS(net, file)(a, b), theirs(a, b).flatten()
    assert (ours-theirs).abs().max() <= 1e-6 and ours.min() > 0

def test_lpips_squeeze_documented_by_torchmetrics():
    metric = LPIPS("squeeze", trunk("squeeze"))
    torch.manual_seed(123)
    a, b = torch.rand(10, 3, 100, 100)*2-1, torch.rand(10, 3, 100, 100)*2-1
    with torch.no_grad(): assert metric(a, b).mean().item() == pytest.approx(.1008, abs=5e-5)

@pytest.mark.parametrize("name, value", [("ex_p0.png", .722), ("ex_p1.png", .138)])
def test_lpips_alex_of_its_own_examples(name, value):
    with torch.no_grad(): assert LPIPS("alex", trunk("alex"))(load("ex_ref.png"), load(name)).item() == pytest.approx(value, abs=5e-4)

@pytest.mark.parametrize("a, b, value", [("goldhill_jpeg.gif", "goldhill.gif", .89691), ("i01_01_5.bmp", "I01.BMP", .93674)])
def test_fsim_of_the_matlab_code(a, b, value): assert fsim(load(a), load(b)).item() == pytest.approx(value, abs=2e-5)

def test_inception_features_are_those_of_pytorch_fid(seeded_weights, tmp_path, monkeypatch):
    from pytorch_fid import fid_score, inception
    fake, _ = faces(tmp_path, 3)
    state = torch.load(seeded_weights/INCEPTION_FILE, weights_only=True)
    with mock.patch.object(inception, "load_state_dict_from_url", lambda *_, **__: state): theirs = inception.InceptionV3()
    files = sorted(fake.iterdir())
    a = fid_score.get_activations(files, theirs, batch_size=3, num_workers=0)
    b = InceptionFeatures(seeded_weights/INCEPTION_FILE)(torch.cat([(to_tensor(read_image(f))[None]+1)/2 for f in files]))
    np.testing.assert_allclose(a, b.numpy(), rtol=1e-4, atol=1e-5)

def test_all_five_at_once(seeded_weights, tmp_path, monkeypatch):
    "The default of `evaluate`, weights found in PMSGAN_WEIGHTS; the values of seeded networks mean nothing"
    monkeypatch.setenv("PMSGAN_WEIGHTS", str(seeded_weights))
    fake, real = faces(tmp_path)
    scores = evaluate(fake, real, device="cpu")
    assert list(scores) == ["lpips-alex", "lpips-squeeze", "lpips-vgg", "fsim", "fid"] and all(np.isfinite(v) for v in scores.values())
    assert scores.info["features"] == INCEPTION_FILE and set(scores.intervals) == set(scores)-{"fid"}
    net = InceptionFeatures()
    a, b = (net(torch.stack([(to_tensor(read_image(f))+1)/2 for f in sorted(d.iterdir())])) for d in (fake, real))
    assert scores["fid"] == pytest.approx(frechet(a, b), rel=1e-3)
    assert evaluate(fake, real, "kid", device="cpu")["kid"] == pytest.approx(kid(a, b), rel=1e-3)

def test_5509_pictures_of_frechet():
    "More pictures than dimensions, as Sketch2Anime has: the QR road gives what covariances give"
    gen = torch.Generator().manual_seed(3)
    a, b = torch.randn(5509, 64, generator=gen), torch.randn(5509, 64, generator=gen)*1.5+.2
    s, t = a.double().T.cov(), b.double().T.cov()
    root = torch.linalg.eigvals(s @ t).real.clamp(min=0).sqrt().sum()
    exact = (a.double().mean(0)-b.double().mean(0)).square().sum()+s.trace()+t.trace()-2*root
    assert frechet(a, b) == pytest.approx(exact.item(), rel=1e-6)
