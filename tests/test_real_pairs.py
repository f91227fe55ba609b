"""Real photographs and sketches, where there are some: PMSGAN_REAL_PAIRS names a folder with photo/ and sketch/.

They are never part of the project."""
import pytest
from conftest import QUICK, REAL_PAIRS, inside
from PIL import Image

pytestmark = pytest.mark.skipif(not (REAL_PAIRS/"photo").is_dir(), reason="no real pairs here: set PMSGAN_REAL_PAIRS to a folder with photo/ and sketch/")

def test_read():
    from pmsgan.pyramid import PairDataset
    pairs = PairDataset(REAL_PAIRS/"photo", REAL_PAIRS/"sketch", size=64)
    for pair in (pairs[i] for i in range(len(pairs))):
        for im in (pair["source"], pair["target"]): assert im.shape == (3, 64, 64) and im.min() >= -1 and im.max() <= 1 and im.std() > 0.05
    assert len({name for name, *_ in pairs.pairs}) == len(pairs)

def test_train_and_translate(tmp_path):
    done = inside("train", "--source", REAL_PAIRS/"photo", "--target", REAL_PAIRS/"sketch", "--out", tmp_path/"run", *QUICK, "--steps", 4)
    assert done.returncode == 0, done.stderr
    one = sorted((REAL_PAIRS/"photo").iterdir())[0]
    assert inside("translate", tmp_path/"run", one, "--out", tmp_path/"out", "--size", "native", "--device", "cpu").returncode == 0
    assert Image.open(tmp_path/"out"/f"{one.stem}.png").size == Image.open(one).size
