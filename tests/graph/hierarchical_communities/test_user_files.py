"""Files that users have, through the command line."""

import json

import numpy as np
import pytest
import scipy.io
import scipy.sparse as sp
from block_graphs import planted

from whp.cli import main
from whp.graph._hierarchical_communities.graphs import adjacency


def run(capsys, *words):
    try:
        code = main(["run", "hierarchical-communities", *map(str, words)])
    except SystemExit as stop:
        code = stop.code
    shown = capsys.readouterr()
    return code, shown.out + shown.err


def pairs_of(A, rng):
    i, j = sp.coo_array(sp.triu(A, 1)).coords
    order = rng.permutation(len(i))
    return [(f"{1558 + a:04d}", f"{1558 + b:04d}") for a, b in zip(i[order], j[order], strict=True)]


def test_a_log_of_contacts_counts_pairs_once_and_says_so(tmp_path, capsys):
    rng = np.random.default_rng(0)
    A, _ = planted(rng, k=3, size=30, inside=0.5)
    pairs = pairs_of(A, rng)
    log = [p if rng.random() < 0.5 else p[::-1] for p in pairs for _ in range(rng.integers(1, 5))]
    path = tmp_path / "contacts.csv"
    rows = "".join(f"{20 * t},{i},{j}\n" for t, (i, j) in enumerate(log))
    path.write_text("t,i,j\n" + rows)
    code, shown = run(capsys, path, "--columns", "i", "--columns", "j", "--seed", 0)
    assert code == 0, shown
    shown = " ".join(shown.split())
    assert "90 nodes" in shown
    assert "come more than once" in shown
    assert f"{len(log):,} over {len(pairs):,} pairs, each pair counted once" in shown
    assert "at_least" in shown
    out = tmp_path / "out"
    options = ("--columns", "i", "--columns", "j", "--at-least", 2, "--out", out, "--seed", 0)
    code, shown = run(capsys, path, *options)
    assert code == 0, shown
    assert (out / "tree.nwk").read_text().endswith(";")
    assert "1558" in (out / "labels.csv").read_text()


def test_coauthors_of_papers_are_void_and_the_tree_is_printed_without_marks(tmp_path, capsys):
    rng = np.random.default_rng(0)
    A = np.zeros((300, 300))
    for _ in range(300):
        authors = rng.choice(300, 4, replace=False)
        A[np.ix_(authors, authors)] = 1
    np.fill_diagonal(A, 0)
    path = tmp_path / "coauthors.mtx"
    scipy.io.mmwrite(path, sp.coo_array(A), symmetry="symmetric")
    code, shown = run(capsys, path, "--n-communities", 4, "--seed", 0)
    shown = " ".join(shown.split())
    assert code == 0, shown
    assert "void" in shown
    assert "papers, meetings or" in shown
    assert "community 3" in shown
    assert "no marks" in shown


def test_a_list_of_followers_is_refused_and_joined_on_demand(tmp_path, capsys):
    rng = np.random.default_rng(0)
    A, _ = planted(rng, k=3, size=30, inside=0.5)
    pairs = pairs_of(A, rng)
    both = [p[::-1] for p in pairs[: len(pairs) // 4]]
    path = tmp_path / "follows.csv"
    path.write_text("source,target\n" + "".join(f"{i},{j}\n" for i, j in pairs + both))
    code, shown = run(capsys, path)
    assert code != 0
    shown = " ".join(shown.replace("│", " ").split())
    one_way = len(pairs) - len(both)
    assert f"{one_way:,} of {len(pairs):,} pairs appear in one direction only" in shown
    assert "--undirected" in shown
    code, shown = run(capsys, path, "--undirected", "--json", "--seed", 0)
    assert code == 0, shown
    record = json.loads(shown.splitlines()[-1] if shown.count("\n") > 1 else shown)
    assert record["result"]["communities"] == 3


@pytest.mark.parametrize("scale", [1, 1000])
def test_weights_of_a_file_have_no_unit(tmp_path, capsys, scale):
    rng = np.random.default_rng(0)
    A, _ = planted(rng, k=3, size=30, inside=0.5)
    rows = "".join(f"{i},{j},{scale * rng.integers(1, 5)}\n" for i, j in pairs_of(A, rng))
    path = tmp_path / "trade.csv"
    path.write_text("source,target,volume\n" + rows)
    code, shown = run(capsys, path, "--weight", "volume", "--json", "--seed", 0)
    assert code == 0, shown
    assert json.loads(shown.splitlines()[-1])["result"]["communities"] == 3


def test_edges_of_weight_zero_are_refused_or_left_out(tmp_path, capsys):
    rng = np.random.default_rng(0)
    A, _ = planted(rng, k=3, size=30, inside=0.5)
    pairs = pairs_of(A, rng)
    kept = sum(k % 5 > 0 for k in range(len(pairs)))
    rows = [f"{i},{j},{int(k % 5 > 0)}\n" for k, (i, j) in enumerate(pairs)]
    for name, head, sep in (("z.csv", "source,target,weight\n", ","), ("z.txt", "", " ")):
        path = tmp_path / name
        path.write_text(head + "".join(rows).replace(",", sep))
        code, shown = run(capsys, path, "--seed", 0)
        assert code != 0
        assert f"{len(pairs) - kept} edges of weight 0" in " ".join(shown.split())
        for option in (("--weighted",), ("--at-least", 1)):
            code, shown = run(capsys, path, *option, "--seed", 0)
            assert code == 0, shown
    i, j = (np.array([int(p[e]) - 1558 for p in pairs]) for e in (0, 1))
    there = np.array([k % 5 > 0 for k in range(len(pairs))], float)
    stored = sp.coo_array((there, (i, j)), shape=A.shape)
    whole = sp.csr_array(stored + stored.T)
    matrix = adjacency(whole)[0]  # a zero that a matrix stores is none, as in a dense one
    assert matrix.nnz == 2 * kept
