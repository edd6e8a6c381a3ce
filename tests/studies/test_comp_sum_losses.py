import pytest
from trial import assert_flat_and_repeatable, judged, records_of

from whp.experiment.study import Outcome, load

study = load("comp-sum-losses")
PLAIN = {"tau": 1.0, "rho": 1.0}
SMALL = [
    *(
        {"experiment": "noise", "data": "digits", "noise": 0.2, "tau": t, "epochs": 1}
        for t in (1.0, 1.7, 2.0)
    ),
    {"experiment": "robust"},
    {"experiment": "truth", "instances": 3},
    {"experiment": "regret", "draws": 20},
    *(
        {"experiment": "attack", "data": "digits", "epochs": 1, "method": m, "parameter": p} | PLAIN
        for m, p in (("ours", 0.3), ("ours", 1.0), ("trades", 6.0), ("pgd", 1.0))
    ),
]


@pytest.fixture(scope="module")
def records():
    return records_of(study, SMALL)


@pytest.mark.parametrize("config", [SMALL[1], *SMALL[3:7]], ids=lambda c: c["experiment"])
def test_a_trial_is_flat_and_repeatable(config):
    assert_flat_and_repeatable(study, config)


@pytest.mark.slow
def test_claims_judge_and_can_come_out_either_way(records):
    findings = {c.id: judged(c, records) for c in study.CLAIMS}
    assert len(findings) == len(study.CLAIMS)
    assert findings["C1a"].outcome is Outcome.REPRODUCED
    assert findings["C1d"].outcome is Outcome.NOT_REPRODUCED
    assert findings["C5a"].outcome is Outcome.REPRODUCED
    assert findings["C5b"].ours.value == 0
    for name in ("C2c", "C2f", "C4e"):
        assert findings[name].outcome is Outcome.NOT_TESTED, name
    worse = records.copy()
    worse.loc[worse["tau"] == 1.7, "clean_error"] = 0.9 + 0.001 * worse["seed"]
    worse["broken"] = worse["instances"]
    worse.loc[worse["method"] == "ours", ["both", "robust", "clean"]] = 0.0
    claims = {c.id: c for c in study.CLAIMS}
    for name in ("C2a", "C3b", "C4a"):
        assert judged(claims[name], worse).outcome is Outcome.NOT_REPRODUCED, name


@pytest.mark.slow
def test_figures_draw(records):
    from matplotlib.figure import Figure

    for draw in study.FIGURES.values():
        draw(records, Figure().subplots())


@pytest.mark.slow
def test_the_showcase_holds():
    from matplotlib.figure import Figure

    card = study.showcase()
    card.draw(Figure(figsize=(6.4, 3.2)))
    assert float(card.ours.rstrip("%")) < float(card.baseline.rstrip("%"))
    assert [str(c.verdict) for c in card.certificates] == ["holds"]


def test_networks_have_the_sizes_they_should():
    import torch

    from whp.studies import _networks

    sizes = {"mlp": 478_410, "cnn": 206_922, "lenet": 61_706, "res8": 77_642}
    for name, size in sizes.items():
        network = _networks.backbone(name, "mnist", 0)
        assert network(torch.rand(2, 784)).shape == (2, 10)
        assert sum(p.numel() for p in network.parameters()) == pytest.approx(size, rel=0.03), name
    assert _networks.backbone("cnn", "digits", 0)(torch.rand(2, 64)).shape == (2, 10)
    with pytest.raises(ValueError, match="backbone"):
        _networks.backbone("vgg", "mnist", 0)
