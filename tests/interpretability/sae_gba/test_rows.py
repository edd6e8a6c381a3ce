import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.numpy import save_file

from whp.interpretability._sae_gba.rows import Rows, open_rows


@pytest.mark.parametrize("dtype", [np.float32, np.float16, np.float64])
@pytest.mark.parametrize("ending", ["npy", "safetensors", "memmap"])
def test_files_are_read_as_arrays_are(tmp_path, dtype, ending):
    A = np.random.default_rng(0).normal(size=(700, 6)).astype(dtype)
    path = tmp_path / f"acts.{'npy' if ending == 'memmap' else ending}"
    if ending == "safetensors":
        save_file({"acts": A}, path)
    else:
        np.save(path, A)
    rows = open_rows(np.load(path, mmap_mode="r") if ending == "memmap" else str(path))
    assert rows.array is None
    assert rows.shape == (700, 6)
    chosen = np.random.default_rng(1).integers(0, 700, 90)
    np.testing.assert_allclose(rows.take(chosen), A[chosen].astype(np.float32))
    inside = np.arange(50, 700)
    stream = rows.batches(inside, 50, np.random.default_rng(2))
    once = torch.cat([next(stream) for _ in range(13)]).numpy()
    assert sorted(once[:, 0].tolist()) == sorted(A[inside, 0].astype(np.float32).tolist())


@pytest.mark.parametrize("mode", ["r", "r+", "c"])
def test_parts_of_a_memory_map_are_the_rows_of_the_part(tmp_path, mode):
    """`offset` of a part of a map is that of the whole; rows of the file's beginning were read."""
    A = np.random.default_rng(0).normal(size=(40, 50, 6)).astype(np.float32)
    np.save(tmp_path / "acts.npy", A)
    A.tofile(tmp_path / "acts.bin")
    whole = np.load(tmp_path / "acts.npy", mmap_mode=mode)
    plain = np.memmap(tmp_path / "acts.bin", np.float32, mode, offset=6 * 4 * 50, shape=(39, 50, 6))
    flat, parts = A.reshape(-1, 6), whole.reshape(-1, 6)
    for part, wanted in (
        (parts[700:], flat[700:]),
        (parts[700:][100:900], flat[800:1600]),
        (whole[7], A[7]),
        (plain[3], A[4]),
        (parts[::3], flat[::3]),
    ):
        got = open_rows(part).take(np.arange(len(wanted)))
        np.testing.assert_array_equal(got, wanted)
    if mode != "r":
        whole[20] = 5 * A[20]
        np.testing.assert_array_equal(open_rows(whole[20]).take(np.arange(50)), 5 * A[20])


def test_a_map_whose_file_is_another_now_is_read_from_memory(tmp_path):
    A = np.random.default_rng(0).normal(size=(700, 6)).astype(np.float32)
    np.save(tmp_path / "acts.npy", A)
    kept = np.load(tmp_path / "acts.npy", mmap_mode="r")
    np.save(tmp_path / "new.npy", 2 * A)
    (tmp_path / "new.npy").replace(tmp_path / "acts.npy")
    np.testing.assert_array_equal(open_rows(kept).take(np.arange(700)), A)


def test_a_row_that_is_not_finite_is_named_when_it_is_read(tmp_path):
    A = np.random.default_rng(0).normal(size=(5000, 6)).astype(np.float32)
    A[3, 2] = np.nan
    np.save(tmp_path / "acts.npy", A)
    rows = open_rows(tmp_path / "acts.npy")  # 1,000 rows are looked at, this one is not
    with pytest.raises(ValueError, match="infinity in row 3"):
        rows.take(np.arange(5000))


def test_whole_numbers_beside_activations_are_none(tmp_path):
    A = np.random.default_rng(0).normal(size=(60, 3)).astype(np.float32)
    table = pd.DataFrame(A, columns=list("abc"))
    table["doc_id"] = np.arange(60) // 6
    table.to_parquet(tmp_path / "acts.parquet")
    table.to_csv(tmp_path / "acts.csv", index=False)
    for ending in ("parquet", "csv"):
        rows = open_rows(tmp_path / f"acts.{ending}")
        np.testing.assert_allclose(rows.take(np.arange(60)), A, rtol=1e-6)
    with pytest.raises(TypeError, match="whole numbers in column 'doc_id'"):
        open_rows(table)
    dead = table.drop(columns="doc_id").assign(d=0.0)  # a neuron that never fires is an activation
    dead.to_csv(tmp_path / "dead.csv", index=False, float_format="%g")
    assert open_rows(tmp_path / "dead.csv").shape == (60, 4)
    assert open_rows(dead).shape == (60, 4)


def test_bfloat16_tensors(tmp_path):
    from safetensors.torch import save_file as save_torch

    A = torch.randn(300, 5).to(torch.bfloat16)
    save_torch({"acts": A}, tmp_path / "acts.safetensors")
    np.testing.assert_array_equal(
        open_rows(tmp_path / "acts.safetensors").take(np.arange(300)), A.float().numpy()
    )
    np.testing.assert_array_equal(open_rows(A).take(np.arange(300)), A.float().numpy())


BROKEN = {
    # Written so, to be refused: the reader never unpickles.
    "objects.npy": lambda p: np.save(p, np.array([{}], dtype=object), allow_pickle=True),
    "ints.npy": lambda p: np.save(p, np.ones((30, 3), int)),
    "vector.npy": lambda p: np.save(p, np.ones(30)),
    "fortran.npy": lambda p: np.save(
        p, np.asfortranarray(np.random.default_rng(0).normal(size=(30, 3)))
    ),
    "nan.npy": lambda p: np.save(p, np.full((30, 3), np.nan)),
    "equal.npy": lambda p: np.save(p, np.ones((30, 3))),
    "empty.npy": lambda p: np.save(p, np.ones((0, 3))),
    "noise.npy": lambda p: p.write_bytes(b"\x93NUMPY\x01\x00garbage"),
    "short.npy": lambda p: (np.save(p, np.ones((30, 3))), p.write_bytes(p.read_bytes()[:200])),
    "two.safetensors": lambda p: save_file({"a": np.ones((3, 3)), "b": np.ones(2)}, p),
    "ints.safetensors": lambda p: save_file({"a": np.ones((30, 3), np.int64)}, p),
    "noise.safetensors": lambda p: p.write_bytes(b"\xff" * 40),
    "list.safetensors": lambda p: p.write_bytes((2).to_bytes(8, "little") + b"[]"),
    "acts.pkl": lambda p: p.write_bytes(b"cos\nsystem\n(S'true'\ntR."),
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken_files_are_named(tmp_path, name):
    BROKEN[name](tmp_path / name)
    with pytest.raises((ValueError, TypeError), match="activations"):
        open_rows(tmp_path / name)
    with pytest.raises(ValueError, match="there is no file"):
        open_rows(tmp_path / "missing.npy")


def test_batches_can_be_passed_over(tmp_path):
    A = np.random.default_rng(0).normal(size=(700, 6)).astype(np.float32)
    np.save(tmp_path / "acts.npy", A)
    for rows in (Rows(A), open_rows(tmp_path / "acts.npy"), Rows(torch.from_numpy(A))):
        inside = np.arange(20, 700)
        streams = [rows.batches(inside, 64, np.random.default_rng(3), skip=s) for s in (0, 25)]
        for _ in range(25):
            next(streams[0])
        for _ in range(12):
            torch.testing.assert_close(next(streams[0]), next(streams[1]))


def test_few_rows_fill_large_batches():
    rows = Rows(np.random.default_rng(0).normal(size=(10, 2)).astype(np.float32))
    stream = rows.batches(np.arange(10), 64, np.random.default_rng(0))
    assert len(next(stream)) == 64


def test_three_axes_are_refused_with_the_line_that_reshapes(tmp_path):
    A = np.random.default_rng(0).normal(size=(40, 12, 8)).astype(np.float32)
    np.save(tmp_path / "acts.npy", A)
    for given in (A, torch.from_numpy(A), tmp_path / "acts.npy"):
        with pytest.raises(
            ValueError, match=r"reshape to \(480, 8\) and pass groups=np.repeat\(np."
        ):
            open_rows(given)


def test_tables_and_archives_are_read(tmp_path):
    A = np.random.default_rng(0).normal(size=(50, 3)).astype(np.float32)
    np.savez(tmp_path / "acts.npz", acts=A)
    table = pd.DataFrame(A, columns=list("abc"))
    table.insert(0, "token", "the")
    table.to_parquet(tmp_path / "acts.parquet")
    table.to_csv(tmp_path / "acts.csv", index=False)
    for ending in ("npz", "parquet", "csv"):
        got = open_rows(tmp_path / f"acts.{ending}").take(np.arange(50))
        np.testing.assert_allclose(got, A, rtol=1e-6)


@pytest.mark.parametrize("scale", [1e-200, 1e-38, 1e38, 1e200])
def test_units_out_of_range_are_refused_by_name(scale):
    with pytest.raises(ValueError, match="activations must have a largest entry between"):
        open_rows(np.random.default_rng(0).normal(size=(50, 3)) * scale)


def test_half_precision_is_not_blown_up():
    assert open_rows(np.ones((4, 2), np.float16) * [[1], [2], [3], [4]]).shape == (4, 2)
    half = np.random.default_rng(0).normal(size=(9, 2)).astype(np.float16)
    assert open_rows(half).array.dtype == np.float32


def test_sparse_tensors_are_refused_by_name():
    with pytest.raises(TypeError, match="dense"):
        open_rows(torch.eye(5).to_sparse())
