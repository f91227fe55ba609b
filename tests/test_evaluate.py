"`pmsgan evaluate` from outside: pairs of every kind, the table, the files, the errors."
import json
import shutil

import numpy as np
import pytest
from conftest import inside
from PIL import Image

QUICK = ["--metrics", "psnr", "--device", "cpu"]

def picture(i, w=200, h=250, shake=0):
    "A smooth picture of its own for each i; `shake` adds noise, H×W×3 uint8"
    y, x = np.mgrid[:h, :w]
    base = np.stack([128+100*np.sin(x/(9+c+i % 7)+y/(13+i % 5)) for c in range(3)], -1)
    return (base+shake*np.random.default_rng(i).standard_normal(base.shape)).clip(0, 255).astype(np.uint8)

def mixed(folder, n, w=200, h=250):
    "n pairs, JPEG and PNG, gray and color in every combination; every sixteenth is the same"
    for name in ("fake", "real"): (folder/name).mkdir(parents=True)
    for i in range(min(n, 16)):
        fake, real = Image.fromarray(picture(i, w, h, shake=5+i)), Image.fromarray(picture(i, w, h))
        (fake.convert("L") if i % 3 == 0 else fake).save(folder/"fake"/f"{i:03d}{'.jpg' if i % 2 else '.png'}", quality=95)
        (real.convert("L") if i % 4 == 0 else real).save(folder/"real"/f"{i:03d}{'.JPG' if i % 5 == 0 else '.png'}", quality=95)
    for name in ("fake", "real"):
        for p in sorted((folder/name).iterdir()):
            for i in range(int(p.stem)+16, n, 16): shutil.copy(p, folder/name/f"{i:03d}{p.suffix}")
    return folder/"fake", folder/"real"

@pytest.fixture(scope="module")
def folders(tmp_path_factory): return mixed(tmp_path_factory.mktemp("mixed"), 8, 64, 80)

def words(folders, *more): return ["evaluate", "--fake", folders[0], "--real", folders[1], *more]

def fails(done, *words, status=1):
    assert done.returncode == status, done.stdout+done.stderr
    if status == 1: assert done.stderr.startswith("pmsgan: ") and done.stderr.count("\n") == 1, done.stderr
    for w in words: assert w in done.stderr, done.stderr

def test_help():
    done = inside("evaluate", "--help")
    assert done.returncode == 0 and "lpips-alex,lpips-squeeze,lpips-vgg,fsim,fid" in done.stdout.replace("\n", "").replace(" ", "")

def test_338_pairs_of_200_by_250(tmp_path):
    "As many as CUFS has for testing, mixed as published results are"
    fake, real = mixed(tmp_path/"many", 338)
    done = inside("evaluate", "--fake", fake, "--real", real, *QUICK, "--json", tmp_path/"s.json")
    assert done.returncode == 0, done.stderr
    scores = json.loads((tmp_path/"s.json").read_text())
    assert scores["n"] == len(scores["images"]) == 338 and scores["images"]["007"].keys() == {"psnr"}
    low, high = scores["metrics"]["psnr"]["interval"]
    assert low < scores["metrics"]["psnr"]["value"] < high

def test_table_json_and_sheet(folders, tmp_path):
    done = inside(*words(folders, "--metrics", "fsim,ssim,psnr", "--device", "cpu", "--json", tmp_path/"new"/"s.json", "--sheet", tmp_path/"s.png"))
    assert done.returncode == 0 and not done.stderr, done.stderr
    for part in ("8 pairs", "metric", "95% interval", "fsim", "higher"): assert part in done.stdout, done.stdout
    scores = json.loads((tmp_path/"new"/"s.json").read_text())
    mean = np.mean([v["fsim"] for v in scores["images"].values()])
    assert abs(scores["metrics"]["fsim"]["value"]-mean) < 1e-9 and f"{mean:.4f}" in done.stdout
    assert Image.open(tmp_path/"s.png").width > 4*128
    assert sorted(p.name for p in tmp_path.iterdir()) == ["new", "s.png"]

def test_gray_is_three_equal_channels(tmp_path):
    from pmsgan.evaluation import evaluate
    for name in ("gray", "rgb"): (tmp_path/name).mkdir()
    gray = Image.fromarray(picture(1)).convert("L")
    gray.save(tmp_path/"gray"/"a.png")
    gray.convert("RGB").save(tmp_path/"rgb"/"a.png")
    scores = evaluate(tmp_path/"gray", tmp_path/"rgb", metrics="fsim,ssim,psnr", device="cpu")
    assert scores == pytest.approx({"fsim": 1, "ssim": 1, "psnr": 80}, abs=1e-4)

def test_every_picture_is_read_once(folders, monkeypatch):
    "Whatever the metrics; and the values are the same when the pictures come in portions"
    from pmsgan import evaluation
    opened, original = [], evaluation.read_image
    monkeypatch.setattr(evaluation, "read_image", lambda path: opened.append(path) or original(path))
    whole = evaluation.evaluate(*folders, metrics="fsim,ssim,psnr", device="cpu", progress=False)
    assert len(opened) == len(set(opened)) == 16
    monkeypatch.setattr(evaluation.read_pairs, "__defaults__", (*evaluation.read_pairs.__defaults__[:-1], 3*64*80*3))
    parts = evaluation.evaluate(*folders, metrics="fsim,ssim,psnr", device="cpu", progress=False)
    assert len(opened) == 32 and parts == pytest.approx(whole, rel=1e-5) and list(parts.images) == list(whole.images)

def test_pairs_may_differ_in_size_from_each_other(folders, tmp_path):
    for src, name in zip(folders, ("fake", "real")):
        shutil.copytree(src, tmp_path/name)
        Image.fromarray(picture(9, 70, 50)).save(tmp_path/name/"other.png")
    done = inside(*words((tmp_path/"fake", tmp_path/"real"), "--metrics", "fsim,psnr", "--device", "cpu"))
    assert done.returncode == 0 and "9 pairs" in done.stdout, done.stderr

def test_sizes_of_a_pair_differ(folders, tmp_path):
    shutil.copytree(folders[0], tmp_path/"fake")
    Image.fromarray(picture(2, 60, 80)).save(tmp_path/"fake"/"002.png")
    both = (tmp_path/"fake", folders[1])
    fails(inside(*words(both, *QUICK)), "fake/002.png is 60×80", "002.png is 64×80", "--resize 64x80")
    assert inside(*words(both, *QUICK, "--resize", "64x80")).returncode == 0
    assert inside(*words(both, *QUICK, "--resize", "48")).returncode == 0

def test_folders(folders, tmp_path):
    (tmp_path/"empty").mkdir()
    fails(inside(*words((tmp_path/"nowhere", folders[1]), *QUICK)), "nowhere: no such folder")
    fails(inside(*words((tmp_path/"empty", folders[1]), *QUICK)), "holds no pictures")
    shutil.copytree(folders[0], tmp_path/"fake")
    (tmp_path/"fake"/"001.jpg").unlink()
    fails(inside(*words((tmp_path/"fake", folders[1]), *QUICK)), "001 (missing in")

@pytest.mark.parametrize("content", [b"", b"no picture", "half"], ids=["empty", "text", "half"])
def test_unreadable_picture(folders, tmp_path, content):
    shutil.copytree(folders[0], tmp_path/"fake")
    path = tmp_path/"fake"/"003.jpg"
    path.write_bytes(path.read_bytes()[:path.stat().st_size//2] if content == "half" else content)
    both, out = (tmp_path/"fake", folders[1]), tmp_path/"s.json"
    fails(inside(*words(both, *QUICK, "--json", out)), "003.jpg", "--skip-bad")
    assert not out.exists()
    done = inside(*words(both, *QUICK, "--json", out, "--skip-bad")) # the others are scored, but not all was done
    fails(done, "7 pairs were scored; skipped:", "003.jpg")
    assert "7 pairs" in done.stdout
    scores = json.loads(out.read_text())
    assert scores["n"] == 7 and "003" not in scores["images"] and "003.jpg" in scores["skipped"][0]

def test_missing_weights_come_first(folders, tmp_path, monkeypatch):
    monkeypatch.setenv("PMSGAN_WEIGHTS", str(tmp_path))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path/"hub"))
    (tmp_path/"fake").mkdir()
    (tmp_path/"fake"/"000.png").write_bytes(b"never opened")
    done = inside("evaluate", "--fake", tmp_path/"fake", "--real", tmp_path/"fake", "--device", "cpu")
    fails(done, "alexnet-owt-7be5be79.pth", "squeezenet1_1-b8a52dc0.pth", "vgg16-397923af.pth", "pt_inception-2015-12-05-6726825d.pth",
          "https://", str(tmp_path), "--metrics fsim,ssim,psnr needs none")

@pytest.mark.parametrize("more", ["--metrics niqe", "--metrics fsim,", "--resize big", "--resize 1x2x3", "--resize 0", "--seed x"])
def test_wrong_usage_is_2(folders, more): fails(inside(*words(folders, *more.split())), "usage: pmsgan", status=2)

def test_needs_both_folders(): fails(inside("evaluate", "--fake", "x"), "--real", status=2)

def test_places_that_cannot_be_written(folders, tmp_path):
    (tmp_path/"file").write_text("")
    fails(inside(*words(folders, *QUICK, "--json", tmp_path/"file"/"s.json")), "is a file")
    fails(inside(*words(folders, *QUICK, "--json", tmp_path/"s.txt")), "--json", ".json")
    fails(inside(*words(folders, *QUICK, "--sheet", tmp_path/"s.gif")), "--sheet", ".png")
    fails(inside(*words(folders, "--metrics", "fid", "--device", "cpu", "--sheet", tmp_path/"s.png")), "--sheet", "fid")
    assert [p.name for p in tmp_path.iterdir()] == ["file"]
