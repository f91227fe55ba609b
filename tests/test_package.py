"The package as a researcher meets it: its face, its help, its types."
import subprocess
import sys

import pytest
from conftest import ENV, ROOT

import pmsgan

def python(code):
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=ENV, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    return done.stdout

def test_every_public_name_is_there_and_documented():
    for name in pmsgan.__all__:
        obj = getattr(pmsgan, name)
        if name != "__version__": assert obj.__doc__ and obj.__module__.startswith("pmsgan."), name
    assert set(pmsgan.__all__) <= set(dir(pmsgan))

def test_help_shows_the_parameters():
    text = python("import pmsgan; help(pmsgan.PairDataset); help(pmsgan.GeneratorConfig); help(pmsgan.evaluate)")
    for words in ("source: folder of source pictures", "widths: C1, C2, C3", "fake: folder of results", "Returns: "): assert words in text

def test_help_of_the_package():
    text = python("import pmsgan; help(pmsgan)")
    for words in ("class Generator(", "class Trainer(", "translate(", "load_generator(", "from pmsgan import"): assert words in text
    assert text.count("Parameters:") > 10

def test_names_are_loaded_when_asked_for():
    "`pmsgan --help` must not wait for torch"
    assert python("import sys, pmsgan, pmsgan.commands; print('torch' in sys.modules)").strip() == "False"
    with pytest.raises(AttributeError, match="no attribute 'Genrator'; it has Generator"): pmsgan.Genrator

def test_types():
    done = subprocess.run([sys.executable, "-m", "mypy"], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stdout
