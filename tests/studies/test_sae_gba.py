import numpy as np
import pandas as pd
import pytest
from trial import assert_flat_and_repeatable, judged, records_of

from whp.datasets import activations, packaged
from whp.datasets.superposition import simulated
from whp.experiment.study import Outcome, load
from whp.studies.sae_gba.experiments import MIXED, RATIOS

study = load("sae-gba")

SMALL = [
    *({"experiment": "resonance", "ratio": r, "neurons": 128, "unit": True} for r in RATIOS),
    {"experiment": "resonance", "ratio": 1.0, "neurons": 128, "unit": False},
    {"experiment": "crowded"},
    {"experiment": "shrinkage", "steps": 300},
    *(
        {"experiment": "mixed", "method": m, "rows": 1000, "steps": 20, "lr": 3e-3, "neurons": 64}
        for m in MIXED
    ),
]


@pytest.fixture(scope="module")
def records():
    found = records_of(study, SMALL)
    resonance = found[found["experiment"] == "resonance"]
    return pd.concat(
        [found, resonance.assign(neurons=512), resonance.assign(neurons=2048)], ignore_index=True
    )


@pytest.mark.parametrize("config", [SMALL[0], SMALL[6], SMALL[8]], ids=lambda c: c["experiment"])
def test_a_trial_is_flat_and_repeatable(config):
    assert_flat_and_repeatable(study, config)


def test_claims_judge_and_can_come_out_either_way(records):
    findings = {c.id: judged(c, records) for c in study.CLAIMS}
    assert len(findings) == len(study.CLAIMS)
    assert findings["C1b"].ours.value < findings["C1a"].ours.value
    assert findings["C3a"].outcome is Outcome.NOT_TESTED
    worse = records.copy()
    resonance = worse["experiment"] == "resonance"
    worse.loc[resonance, "frr"] = 0.5 + 0.001 * worse.loc[resonance, "seed"]
    gba = worse["method"] == "gba"
    worse.loc[gba, "frr9"] = 0.001 * worse.loc[gba, "seed"]
    worse.loc[worse["method"] == "topk 3", "frr9"] = 1.0
    claims = {c.id: c for c in study.CLAIMS}
    for name in ("C1a", "C1b", "C1e", "C2b"):
        assert judged(claims[name], worse).outcome is Outcome.NOT_REPRODUCED, name


def test_figures_draw(records):
    from matplotlib.figure import Figure

    for name in ("resonance", "mixed"):
        study.FIGURES[name](records, Figure().subplots())


def test_the_statistical_model():
    X, V, H = simulated(30, 12, (2, 5), 100, np.random.default_rng(0))
    np.testing.assert_allclose(np.linalg.norm(V, axis=1), 1)
    np.testing.assert_allclose(X, H @ V)
    assert set((H[:50] > 0).sum(axis=1)) == {2}
    assert set((H[50:] > 0).sum(axis=1)) == {5}
    np.testing.assert_allclose(np.square(H).sum(axis=1), 1)


needs_packages = pytest.mark.skipif(
    not all(packaged.available(p) for p in ("bible", "all_minilm_l6_v2", "wordllama")),
    reason="data packages are not installed",
)


@needs_packages
def test_text_and_tokens():
    assert len(activations.verses()) == 31_103
    _, vocabulary = activations._model()
    assert len(vocabulary) == 30_522
    assert activations._tokens("In the beginning", vocabulary) == [1999, 1996, 2927]
    names = {v: k for k, v in vocabulary.items()}
    assert [names[t] for t in activations._tokens("unbelievably,", vocabulary)][-1] == ","
    assert (
        "".join(names[t].removeprefix("##") for t in activations._tokens("Zerubbabel", vocabulary))
        == "zerubbabel"
    )
    assert activations._tokens("☃", vocabulary) == [activations.UNKNOWN]
    assert activations.word_vectors().shape == (32_000, 256)


@needs_packages
def test_activations_are_computed_once(tmp_path, monkeypatch):
    monkeypatch.setattr("platformdirs.user_cache_dir", lambda name: str(tmp_path))
    A, contexts, verse = activations.transformer_activations(every=2000)
    assert A.shape == (len(contexts), 384)
    assert len(np.unique(verse)) == 16
    assert "[" in contexts[0]
    monkeypatch.setattr(activations, "_run", lambda *_: pytest.fail("computed again"))
    again, _, _ = activations.transformer_activations(every=2000)
    np.testing.assert_array_equal(A, again)
    (file,) = (tmp_path / "datasets").glob("*.safetensors")
    file.write_bytes(b"broken")
    with pytest.raises(pytest.fail.Exception):
        activations.transformer_activations(every=2000)


@pytest.mark.slow
@needs_packages
def test_showcase():
    from matplotlib.figure import Figure

    card = study.showcase()
    card.draw(Figure(figsize=(6.4, 3.2)))
    assert len(card.certificates) == 4
