import importlib
import sys

import pytest

from whp.experiment.source import fingerprint

STUDY = '''
from whp.experiment import study
from whp.intervals import mean

def helper(x):
    """Doc."""
    return mean([x, x])

def run(config, rng):
    return [{"v": helper(1)}]

CLAIMS = ["a"]
'''


@pytest.fixture
def written(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(tmp_path))

    def write(text):
        (tmp_path / "toy_study.py").write_text(text)
        importlib.invalidate_caches()
        sys.modules.pop("toy_study", None)
        return fingerprint("toy_study")

    return write


def test_only_what_the_trial_uses_counts(written):
    base = written(STUDY)
    assert written(STUDY.replace('CLAIMS = ["a"]', 'CLAIMS = ["b"]')) == base
    assert written(STUDY.replace('"""Doc."""', '"""Other words."""') + "\n# a comment\n") == base
    assert written(STUDY.replace("mean([x, x])", "mean([x, x, x])")) != base
    assert written(STUDY.replace('"v"', '"w"')) != base


def test_changed_library_code_counts(written, monkeypatch, tmp_path):
    from whp.experiment import source

    base = written(STUDY)
    real = source._file

    def patched(module):
        if module != "whp.intervals":
            return real(module)
        copy = tmp_path / "copy.py"
        copy.write_text(real(module).read_text().replace("array.mean()", "array.mean() + 0"))
        return copy

    monkeypatch.setattr(source, "_file", patched)
    assert fingerprint("toy_study") != base


def test_lazy_packages_are_followed_to_the_module_behind():
    from whp.experiment.source import _closure, _imports

    tree = _parse_text("from whp.linalg import linf_regression")
    assert "whp.linalg._linf_regression" in _imports(tree.body, "x")
    assert "whp.validate" in _closure(_imports(tree.body, "x"))


def _parse_text(text):
    import ast

    return ast.parse(text)
