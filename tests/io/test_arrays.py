"""Arrays, and files that claim what they do not hold."""

import io
import struct
import subprocess
import sys
import zipfile

import numpy as np
import pytest
import scipy.io
import scipy.sparse
from safetensors.numpy import save_file

from whp.io import Data, read

MATRIX = {"A": Data("matrix")}
PAIR = {"A": Data("matrix"), "b": Data("matrix")}


def test_only_wanted_arrays_are_looked_at(tmp_path):
    A, b = np.eye(3), np.ones(3)
    names = np.array([{"x": 1}], dtype=object)
    np.savez(tmp_path / "a.npz", A=A, b=b, feature_names=names)
    found = read([tmp_path / "a.npz"], PAIR, required=["A", "b"])
    np.testing.assert_array_equal(found["A"], A)
    np.testing.assert_array_equal(found["b"], b)
    np.savez(tmp_path / "a.npz", A=names, b=b)
    with pytest.raises(ValueError, match="'A': it holds Python objects, which are never loaded"):
        read([tmp_path / "a.npz"], PAIR, required=["A", "b"])


def test_numbers_must_be_real(tmp_path):
    for name, array, said in (
        ("c", np.eye(2) * 1j, "complex numbers; the entries must be real"),
        ("d", np.array(["2024-01-01"], "M8[D]"), "dates"),
        ("s", np.array([b"1"]), "bytes"),
        ("r", np.zeros(2, dtype=[("x", "f8")]), "records"),
    ):
        np.save(tmp_path / f"{name}.npy", array)
        with pytest.raises(ValueError, match=said):
            read([tmp_path / f"{name}.npy"], MATRIX)
    scipy.io.mmwrite(tmp_path / "c.mtx", scipy.sparse.csr_array(np.eye(2) * 1j))
    for wants in (MATRIX, {"graph": Data("graph")}):
        with pytest.raises(ValueError, match="complex numbers; the entries must be real"):
            read([tmp_path / "c.mtx"], wants)


@pytest.mark.parametrize("symmetry", ["general", "symmetric", "skew-symmetric"])
@pytest.mark.parametrize("sparse", [False, True])
def test_matrix_market_as_scipy_reads_it(tmp_path, symmetry, sparse):
    matrix = np.round(np.random.default_rng(0).normal(size=(6, 6)), 3)
    matrix *= np.abs(matrix) > 0.5
    matrix = {"general": matrix, "symmetric": matrix + matrix.T}.get(symmetry, matrix - matrix.T)
    for field in ("real", "integer", "pattern") if sparse else ("real", "integer"):
        if field == "pattern" and symmetry == "skew-symmetric":
            continue
        given = matrix.astype(int) if field == "integer" else matrix
        given = scipy.sparse.coo_array(given) if sparse else given
        path = tmp_path / "m.mtx"
        scipy.io.mmwrite(path, given, comment="a\nb", field=field, symmetry=symmetry)
        wanted, found = scipy.io.mmread(path), read([path], MATRIX)["A"]
        assert scipy.sparse.issparse(found) == sparse
        both = [m.toarray() if sparse else m for m in (wanted, found)]
        np.testing.assert_array_equal(*both, err_msg=field)


def test_matrix_market_dense_sparse_symmetric_and_compressed(tmp_path):
    import gzip

    dense = np.array([[2.0, -1], [-1, 3]])
    scipy.io.mmwrite(tmp_path / "s.mtx", scipy.sparse.csr_array(dense), symmetry="symmetric")
    scipy.io.mmwrite(tmp_path / "d.mtx", dense)
    (tmp_path / "s.mtx.gz").write_bytes(gzip.compress((tmp_path / "s.mtx").read_bytes()))
    for name in ("s.mtx", "d.mtx", "s.mtx.gz"):
        found = read([tmp_path / name], MATRIX)["A"]
        found = found.toarray() if scipy.sparse.issparse(found) else found
        np.testing.assert_array_equal(found, dense)
    for ending in (".npy.gz", ".npz.gz", ".parquet.gz", ".safetensors.gz"):
        (tmp_path / f"x{ending}").write_bytes(b"")
        with pytest.raises(ValueError, match="a matrix is read from"):
            read([tmp_path / f"x{ending}"], MATRIX)


def npy(header, data=b""):
    text = f"{header}\n".encode()
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text + data


CLAIMS = {
    "tib.npy": npy(
        "{'descr': '<f8', 'fortran_order': False, 'shape': (1000000, 1000000)}", b"0" * 64
    ),
    "negative.npy": npy("{'descr': '<f8', 'fortran_order': False, 'shape': (-1, 2)}", b"0" * 64),
    "objects.npy": npy("{'descr': '|O', 'fortran_order': False, 'shape': (1,)}", b"cos\nsystem\n."),
    "code.npy": npy("{'descr': __import__('os').system('x'), 'shape': ()}"),
    "zeros.npy": b"\0" * 200,
    "empty.npy": b"",
    "nnz.mtx": b"%%MatrixMarket matrix coordinate real general\n3 3 1000000000000\n1 1 1\n",
    "rows.mtx": b"%%MatrixMarket matrix coordinate real general\n1000000000000 3 1\n1 1 1\n",
    "dense.mtx": b"%%MatrixMarket matrix array real general\n1000000 1000000\n1\n",
    "outside.mtx": b"%%MatrixMarket matrix coordinate real general\n3 3 1\n9 9 1\n",
    "long.safetensors": struct.pack("<Q", 2**60) + b"{}",
    "offsets.safetensors": struct.pack("<Q", 61)
    + b'{"A":{"dtype":"F64","shape":[999999],"data_offsets":[0,8]}}  '
    + b"0" * 8,
}


@pytest.mark.parametrize("name", CLAIMS)
def test_claims_are_checked_against_the_file(tmp_path, name):
    path = tmp_path / name
    path.write_bytes(CLAIMS[name])
    with pytest.raises(ValueError, match=name):
        read([path], MATRIX)


def test_a_member_of_an_archive_that_claims_a_tebibyte(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("A.npy", CLAIMS["tib.npy"])
    with pytest.raises(ValueError, match="array 'A': it claims 8,000,000,000,000 bytes of numbers"):
        read([tmp_path / "a.npz"], MATRIX)


def test_a_bomb_is_not_unpacked(tmp_path, monkeypatch):
    import bz2

    monkeypatch.setattr("whp.io.sources.SMALL", 2**22)
    path = tmp_path / "bomb.csv.bz2"
    path.write_bytes(bz2.compress(b"x,target\n" + b"1,2\n" * 2**20) * 10)
    with pytest.raises(ValueError, match=r"it claims [4-6] MiB in a file of"):
        read([path], {"A": Data("design"), "b": Data("vector", "target")}, required=["A", "b"])


SPARSE = {
    "index beyond": {"indices": [0, 1, 2, 3, 10**6]},
    "index below": {"indices": [0, 1, 2, 3, -7]},
    "pointers fall": {"indptr": [0] + [5] * 20 + [1] * 20},
    "pointers beyond": {"indptr": [0] + [10**9] * 40},
    "pointers begin late": {"indptr": [3] + [5] * 40},
    "pointers too few": {"indptr": [0, 5]},
    "shape too large": {"shape": [40, 10**15]},
    "shape negative": {"shape": [-40, 40]},
    "shape of three": {"shape": [40, 40, 1]},
    "shape of floats": {"shape": [40.0, 40.0]},
    "floats as indices": {"indices": [0.0, 1.0, 2.0, 3.0, 4.0]},
    "data too long": {"data": np.ones(9)},
    "data a matrix": {"data": np.ones((5, 1))},
    "data complex": {"data": np.ones(5) * 1j},
    "no format": {"format": np.array(b"xyz")},
    "blocks": {"format": np.array(b"bsr"), "data": np.ones((5, 3, 3))},
    "diagonals": {"format": np.array(b"dia")},
    "coordinates": {"format": np.array(b"coo"), "row": [0, 0, 0, 0, 99], "col": [0] * 5},
    "missing": {"format": np.array(b"coo")},
}


@pytest.mark.parametrize("name", SPARSE)
def test_sparse_files_are_checked_before_scipy_sees_them(tmp_path, name):
    """In a process of its own: such files used to kill it."""
    whole = {
        "format": np.array(b"csr"),
        "shape": [40, 40],
        "data": np.ones(5),
        "indices": [0, 1, 2, 3, 4],
        "indptr": [0] + [5] * 40,
    }
    np.savez(tmp_path / "g.npz", **(whole | SPARSE[name]))
    script = (
        "from whp.io import Data, read\n"
        "try:\n"
        f"    graph = read([{str(tmp_path / 'g.npz')!r}], {{'g': Data('graph')}})['g']\n"
        "    (graph @ graph.T + graph).sum()\n"
        "except ValueError as error:\n"
        "    print('refused', error)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("refused"), done.stdout
    assert "g.npz" in done.stdout


def test_safetensors_by_name(tmp_path):
    save_file({"A": np.eye(2, dtype=np.float32), "other": np.ones(3)}, tmp_path / "a.safetensors")
    found = read([tmp_path / "a.safetensors"], PAIR, required=["A"])
    np.testing.assert_array_equal(found["A"], np.eye(2))
    assert list(found) == ["A"]
    buffer = io.BytesIO()
    np.save(buffer, np.eye(2))
    (tmp_path / "a.npy").write_bytes(buffer.getvalue()[:-4])
    with pytest.raises(ValueError, match="it claims 32 bytes of numbers and has 28"):
        read([tmp_path / "a.npy"], MATRIX)
