import json
import subprocess
import sys
from pathlib import Path

import jsonschema
import numpy as np
import pandas as pd
import pytest

from whp import __version__
from whp.certificate import schema
from whp.cli import main


def whp(*arguments, capsys=None):
    """Run the command in this process; returns exit code, output, errors."""
    with pytest.raises(SystemExit) as stop:
        main([str(a) for a in arguments])
    captured = capsys.readouterr()
    return stop.value.code, captured.out, captured.err


@pytest.fixture
def prices(tmp_path):
    rng = np.random.default_rng(0)
    n = 4000
    table = pd.DataFrame(
        {
            "size": rng.normal(size=n),
            "rooms": rng.integers(1, 6, n),
            "town": rng.choice(["a", "b", "c"], n),
        }
    )
    table["price"] = (
        3 * table["size"] + table["rooms"] - (table["town"] == "b") + rng.normal(size=n)
    )
    path = tmp_path / "homes.csv"
    table.to_csv(path, index=False)
    return path


@pytest.fixture
def scores(tmp_path):
    rng = np.random.default_rng(1)
    logits = rng.normal(size=(900, 3)) * 2
    p = np.exp(logits / 2)
    p /= p.sum(1, keepdims=True)
    y = (p.cumsum(1) > rng.random((900, 1))).argmax(1)
    path = tmp_path / "scores.npz"
    np.savez(path, logits=logits, y=y)
    return path


@pytest.fixture
def activations(tmp_path):
    path = tmp_path / "acts.npy"
    np.save(path, np.random.default_rng(0).normal(size=(600, 8)).astype(np.float32))
    return path


@pytest.fixture
def tasks(tmp_path):
    path = tmp_path / "tasks.npz"
    y = np.arange(160) % 4
    np.savez(path, X=np.random.default_rng(0).random((160, 8, 8)), y=y, task=y // 2)
    return path


@pytest.fixture
def network(tmp_path):
    import networkx as nx

    path = tmp_path / "net.graphml"
    graph = nx.planted_partition_graph(3, 40, 0.4, 0.02, seed=0)
    graph.graph.clear()  # its list of communities is nothing that GraphML can hold
    nx.write_graphml(graph, path)
    return path


def test_list(capsys):
    code, out, _ = whp("list", capsys=capsys)
    assert code == 0
    assert "linf-regression" in out
    assert "planned" in out
    code, out, _ = whp("list", "--json", capsys=capsys)
    rows = json.loads(out)
    assert len(rows) == 33
    assert {"slug", "field", "status"} <= set(rows[0])
    assert {r["status"] for r in rows} == {"built", "planned"}


def test_info(capsys):
    code, out, _ = whp("info", "h-calibration", capsys=capsys)
    assert code == 0
    for part in ("Guarantee", "Cost", "Cite", "arXiv:2506.17968"):
        assert part in out


def test_version(capsys):
    code, out, _ = whp("--version", capsys=capsys)
    assert (code, out.strip()) == (0, __version__)


@pytest.mark.parametrize(
    ("method", "file", "flags"),
    [
        ("linf-regression", "prices", ["--target", "price"]),
        ("h-calibration", "scores", []),
        ("hierarchical-communities", "network", []),
        ("target-surrogates", "prices", ["--target", "town", "--max-iter", "20"]),
        (
            "sae-gba",
            "activations",
            ["--steps", "30", "--batch-size", "32", "--low", "0.05", "--n-neurons", "16"],
        ),
        ("view-batch", "tasks", ["--epochs", "4", "--batch-size", "8", "--memory", "20"]),
    ],
)
def test_a_users_file_goes_in_and_answer_certificates_and_picture_come_out(
    method, file, flags, request, tmp_path, capsys
):
    path = request.getfixturevalue(file)
    out_dir = tmp_path / "out"
    code, out, err = whp(
        "run", method, path, *flags, "--seed", 5, "--out", out_dir, "--json", capsys=capsys
    )
    assert code == 0, err
    record = json.loads(out)
    assert set(record) == {
        "schema",
        "input",
        "options",
        "verdicts",
        "warnings",
        "method",
        "version",
        "seed",
        "seconds",
        "result",
        "certificates",
        "files",
    }
    assert (record["method"], record["seed"]) == (method, 5)
    assert record["certificates"]
    for certificate in record["certificates"]:
        jsonschema.validate(certificate, schema())
    names = {p.name for p in out_dir.iterdir()}
    assert {"certificates.json", "picture.png", "report.html"} <= names
    assert any(n.endswith((".npz", ".csv")) for n in names)
    assert (out_dir / "picture.png").read_bytes().startswith(b"\x89PNG")
    assert json.loads((out_dir / "certificates.json").read_text()) == record["certificates"]
    assert sorted(record["files"]) == sorted(str(p) for p in out_dir.iterdir())

    _, again, _ = whp("run", method, path, *flags, "--seed", 5, "--json", capsys=capsys)
    second = json.loads(again)
    assert second["result"] == record["result"], "the same seed gives the same answer"
    code, text, _ = whp("run", method, path, *flags, "--seed", 5, capsys=capsys)
    assert code == 0
    assert record["certificates"][0]["name"] in text


def test_require_holds_gates_a_pipeline(prices, capsys):
    run = ("run", "linf-regression", prices, "--target", "price", "--require", "holds")
    code, _, _ = whp(*run, "--rows", 100, capsys=capsys)
    assert code == 3, "unmeasured is not holds"
    code, _, _ = whp(*run, capsys=capsys)
    assert code == 0, "four columns are solved exactly"


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["run", "linf-regression", "none.csv"], "no such file"),
        (["run", "ignite", "x.csv"], "planned but not built"),
        (["run", "linf"], "no method"),
        (["run", "linf-regression", "{prices}", "--target", "cost"], "cost"),
        (["run", "linf-regression", "{prices}", "--target", "price", "--epsilon", "-1"], "epsilon"),
        (
            ["run", "linf-regression", "{prices}", "--target", "price", "--sketch", "magic"],
            "sketch",
        ),
        (["run", "linf-regression", "{prices}", "--nonsense", "1"], "nonsense"),
        (["info"], "method"),
        (["study", "linf-regression", "--scale", "huge"], "scale"),
        (["nonsense"], "nonsense"),
    ],
)
def test_bad_input_is_exit_code_2_and_a_sentence(arguments, told, prices, capsys):
    code, _, err = whp(*(a.format(prices=prices) for a in arguments), capsys=capsys)
    assert code == 2
    assert told.lower() in err.lower()
    assert "Traceback" not in err


@pytest.mark.parametrize("method", ["causal-minimax", "groupwise-regret", "adversarial-linear-mdp"])
def test_ranges_have_no_empty_form(method, capsys):
    _, out, _ = whp("run", method, "--help", capsys=capsys)
    assert "-range" in out
    assert "--empty-" not in out


@pytest.mark.parametrize("method", ["linf-regression", "h-calibration", "hierarchical-communities"])
def test_help_describes_every_option(method, capsys):
    code, out, _ = whp("run", method, "--help", capsys=capsys)
    assert code == 0
    for flag in ("--out", "--json", "--seed", "--require", "--delta"):
        assert flag in out


def test_completion_knows_methods_and_options(capsys):
    code, out, _ = whp("completion", "bash", capsys=capsys)
    assert code == 0
    for word in ("linf-regression", "--target", "tour", "--backend"):
        assert word in out


def test_a_closed_pipe_is_no_error(prices):
    command = f"{sys.executable} -c 'from whp.cli import main; main([\"list\"])' | head -n 1"
    done = subprocess.run(["bash", "-o", "pipefail", "-c", command], capture_output=True, text=True)
    assert "Traceback" not in done.stderr


def test_what_comes_from_python_is_not_offered(capsys):
    for method, hidden in (
        ("view-batch", "--model"),
        ("stability-gap", "--correct"),
        ("stability-gap", "--reported"),
    ):
        _, out, _ = whp("run", method, "--help", capsys=capsys)
        assert hidden not in out
        assert "--delta" in out or "--views" in out


def test_methods_without_a_seed_take_files_too(tmp_path, capsys):
    curves = pd.DataFrame(
        [
            (t, k, min(1, 0.5 + 0.01 * (t - 6 * k)))
            for t in range(1, 19)
            for k in range(3)
            if t > 6 * k
        ],
        columns=["iteration", "task", "accuracy"],
    )
    curves.to_csv(tmp_path / "curves.csv", index=False)
    code, out, err = whp(
        "run",
        "stability-gap",
        tmp_path / "curves.csv",
        "--windows",
        3,
        "--n",
        200,
        "--json",
        capsys=capsys,
    )
    assert code == 0, err
    assert json.loads(out)["result"]["tasks"] == 3
    rng = np.random.default_rng(0)
    y = rng.integers(0, 3, 300)
    np.savez(tmp_path / "preds.npz", logits=np.eye(3)[y] + 0.1 * rng.normal(size=(300, 3)), y=y)
    code, out, err = whp(
        "run",
        "comp-sum-losses",
        tmp_path / "preds.npz",
        "--noise",
        0.1,
        "--out",
        tmp_path / "o",
        capsys=capsys,
    )
    assert code == 0, err
    assert (tmp_path / "o" / "bounds.csv").exists()


def test_guard_runs_a_script_again_and_leaves_nothing(tmp_path):
    script = tmp_path / "train.py"
    script.write_text(
        "import os, signal, torch, torch.distributed as dist\n"
        "from whp.distributed import SnapshotGuard\n"
        "dist.init_process_group('gloo')\n"
        "model = torch.nn.Linear(4, 4)\n"
        "optimizer = torch.optim.SGD(model.parameters(), lr=0.1)\n"
        "guard = SnapshotGuard({'model': model, 'optimizer': optimizer}, group=dist.group.WORLD, every=1)\n"
        "start = guard.restore()\n"
        "for step in range(start, 12):\n"
        "    model(torch.ones(2, 4)).square().mean().backward()\n"
        "    guard.pre_step()\n"
        "    optimizer.step()\n"
        "    guard.post_step(step)\n"
        "    dist.barrier()\n"
        "    if step == 8 and start == 0 and dist.get_rank() == 1:\n"
        "        os.kill(os.getpid(), signal.SIGKILL)\n"
        "guard.close()\n"
        "os.write(1, f'from {start}\\n'.encode())\n"  # in one piece: both ranks share the pipe
    )
    command = [
        sys.executable,
        "-c",
        "from whp.cli import main; main()",
        "guard",
        "run",
        str(script),
        "--nproc",
        "2",
    ]
    command += ["--run", "clitest"]
    made = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert made.returncode == 0, made.stderr
    starts = [int(line.split()[1]) for line in made.stdout.splitlines() if line.startswith("from")]
    assert len(starts) == 2
    assert 5 <= starts[0] == starts[1] <= 9
    assert "1 restarts" in made.stderr
    assert not [p for p in Path("/dev/shm").iterdir() if "clitest" in p.name]


def test_guard_tells_and_cleans(capsys):
    code, out, _ = whp("guard", "status", "nosuchrun", "--json", capsys=capsys)
    assert (code, json.loads(out)) == (0, [])
    assert whp("guard", "clean", capsys=capsys)[0] == 0
    assert whp("guard", "run", "/no/such/script.py", capsys=capsys)[0] == 2
