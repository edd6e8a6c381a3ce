import json
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import torch
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

from whp.interpretability import GBASparseAutoencoder, SparseFeatures, Training, sae_gba
from whp.studies.sae_gba.experiments import simulated

SMALL = {
    "n_neurons": 32,
    "training": Training(steps=60, batch_size=64, lr=3e-3),
    "n_groups": 4,
    "low": 0.02,
    "rng": 0,
}


@pytest.fixture(scope="module")
def model():
    return simulated(40, 20, (2,), 2000, np.random.default_rng(0))


@pytest.fixture(scope="module")
def fitted(model):
    return sae_gba(model[0], **SMALL)


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


def test_saving_keeps_codes_intervals_and_examples(model, fitted, tmp_path):
    fitted.save(tmp_path / "features.safetensors")
    loaded = SparseFeatures.load(tmp_path / "features.safetensors")
    assert (loaded.encode(model[0]) != fitted.encode(model[0])).nnz == 0
    assert loaded.fvu == fitted.fvu
    assert loaded.rows == fitted.rows
    pd.testing.assert_frame_equal(loaded.history, fitted.history, check_dtype=False)
    assert loaded.certificates == ()  # what was promised was promised of that run
    assert loaded.top_examples(3).equals(fitted.top_examples(3))
    (tmp_path / "broken.safetensors").write_bytes(b"\x10\0\0\0\0\0\0\0{}")
    save_file({"decoder": np.ones((2, 2))}, tmp_path / "other.safetensors")
    with safe_open(tmp_path / "features.safetensors", "np") as file:
        told = file.metadata()
    arrays = load_file(tmp_path / "features.safetensors")
    arrays["bias"][0] = np.nan
    save_file(arrays, tmp_path / "nan.safetensors", metadata=told)
    settings = json.loads(told["whp"]) | {"input_scale": 0.0}
    arrays["bias"][0] = 0
    save_file(arrays, tmp_path / "scale.safetensors", metadata={"whp": json.dumps(settings)})
    for name in ("broken", "other", "missing", "nan", "scale"):
        with pytest.raises(ValueError, match="no features of ours"):
            SparseFeatures.load(tmp_path / f"{name}.safetensors")


def test_baselines_without_targets_are_saved_and_drawn(model, tmp_path):
    plain = {k: v for k, v in SMALL.items() if k not in ("n_groups", "low")}
    found = sae_gba(model[0], method="topk", k=4, n_seeds=1, **plain)
    found.save(tmp_path / "topk.safetensors")
    loaded = SparseFeatures.load(tmp_path / "topk.safetensors")
    assert loaded.k == 4
    assert np.isnan(loaded.target).all()
    found.plot()
    found.report(tmp_path / "topk.html", [str(i) for i in range(2000)])
    assert "target" not in (tmp_path / "topk.html").read_text()
    plt.close("all")


def test_examples_are_the_strongest_held_out_rows(model, fitted):
    X = model[0]
    rows = fitted.examples[fitted.examples >= 0]
    codes = fitted.encode(X).toarray()
    for m in np.flatnonzero(fitted.frequency > 0)[:10]:
        table = fitted.top_examples(int(m))
        np.testing.assert_allclose(codes[table["row"], m], table["code"], atol=1e-5)
        assert (np.diff(table["code"]) <= 0).all()
    assert len(np.unique(rows)) <= fitted.rows[1]


def test_as_many_examples_as_are_asked_for(model):
    found = sae_gba(model[0], examples=25, n_seeds=1, **SMALL)
    m = int(np.argmax(found.frequency))
    assert len(found.top_examples(m)) == 25
    assert len(found.top_examples(m, 3)) == 3
    with pytest.raises(ValueError, match=r"n must be in 1\.\.25"):
        found.top_examples(m, 26)


def test_picture_and_tables(fitted):
    assert fitted.plot().get_yscale() == "log"
    assert len(fitted.neurons()) == 32
    assert "unexplained_variance" in fitted.summary()
    assert set(fitted.artifacts()) == {"features.safetensors", "neurons.csv", "history.csv"}
    plt.close("all")


def test_neurons_that_never_fire_are_said_to(model):
    found = sae_gba(model[0], **(SMALL | {"training": Training(steps=1, batch_size=64)}))
    never = np.where(np.arange(32) < 5, 0.0, found.frequency)
    object.__setattr__(found, "frequency", never)
    _, labels = found.plot().get_legend_handles_labels()
    assert labels == ["on held-out rows", "never", "target"]
    plt.close("all")


def test_saving_replaces_the_file_whole_or_not_at_all(fitted, tmp_path, monkeypatch):
    path = tmp_path / "features.safetensors"
    fitted.save(path)
    before = path.read_bytes()

    def interrupted(arrays, name, metadata):
        Path(name).write_bytes(b"half of it")
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("safetensors.numpy.save_file", interrupted)
        with pytest.raises(KeyboardInterrupt):
            fitted.save(path)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["features.safetensors"]
    (tmp_path / "link.safetensors").symlink_to(path)
    with pytest.raises(ValueError, match="link"):
        fitted.save(tmp_path / "link.safetensors")
