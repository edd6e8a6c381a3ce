import json
import subprocess
import sys
import warnings

import numpy as np
import pytest
import torch
from guarantee import assert_error_rate
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import save_file

from whp.certificate import Verdict
from whp.interpretability import (
    BiasAdapter,
    GBASparseAutoencoder,
    SparseFeatureCoder,
    SparseFeatures,
    bias_adaptation,
    sae_gba,
)
from whp.interpretability.sae_gba import cap_chance, code_bound, recovery_rate, targets, width_bound
from whp.interpretability.sae_gba.guarantee import (
    coherence,
    consistency,
    frequency,
    matched_chance,
    recovery,
    unique_code,
)
from whp.interpretability.sae_gba.rows import open_rows
from whp.interpretability.sae_gba.theory import _power, nearest, resonance_band, unit_rows
from whp.studies.sae_gba import simulated

SMALL = {
    "n_neurons": 32,
    "steps": 60,
    "batch_size": 64,
    "n_groups": 4,
    "low": 0.02,
    "lr": 3e-3,
    "rng": 0,
}


@pytest.fixture(scope="module")
def model():
    return simulated(40, 20, (2,), 2000, np.random.default_rng(0))


@pytest.fixture(scope="module")
def fitted(model):
    return sae_gba(model[0], **SMALL)


# Formulas


def test_1_targets():
    expected = [
        0.5,
        0.25066,
        0.125661,
        0.0629961,
        0.0315811,
        0.0158322,
        0.00793701,
        0.00397897,
        0.00199474,
        0.001,
    ]
    np.testing.assert_allclose(targets(10, 10, 0.5, 1e-3)[0], expected, rtol=2e-5)
    p, group = targets(7, 3, 0.5, 0.1)
    assert group.tolist() == [0, 0, 0, 1, 1, 2, 2]
    assert p[0] == 0.5
    assert set(targets(5, 1, 0.3, 0.1)[0]) == {0.3}


def test_2_one_adaptation():
    b = torch.tensor([-0.10, -0.05, -0.02])
    adapter = BiasAdapter(b, [0.5] * 3, [0] * 3)
    adapter.observe(
        torch.tensor([[0.4, -0.1, -0.3], [0.2, 0.3, -0.2], [-0.1, -0.2, -0.5], [0.6, -0.4, -0.1]])
    )
    adapter.step()
    np.testing.assert_allclose(b, [-0.106, -0.05, -0.0155], atol=1e-7)
    with pytest.raises(RuntimeError, match="observe"):
        adapter.step()


def test_biases_stay_in_their_range_and_silent_groups_are_revived():
    b = torch.tensor([-0.999, -0.001, -0.5])
    adapter = BiasAdapter(b, [0.1, 0.1, 0.1], [0, 0, 1], gamma_up=1.0, gamma_down=1.0)
    for _ in range(6):
        adapter.observe(torch.tensor([[1.0, -1.0, -1.0], [1.0, -1.0, -1.0]]))
        adapter.step()
    assert float(b[0]) == -1
    assert float(b[1]) == 0
    assert (
        float(b[2]) == 0
    )  # its group never fired: raised by the mean of all live neurons after three rounds
    assert adapter.revived > 0
    with pytest.raises(ValueError, match="target and group"):
        BiasAdapter(b, [0.1], [0])


@pytest.mark.parametrize(
    ("activation", "expected"), [("jumprelu", (2.7, 0.7)), ("relu", (2.0, 0.3))]
)
def test_3_forward(activation, expected):
    net = GBASparseAutoencoder(2, 2, activation=activation)
    with torch.no_grad():
        net.W.copy_(torch.tensor([[0.6, 0.8], [1.0, 0.0]]))
        net.a.copy_(torch.tensor([1.0, 2.0]))
        net.b.copy_(torch.tensor([-0.5, -0.2]))
        net.c.copy_(torch.tensor([0.1, -0.1]))
    out, _, y = net(torch.tensor([[1.1, 0.4]]))
    np.testing.assert_allclose(out.detach(), [expected], atol=1e-6)
    np.testing.assert_allclose(y.detach(), [[0.5, 0.8]], atol=1e-6)
    out.sum().backward()
    assert not net.b.requires_grad
    assert net.b.grad is None
    assert net.W.grad is not None


def test_topk_keeps_the_largest():
    net = GBASparseAutoencoder(6, 10, k=3)
    _, z, y = net(torch.randn(50, 6))
    assert ((z > 0).sum(dim=1) <= 3).all()
    for row, u in zip(z, y, strict=True):
        assert set(torch.nonzero(row)[:, 0].tolist()) <= set(u.topk(3).indices.tolist())


def test_4_one_step_of_the_theorems_algorithm():
    A = np.array([[1, 0], [0, 1], [1, 1], [-1, 0.5]], dtype=np.float32)
    w, theta = _power(A, np.array([[0.8, 0.6]], dtype=np.float32), 2)
    np.testing.assert_allclose(w, [[0.78086881, 0.62469505]], atol=1e-6)
    assert theta[0] == pytest.approx(0.6)


def test_5_width():
    assert [width_bound(1, 0.01, 100), width_bound(2, 0.02, 128), width_bound(3, 3 / 128, 128)] == [
        757,
        4263,
        27211,
    ]
    np.testing.assert_allclose(resonance_band(128, 64, 3), (0.0078125, 0.0393725), rtol=1e-5)
    np.testing.assert_allclose(
        resonance_band(65_536, 1536, 3, 0.05), (1.5259e-5, 2.88328e-4), rtol=1e-3
    )


def test_5_the_width_bound_is_kept_by_simulation():
    rng = np.random.default_rng(0)
    s, p, n, d = 1, 0.05, 30, 400
    M = width_bound(s, p, n)
    missed = 0
    for _ in range(60):
        V = rng.normal(size=(n, d)) / np.sqrt(d)
        missed += bool(((rng.normal(size=(M, d)) @ V.T).max(axis=0) < 1.6448536).any())
    assert missed <= 9


def test_6_caps():
    assert cap_chance(64, 0.9, 1)[0] == pytest.approx(1.05793e-24, rel=1e-4)
    assert cap_chance(72, 0.5, 1024) == pytest.approx((3.33514e-6, 0.00340936), rel=1e-4)
    assert cap_chance(384, 0.3, 1)[0] == pytest.approx(9.49708e-10, rel=1e-4)
    rng = np.random.default_rng(0)
    share = (unit_rows(rng.normal(size=(200_000, 5)))[:, 0] > 0.7).mean()
    assert cap_chance(5, 0.7, 1)[0] == pytest.approx(share, rel=0.05)


def test_7_codes():
    assert [code_bound(m) for m in (0.1, 0.3, 0.5)] == pytest.approx([5.5, 2.16667, 1.5], abs=1e-5)
    rng = np.random.default_rng(0)
    assert coherence(rng.normal(size=(128, 64)), np.ones(128, bool)) >= 0.0887357  # Welch's floor
    assert coherence(np.eye(5), np.ones(5, bool)) == 0


def test_recovery_rates():
    V = np.eye(4)
    assert recovery_rate(V, V[[0, 1, 1]]) == 0.5
    assert recovery_rate(V, -V) == 0  # features are signed
    both = np.array([[1.0, 0.05, 0, 0]])
    assert recovery_rate(V[:2], both, 0.04) == 1
    assert recovery_rate(V[:2], both, 0.04, matched=True) == 0.5
    np.testing.assert_allclose(nearest(V, np.array([[3.0, 4, 0, 0]])), [0.6, 0.8, 0, 0])


# The theorem's algorithm


def test_8_resonance():
    found = {r: [] for r in (0.25, 0.5, 1.0, 4.0)}
    for seed in range(5):
        X, V, _ = simulated(128, 64, (3,), 6000, np.random.default_rng(seed))
        for ratio, rates in found.items():
            rates.append(recovery_rate(V, bias_adaptation(X, 512, 3 / 128 * ratio, rng=seed)[0]))
    rates = {r: np.mean(v) for r, v in found.items()}
    assert rates[0.5] >= 0.88
    assert rates[1.0] >= 0.88
    assert rates[4.0] <= 0.25
    assert rates[0.25] <= rates[1.0] - 0.1


def test_8_enough_neurons_find_all():
    X, V, _ = simulated(128, 64, (3,), 6000, np.random.default_rng(0))
    assert recovery_rate(V, bias_adaptation(X, 2048, 3 / 128, rng=0)[0]) >= 0.98


# Certificates


def test_9_recovery_verdicts():
    rng = np.random.default_rng(5)
    # few features have a common mean that tilts every neuron: 0.8 instead of 0.9
    X, V, H = simulated(8, 200, (2,), 4000, np.random.default_rng(0))
    W, _ = bias_adaptation(X, 1000, 0.125, rng=0)
    given = {"p": 0.125, "threshold": 0.8, "rng": rng}
    good = recovery(W, V, H, **given)
    assert good.verdict == Verdict.HOLDS
    assert recovery(W, rng.normal(size=V.shape), H, **given).verdict == Verdict.FAILS
    assert recovery(W[:50], V, H, **given).verdict == Verdict.VOID
    assert recovery(W, V, H, **(given | {"p": 0.3})).verdict == Verdict.VOID
    assert recovery(W, np.eye(8, 200), H, **given).verdict == Verdict.VOID
    together = H.copy()
    together[:, 1] = together[:, 0]
    assert recovery(W, V, together, **given).verdict == Verdict.VOID
    assert recovery(W, None, None, **given).verdict == Verdict.UNMEASURED
    assert recovery(W, V, None, **(given | {"threshold": 0.0})).verdict == Verdict.VACUOUS


def test_9_untrained_networks_are_not_consistent():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(500, 24)) * np.linspace(0.1, 2, 24)
    chance = matched_chance(X, 96, 0.7, rng)
    for seed in range(20):
        a, b = np.random.default_rng(seed).normal(size=(2, 96, 24))
        found = consistency(
            nearest(a, b)[None], np.ones(96, bool), 0.7, chance, cap_chance(24, 0.7, 96)[1], 2, 0.05
        )
        assert found.verdict != Verdict.HOLDS
    same = consistency(nearest(a, a)[None], np.ones(96, bool), 0.7, chance, 0.0, 2, 0.05)
    assert same.verdict == Verdict.HOLDS
    assert (
        consistency(None, np.ones(96, bool), 0.7, 0.0, 0.0, 1, 0.05).verdict == Verdict.UNMEASURED
    )
    assert consistency(nearest(a, b)[None], np.ones(96, bool), 0.01, 0.9, 0.0, 2, 0.05).verdict in (
        Verdict.VACUOUS,
        Verdict.FAILS,
    )
    many = consistency(np.tile(nearest(a, b), (4, 1)), np.ones(96, bool), 0.7, 0.0, 0.0, 5, 0.05)
    assert many.inputs["seeds"] == 5


def test_10_error_rate_of_the_frequency_certificate():
    target = targets(64, 8, 0.5, 1e-3)[0]

    def instance(rng):
        return frequency(rng.binomial(2000, target), 2000, target, 0.05, True)

    assert_error_rate(instance, 0.05, n=400)


def test_10_frequency_verdicts():
    target = np.full(10, 0.1)
    over = np.full(10, 100)
    over[3] = 400
    assert frequency(over, 1000, target, 0.05, True).verdict == Verdict.FAILS
    assert frequency(np.zeros(10, int), 1000, target, 0.05, None).verdict == Verdict.HOLDS


def test_unique_code_verdicts():
    assert unique_code(np.full(500, 4), 0.1, 0.05).verdict == Verdict.HOLDS
    assert unique_code(np.full(500, 9), 0.1, 0.05).verdict == Verdict.FAILS
    assert unique_code(np.zeros(500, int), 1.0, 0.05).verdict == Verdict.VACUOUS


def test_unique_code_error_rate():
    def instance(rng):
        return unique_code(np.where(rng.random(400) < 0.05, 9, 3), 0.1, 0.05)

    assert_error_rate(instance, 0.05, n=300)


def test_10_training_makes_frequencies_keep_their_targets():
    X, V, H = simulated(40, 20, (2,), 4000, np.random.default_rng(1))
    options = {
        "n_neurons": 48,
        "batch_size": 64,
        "n_groups": 4,
        "low": 0.02,
        "high": 0.3,
        "lr": 3e-3,
        "n_seeds": 1,
        "rng": 0,
    }
    short = sae_gba(X, steps=10, **options)
    assert short.certificates[1].verdict == Verdict.FAILS
    long = sae_gba(X, steps=2500, truth=V, codes=H, **options)
    assert long.certificates[1].verdict == Verdict.HOLDS
    assert long.fvu.value < short.fvu.value
    assert long.certificates[0].verdict == Verdict.VOID
    raw = sae_gba(100 * X, steps=300, preprocess=False, **(options | {"lr": 1e-4}))
    assert (
        raw.certificates[1].verdict == Verdict.FAILS
    )  # biases in [−1, 0] mean nothing at that scale


# The front door


@pytest.mark.parametrize("method", ["gba", "ba", "topk", "l1"])
def test_every_method(model, method):
    X = model[0]
    found = sae_gba(X, method=method, k=4, **SMALL)
    assert found.decoder.shape == (32, 20)
    np.testing.assert_allclose(np.linalg.norm(found.decoder, axis=1), 1, atol=1e-5)
    Z = found.encode(X[:50])
    assert Z.shape == (50, 32)
    assert (Z.data > 0).all()
    if method == "topk":
        assert (np.diff(Z.indptr) <= 4).all()
    assert found.decode(Z).shape == (50, 20)
    assert ("frequency" in [c.name for c in found.certificates]) == (method in ("gba", "ba"))
    assert np.isfinite(found.consistency).all()


def test_codes_are_those_of_the_network(model, fitted):
    net = GBASparseAutoencoder(20, 32)
    with torch.no_grad():
        net.W.copy_(torch.from_numpy(fitted.decoder))
        net.a.copy_(torch.from_numpy(fitted.scale))
        net.b.copy_(torch.from_numpy(fitted.bias))
        net.c.copy_(torch.from_numpy(fitted.center))
    X = model[0][:100].astype(np.float32)
    out, z, _ = net(torch.from_numpy((X - fitted.mean) / np.float32(fitted.input_scale)))
    np.testing.assert_allclose(fitted.encode(X).toarray(), z.detach(), atol=1e-5)
    np.testing.assert_allclose(
        fitted.decode(fitted.encode(X)),
        out.detach().numpy() * fitted.input_scale + fitted.mean,
        atol=1e-4,
    )


def test_11_same_seed_same_result_and_saving(model, fitted, tmp_path):
    again = sae_gba(model[0], **SMALL)
    assert np.array_equal(again.decoder, fitted.decoder)
    assert np.array_equal(again.bias, fitted.bias)
    fitted.save(tmp_path / "features.safetensors")
    loaded = SparseFeatures.load(tmp_path / "features.safetensors")
    a, b = loaded.encode(model[0]), fitted.encode(model[0])
    assert (a != b).nnz == 0
    (tmp_path / "broken.safetensors").write_bytes(b"\x10\0\0\0\0\0\0\0{}")
    save_file({"decoder": np.ones((2, 2))}, tmp_path / "other.safetensors")
    for name in ("broken", "other", "missing"):
        with pytest.raises(ValueError, match="no features of ours"):
            SparseFeatures.load(tmp_path / f"{name}.safetensors")


def test_11_rotating_activations_rotates_the_decoder(model):
    X = torch.from_numpy(model[0][:256].astype(np.float32))
    Q = torch.linalg.qr(torch.randn(20, 20, generator=torch.Generator().manual_seed(0)))[0]
    nets = []
    for turn in (torch.eye(20), Q):
        net = GBASparseAutoencoder(20, 24, generator=torch.Generator().manual_seed(1))
        with torch.no_grad():
            net.W.copy_(net.W @ turn)
        optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
        for _ in range(50):
            out, _, _ = net(X @ turn)
            loss = (out - X @ turn).square().sum() / (2 * len(X))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        nets.append(net.directions().detach())
    torch.testing.assert_close(nets[0] @ Q, nets[1], atol=1e-4, rtol=0)


def test_examples_are_the_strongest_rows(model, fitted):
    X = model[0]
    rows = fitted.examples[fitted.examples >= 0]
    codes = fitted.encode(X).toarray()
    for m in np.flatnonzero(fitted.frequency > 0)[:10]:
        table = fitted.top_examples(int(m))
        np.testing.assert_allclose(codes[table["row"], m], table["code"], atol=1e-5)
        assert (np.diff(table["code"]) <= 0).all()
    assert len(np.unique(rows)) <= 200  # held-out rows alone


def test_groups_are_held_out_whole(model):
    groups = np.repeat(np.arange(100), 20)
    found = sae_gba(model[0], groups=groups, **SMALL)
    held = np.unique(found.examples[found.examples >= 0])
    trained_groups = 100 - len(np.unique(groups[held]))
    assert trained_groups >= 85
    assert found.certificates[1].assumptions[0].status == "met"


def test_report_is_escaped_and_readable(fitted, tmp_path):
    texts = [f"<script>alert({i})</script> & more" for i in range(2000)]
    fitted.report(tmp_path / "features.html", texts)
    page = (tmp_path / "features.html").read_text()
    assert "<script>" not in page
    assert "&lt;script&gt;" in page
    assert page.count("<section") == min(100, int((fitted.frequency > 0).sum()))
    with pytest.raises(ValueError, match="texts"):
        fitted.report(tmp_path / "none.html", texts[:3])
    assert not (tmp_path / "none.html").exists()
    with pytest.raises(ValueError, match="neurons"):
        fitted.report(tmp_path / "none.html", texts, [99])


def test_picture_and_tables(fitted):
    import matplotlib.pyplot as plt

    assert fitted.plot().get_yscale() == "log"
    assert len(fitted.neurons()) == 32
    assert "unexplained_variance" in fitted.summary()
    assert set(fitted.artifacts()) == {"features.safetensors", "neurons.csv", "history.csv"}
    plt.close("all")


# Files


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
    once = np.concatenate([next(stream) for _ in range(13)])
    assert sorted(once[:, 0].tolist()) == sorted(A[inside, 0].astype(np.float32).tolist())


def test_bfloat16_tensors(tmp_path):
    from safetensors.torch import save_file as save_torch

    A = torch.randn(300, 5).to(torch.bfloat16)
    save_torch({"acts": A}, tmp_path / "acts.safetensors")
    np.testing.assert_array_equal(
        open_rows(tmp_path / "acts.safetensors").take(np.arange(300)), A.float().numpy()
    )
    np.testing.assert_array_equal(open_rows(A).take(np.arange(300)), A.float().numpy())


def test_a_file_trains(tmp_path, model):
    path = tmp_path / "acts.npy"
    np.save(path, model[0].astype(np.float32))
    found = sae_gba(path, **(SMALL | {"n_seeds": 1}))
    assert found.fvu.value < 1
    assert found.examples.max() < 2000


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


CHILD = """
import json, resource, sys
import numpy as np
limit = int(sys.argv[2])
import torch
torch.set_num_threads(1)
resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
from whp.interpretability import sae_gba
found = sae_gba(sys.argv[1], 512, steps=int(sys.argv[3]), batch_size=512, n_seeds=1, low=2e-3, rng=0)
# the resource module's figure begins with that of the parent, which wrote the file
peak = next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM"))
print(json.dumps({"peak": peak * 1024, "fvu": found.fvu.value}))
"""


@pytest.mark.slow
def test_a_file_of_twice_the_memory_limit_trains(tmp_path):
    limit, d = 1 << 30, 256
    rows = 2 * limit // (4 * d)
    path = tmp_path / "acts.npy"
    out = np.lib.format.open_memmap(path, "w+", np.float32, (rows, d))
    rng = np.random.default_rng(0)
    V = rng.normal(size=(300, d)).astype(np.float32)
    for start in range(0, rows, 1 << 15):
        size = min(1 << 15, rows - start)
        out[start : start + size] = V[rng.integers(0, 300, (size, 3))].sum(axis=1)
    del out
    assert path.stat().st_size >= 2 * limit
    child = subprocess.run(
        [sys.executable, "-c", CHILD, str(path), str(limit), "300"],
        capture_output=True,
        text=True,
        check=True,
    )
    told = json.loads(child.stdout.splitlines()[-1])
    print(f"peak resident {told['peak'] / 2**20:.0f} MiB of {limit / 2**20:.0f} MiB")
    assert told["peak"] < limit
    assert told["fvu"] < 1


# What is refused


GOOD = {
    "activations": np.random.default_rng(0).normal(size=(200, 8)),
    "steps": 3,
    "batch_size": 16,
    "low": 0.1,
    "n_neurons": 12,
}


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"activations": None}, "activations"),
        ({"activations": np.ones(8)}, "activations"),
        ({"activations": np.full((50, 3), np.nan)}, "activations"),
        ({"activations": np.ones((50, 3))}, "activations"),
        ({"activations": np.ones((50, 3), int)}, "activations"),
        ({"activations": np.random.default_rng(0).normal(size=(3, 3))}, "activations"),
        ({"n_neurons": 1}, "n_neurons"),
        ({"method": "pca"}, "method"),
        ({"activation": "gelu"}, "activation"),
        ({"n_groups": 13}, "n_groups"),
        ({"high": 0.05}, "low"),
        ({"high": 1.0}, "high"),
        ({"low": 0}, "low"),
        ({"steps": 0}, "steps"),
        ({"lr": 0}, "lr"),
        ({"low": 1e-5, "adapt_every": 1}, "low=1e-05 needs at least 100000 samples"),
        ({"method": "topk", "k": 13}, "k must"),
        ({"l1": -1}, "l1"),
        ({"n_seeds": 0}, "n_seeds"),
        ({"similarity": 1.5}, "similarity"),
        ({"preprocess": "yes"}, "preprocess"),
        ({"groups": np.zeros(200)}, "groups"),
        ({"groups": np.zeros(3)}, "groups"),
        ({"truth": np.ones((4, 3))}, "truth"),
        ({"codes": np.ones((200, 4))}, "codes"),
        ({"delta": 0}, "delta"),
        ({"gamma_up": -1}, "gamma_up"),
    ],
)
def test_bad_input_is_named(change, named):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises((ValueError, TypeError), match=named):
            sae_gba(**(GOOD | change))


def test_few_rows_are_told():
    with pytest.warns(UserWarning, match="few"):
        sae_gba(**(GOOD | {"batch_size": 64}))


def test_divergence_says_where(model):
    with pytest.raises(FloatingPointError, match="step"):
        sae_gba(model[0] * 1e25, preprocess=False, **(SMALL | {"n_seeds": 1}))


values = st.one_of(st.floats(-10, 10, width=32), st.none(), st.text(max_size=2), st.floats())


@settings(max_examples=60, deadline=None)
@given(st.lists(st.lists(values, min_size=2, max_size=2), max_size=30), st.integers(0, 5))
def test_anything_is_trained_or_refused_by_name(rows, neurons):
    told = ""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            sae_gba(rows, neurons, steps=2, batch_size=4, low=0.3, n_groups=1, n_seeds=1, rng=0)
    except (ValueError, TypeError) as error:
        told = str(error)
    except FloatingPointError:
        told = "activations"
    assert not told or told.startswith(("activations", "n_neurons"))


def test_the_transformer_of_scikit_learn(model):
    coder = SparseFeatureCoder(24, steps=40, batch_size=64, low=0.02, n_groups=4, random_state=0)
    Z = coder.fit_transform(model[0])
    assert Z.shape == (2000, 24)
    assert coder.inverse_transform(Z).shape == (2000, 20)
    assert coder.get_feature_names_out()[3] == "feature3"
