import copy
import math
import pickle
from pathlib import Path

import numpy as np
import pytest
import ranks
import torch
import torch.distributed as dist
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from pretended import words_of

from whp.distributed import (
    BlockTopK,
    Compressor,
    EF21State,
    Identity,
    NaturalDeterministic,
    RandK,
    TopK,
    ef21_hook,
    run_ranks,
)
from whp.distributed._error_feedback.compressors import Payload
from whp.distributed._error_feedback.hook import _difference, _on_device, contraction_of


@pytest.fixture
def alone():
    """A group of one process, this one."""
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    yield
    dist.destroy_process_group()


def wrapped(**options):
    torch.default_generator.manual_seed(0)
    module = torch.nn.Linear(64, 32)
    ddp = torch.nn.parallel.DistributedDataParallel(module)
    state = EF21State(module, **{"compressor": BlockTopK(0.1), "dense_below": 40, **options})
    ddp.register_comm_hook(state, ef21_hook)
    return module, ddp, state


def test_a_scaler_sees_overflow_and_the_state_does_not(alone):
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**120, growth_interval=1000)
    module, ddp, state = wrapped(scaler=scaler)
    optimizer = torch.optim.SGD(module.parameters(), lr=1e-9)
    X = 1e6 * torch.randn(8, 64, generator=torch.Generator().manual_seed(1))
    begun = module.weight.detach().clone()
    scales = []
    for _ in range(20):
        optimizer.zero_grad()
        scaler.scale(ddp(X).square().mean() / 1e6).backward()
        scaler.step(optimizer)
        scaler.update()
        scales.append(scaler.get_scale())
        if state.skipped and not state._average:
            assert torch.equal(module.weight, begun)
    assert scales[0] == 2.0**119  # the first step overflowed, and the scaler was told
    assert 0 < state.skipped < 20
    assert torch.isfinite(module.weight).all()
    assert not torch.equal(module.weight, begun)
    assert all(torch.isfinite(v).all() for v in state._average.values())


def test_first_shifts_are_dense_also_after_an_overflow(alone):
    module, ddp, state = wrapped()
    for bad in (True, False):
        module.zero_grad()
        ddp(torch.ones(8, 64) * (np.inf if bad else 1.0)).square().mean().backward()
    assert state.skipped == 1
    weight = state._local["weight"]
    assert torch.equal(weight, module.weight.grad.reshape(-1))
    assert (weight != 0).all()


def test_without_a_scaler_the_last_average_stands_in(alone):
    module, ddp, state = wrapped(compressor=Identity())
    ddp(torch.ones(8, 64)).square().mean().backward()
    before = module.weight.grad.clone()
    module.zero_grad()
    ddp(torch.full((8, 64), np.nan)).square().mean().backward()
    assert torch.equal(module.weight.grad, before)
    assert state.skipped == 1


def test_reports_count_what_was_looked_at(alone):
    module, ddp, state = wrapped(check_every=3, resync_every=4)
    for _ in range(10):
        module.zero_grad()
        ddp(torch.randn(8, 64)).square().mean().backward()
    contraction, invariant = state.report()["certificates"]
    assert contraction.inputs["steps looked at"] == 3  # the first was dense
    assert invariant.inputs["times averaged anew"] == 2
    assert contraction.verdict == invariant.verdict == "holds"
    assert "of the steps of the optimizer nothing is said" in contraction.claim


class Boasts(TopK):
    """States more than it keeps."""

    def alpha(self, d):
        return 0.9


def steps(module, ddp, many):
    for _ in range(many):
        module.zero_grad()
        ddp(torch.randn(8, 64)).square().mean().backward()


def test_what_failed_before_a_checkpoint_fails_after_it(alone):
    module, ddp, state = wrapped(compressor=Boasts(5), check_every=1)
    steps(module, ddp, 5)
    assert state.certificates[0].verdict == "fails"
    _, _, later = wrapped(compressor=Boasts(5), check_every=1)
    later.load_state_dict(state.state_dict())
    assert later.certificates == state.certificates
    assert later.report() == state.report()
    old = state.state_dict()
    del old["record"]  # as saved by an earlier release
    _, _, later = wrapped(compressor=Boasts(5))
    later.load_state_dict(old)
    assert later.certificates[0].verdict == "unmeasured"


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))])
def test_state_is_copied_with_its_model_and_not_without(alone, copied):
    module, ddp, state = wrapped()
    steps(module, ddp, 2)
    other, its = copied((module, state))
    again = torch.nn.parallel.DistributedDataParallel(other)
    again.register_comm_hook(its, ef21_hook)
    steps(other, again, 1)
    assert its.step == 3
    again = torch.nn.parallel.DistributedDataParallel(copied(module))
    again.register_comm_hook(its, ef21_hook)
    with pytest.raises(RuntimeError, match="of another model"):
        steps(again.module, again, 1)


def test_a_scaler_that_is_switched_off_lets_no_infinity_through(alone):
    scaler = torch.amp.GradScaler("cpu", enabled=False)
    module, ddp, state = wrapped(scaler=scaler)
    optimizer = torch.optim.SGD(module.parameters(), lr=0.1)
    for bad in (False, True, False):
        optimizer.zero_grad()
        X = torch.full((8, 64), np.nan) if bad else torch.randn(8, 64)
        scaler.scale(ddp(X).square().mean()).backward()
        scaler.step(optimizer)
        scaler.update()
    assert state.skipped
    assert torch.isfinite(module.weight).all()


def test_a_small_parameter_may_be_compressed_after_a_checkpoint(alone):
    module, ddp, state = wrapped(dense_below=4000)
    steps(module, ddp, 2)
    other, again, later = wrapped(dense_below=40)
    later.load_state_dict(state.state_dict())
    steps(other, again, 2)
    assert set(later._local) == {"weight"}


def test_a_compressor_that_sends_nan_spoils_nothing_and_is_told(alone):
    class Spoils(TopK):
        spoilt = False

        def difference(self, gradient, shift):
            values, indices, good = super().difference(gradient, shift)
            return values * (math.nan if self.spoilt else 1.0), indices, good

    compressor = Spoils(5)
    module, ddp, state = wrapped(compressor=compressor, check_every=1)
    steps(module, ddp, 3)
    compressor.spoilt = True
    steps(module, ddp, 1)
    compressor.spoilt = False
    steps(module, ddp, 2)
    assert all(torch.isfinite(v).all() for v in state._average.values())
    assert state.certificates[0].verdict == "fails"


def test_shifts_that_cancel_are_averaged_as_well_as_others():
    (_, invariant), norm = run_ranks(ranks.opposite, 2)[0]
    assert norm < 0.1
    assert invariant.verdict == "holds"


def test_ranks_that_load_different_steps_are_told():
    with pytest.raises(Exception, match="different steps"):
        run_ranks(ranks.opposite, 2, 10)


def test_a_hook_takes_nothing_that_draws():
    with pytest.raises(ValueError, match="deterministic"):
        EF21State(torch.nn.Linear(2, 2), compressor=RandK(1))
    with pytest.raises(TypeError, match="scaler"):
        EF21State(torch.nn.Linear(2, 2), scaler=3.0)


def test_another_device_is_pretended():
    words = words_of(Path(__file__).with_name("on_a_device.py"))
    assert words == ["TopK", "BlockTopK", "NaturalDeterministic", "Identity"]


@pytest.mark.gpu
@pytest.mark.parametrize(
    "compressor", [TopK(30), BlockTopK(0.1), NaturalDeterministic(), Identity()], ids=repr
)
def test_a_device_chooses_what_the_processor_does(compressor):
    if not torch.cuda.is_available():
        pytest.skip("no device")
    v = torch.randn(1234, generator=torch.Generator().manual_seed(0))
    shift = torch.zeros_like(v)
    values, indices, good = _difference(compressor, v, shift)
    there, where, fine = _difference(compressor, v.cuda(), shift.cuda())
    assert there.is_cuda
    assert good == fine
    if indices is None:
        assert torch.equal(values, there.cpu())
    else:
        order, other = indices.argsort(), where.argsort()
        assert torch.equal(indices[order], where[other].cpu())
        assert torch.equal(values[order], there[other].cpu())
        assert contraction_of(v, values, indices) == pytest.approx(
            contraction_of(v.cuda(), there, where)
        )


@settings(max_examples=80, deadline=None)
@given(
    arrays(np.float32, st.integers(1, 60), elements=st.floats(-4, 4, width=32)),
    st.integers(1, 12),
    st.floats(0.05, 1),
)
def test_block_selection_is_that_of_sorting(v, block, ratio):
    import torch

    compressor = BlockTopK(ratio, block)
    chosen = compressor.select(v)
    expected = []
    for start in range(0, len(v), block):
        part = np.abs(v[start : start + block])
        k = min(len(part), max(1, math.ceil(ratio * len(part) - 1e-9)))
        expected += sorted((start + np.argsort(-part, kind="stable")[:k]).tolist())
    assert sorted(chosen.tolist()) == sorted(expected)
    assert len(chosen) == compressor.count(len(v))
    assert sorted(_on_device(compressor, torch.from_numpy(v)).tolist()) == sorted(expected)
    values, indices, finite = compressor.difference(v, np.ones_like(v))
    assert finite
    assert (values == (v - 1)[indices]).all()
    top = TopK(min(block, len(v)))
    assert top.select(v).tolist() == _on_device(top, torch.from_numpy(v)).tolist()


@pytest.fixture(scope="module")
def plain():
    """Ten steps of DistributedDataParallel without a hook."""
    return run_ranks(ranks.train, 2, None, 10, {})[0]["parameters"]


@pytest.mark.parametrize("options", [{}, {"scale": 128.0}, {"accumulate": 2}], ids=str)
def test_everything_sent_is_plain_ddp_and_replicas_are_equal(plain, options):
    whole = run_ranks(ranks.train, 2, Identity(), 10, options)
    assert float((plain - whole[0]["parameters"]).abs().max()) <= (1e-5 if options else 1e-6)
    assert whole[0]["digest"] == whole[1]["digest"]


def test_momentum_from_compressed_first_shifts():
    moved = run_ranks(
        ranks.train, 2, BlockTopK(0.05), 30, {"state": {"momentum": 0.5, "init": "compress"}}
    )
    assert moved[0]["digest"] == moved[1]["digest"]


@pytest.fixture(scope="module")
def trained():
    """Two hundred steps that send a hundredth."""
    return run_ranks(ranks.train, 2, BlockTopK(0.01), 200, {})


def test_replicas_stay_bit_identical(trained):
    assert trained[0]["digest"] == trained[1]["digest"]
    report = trained[0]["report"]
    assert report["share_of_dense"] < 0.15
    assert {c.name: c.verdict for c in report["certificates"]} == {
        "contraction": "holds",
        "invariant": "holds",
    }
    assert trained[0]["losses"][-1] < trained[0]["losses"][0]


def test_a_run_that_goes_on_from_its_state_is_the_same_to_the_last_bit(trained):
    again = run_ranks(ranks.train, 2, BlockTopK(0.01), 200, {"restart_at": 100})
    assert again[0]["digest"] == trained[0]["digest"]


def test_a_nan_batch_is_skipped_on_all_ranks():
    found = run_ranks(ranks.train, 2, TopK(ratio=0.05), 30, {"nan_at": 10})
    assert found[0]["digest"] == found[1]["digest"]
    assert found[0]["report"]["skipped"] > 0
    assert bool(found[0]["parameters"].isfinite().all())


def test_state_survives_the_rebuilding_of_buckets():
    (first, *later), off = run_ranks(ranks.bucket_layouts, 2)[0]
    assert all(layout == later[0] for layout in later)
    assert first != later[0]  # DDP rebuilt them after the first backward pass
    assert off <= 1e-5


def test_state_of_other_runs_is_refused():
    messages = run_ranks(ranks.wrong_loads, 2)[0]
    assert messages[0] == "EF21 state saved for world size 4, got 2; use reset=True"
    assert ["rank" in messages[1], "compressor" in messages[2], "'0.weight'" in messages[3]] == [
        True
    ] * 3


class Signs(Compressor):
    """Signs times their mean size, as users write it."""

    def alpha(self, d):
        return 1 / d

    def count(self, d):
        return d

    def select(self, v, generator=None):
        return np.arange(len(v))

    def compress(self, v, generator=None):
        flat = np.asarray(v).reshape(-1)
        return Payload(np.abs(flat).mean() * np.sign(flat), None, np.shape(v), 1.0)


class Codes(Signs):
    """The same, as whole numbers that are decoded."""

    def compress(self, v, generator=None):
        flat = np.asarray(v).reshape(-1)
        self.size = np.abs(flat).mean()
        return Payload(np.sign(flat).astype(np.int8), None, np.shape(v), 1.0)

    def decompress(self, payload):
        return self.size * payload.values.astype(float).reshape(payload.shape)


@pytest.mark.parametrize("compressor", [Signs(), Codes()], ids=repr)
def test_what_an_own_compressor_does_to_values_is_done(alone, compressor):
    module, ddp, state = wrapped(compressor=compressor, check_every=1, init="compress")
    steps(module, ddp, 1)
    assert len(state._local["weight"].abs().unique()) == 1
    assert 0.1 < state.certificates[0].measured.value < 0.9


def test_messages_of_another_length_are_refused(alone):
    class Varies(TopK):
        def select(self, v, generator=None):
            return np.flatnonzero(np.abs(v) > np.abs(v).max() / 2)

    module, ddp, _ = wrapped(compressor=Varies(5))
    with pytest.raises(Exception, match="5 are expected"):
        steps(module, ddp, 3)


def test_something_made_of_nothing_fails(alone):
    class Adds(TopK):
        def compress(self, v, generator=None):
            sent = super().compress(v, generator)
            sent.values[:] += not v.any()
            return sent

    module, ddp, state = wrapped(compressor=Adds(5), check_every=1)
    for _ in range(3):  # what the first made is taken back at the second, and made again
        module.zero_grad()
        (0 * ddp(torch.zeros(8, 64))).sum().backward()
    assert state.certificates[0].verdict == "fails"


def test_checkpoints_know_own_compressors_by_name(alone):
    module, ddp, state = wrapped(compressor=Signs())
    steps(module, ddp, 2)
    wrapped(compressor=Signs())[2].load_state_dict(state.state_dict())
    module, ddp, state = wrapped(compressor=TopK(5))
    steps(module, ddp, 2)
    with pytest.raises(ValueError, match=r"compressor TopK\(k=5\), got Boasts\(k=5\)"):
        wrapped(compressor=Boasts(5))[2].load_state_dict(state.state_dict())


def test_damaged_states_are_refused_and_old_velocities_dropped(alone):
    module, ddp, state = wrapped(momentum=0.1)
    steps(module, ddp, 2)
    _, _, later = wrapped()
    later.load_state_dict(state.state_dict())
    assert not later._velocity
    saved = state.state_dict()
    saved["local"]["weight"][3] = math.nan
    with pytest.raises(ValueError, match="NaN"):
        later.load_state_dict(saved)
    saved = state.state_dict()
    del saved["average"]["weight"]
    with pytest.raises(ValueError, match="no average"):
        later.load_state_dict(saved)
    later._met = True
    later.load_state_dict(state.state_dict() | {"world_size": 2}, reset=True)
    assert not later._met  # ranks see whether all of them began anew


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64], ids=str)
def test_dense_bytes_are_those_of_the_type(alone, dtype):
    module = torch.nn.Linear(64, 32).to(dtype)
    ddp = torch.nn.parallel.DistributedDataParallel(module)
    state = EF21State(module, compressor=Identity())
    ddp.register_comm_hook(state, ef21_hook)
    ddp(torch.ones(8, 64, dtype=dtype)).square().mean().backward()
    assert state.report()["bytes_dense"] == dtype.itemsize * (64 * 32 + 32)


def test_sparse_gradients_are_named(alone):
    module = torch.nn.Embedding(100, 8, sparse=True)
    ddp = torch.nn.parallel.DistributedDataParallel(module)
    ddp.register_comm_hook(EF21State(module), ef21_hook)
    with pytest.raises(Exception, match="dense gradients"):
        ddp(torch.tensor([1, 2])).sum().backward()


@pytest.mark.parametrize("name", ["compressor", "dense_below", "resync_every"])
def test_ranks_of_other_settings_are_told(name):
    with pytest.raises(Exception, match="different settings"):
        run_ranks(ranks.settings_differ, 2, name)
