"The explorers without a browser: what an update costs beside its unavoidable parts, and LPIPS with real weights."
import statistics
import time

import pytest
import torch
from conftest import ROOT, WEIGHTS

from pmsgan.attention import AttentionExplorer, Look
from pmsgan.explorer import Scene, SceneControls, StageExplorer, load_lpips
from pmsgan.faces import face
from pmsgan.switchboard import Switchboard
from pmsgan.weights import LPIPS

CHECKPOINT = ROOT/"data"/"checkpoints"/"sketch.safetensors"

def seconds(f, n=7):
    "Median time of f(1) … f(n), after f(0)"
    f(0)
    taken = []
    for i in range(1, n+1):
        start = time.perf_counter()
        f(i)
        taken.append(time.perf_counter()-start)
    return statistics.median(taken)

def controls_of(explorer): return next(c for c in explorer.children if isinstance(c, SceneControls))

MAKERS = [(StageExplorer, 1), (AttentionExplorer, 1), (lambda s: AttentionExplorer(s, Look("a pixel")), 3),
          (Switchboard, 2)]

@pytest.mark.parametrize("make,passes", MAKERS, ids=["stages", "attention", "a pixel", "switchboard"])
def test_update_costs_little_beside_its_parts(make, passes):
    "A new face at 128²: the face, the passes through the network (a backward pass counts as two), and at most a quarter on top"
    scene = Scene(CHECKPOINT)
    explorer = make(scene)
    if isinstance(explorer, Switchboard): explorer.controls["dff"].value = False
    seed = controls_of(explorer).seed
    with torch.no_grad(): network = seconds(lambda i: scene.generator(scene.source[None]))
    parts = seconds(lambda i: face(40+i, 128))+passes*network
    update = seconds(lambda i: setattr(seed, "value", 50+i))
    assert explorer.error is None
    print(f"update / its parts: {update/parts:.2f}; update {1000*update:.0f} ms, one pass {1000*network:.0f} ms, "
          f"{torch.get_num_threads()} threads")
    assert update < 1.25*parts

def test_lpips_with_real_weights(monkeypatch):
    "Stages and switchboard say what LPIPS itself says"
    if not any((WEIGHTS/f).is_file() for f in ("alexnet-owt-7be5be79.pth", "alexnet_features.pth")):
        pytest.skip("no ImageNet weights for alex here: PMSGAN_WEIGHTS may name a folder that has them")
    monkeypatch.setenv("PMSGAN_WEIGHTS", str(WEIGHTS))
    load_lpips.cache_clear()
    try:
        scene = Scene(CHECKPOINT)
        stages = StageExplorer(scene)
        assert not stages.lpips.disabled
        stages.lpips.value = True
        with torch.no_grad(): expected = LPIPS("alex")(scene.seen.y, scene.target[None]).item()
        final = next(p for p in stages.view.panes if p.name == "final")
        assert f"LPIPS {expected:.3f}" in final.note and 0 < expected < .2, final.note
        assert "LPIPS" in Switchboard(scene).view.text
    finally: load_lpips.cache_clear() # its network came from a folder that other tests do not know
