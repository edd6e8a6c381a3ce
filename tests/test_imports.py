import json
import subprocess
import sys

import pytest

HEAVY = {
    "torch",
    "matplotlib",
    "scipy",
    "pandas",
    "sklearn",
    "numba",
    "networkx",
    "ray",
    "dask",
    "pyarrow",
}


def modules_after(code: str) -> set[str]:
    script = f"{code}\nimport json, sys; print(json.dumps(sorted(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    return set(json.loads(done.stdout))


def test_import_whp_is_light():
    assert not HEAVY & modules_after("import whp")


def test_lazy_names_resolve_without_torch_or_matplotlib():
    loaded = modules_after(
        "import whp; whp.Certificate; whp.linalg.linf_regression; whp.graph; whp.calibration"
    )
    assert "whp.linalg._linf_regression" in loaded
    assert not {"torch", "matplotlib"} & loaded


@pytest.mark.parametrize("package", ["linalg", "graph", "calibration"])
def test_public_names_exist(package):
    import importlib

    module = importlib.import_module(f"whp.{package}")
    assert module.__all__
    for name in module.__all__:
        assert getattr(module, name) is not None
