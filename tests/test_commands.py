"The command line from outside: exit status, one line on standard error, nothing half-written."
import json
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter

import numpy as np
import pytest
import torch
from conftest import ENV, PMSGAN, QUICK, ROOT, inside, pmsgan, train_words
from PIL import Image
from safetensors.torch import load_file

from pmsgan import commands, images
from pmsgan.commands import main
from pmsgan.runs import load_generator

def fails(done, *words):
    "Status 1, exactly one line on standard error, and the words in it"
    assert done.returncode == 1, done.stdout+done.stderr
    assert done.stderr.startswith("pmsgan: ") and done.stderr.count("\n") == 1, done.stderr
    for w in words: assert w in done.stderr, done.stderr

@pytest.mark.parametrize("command", [[], ["faces"], ["database"], ["align"], ["train"], ["translate"], ["evaluate"], ["compare"], ["export"], ["benchmark"], ["explore"], ["demo"]], ids=str)
def test_help(command):
    done = inside(*command, "--help")
    assert done.returncode == 0 and "usage: pmsgan" in done.stdout and not done.stderr
    if command: assert "default: " in done.stdout

def test_help_imports_nothing_heavy():
    code = "import sys\nfrom pmsgan.commands import main\ntry: main(['train', '--help'])\nfinally: assert not {'torch', 'numpy', 'PIL'} & set(sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True).returncode == 0

def test_version(): assert pmsgan("--version").stdout.startswith("pmsgan 0.")

@pytest.mark.parametrize("words", ["", "paint", "faces", "faces --n 0 --out x", "train --out x", "train --source a --target b --out x --size 65",
                                   "train --source a --target b --out x --preset huge", "translate x", "translate x y --out z --size 2",
                                   "train --target b --out x --database cuhk", "database nowhere x", "align x", "align x --out y --template round",
                                   "compare --source a --target b --test-source c --test-target d --out x --methods e,f", "compare --out x",
                                   "explore --port 0", "explore --size 65"])
def test_wrong_usage_is_2(words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = inside(*words.split())
    assert done.returncode == 2 and "usage: " in done.stderr and not list(tmp_path.iterdir())

def test_from_outside(run, tmp_path):
    "What the tests below see within this process is what a shell sees"
    fails(pmsgan("translate", run, tmp_path/"nowhere.png", "--out", tmp_path/"out", "--device", "cpu"), "nowhere.png")
    done = pmsgan("translate", run, tmp_path/"nowhere.png", "--out", tmp_path/"out", "--debug")
    assert done.returncode == 1 and "Traceback" in done.stderr
    assert pmsgan("paint").returncode == 2

# bad pairs ---------------------------------------------------------------------
def cut_short(p): (p/"photo"/"0003.png").write_bytes((p/"photo"/"0003.png").read_bytes()[:300])
def not_an_image(p): (p/"drawing"/"0002.png").write_text("hello")
def lone(p): (p/"drawing"/"0001.png").unlink()
def resized(p): Image.open(p/"drawing"/"0004.png").resize((40, 32)).save(p/"drawing"/"0004.png")
def tiny(p):
    for d in ("photo", "drawing"): Image.open(p/d/"0005.png").resize((3, 3)).save(p/d/"0005.png")
def emptied(p):
    for f in (p/"photo").iterdir(): f.unlink()
def removed(p): shutil.rmtree(p/"photo")

@pytest.mark.parametrize("harm, words", [(cut_short, ["photo", "0003.png"]), (not_an_image, ["drawing", "0002.png"]), (lone, ["0001", "drawing"]),
                                         (resized, ["0004.png", "40×32"]), (tiny, ["0005.png", "3×3"]), (emptied, ["photo"]), (removed, ["photo"])],
                         ids=lambda o: getattr(o, "__name__", ""))
def test_bad_pairs(harm, words, pairs, tmp_path):
    shutil.copytree(pairs, tmp_path/"pairs")
    harm(tmp_path/"pairs")
    fails(inside(*train_words(tmp_path/"pairs", tmp_path/"run", "--steps", 2)), *words)
    assert not (tmp_path/"run").exists()

def test_train_refuses(pairs, run, tmp_path):
    (tmp_path/"file").write_text("")
    fails(inside(*train_words(pairs, tmp_path/"file"/"run")), "is a file")
    fails(inside(*train_words(pairs, run)), "--resume")
    fails(inside("train", "--out", run, "--resume", "--preset", "small"), "--preset small", "tiny")
    fails(inside("train", "--out", run, "--resume", "--steps", 2), "3 steps already")
    fails(inside("train", "--out", tmp_path/"new", "--resume"), "no run")
    fails(inside(*train_words(pairs, tmp_path/"new", "--device", "cuda:99")), "cuda:99")
    fails(inside(*train_words(pairs, tmp_path/"new", "--lr", "1e30")), "nan", "step 1")

def test_missing_weights_are_named(pairs, tmp_path, monkeypatch):
    monkeypatch.setenv("PMSGAN_WEIGHTS", str(tmp_path))
    monkeypatch.setattr(torch.hub, "_hub_dir", str(tmp_path)) # an empty cache
    words = [w for w in train_words(pairs, tmp_path/"run") if w not in ("--features", "random")]
    fails(inside(*words), "vgg19-dcbb9e9d.pth", str(tmp_path), "--download-weights")

# translate -----------------------------------------------------------------------
def test_translate(pairs, run, tmp_path):
    done = inside("translate", run, pairs/"photo", "--out", tmp_path, "--stages", "--device", "cpu")
    assert done.returncode == 0 and not done.stderr
    assert len(list(tmp_path.iterdir())) == 18
    assert [Image.open(tmp_path/f"0000{e}.png").size for e in ("", "_stage2", "_stage3")] == [(32, 32), (16, 16), (8, 8)]

def test_translate_native_size(run, tmp_path):
    Image.new("RGB", (45, 38), "olive").save(tmp_path/"a.png")
    assert inside("translate", run/"generator.safetensors", tmp_path/"a.png", "--out", tmp_path/"out", "--size", "native").returncode == 0
    assert Image.open(tmp_path/"out"/"a.png").size == (45, 38)

def test_translate_refuses(pairs, run, tmp_path):
    photos = tmp_path/"photos"
    shutil.copytree(pairs/"photo", photos)
    before = {p: p.read_bytes() for p in photos.iterdir()}
    fails(inside("translate", run, photos, "--out", photos), "overwritten")
    assert before == {p: p.read_bytes() for p in photos.iterdir()}
    (photos/"0003.png").write_bytes(before[photos/"0003.png"][:300])
    fails(inside("translate", run, photos, "--out", tmp_path/"out"), "0003.png", "nothing was written")
    assert not (tmp_path/"out").exists()
    fails(inside("translate", run, photos, "--out", tmp_path/"out", "--skip-bad"), "0003.png", "5 pictures")
    assert len(list((tmp_path/"out").iterdir())) == 5
    fails(inside("translate", run/"state.safetensors", photos, "--out", tmp_path/"o2"), "generator.safetensors")
    fails(inside("translate", photos/"0000.png", photos, "--out", tmp_path/"o2"), "0000.png")
    fails(inside("translate", tmp_path/"nowhere", photos, "--out", tmp_path/"o2"), "nowhere")

def test_database_and_align_refuse(pairs, tmp_path):
    "Nothing is written where something is missing"
    fails(inside("database", "cuhk", tmp_path/"nowhere"), "nowhere")
    fails(inside("database", "ar", pairs, "--photo", "photo", "--sketch", "drawing"), "partition")
    fails(inside("train", "--database", "ar", "--source", tmp_path/"nowhere", "--out", tmp_path/"out"), "nowhere")
    fails(inside("align", tmp_path/"nowhere", "--out", tmp_path/"out"), "nowhere")
    fails(inside("align", pairs/"photo", "--out", tmp_path/"out", "--landmarks", tmp_path/"eyes.csv"), "eyes.csv")
    assert not (tmp_path/"out").exists()

def test_compare(pairs, tmp_path):
    "Two methods, then the same again from what was kept, then other settings, which are refused"
    words = ["compare", *(w for part in ("", "test-") for k, d in (("source", "photo"), ("target", "drawing")) for w in (f"--{part}{k}", pairs/d)),
             "--methods", "a,b", "--seeds", "0", "--metrics", "psnr", "--steps", "2", "--out", tmp_path/"out", *QUICK]
    first = inside(*words)
    assert first.returncode == 0 and "a / b" in first.stdout, first.stderr
    trial = tmp_path/"out"/"a-seed0"/"trial.json"
    before = trial.stat().st_mtime_ns
    assert inside(*words).returncode == 0 and trial.stat().st_mtime_ns == before
    fails(inside(*words, "--steps", "3"), "a-seed0")

def test_checkpoint_of_another_preset(run, tmp_path):
    "Weights under a header that describes another network"
    from safetensors import safe_open
    from safetensors.torch import save_file
    with safe_open(run/"generator.safetensors", "pt") as f: info = json.loads(f.metadata()["pmsgan"])
    info["config"]["widths"] = [16, 32, 64]
    save_file(load_file(run/"generator.safetensors"), tmp_path/"g.safetensors", metadata={"pmsgan": json.dumps(info)})
    Image.new("RGB", (32, 32)).save(tmp_path/"a.png")
    fails(inside("translate", tmp_path/"g.safetensors", tmp_path/"a.png", "--out", tmp_path/"out"), "g.safetensors", "do not belong together")

def test_kinds_of_pictures(pairs, run, tmp_path):
    "Gray, transparent, palette, CMYK and 16-bit pictures; the result is that of the same picture in RGB"
    photo = Image.open(pairs/"photo"/"0000.png").convert("RGB")
    gray, folder = photo.convert("L"), tmp_path/"in"
    folder.mkdir()
    kinds = dict(rgb=photo, rgba=photo.convert("RGBA"), gray=gray, gray_rgb=gray.convert("RGB"), la=gray.convert("LA"),
                 sixteen=Image.fromarray(np.asarray(gray).astype(np.uint16)*257), palette=photo.convert("P"), palette_rgb=photo.convert("P").convert("RGB"))
    for name, im in kinds.items(): im.save(folder/f"{name}.png")
    photo.convert("CMYK").save(folder/"cmyk.tif")
    done = inside("translate", run, folder, "--out", tmp_path/"out")
    assert done.returncode == 0, done.stderr
    out = {p.stem: np.asarray(Image.open(p)).astype(int) for p in (tmp_path/"out").iterdir()}
    assert len(out) == 9 and all(a.shape == (32, 32, 3) for a in out.values())
    for a, b in [("rgba", "rgb"), ("gray", "gray_rgb"), ("la", "gray_rgb"), ("sixteen", "gray_rgb"), ("palette", "palette_rgb"), ("cmyk", "rgb")]:
        assert np.abs(out[a]-out[b]).max() <= 1, a

def test_full_disk(pairs, run, tmp_path, monkeypatch, capsys):
    "A write that fails half-way leaves neither a result nor a temporary file"
    def half(self, path, *args, **kwargs):
        with open(path, "wb") as f: f.write(b"half")
        raise OSError(28, "No space left on device", str(path))
    monkeypatch.setattr(Image.Image, "save", half)
    assert main(["translate", str(run), str(pairs/"photo"), "--out", str(tmp_path/"out")]) == 1
    assert "No space left" in capsys.readouterr().err and not list((tmp_path/"out").iterdir())

# stopping ------------------------------------------------------------------------
def same_weights(a, b):
    a, b = load_file(a/"state.safetensors"), load_file(b/"state.safetensors")
    assert a.keys() == b.keys()
    return all(torch.equal(a[k], b[k]) for k in a)

class CtrlC:
    "A callback that presses Ctrl-C after the fifth step"
    def before_fit(self, trainer): pass
    def after_step(self, trainer):
        if trainer.step == 5: signal.raise_signal(signal.SIGINT)
    def after_fit(self, trainer): pass

@pytest.mark.slow
def test_ctrl_c_and_resume(pairs, tmp_path, monkeypatch):
    "Ctrl-C keeps a checkpoint; the resumed run ends like one that was never stopped"
    words = ["--steps", 12, "--samples-every", 2, "--ema", 0.9]
    with monkeypatch.context() as m:
        m.setattr(commands, "progress", CtrlC)
        fails(inside(*train_words(pairs, tmp_path/"stopped", *words)), "stopped after step 5", "--resume")
    assert load_generator(tmp_path/"stopped")[1]["record"]["step"] == 5
    done = inside("train", "--out", tmp_path/"stopped", "--resume", "--device", "cpu")
    assert done.returncode == 0, done.stderr
    assert inside(*train_words(pairs, tmp_path/"whole", *words)).returncode == 0
    assert same_weights(tmp_path/"stopped", tmp_path/"whole")
    assert (tmp_path/"stopped"/"losses.jsonl").read_text() == (tmp_path/"whole"/"losses.jsonl").read_text()

def test_lines_where_there_is_no_terminal(pairs, tmp_path):
    done = inside(*train_words(pairs, tmp_path/"run", "--steps", 4))
    assert done.returncode == 0 and not done.stderr
    assert [l.split(":")[0] for l in done.stdout.splitlines() if l.startswith("step ")] == [f"step {i} of 4" for i in (1, 2, 3, 4)]

@pytest.mark.parametrize("room", [2**30, 0])
def test_each_picture_is_decoded_once(pairs, run, tmp_path, monkeypatch, room):
    "Where there is room, `train` and `translate` open each file once; where there is none, `translate` still decodes it once"
    opened, read = Counter(), Counter()
    pil, ours = Image.open, images.read_image
    monkeypatch.setattr(commands, "ROOM", room)
    monkeypatch.setattr(Image, "open", lambda p, *a, **kw: opened.update([str(p)]) or pil(p, *a, **kw))
    monkeypatch.setattr(images, "read_image", lambda p, *a, **kw: read.update([str(p)]) or ours(p, *a, **kw))
    assert inside("translate", run, pairs/"photo", "--out", tmp_path/"out", "--device", "cpu").returncode == 0
    assert set(read.values()) == {1} and len(read) == 6
    assert set(opened.values()) == ({1} if room else {2})
    if not room: return
    opened.clear()
    assert inside(*train_words(pairs, tmp_path/"run", "--steps", 12)).returncode == 0
    assert set(opened.values()) == {1} and len(opened) == 12

def test_bad_pictures_without_room(pairs, run, tmp_path, monkeypatch):
    "A glance finds them as well, before anything is written"
    monkeypatch.setattr(commands, "ROOM", 0)
    for harm, words in ((cut_short, ["0003.png"]), (resized, ["0004.png", "40×32"]), (tiny, ["0005.png", "3×3"])):
        place = tmp_path/harm.__name__
        shutil.copytree(pairs, place)
        harm(place)
        fails(inside(*train_words(place, place/"run", "--steps", 2)), *words)
        assert not (place/"run").exists()

@pytest.mark.slow
def test_killed(pairs, tmp_path):
    "Files under their final names are whole even when the process is killed while it writes all the time"
    words = train_words(pairs, tmp_path/"run", "--steps", 500, "--samples-every", 1, "--checkpoint-every", 1)
    p = subprocess.Popen([PMSGAN, *map(str, words)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=ENV)
    for _ in range(1200): # any moment after the third sheet will do
        if (tmp_path/"run"/"samples"/"step000003.png").exists() or p.poll() is not None: break
        time.sleep(0.05)
    p.kill()
    assert p.wait(timeout=120) == -signal.SIGKILL
    load_generator(tmp_path/"run")
    for p in (tmp_path/"run"/"samples").glob("step*.png"): Image.open(p).load()
    step = json.loads((tmp_path/"run"/"generator.json").read_text())["record"]["step"]
    run = json.loads((tmp_path/"run"/"run.json").read_text())
    run["options"]["steps"] = step+2 # as if so many had been asked for
    (tmp_path/"run"/"run.json").write_text(json.dumps(run))
    done = inside("train", "--out", tmp_path/"run", "--resume", "--device", "cpu")
    assert done.returncode == 0, done.stderr

# demo ------------------------------------------------------------------------------
@pytest.mark.slow
def test_demo(tmp_path):
    inside("faces", "--n", 10, "--size", 32, "--out", tmp_path/"faces")
    (tmp_path/"faces"/"drawing").rename(tmp_path/"faces"/"sketch")
    shutil.copy(tmp_path/"faces"/"photo"/"0000.png", tmp_path/"portrait.png")
    done = inside("demo", "--data", tmp_path/"faces", "--out", tmp_path/"demo", "--size", 32, "--steps", 3, "--features", "random", "--device", "cpu")
    assert done.returncode == 0, done.stderr
    assert Image.open(tmp_path/"demo"/"sheet.png").width > 5*64
    metrics = json.loads((tmp_path/"demo"/"metrics.json").read_text())
    assert set(metrics["metrics"]) == {"trained", "untrained", "copy the input"} and metrics["held_out"] == 8
    load_generator(tmp_path/"demo")

def test_demo_without_data(tmp_path):
    fails(inside("demo", "--data", tmp_path/"faces", "--out", tmp_path/"demo"), "no such folder", "--data")
    assert not (tmp_path/"demo").exists()

def test_generator_in_the_box(tmp_path):
    "The shipped generator works at once, on a real photograph and on faces that it was not trained on"
    path, faces = ROOT/"data"/"checkpoints"/"sketch.safetensors", ROOT/"data"/"faces"
    assert path.stat().st_size <= 8_000_000
    done = inside("translate", path, ROOT/"data"/"portrait.png", "--out", tmp_path, "--stages", "--device", "cpu")
    assert done.returncode == 0, done.stderr
    sizes = {p.stem: Image.open(p).size[0] for p in tmp_path.iterdir()}
    assert sizes == {"portrait": 128, "portrait_stage2": 64, "portrait_stage3": 32}
    for stem in ("0056", "0057"): assert inside("translate", path, faces/"photo"/f"{stem}.png", "--out", tmp_path, "--device", "cpu").returncode == 0
    read = lambda p: np.asarray(Image.open(p).convert("RGB"), dtype=float)
    for stem in ("0056", "0057"):
        drawn, photo, target = (read(p) for p in (tmp_path/f"{stem}.png", faces/"photo"/f"{stem}.png", faces/"sketch"/f"{stem}.png"))
        assert abs(drawn-target).mean() < 0.3*abs(photo-target).mean()

def test_explore_refuses_before_it_serves(tmp_path, run):
    fails(inside("explore", tmp_path/"nowhere.safetensors", "--no-browser"), "no such checkpoint")
    fails(inside("explore", run/"generator.safetensors", "--run", tmp_path, "--no-browser"), str(tmp_path))
