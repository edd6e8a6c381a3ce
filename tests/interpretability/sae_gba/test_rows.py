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
