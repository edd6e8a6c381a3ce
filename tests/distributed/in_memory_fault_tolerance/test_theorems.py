import numpy as np
import pytest
from scipy.stats import binom

from whp.certificate import Status, Verdict
from whp.distributed import FailureLog, survival
from whp.distributed._in_memory_fault_tolerance.stats import Stats
from whp.distributed._in_memory_fault_tolerance.theorems import (
    Failure,
    Pace,
    Watch,
    exact_recovery,
    newest_common,
    rollback,
    rollback_bound,
    same_as_undisturbed,
    stall_budget,
)

GOOD = Failure(
    trainers=(1,),
    members=(1,),
    last_step=20,
    restored_step=18,
    recovered=True,
    digest_ok=True,
    version=4,
    newest_common=4,
    source="erasure",
    seconds=1.0,
)
OURS = Watch(ours=True)
PACE = Pace(2, 0.05, 0.1, 0.05, 0.1)
HOSTS = [["a", "b", "c", "d"]]


def altered(**change):
    return Failure(**{**vars(GOOD), **change})


def status(certificate, name):
    return next(a.status for a in certificate.conditions if a.name == name)


def test_a_good_run_holds():
    failures = [GOOD] * 3
    assert exact_recovery(failures, OURS, 1).headline == "holds, given 1 unchecked, 1 not refuted"
    assert newest_common(failures, 1).verdict is Verdict.HOLDS
    assert rollback(failures, PACE, 100, 1).verdict is Verdict.HOLDS
    assert stall_budget([1.0, 2.0], 100.0, 0.05, snapshots=2).verdict is Verdict.HOLDS
    assert same_as_undisturbed(0, 50, (0, 40)).verdict is Verdict.HOLDS


def test_without_a_failure_nothing_is_measured():
    assert exact_recovery([], OURS, 1).verdict is Verdict.UNMEASURED
    assert newest_common([altered(newest_common=-1)], 1).verdict is Verdict.UNMEASURED
    assert rollback([], PACE, 100, 1).verdict is Verdict.UNMEASURED
    assert stall_budget([], 0.0).verdict is Verdict.UNMEASURED
    assert same_as_undisturbed(None, 0, None).verdict is Verdict.UNMEASURED


@pytest.mark.parametrize(
    ("failure", "watch", "verdict"),
    [
        (altered(digest_ok=False), OURS, Verdict.FAILS),
        (altered(recovered=False, restored_step=-1), OURS, Verdict.FAILS),
        (altered(members=(0, 1)), OURS, Verdict.VOID),
        (GOOD, Watch(unfenced=2, ours=True), Verdict.VOID),
        (GOOD, Watch(torn=1, ours=True), Verdict.VOID),
        (GOOD, Watch(torn=1), Verdict.VOID),
        (GOOD, Watch("sync", torn=1, ours=True), Verdict.VOID),
    ],
)
def test_recovery_can_come_out_badly(failure, watch, verdict):
    assert exact_recovery([GOOD, failure], watch, 1).verdict is verdict


def test_only_a_guard_of_this_process_is_believed():
    others = exact_recovery([GOOD], Watch(), 1)
    assert status(others, "at-rest") is Status.UNCHECKED
    assert status(others, "fence-called") is Status.UNCHECKED
    at_once = exact_recovery([GOOD], Watch("sync", ours=True), 1)
    assert status(at_once, "at-rest") is Status.BY_CONSTRUCTION
    assert status(exact_recovery([GOOD], OURS, 1), "at-rest") is Status.NOT_REFUTED


def test_an_older_version_than_was_heard_of_fails():
    assert newest_common([altered(newest_common=5)], 1).verdict is Verdict.FAILS
    assert newest_common([altered(newest_common=3)], 1).verdict is Verdict.HOLDS
    assert newest_common([altered(newest_common=5, source="persist")], 1).measured is None


@pytest.mark.parametrize(
    ("every", "lag", "step", "bound"),
    [
        (5, 3.3, 1.0, 9),
        (5, 6.5, 1.0, 14),
        (1, 0.2, 1.0, 2),
        (2, 0.0, 1.0, 2),
        (2, 1.0, 0.0, np.inf),
    ],
)
def test_the_bound_on_lost_work(every, lag, step, bound):
    assert rollback_bound(every, lag, step) == bound


@pytest.mark.parametrize(
    ("failure", "pace", "steps", "verdict"),
    [
        (altered(restored_step=2), PACE, 100, Verdict.FAILS),
        (GOOD, PACE, 3, Verdict.VACUOUS),
        (GOOD, Pace(2, 0.05, 0.1, 0.5, 0.1), 100, Verdict.VOID),
        (GOOD, Pace(2, 0.05, 0.1, 0.05, 0.01), 100, Verdict.VOID),
        (GOOD, Pace(2, 0.05, 0.1, 0.05, 0.1, given_up=1), 100, Verdict.VOID),
        (altered(members=(1, 2)), PACE, 100, Verdict.VOID),
        (altered(restored_step=-1, recovered=False), PACE, 100, Verdict.FAILS),
        (GOOD, Pace(2, 0.05, 0.0), 100, Verdict.VACUOUS),
    ],
)
def test_lost_work_can_come_out_badly(failure, pace, steps, verdict):
    assert rollback([failure], pace, steps, 1).verdict is verdict


def test_a_lost_record_is_no_check():
    pace = Pace(2, 0.05, 0.1, 0.05, 0.1, lost_records=1)
    assert status(rollback([GOOD], pace, 100, 1), "extremes") is Status.UNCHECKED
    assert status(rollback([GOOD], Pace(2, 0.05, 0.1), 100, 1), "extremes") is Status.UNCHECKED


def test_a_guard_reckons_with_the_extremes_of_all_its_processes():
    stats = Stats(lags_ms=[20.0, 40.0], longest_lag_ms=90.0, shortest_step_ms=15.0, torn=1)
    pace = Pace.of(stats, 3)
    assert (pace.lag, pace.step, pace.every, pace.given_up) == (0.09, 0.015, 3, 1)


@pytest.mark.parametrize(
    ("stalls", "watched", "budget", "snapshots", "verdict"),
    [
        ([90.0, 91.0], 1000.0, 0.05, 2, Verdict.FAILS),
        ([1.0, 1.0], 1000.0, 1.0, 2, Verdict.VACUOUS),
        ([1.0, 1.0], 1000.0, 0.05, 9, Verdict.VOID),
        ([1.0], 1000.0, 0.05, 1, Verdict.UNMEASURED),
        ([10.0] * 99 + [5000.0], 60_000.0, 0.05, 100, Verdict.FAILS),  # the median is small
    ],
)
def test_stalls_can_come_out_badly(stalls, watched, budget, snapshots, verdict):
    assert stall_budget(stalls, watched, budget, snapshots=snapshots).verdict is verdict


@pytest.mark.parametrize("rho", [0.0, 1e-6, 0.5])
def test_shared_hosts_void_whatever_correlation_is_given(rho):
    made = survival(None, n=8, m=1, rate=1e-3, window=10, hosts=[["same"] * 8], rho=rho)
    assert made.verdict is Verdict.VOID
    assert "8 members of group 0 share host same: one host failure costs 8 > m=1" in made.explain()


def test_a_correlation_by_hand_is_believed_and_said_to_be():
    made = survival(None, n=4, m=1, rate=1e-3, window=10, hosts=HOSTS, rho=0.1)
    assert made.name == "survival-correlated"
    assert status(made, "correlation-given") is Status.UNCHECKED
    assert made.verdict is Verdict.UNMEASURED


def test_simulated_hosts_are_not_apart():
    made = survival(None, n=4, m=1, rate=1e-3, window=10)
    assert status(made, "hosts-apart") is Status.UNCHECKED


def binomial_log(p, windows, n=8, seed=0):
    return FailureLog.from_counts(np.random.default_rng(seed).binomial(n, p, windows), n)


def test_the_log_decides():
    options = {"n": 8, "m": 1, "window": 1.0, "hosts": [[str(i) for i in range(8)]]}
    rate = -np.log1p(-0.01)
    assert survival(binomial_log(0.005, 20_000), rate=rate, **options).verdict is Verdict.HOLDS
    oftener = survival(binomial_log(0.02, 20_000), rate=rate, **options)
    assert status(oftener, "rate-given") is Status.VIOLATED
    one_a_failure = FailureLog.from_counts(np.ones(400, dtype=int), 8)
    windows = survival(one_a_failure, **options)
    assert status(windows, "all-windows") is Status.VIOLATED
    assert survival(binomial_log(0.01, 20_000), demand=0.99, **options).verdict is Verdict.HOLDS
    assert survival(binomial_log(0.01, 20_000), demand=0.9999, **options).verdict is Verdict.FAILS
    assert survival(binomial_log(0.01, 20_000), demand=0.5, **options).verdict is Verdict.VACUOUS


def test_a_log_of_one_group_does_not_measure_sixteen():
    made = survival(binomial_log(0.02, 3000), n=8, m=1, window=1.0, groups=16)
    assert made.measured is None
    assert made.verdict is Verdict.UNMEASURED
    with pytest.raises(ValueError, match="log must be of groups of 4 members, got 8"):
        survival(binomial_log(0.02, 30), n=4, m=1, window=1.0)
    with pytest.raises(ValueError, match="rate must be given"):
        survival(None, n=4, m=1, window=1.0)


def test_the_survival_bound_breaks_no_more_often_than_it_may():
    """Against the binomial law itself, and certificates that fail on it are as rare."""
    above, fails = 0, 0
    for rng in np.random.default_rng(0).spawn(200):
        n, groups = int(rng.integers(2, 9)), int(rng.integers(1, 4))
        p = float(rng.uniform(0.01, 0.1))
        log = FailureLog.from_counts(rng.binomial(n, p, (400, groups)), n)
        made = survival(log, n=n, m=1, window=1.0, groups=groups)
        above += made.bound > binom.cdf(1, n, p) ** groups
        fails += made.verdict is Verdict.FAILS
    assert binom.sf(above - 1, 200, 0.025) > 1e-3
    assert binom.sf(fails - 1, 200, 0.05) > 1e-3


def test_the_comparison_is_void_where_sums_are_not_repeatable():
    assert same_as_undisturbed(0, 50, (3, 40)).verdict is Verdict.VOID
    assert same_as_undisturbed(2, 50, (0, 40)).verdict is Verdict.FAILS
    assert status(same_as_undisturbed(0, 50, None), "repeatable-sums") is Status.UNCHECKED


def test_hosts_must_be_those_of_all_groups():
    log = FailureLog.from_counts(np.zeros((100, 2), dtype=int), 4)
    for hosts, error in (([], ValueError), ([["a"]], ValueError), (["same"] * 4, TypeError)):
        with pytest.raises(error, match="hosts must"):
            survival(log, n=4, m=1, window=1.0, groups=2, hosts=hosts)
    spelt = survival(
        log, n=4, m=1, window=1.0, groups=2, hosts=[["n1", "N1. ", "b", "c"], ["d", "e", "f", "g"]]
    )
    assert status(spelt, "hosts-apart") is Status.VIOLATED


def test_a_log_of_other_windows_is_refused():
    log = FailureLog.from_events([5.0], ["a"], [["a", "b"]], window=300.0, start=0.0, stop=1e6)
    with pytest.raises(ValueError, match="windows of 3600 s, got 300 s"):
        survival(log, n=2, m=1, window=3600.0)
    assert survival(log, n=2, m=1, window=300.0).name == "survival"


def test_groups_alike_is_not_claimed_where_nobody_looked():
    one = FailureLog.from_counts(np.eye(400, 1, dtype=int), 4)
    for log, m, groups, expected in (
        (None, 1, 1, Status.UNCHECKED),
        (one, 1, 1, Status.BY_CONSTRUCTION),
        (one, 1, 16, Status.UNCHECKED),
        (one, 0, 1, Status.UNCHECKED),
    ):
        made = survival(log, n=4, m=m, window=1.0, groups=groups, rate=1e-3)
        assert status(made, "groups-alike") is expected


def test_a_state_from_disk_does_not_say_that_few_were_lost():
    disk = altered(source="persist", members=())
    assert status(exact_recovery([disk], OURS, 1), "few-lost") is Status.UNCHECKED
    both = [disk, altered(members=(0, 1))]
    assert status(exact_recovery(both, OURS, 1), "few-lost") is Status.VIOLATED


def test_sums_are_not_called_repeatable_where_none_was_compared():
    assert status(same_as_undisturbed(0, 5, (0, 0)), "repeatable-sums") is Status.UNCHECKED


def test_numbers_that_grow_by_more_than_one_are_counted():
    assert rollback_bound(5, 3.3, 1.0, 1) == 9
    assert rollback_bound(20, 3.3, 1.0, 8) == 32 + 32
    assert rollback_bound(20, 0.5, 1.0, 8) == 27 + 8


@pytest.mark.parametrize(
    ("one", "two", "apart"),
    [
        ("gpu1:29500", "gpu1:29501", False),
        ("gpu1", "GPU1.cluster.example.", False),
        ("root@gpu1", "gpu1 slots=4", False),
        ("localhost", "127.0.0.1", False),
        ("a.cluster", "a.other", True),
        ("10.0.0.1", "10.0.0.2", True),
        ("fe80::1", "fe80::2", True),
    ],
)
def test_a_host_is_known_by_its_other_names(one, two, apart):
    made = survival(None, n=3, m=1, window=1.0, rate=1e-6, hosts=[[one, two, "x"]])
    assert made.conditions[0].status is (Status.MET if apart else Status.VIOLATED)


@pytest.mark.parametrize("name", ["", " ", ":1"])
def test_what_is_no_name_of_a_host_is_refused(name):
    with pytest.raises((TypeError, ValueError), match="hosts must be names"):
        survival(None, n=2, m=1, window=1.0, rate=1e-6, hosts=[[name, "x"]])


def test_a_version_from_disk_says_nothing_of_memory():
    failure = altered(source="persist", restored_step=-1, last_step=90)
    assert rollback([failure], PACE, 100, 1).verdict is Verdict.UNMEASURED
