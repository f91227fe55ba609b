"Faster ways to run a generator: equal pictures, files that carry what they need, errors in one line."
import json
import sys
import time

import numpy as np
import pytest
import torch
from conftest import inside
from PIL import Image

from pmsgan import engines
from pmsgan.engines import ENGINES, Tiles, export_onnx, fastest, levels_apart, load_onnx, pipeline, prepare
from pmsgan.generator import Generator, GeneratorConfig
from pmsgan.runs import load_generator, save_generator

SIZES = ((1, 64, 64), (2, 48, 80), (1, 37, 50)) # square, not square in a batch, not divisible by 4

@pytest.fixture(scope="module")
def generator():
    "Untrained, but strong enough that a wrong engine shows"
    torch.manual_seed(0)
    g = Generator(GeneratorConfig.preset("tiny")).eval()
    with torch.no_grad():
        for p in g.parameters(): p.add_(torch.randn_like(p)*.02)
    return g

def noise(batch, h, w): return torch.rand(batch, 3, h, w, generator=torch.Generator().manual_seed(1))*2-1

@torch.no_grad()
def worst(engine, generator, x):
    found, wanted = engine(x), generator(x)
    assert [t.shape for t in found[:3]] == [t.shape for t in wanted[:3]]
    return max(float((a-b).abs().max()) for a, b in zip(found[:3], wanted[:3]))

needs = dict(onnxruntime=("onnx", "onnxruntime"), openvino=("onnx", "openvino"))
needs["openvino-bf16"] = needs["openvino"]

@pytest.mark.parametrize("name", [n for n in ENGINES if n not in ("cuda-graph", "compile", "compile-bf16")])
def test_equal(name, generator):
    for package in needs.get(name, ()): pytest.importorskip(package)
    engine = prepare(generator, name)
    limit = .3 if "bf16" in name else 1e-4
    for shape in SIZES: assert worst(engine, generator, noise(*shape)) <= limit, (name, shape)

@pytest.mark.slow
def test_compile(generator):
    "One program for all sizes"
    try: engine = prepare(generator, "compile")
    except ValueError as e: pytest.skip(str(e))
    for shape in SIZES[::2]: assert worst(engine, generator, noise(*shape)) <= 1e-4, shape

def test_compile_without_a_compiler(generator, monkeypatch):
    def broken(*_, **__): return lambda x: (_ for _ in ()).throw(RuntimeError("no g++ found\nand pages more"))
    monkeypatch.setattr(torch, "compile", broken)
    with pytest.raises(ValueError, match="no g\\+\\+ found.*needs a C\\+\\+ compiler") as e: prepare(generator, "compile")
    assert "\n" not in str(e.value)

def test_unknown_engine(run):
    with pytest.raises(ValueError, match="engine 'warp': expected one of eager, channels-last"): load_generator(run, engine="warp")
    assert isinstance(load_generator(run)[0], Generator)
    engine, info = load_generator(run, engine="channels-last")
    assert engine.name == "channels-last" and engine.config == load_generator(run)[0].config and info["record"]["step"] == 3

@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_cuda_graph(generator):
    g = Generator(generator.config).cuda().eval()
    engine = prepare(g, "cuda-graph")
    for shape in (*SIZES, SIZES[0]): assert levels_apart(engine(noise(*shape).cuda()), g(noise(*shape).cuda())) <= 1

def test_cuda_graph_without_a_gpu(generator):
    with pytest.raises(ValueError, match="needs a CUDA device"): prepare(generator, "cuda-graph")

# export ---------------------------------------------------------------------------
@pytest.mark.parametrize("config", [GeneratorConfig.preset("tiny"), GeneratorConfig.ablation("a", "tiny"), GeneratorConfig.preset("tiny", norm="instance"), GeneratorConfig.preset("fast", blocks=1, gray="both"),
                                    GeneratorConfig.preset("tiny", mask="space")], ids=["tiny", "a", "instance", "fast", "space"])
def test_export(config, tmp_path):
    for package in needs["onnxruntime"]: pytest.importorskip(package)
    torch.manual_seed(0)
    g = Generator(config).eval()
    record = dict(record=dict(step=3, train=dict(size=48)))
    assert export_onnx(g, tmp_path/"g.onnx", record) <= 1e-4
    engine, info = load_onnx(tmp_path/"g.onnx")
    assert engine.config == config and info["record"] == record["record"]
    assert GeneratorConfig.from_dict(json.loads(json.dumps(info["config"]))) == config
    with torch.no_grad():
        for shape in SIZES:
            for a, b in zip(engine(noise(*shape))[:3], g(noise(*shape))[:3]):
                assert (a is None and b is None) or float((a-b).abs().max()) <= 1e-4, shape

def test_a_wrong_export_leaves_nothing(generator, tmp_path, monkeypatch):
    for package in needs["onnxruntime"]: pytest.importorskip(package)
    graph, other = engines.onnx_graph, Generator(GeneratorConfig.preset("tiny")).eval()
    (tmp_path/"g.onnx").write_text("an earlier one")
    monkeypatch.setattr(engines, "onnx_graph", lambda g: graph(other)) # another network's numbers
    with pytest.raises(ValueError, match="g.onnx: the exported graph differs"): export_onnx(generator, tmp_path/"g.onnx")
    assert [p.read_text() for p in tmp_path.iterdir()] == ["an earlier one"]

def test_missing_packages(generator, monkeypatch):
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(ImportError, match=r'pip install -e "\.\[openvino\]"'): prepare(generator, "openvino")

def test_export_command(run, pairs, tmp_path):
    for package in needs["onnxruntime"]: pytest.importorskip(package)
    done = inside("export", run, "--out", tmp_path/"g.onnx")
    assert done.returncode == 0 and "differs from PyTorch by at most" in done.stdout, done.stderr
    for words in ([run], [tmp_path/"g.onnx"]):
        done = inside("translate", *words, pairs/"photo", "--out", tmp_path/words[0].name.partition(".")[0], "--device", "cpu")
        assert done.returncode == 0 and not done.stderr, done.stderr
    same(tmp_path/run.name, tmp_path/"g")
    for words in (["--fast"], ["--tile", 64]):
        done = inside("translate", tmp_path/"g.onnx", pairs/"photo", "--out", tmp_path/"x", *words)
        assert done.returncode == 1 and "generator.safetensors" in done.stderr and done.stderr.count("\n") == 1
    assert inside("export", run, "--out", tmp_path/"g.pt").returncode == 1

# translate ------------------------------------------------------------------------
def same(a, b):
    "The same files, at most one level apart"
    assert sorted(p.name for p in a.iterdir()) == sorted(p.name for p in b.iterdir())
    for p in a.iterdir():
        off = np.abs(np.asarray(Image.open(p), int)-np.asarray(Image.open(b/p.name), int)).max()
        assert off <= 1, (p.name, off)

@pytest.mark.parametrize("words", [["--fast"], ["--fast", "--batch", 4, "--stages"], ["--engine", "channels-last", "--batch", 3], ["--tile", 16]], ids=str)
def test_translate(words, run, pairs, tmp_path):
    plain = ["translate", run, pairs/"photo", "--device", "cpu", *(["--stages"] if "--stages" in words else [])]
    for name, more in (("plain", []), ("other", words)):
        done = inside(*plain, *more, "--out", tmp_path/name)
        assert done.returncode == 0 and not done.stderr, done.stderr
        if "--fast" in more: assert done.stdout.startswith("--fast: ") and "255 levels" in done.stdout
    same(tmp_path/"plain", tmp_path/"other")

def test_fast_goes_on(generator, monkeypatch):
    "What is missing or draws something else is named, and the next one tried"
    lines, real = [], prepare
    def harmed(g, name, **kw):
        if name == "openvino": raise ImportError("openvino is not installed")
        if name == "onnxruntime": return lambda x: generator(x)._replace(y=generator(x).y.flip(2))
        return real(g, name, **kw)
    monkeypatch.setattr(engines, "prepare", harmed)
    assert fastest(generator, noise(1, 64, 64), lines.append).name == "channels-last"
    assert len(lines) == 1 and "openvino is not installed" in lines[0] and "not onnxruntime" in lines[0]

def test_options_that_exclude_each_other(run, pairs, tmp_path):
    for words in (["--fast", "--engine", "bf16"], ["--fast", "--tile", 64], ["--engine", "bf16", "--tile", 64]):
        done = inside("translate", run, pairs/"photo", "--out", tmp_path/"x", *words)
        assert done.returncode == 1 and "leave" in done.stderr and done.stderr.count("\n") == 1
    assert not (tmp_path/"x").exists()

def test_writer_fails(run, pairs, tmp_path, monkeypatch):
    "The error comes out, and what was written is whole"
    from pmsgan import tools
    save = tools.save_picture
    def full(path, pixels):
        if path.name == "0003.png": raise OSError(28, "No space left on device", str(path))
        save(path, pixels)
    monkeypatch.setattr(tools, "save_picture", full)
    done = inside("translate", run, pairs/"photo", "--out", tmp_path, "--device", "cpu", "--batch", 2)
    assert done.returncode == 1 and "0003.png: No space left" in done.stderr and done.stderr.count("\n") == 1
    assert sorted(p.name for p in tmp_path.iterdir()) == ["0000.png", "0001.png", "0002.png"]

# tiles ----------------------------------------------------------------------------
@pytest.mark.parametrize("config", [GeneratorConfig.preset("tiny"), GeneratorConfig.ablation("a", "tiny"), GeneratorConfig.ablation("c", "tiny"), GeneratorConfig.preset("fast", blocks=1),
                                    GeneratorConfig.preset("tiny", mask="sigmoid")], ids=["tiny", "a", "c", "fast", "sigmoid"])
def test_tiles(config):
    torch.manual_seed(0)
    g, x = Generator(config).eval(), noise(2, 104, 440)
    with torch.no_grad(): whole = g(x)
    for a, b in zip(Tiles(g, 64)(x), whole[:3]): assert float((a-b).abs().max()) <= 1e-4

def test_what_cannot_be_tiled(tmp_path, pairs):
    for bad in (dict(norm="instance"), dict(mask="space")):
        g = Generator(GeneratorConfig.preset("tiny", **bad)).eval()
        with pytest.raises(ValueError, match="cannot work in tiles"): Tiles(g)
        save_generator(tmp_path/"g.safetensors", g)
        done = inside("translate", tmp_path/"g.safetensors", pairs/"photo", "--out", tmp_path/"x", "--tile", 64)
        assert done.returncode == 1 and "cannot work in tiles" in done.stderr and not (tmp_path/"x").exists()

# the pipeline ---------------------------------------------------------------------
def test_pipeline_is_bounded():
    "A fast reader waits for the network"
    seen = []
    def work(group):
        time.sleep(.005)
        seen.append(len(read))
        return group
    read = []
    done = list(pipeline(range(30), lambda i: read.append(i) or np.zeros(1), work, lambda i, y: None, ahead=3))
    assert done == list(range(30)) and all(n <= i+1+3 for i, n in enumerate(seen))
