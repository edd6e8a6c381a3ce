"""Files as people have them: an occupation in GeV, one in MeV, one over momenta."""

import json

import numpy as np
import pandas as pd
import pytest

from whp.cli import main
from whp.qft import Field, finite_time_path


def whp(*arguments, capsys):
    with pytest.raises(SystemExit) as end:
        main(["run", "finite-time-path-qft", *map(str, arguments)])
    captured = capsys.readouterr()
    return end.value.code, captured.out, captured.err


@pytest.fixture
def occupation(tmp_path):
    """300 rows in GeV, from the mass on, f from .6 to 2e-7."""
    w = np.linspace(0.14, 3.0, 300)
    f = 0.6 * np.exp(-(w - 0.14) / 0.192)
    path = tmp_path / "occupation.csv"
    pd.DataFrame({"omega": w, "f": f}).to_csv(path, index=False)
    return path


@pytest.mark.slow
def test_an_occupation_in_gev(occupation, tmp_path, capsys):
    options = ("--mass", 0.14, "--momentum", 0.3, "--seed", 0, "--out", tmp_path / "out")
    code, out, err = whp(occupation, *options, "--json", capsys=capsys)
    assert code == 0, err
    made = json.loads(out)
    verdicts = {c["name"]: c["verdict"] for c in made["certificates"]}
    assert verdicts["thermal-balance"] == "void"
    assert {verdicts[k] for k in ("causality", "vertex", "retardedness", "error-bars")} == {"holds"}
    written = pd.read_csv(tmp_path / "out" / "self_energy.csv")
    assert (written["error"] > 0).all()


def test_another_unit_is_refused(occupation, tmp_path, capsys):
    table = pd.read_csv(occupation)
    path = tmp_path / "occ_mev.csv"
    table.assign(omega=1000 * table["omega"]).to_csv(path, index=False)
    code, _, err = whp(path, "--mass", 0.14, capsys=capsys)
    assert code != 0
    words = " ".join(err.split())
    assert "starts at omega = 140" in words
    assert "another unit" in words


def test_a_table_over_momenta_is_refused(occupation, tmp_path, capsys):
    path = tmp_path / "momenta.csv"
    pd.read_csv(occupation).rename(columns={"omega": "k"}).to_csv(path, index=False)
    code, _, err = whp(path, "--mass", 0.14, capsys=capsys)
    assert code != 0
    assert "'k'" in err
    assert "omega = sqrt(k² + mass²)" in " ".join(err.split())


W = np.linspace(1, 30, 40)
GOOD = np.c_[W, np.exp(-W)]


def changed(row, column, value):
    table = GOOD.copy()
    table[row, column] = value
    return table


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (GOOD.T, "shape"),
        (GOOD[::-1], "row 2"),
        (changed(3, 0, GOOD[2, 0]), "row 4"),
        (changed(5, 1, np.nan), "row 6"),
        (changed(7, 1, -1e-12), "row 8.*negative"),
        (changed(9, 1, 0), "row 10.*only stand at the end"),
        (GOOD[:10], "ends at omega"),
        (GOOD[3:], "another unit"),
        (GOOD[:3], "at least 4 rows"),
    ],
    ids=["turned", "falling", "repeated", "nan", "negative", "zero", "cut", "late", "short"],
)
def test_tables_that_are_refused(table, message):
    with pytest.raises(ValueError, match=f"distribution.*{message}"):
        Field(distribution=table)


def test_what_else_is_refused():
    for name, value in (("mass", 0.0), ("coupling", -1.0), ("mu", 0.0), ("distribution", -1.0)):
        with pytest.raises(ValueError, match=name):
            Field(**{"mass": 1.0, name: value})
    with pytest.raises(ValueError, match="temperature must not"):
        finite_time_path(1.0, temperature=1.0)
    with pytest.raises(ValueError, match="times must be positive"):
        finite_time_path(times=[0.0, 1.0])
    counter = iter(range(10**6))
    with pytest.raises(ValueError, match="other values"):
        Field(distribution=lambda w: np.exp(-w) / (1 + next(counter)))


def test_integers_and_frames_are_accepted():
    w = np.arange(1, 41)
    table = np.c_[w, np.zeros_like(w)]
    assert Field(distribution=table).f.kind == "table"
    assert Field(distribution=pd.DataFrame(GOOD, columns=["omega", "f"])).f.rows is not None


def test_the_error_of_a_table_covers_it():
    for rows, largest in ((50, 3.5e-3), (100, 7.8e-4), (400, 2.1e-5)):
        w = np.linspace(1, 30, rows)
        field = Field(distribution=np.c_[w, 1 / np.expm1(w)])
        at = np.linspace(1, 30, 20_000)
        true = np.abs(field.f(at) - 1 / np.expm1(at)).max()
        assert true == pytest.approx(largest, rel=0.05)
        assert true <= field.f.table_error


def test_the_vertex_of_a_table_is_that_of_its_interpolation():
    w = np.linspace(1, 20, 80)
    made = finite_time_path(np.c_[w, 0.6 * np.exp(-w)], energies=[0.5, 3.0], times=[1.0], rng=0)
    by_name = {c.name: c for c in made.certificates}
    assert by_name["vertex"].verdict == "holds"
    assert by_name["thermal-balance"].verdict == "void"
    assert by_name["error-bars"].verdict == "holds"  # all three numbers were computed again
    assert made.summary()["error_of_the_table"] > 0


def test_without_measuring_nothing_is_decided_that_needs_it():
    made = finite_time_path(energies=[0.5, 3.0], times=[1.0], measure=False)
    verdicts = {c.name: str(c.verdict) for c in made.certificates}
    assert {verdicts[k] for k in ("vertex", "retardedness", "error-bars")} == {"unmeasured"}


def test_strong_coupling_at_late_times_is_said():
    made = finite_time_path(coupling=3.0, times=[1.0, 300.0], energies=[3.0], measure=False)
    assert made.expansion > 0.3
    assert "not to be trusted" in made.summary()["one_loop"]


@pytest.mark.parametrize("rows", [80, 400])
def test_a_coarse_table_is_no_broken_causality(rows):
    # The values are off by the quadrature of an interpolation with kinks, which is not acausal.
    omega = np.linspace(1, 21, rows)
    table = pd.DataFrame({"omega": omega, "f": 1 / np.expm1(omega)})
    found = finite_time_path(table, momentum=0.3, energies=np.linspace(0.3, 3, 20), rng=0)
    assert "fails" not in {str(c.verdict) for c in found.certificates}
    assert found.certificates[0].name == "causality"
    assert found.certificates[0].measured.high > found.certificates[0].measured.value
    # Decided at cut-offs whose bound is not below what the quadrature is off.
    assert found.certificates[0].verdict == "holds"
    assert found.certificates[0].inputs["cut-off in masses"] < 1e4
