import ast
import importlib
import json
import subprocess
import sys
from pathlib import Path

import grimp
import networkx as nx
import pytest

import whp

HERE = Path(whp.__file__).parent
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
    "cyclopts",
}
STUBS = sorted(HERE.rglob("__init__.pyi"))


def modules_after(code: str) -> set[str]:
    script = f"{code}\nimport json, sys; print('\\n' + json.dumps(sorted(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    return set(json.loads(done.stdout.splitlines()[-1]))


def test_import_whp_is_light():
    assert not HEAVY & modules_after("import whp, whp.catalogue")


def test_import_whp_takes_under_three_tenths_of_a_second():
    code = "import time; t = time.process_time(); import whp; print(time.process_time() - t)"
    runs = [subprocess.run([sys.executable, "-c", code], capture_output=True) for _ in range(3)]
    assert min(float(run.stdout) for run in runs) < 0.3


@pytest.mark.parametrize("words", [["--help"], ["list"], ["info", "view-batch"]])
def test_the_command_line_shows_what_there_is_without_torch_or_matplotlib(words):
    loaded = modules_after(
        f"import contextlib; from whp.cli import main\nwith contextlib.suppress(SystemExit): main({words})"
    )
    assert "whp.cli" in loaded
    assert not {"torch", "matplotlib", "sklearn", "numba"} & loaded


def test_commands_of_a_method_are_imported_only_when_named():
    command = "whp.distributed._in_memory_fault_tolerance.command"
    show = "import contextlib; from whp.cli import main\nwith contextlib.suppress(SystemExit): main"
    assert command not in modules_after(f"{show}(['list'])")
    loaded = modules_after(f"{show}(['guard', '--help'])")
    assert command in loaded
    assert "torch" not in loaded


def test_lazy_names_resolve_without_torch_or_matplotlib():
    loaded = modules_after(
        "import whp; whp.Certificate; whp.linalg.linf_regression; whp.graph; whp.calibration"
    )
    assert "whp.linalg._linf_regression" in loaded
    assert not {"torch", "matplotlib"} & loaded


@pytest.mark.parametrize(
    "stub", STUBS, ids=lambda s: ".".join(s.parent.relative_to(HERE).parts) or "whp"
)
def test_public_names_exist(stub):
    module = importlib.import_module(".".join(["whp", *stub.parent.relative_to(HERE).parts]))
    declared = {
        alias.asname or alias.name
        for node in ast.parse(stub.read_text()).body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert declared
    assert declared <= {*module.__all__}
    for name in module.__all__:
        assert getattr(module, name) is not None


def test_every_field_declares_its_public_names():
    fields = {p.parent.name for p in STUBS if p.parent.parent == HERE}
    from whp.catalogue import CATALOGUE

    assert {m.field for m in CATALOGUE if m.status == "built"} <= fields


def circles(imports) -> set[frozenset[str]]:
    """Modules that import each other, directly or not."""
    graph = nx.DiGraph(imports)
    return {frozenset(c) for c in nx.strongly_connected_components(graph) if len(c) > 1}


def test_circles_are_seen():
    assert circles([("a", "b"), ("b", "c"), ("c", "a"), ("d", "a")]) == {frozenset("abc")}


def test_no_import_circle_at_any_depth():
    # grimp counts imports inside functions too, and those for the type checker.
    graph = grimp.build_graph("whp", cache_dir=None)
    imports = [(m, i) for m in graph.modules for i in graph.find_modules_directly_imported_by(m)]
    found = circles(imports)
    assert not [sorted(c) for c in found], "untie the circle"
