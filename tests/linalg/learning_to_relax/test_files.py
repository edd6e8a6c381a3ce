"""Files as users have them, through the command line."""

import json

import numpy as np
import pandas as pd
import pytest
import scipy.io
import scipy.sparse as sp

from whp.cli import main
from whp.datasets.linear_systems import stencil


def whp(*arguments, capsys):
    with pytest.raises(SystemExit) as stop:
        main(["run", "learning-to-relax", *map(str, arguments)])
    captured = capsys.readouterr()
    return stop.value.code, captured.out, captured.err


@pytest.fixture
def files(tmp_path):
    rng = np.random.default_rng(0)
    scipy.io.mmwrite(tmp_path / "K.mtx", stencil(10))
    np.save(tmp_path / "rhs.npy", rng.standard_normal((60, 100)))
    pd.DataFrame({"shift": rng.uniform(0.05, 1, 60)}).to_csv(tmp_path / "shifts.csv", index=False)
    return tmp_path


def test_matrix_right_hand_sides_and_shifts(files, capsys):
    inputs = (files / "K.mtx", files / "rhs.npy", files / "shifts.csv")
    demand = ("--require", "holds", "--only", "iteration-bound")
    code, shown, _ = whp(*inputs, *demand, "--json", "--out", files / "out", capsys=capsys)
    assert code == 0
    record = json.loads(shown)
    verdicts = {c["name"]: c["verdict"] for c in record["certificates"]}
    assert verdicts == {"regret-per-system": "vacuous", "iteration-bound": "holds"}
    choices = pd.read_csv(files / "out" / "choices.csv")
    assert (choices["iterations"] <= choices["bound"]).all()
    code, shown, _ = whp(*inputs, "--audit", 1, capsys=capsys)
    assert "no-worse-than-fixed" in shown


def test_a_sparse_npz_is_the_matrix(files, capsys):
    sp.save_npz(files / "K.npz", sp.csr_array(stencil(10)))
    code, shown, _ = whp(files / "K.npz", files / "rhs.npy", "--json", capsys=capsys)
    assert code == 0
    assert json.loads(shown)["result"]["converged"] == 60


def test_an_advection_step_is_solved_by_sor_and_refused_by_ssor_cg(files, capsys):
    matrix = sp.diags_array([-3.9, 4, -0.05], offsets=[-1, 0, 1], shape=(100, 100))
    scipy.io.mmwrite(files / "K.mtx", matrix)
    inputs = (files / "K.mtx", files / "rhs.npy")
    code, shown, _ = whp(*inputs, "--json", capsys=capsys)
    assert code == 0
    made = next(c for c in json.loads(shown)["certificates"] if c["name"] == "iteration-bound")
    assert made["verdict"] == "void"
    assert "system 1: A is not symmetric (entry 1, 2: -0.05 and -3.9" in str(made["conditions"])
    code, _, told = whp(*inputs, "--solver", "ssor-cg", capsys=capsys)
    assert code == 2
    assert "system 1: A must be symmetric for ssor-cg" in " ".join(told.split())


def test_complex_files_are_refused(files, capsys):
    np.save(files / "rhs.npy", np.ones((5, 100)) + 1j)
    code, _, told = whp(files / "K.mtx", files / "rhs.npy", capsys=capsys)
    assert code == 2
    assert "complex" in told
    scipy.io.mmwrite(files / "C.mtx", stencil(10) + 2j * sp.eye_array(100))
    np.save(files / "rhs.npy", np.ones((5, 100)))
    code, _, told = whp(files / "C.mtx", files / "rhs.npy", capsys=capsys)
    assert code == 2
    assert "complex" in told
