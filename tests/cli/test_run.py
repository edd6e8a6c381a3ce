"""What surrounds a run: files as people have them, gates, notes, and text that must not reach a terminal raw."""

import io
import json
import signal
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

from whp.certificate import Certificate
from whp.cli import main
from whp.cli._console import console, noted

ESCAPE = "\x1b[31m\x1b]0;pwn\x07"


def whp(*arguments, capsys):
    with pytest.raises(SystemExit) as stop:
        main([str(a) for a in arguments])
    captured = capsys.readouterr()
    return stop.value.code, captured.out, captured.err


@pytest.fixture
def homes(tmp_path):
    rng = np.random.default_rng(0)
    table = pd.DataFrame({"size": rng.normal(size=300), "rooms": rng.integers(1, 6, 300)})
    table["price"] = 3 * table["size"] + table["rooms"] + rng.normal(size=300)
    table["sold on"] = pd.date_range("2020-01-01", periods=300).astype(str)
    path = tmp_path / "homes.csv"
    table.to_csv(path, index=False)
    return path


def test_how_a_file_was_read_is_said_and_recorded(homes, capsys):
    run = ("run", "linf-regression", homes, "--target", "price", "--drop", "sold on", "--seed", 1)
    code, out, _ = whp(*run, capsys=capsys)
    assert code == 0
    assert "read as: 300 rows; 'sold on' left out" in out
    code, out, _ = whp(*run, "--delta", "0.1", "--json", capsys=capsys)
    record = json.loads(out)
    assert record["schema"] == "whp-run/2"
    assert record["input"] == {"files": [str(homes)], "read_as": ["300 rows; 'sold on' left out"]}
    assert record["options"] == {"target": "price", "drop": ["sold on"], "delta": 0.1}
    assert sum(record["verdicts"].values()) == len(record["certificates"])
    assert record["warnings"] == []


def test_all_faults_of_a_file_and_the_way_on_come_at_once(homes, capsys):
    homes.write_text(homes.read_text().replace(",2,", ",two,", 1))
    code, _, err = whp("run", "linf-regression", homes, "--target", "Price", capsys=capsys)
    assert code == 2
    assert "no column 'Price'; did you mean 'price'?" in err
    code, _, err = whp("run", "linf-regression", homes, "--target", "price", capsys=capsys)
    assert code == 2
    assert "column 'rooms' holds 'two' in row" in err
    assert "column 'sold on' holds dates" in err
    assert "--drop rooms --drop 'sold on'" in err


def test_the_last_line_counts_verdicts(homes, capsys):
    run = ("run", "linf-regression", homes, "--target", "price", "--drop", "sold on")
    _, out, _ = whp(*run, "--seed", 1, capsys=capsys)
    assert out.strip().splitlines()[-1] in ("1 holds", "2 hold")
    _, out, _ = whp(*run, "--rows", 100, "--seed", 1, capsys=capsys)
    assert "unmeasured" in out.strip().splitlines()[-1]


def test_gates(homes, capsys, monkeypatch):
    run = ("run", "linf-regression", homes, "--target", "price", "--drop", "sold on", "--seed", 1)
    codes = [
        whp(*run, "--rows", 100, "--require", r, capsys=capsys)[0] for r in ("holds", "stands")
    ]
    assert codes == [3, 0]
    codes = [whp(*run, "--require", r, capsys=capsys)[0] for r in ("holds", "stands")]
    assert codes == [0, 0]
    asked = []
    monkeypatch.setattr(Certificate, "passes", lambda self, require: asked.append(require))
    assert whp(*run, "--require", "checked", capsys=capsys)[0] == 3
    assert asked[0] == "checked"
    assert whp(*run, "--require", "perhaps", capsys=capsys)[0] == 2


def test_a_gate_may_look_at_some_certificates_only(homes, capsys):
    run = ("run", "linf-regression", homes, "--target", "price", "--drop", "sold on", "--seed", 1)
    chosen = (*run, "--require", "holds", "--only", "exact-solution")
    assert whp(*chosen, capsys=capsys)[0] == 0
    code, _, err = whp(*run, "--require", "holds", "--only", "error-bars", capsys=capsys)
    assert code == 2
    assert "error-bars; there are exact-solution" in err


def test_standard_input_is_a_csv(homes, capsys, monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(homes.read_bytes())))
    code, out, err = whp(
        "run", "linf-regression", "-", "--target", "price", "--drop", "sold on", capsys=capsys
    )
    assert code == 0, err
    assert "on standard input" in out
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"")))
    code, _, err = whp("run", "linf-regression", "-", capsys=capsys)
    assert (code, "standard input: it has no rows" in err) == (2, True)


def test_paths_may_hold_an_equals_sign(homes, tmp_path, capsys):
    part = tmp_path / "date=2024"
    part.mkdir()
    file = part / "b=3.csv"
    file.write_text(homes.read_text())
    run = ("run", "linf-regression", file, "--target", "price", "--drop", "sold on")
    assert whp(*run, capsys=capsys)[0] == 0
    code, _, err = whp("run", "linf-regression", "nope=x.csv", capsys=capsys)
    assert (code, "no parameter 'nope'; accepted are A, b" in err) == (2, True)


def test_lists_of_numbers_are_repeated_or_parted_by_commas(tmp_path, capsys):
    log = tmp_path / "log.csv"
    rows = [f"{s},{t},{0.9 - 0.05 * (s % 3)},200" for s in range(1, 31) for t in (0, 1)]
    log.write_text("\n".join(["iteration,task,accuracy,n", *rows]))
    run = ("run", "stability-gap", log, "--task-ends", "15,30", "--json")
    code, one, err = whp(*run, "--windows", "2,5", capsys=capsys)
    assert code == 0, err
    code, other, _ = whp(*run, "--windows", 2, "--windows", 5, capsys=capsys)
    assert json.loads(one)["result"] == json.loads(other)["result"]
    code, default, _ = whp(*run, capsys=capsys)
    assert json.loads(one)["result"] != json.loads(default)["result"]
    code, _, err = whp(*run, "--windows", "2,five", capsys=capsys)
    assert (code, "five" in err) == (2, True)


def test_what_is_given_and_ignored_is_refused(capsys):
    code, _, err = whp("run", "linf-regression", "--drop", "x", capsys=capsys)
    assert code == 2
    assert "--drop is about a FILE, and none is given" in err


def test_no_name_reaches_the_terminal_raw(homes, tmp_path, capsys):
    text = homes.read_text().replace("rooms", f"rooms{ESCAPE}[red]", 1)
    path = tmp_path / f"{ESCAPE.replace('/', '')}\u202e.csv"
    path.write_text(text)
    out = tmp_path / "out"
    run = ("run", "linf-regression", path, "--target", "price", "--drop", "sold on", "--out", out)
    _, printed, errors = whp(*run, capsys=capsys)
    _, _, more = whp("run", "linf-regression", path, "--target", f"x{ESCAPE}", capsys=capsys)
    _, _, gone = whp("run", "linf-regression", f"{ESCAPE}.csv", capsys=capsys)
    for text in (printed, errors, more, gone):
        assert not {"\x1b", "\x07", "\u202e"} & set(text)
    assert r"\x1b[31m" in printed
    assert r"\x1b[31m" in more
    for file in out.glob("*.[hjc]*"):
        if file.suffix in (".html", ".csv", ".json"):
            assert not {"\x1b", "\x07", "\u202e"} & set(file.read_text()), file


def test_brackets_are_text(capsys, tmp_path):
    file = tmp_path / "log.csv"
    file.write_text("c\n" + "[/]\n" * 50 + "[red]\n")
    code, out, err = whp(
        "run",
        "dp-continual-release",
        file,
        "--column",
        "c",
        "--categories",
        "[/],[red]",
        "--query",
        "sumselect",
        "--t",
        100,
        "--epsilon",
        10,
        capsys=capsys,
    )
    assert code == 0, err
    assert "[/]" in out


def test_a_console_shows_text_as_text():
    file = io.StringIO()
    shown = console(markup=False, file=file, force_terminal=True, color_system="truecolor")
    shown.print("[bold]a[/]", style="red", highlight=False)
    shown.print(f"x{ESCAPE}y", highlight=False)
    text = file.getvalue()
    assert "[bold]a[/]" in text
    assert "\x1b[31m[bold]a[/]\x1b[0m\n" in text, "its own colours stay"
    assert r"\x1b[31m\x1b]0;pwn" in text
    assert "\x07" not in text


def test_warnings_are_one_line_without_source_and_are_recorded(homes, capsys):
    import warnings

    with noted() as found:
        warnings.warn(f"window is\n reduced {ESCAPE}", stacklevel=1)
        warnings.warn(f"window is\n reduced {ESCAPE}", stacklevel=1)
    _, err = capsys.readouterr()
    assert err.startswith("whp: note: window is reduced \\x1b[31m")
    assert err.count("\n") == 1
    assert len(found) == 1


@pytest.mark.parametrize("encoding", ["cp1252", "ascii", "latin-1", "utf-8"])
def test_any_encoding_of_the_output_will_do(homes, encoding):
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "whp",
            "run",
            "linf-regression",
            homes,
            "--target",
            "price",
            "--drop",
            "sold on",
        ],
        env={**__import__("os").environ, "PYTHONIOENCODING": encoding},
        capture_output=True,
    )
    assert done.returncode == 0, done.stderr
    text = done.stdout.decode(encoding)
    assert ("✓" if encoding == "utf-8" else "+ ") in text


class Broken(Exception):
    pass


@pytest.fixture
def own_interrupts():
    """Let an interrupted command end without taking Ctrl-C from the tests after it."""
    before = signal.getsignal(signal.SIGINT)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ValueError("bad input"), 2),
        (OSError("no space left"), 2),
        (ModuleNotFoundError("needs torch"), 2),
        (MemoryError(), 2),
        (ZeroDivisionError("float division by zero"), 2),
        (OverflowError("too large"), 2),
        (KeyboardInterrupt(), 130),
    ],
)
def test_bad_input_is_one_line(error, code, capsys, monkeypatch, own_interrupts):
    def broken(tokens):
        def application(tokens):
            raise error

        return application

    monkeypatch.setattr("whp.cli._app.application", broken)
    got, _, err = whp("list", capsys=capsys)
    assert got == code
    assert err.startswith("whp: ")
    assert err.count("\n") == 1


def test_a_fault_of_the_program_shows_where(capsys, monkeypatch):
    for error in (
        TypeError("'int' object is not iterable"),
        KeyError("x"),
        RuntimeError("oops"),
        Broken(),
    ):

        def broken(tokens, error=error):
            raise error

        monkeypatch.setattr("whp.cli._app.application", broken)
        with pytest.raises(type(error)):
            main(["list"])


def test_what_the_library_says_on_purpose_is_one_line_whatever_its_type(capsys):
    code, _, err = whp("run", "linf-regression", "--delta", "2", capsys=capsys)
    assert code == 2
    assert "Traceback" not in err
    from whp.cli import meant
    from whp.validate import as_int

    try:
        as_int("x", "rows")
    except TypeError as error:
        assert meant(error)  # noqa: PT017
    try:
        len(3)
    except TypeError as error:
        assert not meant(error)  # noqa: PT017


@pytest.mark.parametrize(
    ("name", "content"),
    [
        (
            "bomb.npy",
            b"\x93NUMPY\x01\x00\x46\x00{'descr': '<f8', 'fortran_order': False, 'shape': (1000000, 1000000)}\n",
        ),
        ("mixed.csv", b"a,target\r1,2\r\n3,4\n"),
        ("nnz.mtx", b"%%MatrixMarket matrix coordinate real general\n3 3 1000000000000\n1 1 1\n"),
    ],
)
def test_files_that_broke_the_program_are_refused(name, content, tmp_path, capsys):
    path = tmp_path / name
    path.write_bytes(content)
    code, _, err = whp("run", "linf-regression", path, capsys=capsys)
    assert code == 2
    assert name in err
    assert "Traceback" not in err


def test_help_tells_ranges_and_table_options(capsys):
    from typing import Annotated

    from whp.cli._run import _option
    from whp.door import AtLeast

    option = _option("rows", Annotated[int, AtLeast(1)] | None, None, "Rows of the sketch.")
    assert "Rows of the sketch (at least 1)." in str(option.annotation)
    _, out, _ = whp("run", "linf-regression", "--help", capsys=capsys)
    for flag in ("--columns", "--drop", "--id", "--missing", "--sep"):
        assert flag in out
    _, out, _ = whp("run", "hierarchical-communities", "--help", capsys=capsys)
    assert "--weight " in out
    assert "--undirected" in out


def test_python_m_whp():
    done = subprocess.run(
        [sys.executable, "-m", "whp", "--version"], capture_output=True, text=True
    )
    assert done.returncode == 0


def test_a_stream_is_continued_by_records(tmp_path, capsys):
    path = tmp_path / "b.csv"
    path.write_text('id,country\n1,"DE"\n\n2,DE\n\n"3\n",DE\n')
    run = (
        "run",
        "dp-continual-release",
        path,
        "--query",
        "counts",
        "--t",
        100,
        "--rho",
        900000,
        "--column",
        "country",
        "--categories",
        "DE,FR",
        "--state",
        tmp_path / "s",
    )
    assert whp(*run, capsys=capsys)[0] == 0
    with path.open("a") as file:
        file.write("4,FR\n")
    assert whp(*run, "--out", tmp_path / "o", capsys=capsys)[0] == 0
    answers = pd.read_csv(tmp_path / "o" / "answers.csv")
    assert answers["record"].tolist() == [1, 2, 3, 4]
    assert answers.iloc[-1].round().tolist() == [4, 3, 1]


def test_categories_from_parquet(tmp_path, capsys):
    path = tmp_path / "t.parquet"
    pd.DataFrame({"id": range(60), "country": ["DE", "NA", "DE"] * 20}).to_parquet(path)
    code, out, err = whp(
        "run",
        "dp-continual-release",
        path,
        "--column",
        "country",
        "--categories",
        "DE,NA",
        "--t",
        100,
        "--rho",
        1,
        "--json",
        capsys=capsys,
    )
    assert code == 0, err
    assert json.loads(out)["result"]["records"] == 60


def test_arms_called_na_stay(tmp_path, capsys):
    rows = [
        (arm, t, 1 + 0.1 * (t % 3) + (arm == "NA"))
        for arm in ("DE", "NA", "FR")
        for t in range(1, 90, 1 + len(arm) // 2)
    ]
    pd.DataFrame(rows, columns=["arm", "time", "reward"]).to_csv(tmp_path / "a.csv", index=False)
    out = tmp_path / "out"
    code, _, err = whp(
        "run", "recovering-bandits", tmp_path / "a.csv", "--d", 1, "--out", out, capsys=capsys
    )
    assert code == 0, err
    assert "NA" in (out / "timetable.csv").read_text()


def test_weights_by_name(tmp_path, capsys):
    import networkx as nx

    graph = nx.planted_partition_graph(2, 20, 0.6, 0.05, seed=1)
    graph.graph.clear()
    for number, (u, v) in enumerate(graph.edges()):
        graph.edges[u, v]["value"] = 1 + number % 9
    nx.write_gml(graph, tmp_path / "g.gml")
    run = ("run", "hierarchical-communities", tmp_path / "g.gml", "--json", "--seed", 1)
    code, out, _ = whp(*run, "--weight", "value", capsys=capsys)
    assert code == 0
    assert json.loads(out)["options"] == {"weight": "value"}
    code, _, err = whp(*run, "--weight", "count", capsys=capsys)
    assert code == 2
    assert "edges carry 'value'" in err
