import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

from whp.certificate import Status
from whp.interpretability import Training, sae_gba
from whp.interpretability._sae_gba import training as module
from whp.studies.sae_gba.experiments import simulated

PLAN = Training(steps=60, batch_size=64, lr=3e-3)
OPTIONS = {"n_neurons": 32, "n_groups": 4, "low": 0.05, "n_seeds": 2, "training": PLAN, "rng": 3}


@pytest.fixture(scope="module")
def X():
    return simulated(40, 20, (2,), 2000, np.random.default_rng(0))[0]


class Stop(Exception):
    """The power went."""


def stopped(monkeypatch, X, path, at, **options):
    """A training that ends when its state was written so many times."""
    written = []
    write = module.Checkpoint.write

    def watched(self, *given):
        write(self, *given)
        written.append(given[1])
        if len(written) == at:
            raise Stop

    with monkeypatch.context() as context:
        context.setattr(module.Checkpoint, "write", watched)
        with pytest.raises(Stop):
            sae_gba(X, checkpoint=path, **(OPTIONS | options))


@pytest.mark.parametrize("method", ["gba", "topk", "l1"])
@pytest.mark.parametrize("at", [7, 75])
def test_a_training_that_was_stopped_goes_on_to_the_same_end(monkeypatch, tmp_path, X, at, method):
    way = {"topk": {"k": 3}, "l1": {"l1": 0.01}}.get(method, {})
    options = {k: v for k, v in OPTIONS.items() if not way or k not in ("n_groups", "low")}
    monkeypatch.setattr(f"{__name__}.OPTIONS", options | {"method": method, **way})
    path = tmp_path / "state.safetensors"
    stopped(monkeypatch, X, path, at)
    with pytest.warns(UserWarning, match="training goes on from"):
        again = sae_gba(X, checkpoint=path, **OPTIONS)
    whole = sae_gba(X, **OPTIONS)
    for name in ("decoder", "bias", "scale", "center", "consistency", "frequency"):
        np.testing.assert_array_equal(getattr(again, name), getattr(whole, name))
    assert again.history.equals(whole.history)


def test_certificates_do_not_vouch_for_what_a_file_brought(monkeypatch, tmp_path, X):
    path = tmp_path / "state.safetensors"
    fresh = sae_gba(X, checkpoint=path, **OPTIONS)
    with pytest.warns(UserWarning, match="goes on"):
        again = sae_gba(X, checkpoint=path, **OPTIONS)
    for made, wanted in ((fresh, Status.BY_CONSTRUCTION), (again, Status.UNCHECKED)):
        seen = {a.name: a.status for c in made.certificates for a in c.conditions}
        assert seen["held-out"] is wanted
        assert seen["independent-seeds"] is wanted


def test_without_a_seed_the_file_brings_its_own(tmp_path, X):
    path = tmp_path / "state.safetensors"
    options = OPTIONS | {"rng": None}
    first = sae_gba(X, checkpoint=path, **options)
    with pytest.warns(UserWarning, match="goes on"):
        again = sae_gba(X, checkpoint=path, **options)
    np.testing.assert_array_equal(first.decoder, again.decoder)


@pytest.mark.filterwarnings("ignore:training goes on")
def test_another_training_is_refused_and_the_file_left_alone(tmp_path, X):
    path = tmp_path / "state.safetensors"
    sae_gba(X, checkpoint=path, **OPTIONS)
    before = path.read_bytes()
    for change, named in (
        ({"rng": 4}, "another rng"),
        ({"training": Training(steps=61, batch_size=64, lr=3e-3)}, "another training"),
        ({"n_neurons": 33}, "another neurons"),
        ({"low": 0.06}, "another low"),
    ):
        with pytest.raises(ValueError, match=f"checkpoint: .*{named}"):
            sae_gba(X, checkpoint=path, **(OPTIONS | change))
    with pytest.raises(ValueError, match="another activations"):
        sae_gba(X + 1, checkpoint=path, **OPTIONS)
    assert path.read_bytes() == before


@pytest.mark.filterwarnings("ignore:training goes on")
def test_broken_files_are_refused_by_name(tmp_path, X):
    path = tmp_path / "state.safetensors"
    path.write_bytes(b"noise")
    with pytest.raises(ValueError, match=r"checkpoint: .* holds no training of ours"):
        sae_gba(X, checkpoint=path, **OPTIONS)
    path.unlink()
    sae_gba(X, checkpoint=path, **OPTIONS)
    with safe_open(path, "np") as file:
        told = file.metadata()
    lacking = {k: v for k, v in load_file(path).items() if not k.endswith("exp_avg")}
    save_file(lacking, path, metadata=told)
    with pytest.raises(ValueError, match="lacks a part"):
        sae_gba(X, checkpoint=path, **OPTIONS)
    with pytest.raises(ValueError, match="a link or a directory"):
        sae_gba(X, checkpoint=tmp_path, **OPTIONS)


def test_adaptations_see_the_rarest_target():
    assert Training(steps=5000).every(1e-3, True) == 12
    assert Training(steps=400, batch_size=100).every(1e-3, True) == 10
    assert Training(steps=10**6).every(0.1, True) == 50
    with pytest.raises(ValueError, match="low=1e-05 needs at least 100000 samples per adaptation"):
        Training(adapt_every=1).every(1e-5, True)
    assert Training(adapt_every=1).every(1e-5, False) == 1


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("steps", 0),
        ("batch_size", 0),
        ("lr", 0),
        ("lr", "fast"),
        ("gamma_up", -1),
        ("dead_below", 2),
    ],
)
def test_wrong_options_are_named(option, value):
    with pytest.raises((ValueError, TypeError), match=option):
        Training(**{option: value})


def test_divergence_says_where(X):
    with pytest.raises(FloatingPointError, match="step"):
        sae_gba(X * 1e25, preprocess=False, **(OPTIONS | {"n_seeds": 1}))


def test_the_state_holds_all_that_the_next_step_depends_on():
    """Adam's moments among them."""
    model = torch.nn.Linear(2, 2)
    optimizer = torch.optim.Adam(model.parameters())
    model(torch.ones(1, 2)).sum().backward()
    optimizer.step()
    kept = module.kept_state(model, optimizer, None, [(1, 2.0, 3.0)])
    assert {"adam.weight.exp_avg", "adam.weight.exp_avg_sq", "model.bias", "history"} <= set(kept)


def test_a_checkpoint_nowhere_is_refused_before_the_training(X, tmp_path):
    with pytest.raises(ValueError, match="no directory"):
        sae_gba(X, 8, low=0.05, checkpoint=tmp_path / "nowhere" / "training.safetensors")
