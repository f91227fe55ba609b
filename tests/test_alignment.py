"What the notebook about alignment cannot test: the extra is optional, an interrupted folder, real aligned pictures (where there are some)."
import math
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ENV, REAL_PAIRS
from PIL import Image

from pmsgan import alignment
from pmsgan.alignment import CUFS, align_folder, find_eyes


def folder(path, n):
    path.mkdir()
    for i in range(n): Image.new("RGB", (60, 60), (i, 90, 90)).save(path/f"{i:02d}.png")
    return path, {f"{i:02d}": ((20, 30), (40, 30)) for i in range(n)}

def test_importing_needs_no_opencv():
    code = "import sys; import pmsgan.alignment; print('cv2' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, env=ENV)
    assert done.stdout.strip() == "False", done.stderr

def test_landmarks_need_no_opencv(tmp_path, monkeypatch):
    monkeypatch.setattr(alignment, "_cascades", lambda: (_ for _ in ()).throw(ImportError("no OpenCV")))
    images, eyes = folder(tmp_path/"in", 2)
    assert align_folder(images, tmp_path/"out", landmarks=eyes) == {}
    with pytest.raises(ImportError): align_folder(images, tmp_path/"other")
    assert not (tmp_path/"other").exists()

def test_interrupted(tmp_path, monkeypatch):
    "What was written is whole; nothing half-written is left"
    images, eyes = folder(tmp_path/"in", 3)
    save, calls = Image.Image.save, []
    def full_disk(self, path, **kw):
        calls.append(path)
        if len(calls) == 2:
            Path(path).write_bytes(b"\x89PNG")
            raise OSError("No space left on device")
        save(self, path, **kw)
    monkeypatch.setattr(Image.Image, "save", full_disk)
    with pytest.raises(OSError, match="No space"): align_folder(images, tmp_path/"out", landmarks=eyes)
    assert [p.name for p in (tmp_path/"out").iterdir()] == ["00.png"]
    assert Image.open(tmp_path/"out"/"00.png").size == (200, 250)

def test_many_bad_pictures_are_one_line(tmp_path):
    images, _ = folder(tmp_path/"in", 9)
    with pytest.raises(ValueError, match=r"^9 of 9 pictures .* and 4 more$") as e: align_folder(images, tmp_path/"out", landmarks={})
    assert "\n" not in str(e.value)

@pytest.mark.skipif(not (REAL_PAIRS/"photo").is_dir(), reason="no real pairs here: set PMSGAN_REAL_PAIRS to a folder with photo/ and sketch/")
@pytest.mark.parametrize("kind", ["photo", "sketch"])
def test_detector_on_aligned_pictures(kind):
    pytest.importorskip("cv2")
    files = [p for p in sorted((REAL_PAIRS/kind).iterdir()) if Image.open(p).size == (CUFS.width, CUFS.height)][:20]
    if not files: pytest.skip("no pictures of 200×250")
    off = [math.dist(found, true) for p in files for found, true in zip(find_eyes(Image.open(p)), CUFS.eyes)]
    assert sum(off)/len(off) < 2.5 and max(off) < 6
