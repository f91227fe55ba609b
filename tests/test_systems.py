"The generators of Table IX: their published sizes, and that they draw. Counts are on the meta device, pictures from narrow networks."
import pytest
import torch

from pmsgan.generator import Translation
from pmsgan.systems import SYSTEMS, count

each_system = pytest.mark.parametrize("system", SYSTEMS.values(), ids=SYSTEMS)

def narrow(system, size=64): return system.build(size, 32 if system.name == "psp" else 8)

def test_table_ix():
    "The names, the order and the seconds of the paper's Table IX, then PMSGAN's smaller presets"
    rows = [(s.title, s.paper_seconds) for s in SYSTEMS.values()]
    assert rows[:7] == [("pix2pix", .05), ("CycleGAN", .152), ("APDrawingGAN", .083), ("APDrawingGAN++", .098), ("U²-Net", .075),
                        ("pixel2style2pixel", .109), ("PMSGAN", .058)]
    assert all(s.paper_seconds is None for s in list(SYSTEMS.values())[7:])
    assert all(s.name == name for name, s in SYSTEMS.items())

@each_system
def test_size(system):
    "Built, counted and run at 512×512 on the meta device; the published sizes within 3%"
    with torch.device("meta"): generator = system.build(512)
    n = count(generator, 512)
    assert not generator.training
    with torch.no_grad(): out = generator(torch.empty(1, 3, 512, 512, device="meta"))
    assert isinstance(out, Translation) and out.y.shape == (1, 3, 512, 512)
    if system.parameters: assert n["parameters"]/1e6 == pytest.approx(system.parameters, rel=.03)
    if system.gmacs: assert n["multiply_adds"]/1e9 == pytest.approx(system.gmacs, rel=.03)

@each_system
def test_draws(system):
    "Pictures in [-1, 1] that depend on the input, each for itself, and the same each time"
    torch.manual_seed(0)
    generator, x = narrow(system), torch.rand(2, 3, 64, 64)*2-1
    with torch.no_grad():
        y = generator(x).y
        assert y.shape == x.shape and y.dtype == x.dtype and y.isfinite().all() and y.abs().max() <= 1
        assert torch.equal(generator(x).y, y)
        torch.testing.assert_close(generator(x[1:]).y, y[1:], atol=1e-4, rtol=0)
        assert not torch.equal(y[0], y[1])

@each_system
def test_every_parameter_counts(system):
    "No parameter is there for the count alone: each has a gradient, in one picture or another"
    torch.manual_seed(0)
    generator = narrow(system)
    for _ in range(4): # a classifier sends pictures different ways
        for x in (torch.rand(2, 3, 64, 64)*2-1, torch.randn(2, 3, 64, 64)): generator(x).y.square().mean().backward()
    idle = [name for name, p in generator.named_parameters() if p.grad is None]
    assert all("_kind" in name for name in idle), idle # a verdict has no gradient

@each_system
@pytest.mark.parametrize("size", (128, 256))
def test_other_sizes(system, size):
    with torch.device("meta"): generator = narrow(system, size)
    with torch.no_grad(): assert generator(torch.empty(1, 3, size, size, device="meta")).y.shape == (1, 3, size, size)

@each_system
def test_bf16(system):
    "Converted as a whole, constants included"
    generator = narrow(system).to(torch.bfloat16)
    with torch.no_grad(): y = generator((torch.rand(1, 3, 64, 64)*2-1).to(torch.bfloat16)).y
    assert y.dtype == torch.bfloat16 and y.isfinite().all()

@each_system
def test_count_leaves_the_module_alone(system):
    generator = narrow(system).train()
    before = {k: v.clone() for k, v in generator.state_dict().items()}
    count(generator, 64)
    assert generator.training and all(torch.equal(v, before[k]) for k, v in generator.state_dict().items())
    assert next(generator.parameters()).device.type == "cpu"
