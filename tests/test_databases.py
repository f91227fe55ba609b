"""The real CUHK student pictures, where there are some: PMSGAN_CUHK names a folder with train/ and test/.

They are never part of the project. Everything else about databases is tested in their notebook."""
import os
from pathlib import Path

import pytest
from conftest import ROOT

from pmsgan.databases import DatabasePairs, arrange, check, published

PLACE = Path(os.environ.get("PMSGAN_CUHK", ROOT.parent/"shared"/"data"/"cuhk_student"))
real = pytest.mark.skipif(not (PLACE/"train"/"photo").is_dir(), reason="no CUHK pictures here: set PMSGAN_CUHK to their folder")

def test_lists_as_files():
    "data/partitions says the same as the package, which needs no file"
    for part, names in published("cuhk").items():
        assert (ROOT/"data"/"partitions"/"cuhk"/f"{part}.txt").read_text(encoding="utf-8").split() == names

@real
def test_check():
    before = sorted((p, p.stat().st_mtime_ns) for p in PLACE.rglob("*"))
    report = check("cuhk", PLACE, deep=True)
    counts = {part: found for _, part, found, _ in report.counts}
    assert counts["train"] == 88 and counts["test"] <= 100
    assert report.ok == (counts["test"] == 100)
    if counts["test"] == 50: assert "names of the partition that are not there (50): f-040-01" in str(report)
    assert "differ in size" not in str(report) and "other part" not in str(report) and "200×250" in str(report)
    assert before == sorted((p, p.stat().st_mtime_ns) for p in PLACE.rglob("*"))

@real
def test_pairs():
    pairs = DatabasePairs("cuhk", PLACE, size=64)
    assert [p[0] for p in pairs.pairs] == sorted(published("cuhk")["train"])
    other = DatabasePairs("cuhk", PLACE, part="test", size=64, swap=True)
    assert not {p[0] for p in pairs.pairs} & {p[0] for p in other.pairs}
    for item in (pairs[0], pairs[87], other[0]):
        for im in (item["source"], item["target"]): assert im.shape == (3, 64, 64) and im.std() > 0.05

@real
def test_published_list_on_undivided_pictures(tmp_path):
    "All pictures in photos/ and sketches/, the sketches under the archive's names"
    train = set(published("cuhk")["train"])
    for kind in ("photo", "sketch"):
        (tmp_path/kind).mkdir()
        for part in ("train", "test"):
            for f in (PLACE/part/kind).iterdir():
                name = f.stem if kind == "photo" else (f.stem[0].upper()+"2"+f.stem[1:] if f.stem in train else f.stem)+"-sz1"
                (tmp_path/kind/(name+f.suffix)).write_bytes(f.read_bytes())
    assert len(DatabasePairs("cuhk", tmp_path, size=64)) == 88
    done = arrange("cuhk", tmp_path, tmp_path/"out", skip_missing=True)
    assert done["train"] == 88 and (tmp_path/"out"/"train"/"sketch"/"f-005-01.jpg").is_file()
