import itertools
import math
import pickle

import numpy as np
import pytest

from whp.certificate import Verdict
from whp.distributed import beats_redundancy
from whp.distributed._checkfree import theorems as t
from whp.distributed._checkfree.recovery import Recovery
from whp.intervals import Estimate
from whp.provenance import register


def recovered(**changes):
    good = {
        "iteration": 3,
        "stages": (2,),
        "how": "rebuilt",
        "resumed": 3,
        "sources": ((1, 3),),
        "difference": 0.7,
        "spread": 1e6,
        "changed": 0,
        "compared": 5,
    }
    return Recovery(**(good | changes))


def test_certificates_of_recoveries_can_come_out_every_way():
    assert t.rebuilt([recovered()]).verdict is Verdict.HOLDS
    assert t.rebuilt([recovered(difference=5.0)]).verdict is Verdict.FAILS
    reason = "stages 2 and 3 were lost together"
    assert t.rebuilt([recovered(reason=reason, difference=None)]).verdict is Verdict.VOID
    assert t.rebuilt([recovered(spread=0.0)]).verdict is Verdict.VACUOUS
    assert t.rebuilt([]).verdict is Verdict.UNMEASURED
    assert t.rebuilt([recovered()], mode="checkpoint").verdict is Verdict.VOID
    assert t.rebuilt([recovered()], rule="random").verdict is Verdict.VOID
    assert t.untouched([recovered()]).verdict is Verdict.HOLDS
    assert t.untouched([recovered(changed=1)]).verdict is Verdict.FAILS
    assert t.untouched([recovered(how="rolled back")]).verdict is Verdict.VOID
    assert t.untouched([recovered(compared=0)]).verdict is Verdict.VACUOUS
    assert t.untouched([]).verdict is Verdict.UNMEASURED
    ends = {"ends_changed": 0, "ends_compared": 1}
    assert t.ends_restored([recovered(**ends)]).verdict is Verdict.HOLDS
    assert t.ends_restored([recovered(**ends | {"ends_changed": 1})]).verdict is Verdict.FAILS
    assert t.ends_restored([recovered()]).verdict is Verdict.UNMEASURED
    assert t.ends_restored([recovered(how="random")]).verdict is Verdict.VOID
    assert t.each_once(range(5), 0, 40).verdict is Verdict.HOLDS
    assert t.each_once([0, 1, 1, 2], 0, 32).verdict is Verdict.FAILS
    assert t.each_once(range(4), 1, 32).verdict is Verdict.FAILS
    assert t.each_once([], 0, 0).verdict is Verdict.VACUOUS
    assert t.each_once([0, 1, 0], 0, 9, [recovered(how="rolled back")]).verdict is Verdict.VOID


def losses(start, end, jump, n=256, failures=1):
    rng = np.random.default_rng(0)
    noise = lambda *shape: 0.05 * rng.uniform(-1, 1, shape)  # noqa: E731
    return t.Windows(
        start + noise(n), end + noise(n), jump + noise(failures, n), math.log(64), failures
    )


def test_jumps_can_break_progress():
    """Training ends lower in all of these; what failures took decides."""
    assert t.progress(losses(4.0, 2.0, 0.2)).verdict is Verdict.HOLDS
    assert t.progress(losses(4.0, 3.9, 2.0)).verdict is Verdict.FAILS
    assert t.progress(losses(4.0, 3.0, 1.0)).verdict is Verdict.INCONCLUSIVE
    assert t.progress(losses(4.0, 3.0, 0.9), share=0.9).verdict is Verdict.HOLDS
    assert t.progress(losses(3.0, 4.0, 1.5)).verdict is Verdict.FAILS


def test_no_progress_never_holds():
    zero = np.zeros(256)
    level = t.Windows(zero + 2, zero + 2, zero[None], math.log(64), 1)
    assert t.progress(level).verdict is Verdict.INCONCLUSIVE
    assert t.progress(t.Windows(zero, zero, zero[None], 0.0, 1)).verdict is Verdict.VACUOUS
    none = t.Windows(zero + 4, zero + 1, np.zeros((0, 256)), math.log(64), 0)
    assert t.progress(none).verdict is Verdict.UNMEASURED
    for bad in (math.nan, math.inf):
        w = losses(4.0, 2.0, 0.2)
        w.end[3] = bad
        assert t.progress(w).verdict is Verdict.VOID
    short = losses(4.0, 2.0, 0.2)
    assert t.progress(t.Windows(**vars(short) | {"failures": 2})).verdict is Verdict.VOID


def test_windows_are_drawn_only_where_they_were_drawn():
    """No attribute of a user's object makes it so."""

    class Mine(t.Windows):
        pass

    w = losses(4.0, 2.0, 0.2)
    mine = Mine(**vars(w))
    register(mine, "start", "end", "jumps")
    copied = pickle.loads(pickle.dumps(w))
    for made in (w, mine, copied):
        assert str(t.progress(made).conditions[0].status) == "unchecked"
    register(w, "start", "end", "jumps")
    assert str(t.progress(w).conditions[0].status) == "by construction"


def quadratic(rng, size=6.0, T=200, rate=0.8):
    """Gradient descent on ½ Σ aᵢxᵢ², thrown off its way now and then."""
    a = rng.uniform(0.1, 1.0, 10)
    x, gamma = rng.normal(size=10) * 3, rate / a.max()
    at = set(rng.choice(np.arange(1, T), 5, replace=False).tolist())
    before, after, squares, jumps = [], [], [], []
    for k in range(T):
        if k in at:
            was = 0.5 * float(a @ x**2)
            x = x + size * rng.normal(size=10)
            jumps.append(0.5 * float(a @ x**2) - was)
        before.append(0.5 * float(a @ x**2))
        squares.append(float(((a * x) ** 2).sum()))
        x = x - gamma * a * x
        after.append(0.5 * float(a @ x**2))
    lists = (np.array(v) for v in (before, after, squares))
    return t.Path(*lists, gamma, gamma, np.array(jumps), 5), float(a.max())


def test_descent_can_come_out_every_way():
    path, L = quadratic(np.random.default_rng(0))
    given = {"floor": 0.0, "smoothness": L}
    assert t.descent(path, **given).headline == "holds, given 4 unchecked"
    less = t.Path(**vars(path) | {"jumps": path.jumps[:0], "recoveries": 0})
    assert t.descent(less, **given).verdict is Verdict.VOID
    fast = t.Path(**vars(path) | {"fastest": 1.1 / L})
    assert t.descent(fast, **given).verdict is Verdict.VOID
    assert t.descent(path, floor=0.0).verdict is Verdict.HOLDS
    steep = t.Path(**vars(path) | {"steepest": 2 * L})
    assert t.descent(steep, **given).verdict is Verdict.VOID
    assert t.descent(steep, floor=0.0).verdict is Verdict.VOID
    assert t.descent(path, floor=1.0, smoothness=L).verdict is Verdict.VOID
    short, L = quadratic(np.random.default_rng(1), T=8, rate=0.05)
    assert t.descent(short, floor=0.0, smoothness=L).verdict is Verdict.VACUOUS
    for key in ("plain", "objective"):
        broken = t.Path(**vars(path) | {key: (False, "seen")})
        assert t.descent(broken, **given).verdict is Verdict.VOID


def test_descent_on_average_wants_ends():
    path, L = quadratic(np.random.default_rng(0))
    given = {"floor": 0.0, "smoothness": L, "variance": 0.0}
    assert t.descent_on_average([path], **given).verdict is Verdict.UNMEASURED
    with pytest.raises(ValueError, match="between"):
        t.descent_on_average([path], **given, between=(0.0, 1e-9))
    still = t.Path(**vars(path) | {"slowest": 0.0})
    assert t.descent_on_average([still], **given, between=(0.0, 1e9)).verdict is Verdict.VACUOUS
    for change in ({"smoothness": 0.0}, {"smoothness": math.nan}, {"variance": -1.0}):
        with pytest.raises(ValueError, match=next(iter(change))):
            t.descent_on_average([path], **given | change)
    with pytest.raises(ValueError, match="smoothness"):
        t.descent(path, floor=0.0, smoothness=math.nan)


def test_on_average_a_jump_before_the_first_gradient_counts_once():
    path, L = quadratic(np.random.default_rng(0))
    was = 0.25 * path.before[0]
    jumps = np.append(path.jumps, path.before[0] - was)
    more = t.Path(**vars(path) | {"first": was, "jumps": jumps, "recoveries": 6})
    given = {"floor": 0.0, "smoothness": L, "variance": 0.0}
    c = t.descent_on_average([more], **given)
    assert c.inputs["h(θ₀) − h_inf"] == was
    assert [str(a.status) for a in c.conditions].count("violated") == 0
    less = t.Path(**vars(more) | {"jumps": path.jumps})
    assert t.descent_on_average([more, less], **given).verdict is Verdict.VOID


def test_windows_of_other_shapes_are_refused():
    lost = np.ones((2, 8))
    with pytest.raises(ValueError, match="windows must have"):
        t.progress(t.Windows(np.ones(8), np.ones(1), lost, 3.0, 2))
    with pytest.raises(ValueError, match="windows must have"):
        t.progress(t.Windows(np.ones(8), np.ones(8), lost.T, 3.0, 2))


COST = {"longest": 30.0, "iteration_seconds": 10.0, "redundancy": 1.654, "reached": (10, 10)}


def log(n=2000, every=20):
    rng = np.random.default_rng(0)
    return rng.random(n) < 1 / every


def ratio(value, half=0.02):
    return Estimate(value, value - half, value + half, 0.99, 10, "paired t of logs")


def test_beats_redundancy_can_come_out_every_way():
    failed = log()
    seconds = np.full(int(failed.sum()), 0.3)
    assert beats_redundancy(ratio(1.4), failed, seconds, **COST).verdict is Verdict.HOLDS
    assert beats_redundancy(ratio(2.2), failed, seconds, **COST).verdict is Verdict.FAILS
    assert beats_redundancy(ratio(1.6, 0.1), failed, seconds, **COST).verdict is (
        Verdict.INCONCLUSIVE
    )
    assert beats_redundancy(ratio(1.4), failed, seconds[:-1], **COST).verdict is Verdict.VOID
    assert beats_redundancy(ratio(1.4), failed, [0.3], **COST).verdict is Verdict.VOID
    less = COST | {"reached": (9, 10)}
    assert beats_redundancy(ratio(1.4), failed, seconds, **less).verdict is Verdict.VOID
    free = COST | {"redundancy": 50.0}
    assert beats_redundancy(ratio(1.4), failed, seconds, **free).verdict is Verdict.VACUOUS
    wide = Estimate(1.4, 1.3, 1.5, 0.9, 10, "t")
    with pytest.raises(ValueError, match="level"):
        beats_redundancy(wide, failed, seconds, **COST)


def test_runs_of_failures():
    rng = np.random.default_rng(0)
    assert t.runs_test(rng.random(2000) < 0.05) > 0.01
    clustered = np.repeat(rng.random(200) < 0.05, 10)
    assert t.runs_test(clustered) < 1e-6
    assert t.runs_test(np.zeros(100, dtype=bool)) == 1


@pytest.mark.parametrize("ones", [1, 3, 5])
def test_the_law_of_runs_is_that_of_all_orders(ones):
    """Against counting every order of a short log."""
    n = 8
    logs = [np.isin(np.arange(n), at) for at in itertools.combinations(range(n), ones)]
    runs = [int(x[0]) + int((x[1:] & ~x[:-1]).sum()) for x in logs]
    for x, seen in zip(logs, runs, strict=True):
        low, high = np.mean([r <= seen for r in runs]), np.mean([r >= seen for r in runs])
        assert t.runs_test(x) == pytest.approx(min(1.0, 2 * min(low, high)))


def test_neighbours_among_rare_failures_are_no_cluster():
    """Ten in a thousand: two of them are neighbours in one log of twelve."""
    x = np.zeros(1000, dtype=bool)
    x[50:950:100] = x[51] = True
    assert t.runs_test(x) > 0.1
    assert t.stretches_test(x) > 0.1
    x[:] = False
    x[500:510] = True
    assert max(t.runs_test(x), t.stretches_test(x)) < 1e-3


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"failed": [3, 17, 250]}, "failed must say of each iteration"),
        ({"failed": [0, 2, 1]}, "failed must say of each iteration"),
        ({"failed": [0.0, math.nan, 1.0]}, "failed must say of each iteration"),
        ({"failed": ["0", "1"]}, "failed must hold real numbers"),
        ({"failed": []}, "at least one iteration"),
        ({"failed": log().reshape(-1, 5)}, r"failed must be one-dimensional.*\(400, 5\)"),
        ({"seconds": ["0,3"]}, "seconds must hold real numbers"),
        ({"seconds": [[0.3, 0.3]]}, "seconds must be one-dimensional"),
        ({"delta": 1.5}, "delta"),
        ({"delta": math.nan}, "delta"),
        ({"ratio": 1.4}, "ratio must be an Estimate"),
        ({"ratio": Estimate(-1.4, -1.5, -1.3, 0.99, 10, "t")}, "ratio must be positive"),
    ],
)
def test_arguments_of_the_cost_are_named(change, named):
    failed = log()
    given = {"ratio": ratio(1.4), "failed": failed, "seconds": np.full(int(failed.sum()), 0.3)}
    # The type checker of the tests may be first.
    with pytest.raises((TypeError, ValueError), match=f"{named}|Type-check error"):
        beats_redundancy(**(given | COST | change))


def test_the_longest_that_was_seen_bounds_nothing():
    failed = log()
    seconds = np.random.default_rng(0).uniform(0.1, 0.5, int(failed.sum()))
    c = beats_redundancy(ratio(1.4), failed, seconds, **COST | {"longest": float(seconds.max())})
    assert c.verdict is Verdict.VOID


def test_a_claim_on_all_recoveries_is_measured_by_all_or_not_at_all():
    blind = {"difference": None, "spread": None, "changed": None, "compared": None}
    two = [recovered(), recovered(**blind)]
    assert t.rebuilt(two).verdict is Verdict.UNMEASURED
    assert t.untouched(two).verdict is Verdict.UNMEASURED
    ends = [recovered(ends=1, ends_changed=0, ends_compared=1), recovered(ends=1)]
    assert t.ends_restored(ends).verdict is Verdict.UNMEASURED
    assert t.rebuilt([recovered(rule="zero", difference=None), recovered()]).verdict is Verdict.VOID
