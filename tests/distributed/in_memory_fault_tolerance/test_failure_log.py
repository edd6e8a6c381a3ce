import math

import numpy as np
import pytest

from whp.distributed import FailureLog
from whp.distributed._in_memory_fault_tolerance.log_file import read_log, seconds

NODES = [[f"n{i}" for i in range(4)]]


def test_events_become_windows_and_empty_ones_count():
    log = FailureLog.from_events(
        [5.0, 12.0, 13.0, 14.0, 99.0],
        ["n0", "n1", "n2", "n1", "n3"],
        NODES,
        window=10.0,
        start=0.0,
        stop=95.0 + 5,
    )
    assert (log.windows, log.losses, log.pairs, log.chances) == (10, 4, 1, 40)
    assert (log.fatal(0), log.fatal(1), log.fatal(2)) == (3, 1, 0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"nodes": ["x"]}, "nodes must be in members, got x"),
        ({"times": [200.0]}, "times must lie between start and stop"),
        ({"stop": 5.0}, "a window of 10 s apart at least"),
        ({"members": [["n0"], ["n1", "n2"]]}, "groups of one size"),
    ],
)
def test_events_that_cannot_be_are_refused(change, message):
    options = {"times": [3.0], "nodes": ["n0"], "members": NODES, "start": 0.0, "stop": 100.0}
    with pytest.raises(ValueError, match=message):
        FailureLog.from_events(**{**options, "window": 10.0} | change)


def test_more_losses_than_members_are_refused():
    with pytest.raises(ValueError, match=r"count must be in 1\.\.4"):
        FailureLog.from_counts([0, 5], 4)


def test_expected_pairs_are_those_of_losses_thrown_at_random():
    rng = np.random.default_rng(0)
    n, windows, k = 5, 40, 30
    pairs = []
    for _ in range(3000):
        thrown = rng.choice(n * windows, k, replace=False) // n
        counts = np.bincount(thrown, minlength=windows)
        pairs.append((counts * (counts - 1) // 2).sum())
    mean = k * (k - 1) / 2 * (n - 1) / (n * windows - 1)
    assert np.mean(pairs) == pytest.approx(mean, abs=4 * np.std(pairs) / math.sqrt(3000))
    assert np.var(pairs) < 1.1 * mean, "no more dispersed than a Poisson law"


def test_racks_are_looked_at_by_themselves():
    rng = np.random.default_rng(1)
    nodes = [f"n{i}" for i in range(8)]
    racks = {node: f"r{i // 2}" for i, node in enumerate(nodes)}
    at = rng.integers(0, 20_000, 400)
    times, names = [], []
    for moment in at:
        i = int(rng.integers(8))
        times.append(float(moment))
        names.append(nodes[i])
        if rng.random() < 0.03:  # takes its neighbour
            times.append(float(moment))
            names.append(nodes[i ^ 1])
    options = {"window": 1.0, "start": 0.0, "stop": 20_001.0}
    with_racks = FailureLog.from_events(times, names, [nodes], racks=racks, **options).pairs_test()
    without = FailureLog.from_events(times, names, [nodes], **options).pairs_test()
    assert with_racks.p < 0.001
    assert with_racks.p < without.p


def test_correlation_is_found_again():
    from scipy.stats import betabinom

    rho, p = 0.1, 0.05
    law = betabinom(8, p * (1 - rho) / rho, (1 - p) * (1 - rho) / rho)
    log = FailureLog.from_counts(law.rvs(size=50_000, random_state=0), 8)
    assert log.correlation == pytest.approx(rho, abs=0.01)
    independent = FailureLog.from_counts(np.random.default_rng(0).binomial(8, p, 50_000), 8)
    assert independent.correlation < 0.005


@pytest.mark.parametrize("counts", [[0, 0], [0, 1], [3]])
def test_tests_of_almost_nothing_refute_nothing(counts):
    log = FailureLog.from_counts(counts, 4)
    assert log.pairs_test().p >= 0.01 or log.pairs
    assert log.windows_test().p >= 0.01


def test_moments_are_dates_or_seconds():
    assert seconds("12.5", "x") == 12.5
    assert seconds("1970-01-02", "x") == 86_400
    assert seconds("1970-01-01T01:00:00+01:00", "x") == 0
    with pytest.raises(ValueError, match=r"--from must be a date such as .* got 'yesterday'"):
        seconds("yesterday", "--from")


def table(path, rows, header="time,node,rack"):
    path.write_text("\n".join([header, *rows]) + "\n")
    return path


def test_a_table_of_failures_is_read(tmp_path):
    path = table(tmp_path / "f.csv", ["2025-01-01T00:10,01,a", "2025-01-01T00:12,1,a"])
    log = read_log(path, nodes=4, window=600, start="2025-01-01", stop="2025-01-02")
    assert (log.windows, log.losses, log.pairs, log.n) == (144, 2, 1, 4)
    assert log.in_racks == 1, "01 and 1 are two nodes"


@pytest.mark.parametrize(
    ("rows", "change", "message"),
    [
        (["1,a,r"], {"stop": None}, r"has failures only; give the time that was watched"),
        ([",a,r"], {}, "time is missing in row 1"),
        (["1,a,r", "2,b,r", "3,c,r"], {"nodes": 2}, "has 3 nodes in one group"),
        (["noon,a,r"], {}, "time in row 1 must be a date"),
    ],
)
def test_tables_that_do_not_tell_are_refused(tmp_path, rows, change, message):
    options = {"nodes": 4, "window": 10, "start": "0", "stop": "100"} | change
    with pytest.raises(ValueError, match=message):
        read_log(table(tmp_path / "f.csv", rows), **options)


def test_a_table_without_a_column_of_nodes_is_refused(tmp_path):
    path = table(tmp_path / "f.csv", ["1,a"], "time,host")
    with pytest.raises(ValueError, match="node"):
        read_log(path, nodes=4, window=10, start="0", stop="100")


def written(tmp_path, text):
    path = tmp_path / "log.csv"
    path.write_text(text)
    return path


def test_a_node_is_one_of_its_group(tmp_path):
    rows = "time,node,group\n10,rank0,A\n11,rank0,B\n700,rank1,B\n"
    log = read_log(written(tmp_path, rows), nodes=4, groups=2, window=300.0, start="0", stop="3000")
    assert (log.losses, log.pairs) == (3, 0)
    assert sorted(zip(log.window.tolist(), log.group.tolist(), strict=True)) == [
        (0, 0),
        (0, 1),
        (2, 1),
    ]


@pytest.mark.parametrize(
    ("rows", "bounds", "message"),
    [
        ("time,node,group\n1,a,A\n2,b,\n", ("0", "3000"), "group is missing in row 2"),
        ("time,node\n20250131,a\n", ("20250101", "20260101"), "write 2025-01-01"),
        ("time,node\n1735689600000,a\n", ("1735680000000", "1767216000000"), "milliseconds"),
    ],
)
def test_what_could_be_read_in_two_ways_is_refused(tmp_path, rows, bounds, message):
    start, stop = bounds
    with pytest.raises(ValueError, match=message):
        read_log(written(tmp_path, rows), nodes=4, groups=2, window=300.0, start=start, stop=stop)


def test_nodes_without_a_rack_are_not_in_one(tmp_path):
    rows = "time,node,rack\n1,a,\n2,b,\n900,c,r\n950, c,r\n"
    log = read_log(written(tmp_path, rows), nodes=4, window=300.0, start="0", stop="3000")
    assert (log.losses, log.pairs, log.in_racks, log.in_racks_expected) == (3, 1, 0, 0.0)


def test_a_share_is_no_count():
    with pytest.raises(ValueError, match="whole numbers of members"):
        FailureLog.from_counts([0, 1.7], 4)
    with pytest.raises(ValueError, match="whole numbers of members"):
        FailureLog.from_counts([0, float("nan")], 4)


def test_a_node_in_two_groups_is_refused():
    with pytest.raises(ValueError, match="every node once, got b twice"):
        FailureLog.from_events([1.0], ["b"], [["a", "b"], ["b", "c"]], window=1.0, start=0, stop=9)


@pytest.mark.parametrize("p", [0.0005, 0.02])
def test_groups_alike_are_seldom_told_apart(p):
    rng = np.random.default_rng(0)
    wrong = sum(
        FailureLog.from_counts(rng.binomial(8, p, (200, 6)), 8).groups_test().p < 0.01
        for _ in range(300)
    )
    assert wrong <= 10


@pytest.mark.parametrize(
    ("period", "seen"), [(86_400.0, True), (604_800.0, True), (50_000.0, False)]
)
def test_a_rhythm_of_days_or_weeks_is_seen(period, seen):
    rng = np.random.default_rng(0)
    at = np.arange(365 * 288) * 300.0
    counts = rng.binomial(8, np.where(at % period < period / 2, 6e-4, 0.0))
    log = FailureLog.from_counts(counts, 8, seconds=300.0)
    assert (log.windows_test().p < 1e-6) == seen
    assert FailureLog.from_counts(counts, 8).windows_test().p > 0.01, "no length, no rhythm"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"window": [5, 5], "group": [0, 0], "count": [1, 1]}, "got one twice"),
        ({"window": [5, 6], "group": [0], "count": [1]}, "one length|Type-check"),
    ],
)
def test_an_entry_is_a_window_of_a_group(change, message):
    cells = {name: np.array(values) for name, values in change.items()}
    with pytest.raises((TypeError, ValueError), match=message):
        FailureLog(8, 1, 100, **cells)
    assert FailureLog(8, 2, 100, np.array([5, 5]), np.array([0, 1]), np.array([2, 1])).pairs == 1


def test_a_node_in_two_racks_is_refused(tmp_path):
    path = tmp_path / "log.csv"
    path.write_text("time,node,rack\n5,a,r1\n50,a,r2\n")
    with pytest.raises(ValueError, match="node a is in racks r1 and r2"):
        read_log(path, nodes=2, window=10, start="0", stop="100")


def test_a_time_without_an_end_is_refused():
    options = {"window": 10.0, "start": 0.0, "stop": math.nan}
    with pytest.raises(ValueError, match="start and stop must be moments"):
        FailureLog.from_events([3.0], ["n0"], NODES, **options)
