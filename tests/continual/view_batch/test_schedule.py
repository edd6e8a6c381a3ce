import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from whp.certificate import Status, Verdict
from whp.continual import Schedule, recall_schedule


@pytest.mark.parametrize(("views", "cycle"), [(1, 25), (2, 50), (4, 100), (8, 200)])
def test_1_cycles_counts_and_gaps(views, cycle):
    s = recall_schedule(800, 32, views=views, epochs=40, rng=0)
    assert (s.cycle, s.total) == (cycle, 1000)
    assert all(len(step) == 32 // views for step in s.steps)
    assert set(s.counts()) == {40}
    np.testing.assert_array_equal(s.mean_gaps(), cycle)
    assert s.gaps().std() == pytest.approx(np.sqrt((cycle**2 - 1) / 6), rel=0.08)
    assert [c.verdict for c in s.certificates] == [Verdict.VACUOUS, Verdict.HOLDS, Verdict.HOLDS]


@pytest.mark.parametrize(
    ("window", "least", "most"), [(1, 100, 100), (5, 96, 104), (20, 81, 119), (100, 1, 199)]
)
def test_2_windows_bound_every_gap(window, least, most):
    s = recall_schedule(800, 32, views=4, epochs=40, window=window, rng=0)
    gaps = s.gaps()
    assert gaps.min() >= least
    assert gaps.max() <= most
    if window < 100:
        assert (gaps.min(), gaps.max()) == (least, most)
    rest = s.certificates[0]
    assert rest.bound == 100 - window + 1
    assert rest.verdict == (Verdict.HOLDS if window < 100 else Verdict.VACUOUS)
    assert (
        recall_schedule(800, 32, views=4, epochs=8, shuffle="fixed", rng=0).certificates[0].bound
        == 100
    )


def test_3_share_of_short_gaps():
    short = np.mean(
        [(recall_schedule(800, 32, epochs=40, rng=s).gaps() <= 49).mean() for s in range(40)]
    )
    assert short == pytest.approx(0.1225, abs=0.003)


@pytest.mark.parametrize(("n", "cycle"), [(10, 5), (11, 6), (1, 1), (2, 1)])
def test_4_the_last_step_may_be_short_and_nothing_is_dropped(n, cycle):
    s = recall_schedule(n, 8, views=4, epochs=16, rng=0)
    assert s.cycle == cycle
    assert set(s.counts()) == {16}
    np.testing.assert_array_equal(s.mean_gaps(), cycle)
    for c in range(s.total // cycle):
        one = np.concatenate(s.steps[c * cycle : (c + 1) * cycle])
        assert sorted(one.tolist()) == list(range(n))


def of_steps(steps, n, views, cycle, window=None):
    at = np.repeat(np.arange(len(steps)), [len(s) for s in steps])
    return Schedule(n, np.concatenate(steps), at, views, cycle, window or cycle, len(steps))


def test_4_rounding_down_is_found_out():
    """Only 768 of 800 samples in each cycle, as if the number were rounded down to a multiple of 256."""
    rng = np.random.default_rng(0)
    steps = [part for _ in range(10) for part in np.split(rng.permutation(800)[:768], 96)]
    rounded = of_steps(steps + [np.array([0])] * 40, 800, 4, 100)
    assert [c.verdict for c in rounded.certificates[1:]] == [Verdict.FAILS, Verdict.FAILS]


def test_sampling_with_replacement_and_shards_are_found_out():
    rng = np.random.default_rng(0)
    drawn = of_steps([rng.integers(0, 40, 8) for _ in range(50)], 40, 4, 5)
    assert [c.verdict for c in drawn.certificates[1:]] == [Verdict.FAILS, Verdict.FAILS]
    s = recall_schedule(80, 8, views=4, epochs=16, shuffle="window", window=2, rng=0)
    reordered = [s.steps[i] for i in rng.permutation(s.total)]
    assert of_steps(reordered, 80, 4, s.cycle, 2).certificates[0].verdict == Verdict.FAILS


def test_runs_that_end_inside_a_cycle_are_void():
    s = recall_schedule(100, 8, views=4, epochs=6, rng=0)
    assert s.certificates[2].verdict == Verdict.VOID
    assert s.certificates[1].verdict == Verdict.VOID
    once = recall_schedule(100, 8, views=4, epochs=4, shuffle="fixed", rng=0)
    assert once.certificates[0].verdict == Verdict.UNMEASURED


@settings(max_examples=80, deadline=None)
@given(
    st.integers(1, 60),
    st.integers(0, 3),
    st.integers(0, 3),
    st.integers(1, 3),
    st.integers(0, 100),
    st.data(),
)
def test_any_schedule_keeps_its_promises(n, log_views, log_distinct, cycles, seed, data):
    views, distinct = 2**log_views, 2**log_distinct
    cycle = -(-n // distinct)
    window = data.draw(st.integers(1, cycle))
    s = recall_schedule(
        n,
        views * distinct,
        views=views,
        epochs=views * cycles,
        shuffle="window",
        window=window,
        rng=seed,
    )
    assert s.cycle == cycle
    assert set(s.counts()) == {views * cycles}
    gaps = s.gaps()
    assert len(gaps) == n * (cycles - 1)
    if cycles > 1:
        assert gaps.min() >= cycle - window + 1
        assert gaps.max() <= cycle + window - 1
        np.testing.assert_allclose(s.mean_gaps(), cycle)
    brute, last = [], {}
    for step, samples in enumerate(s.steps):
        for i in samples.tolist():
            if i in last:
                brute.append(step - last[i])
            last[i] = step
    assert sorted(brute) == sorted(gaps.tolist())


def test_a_million_samples_are_quick():
    import time

    recall_schedule(10, 2, views=2, epochs=4).gaps()
    start = time.process_time()
    s = recall_schedule(1_000_000, 32, views=4, epochs=40, rng=0)
    assert s.gaps().mean() == pytest.approx(s.cycle)
    assert time.process_time() - start < 5


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"n": 0}, "n "),
        ({"batch_size": 0}, "batch_size"),
        ({"views": 0}, "views"),
        ({"views": 3}, "views must divide"),
        ({"epochs": 2}, "50% of the samples would never be seen"),
        ({"shuffle": "random"}, "shuffle"),
        ({"shuffle": "window"}, "window"),
        ({"shuffle": "window", "window": 0}, "window"),
        ({"shuffle": "window", "window": 101}, "window"),
        ({"window": 5, "shuffle": "full"}, "window"),
    ],
)
def test_bad_schedules_are_named(change, named):
    with pytest.raises((ValueError, TypeError), match=named):
        recall_schedule(**({"n": 800, "batch_size": 32, "views": 4, "epochs": 8} | change))


def test_a_window_is_enough_and_a_full_shuffle_is_the_default():
    assert recall_schedule(80, 8, window=3, rng=0).window == 3
    assert recall_schedule(80, 8, rng=0).window == recall_schedule(80, 8, rng=0).cycle


def test_a_plan_says_that_nobody_knows_what_was_trained():
    held = recall_schedule(80, 8, window=3, rng=0).certificates
    assert [c.headline for c in held] == ["holds, given 1 unchecked"] * 3


def test_no_field_of_a_schedule_makes_its_training_certain():
    s = recall_schedule(80, 8, window=3, rng=0)
    for origin in ("trained", "by construction", ""):
        try:
            again = Schedule(
                s.n, s.samples, s.at, s.views, s.cycle, s.window, s.total, origin=origin
            ).certificates
        except ValueError:
            continue
        assert all(c.conditions[0].status is Status.UNCHECKED for c in again)
    altered = Schedule(s.n, s.samples, s.at, s.views, s.cycle, s.window, s.total, altered="lost")
    assert {c.verdict for c in altered.certificates} == {Verdict.VOID}


def test_the_histogram_is_drawn():
    from matplotlib.figure import Figure

    axes = Figure().subplots()
    assert recall_schedule(80, 8, window=3, rng=0).plot(axes) is axes
    assert axes.has_data()


@pytest.mark.parametrize(
    "change",
    [
        {"samples": np.array([0, 5])},
        {"samples": np.array([0, -1])},
        {"at": np.array([1, 0])},
        {"at": np.array([0, 2])},
        {"at": np.array([0])},
        {"cycle": 0},
        {"window": 0},
    ],
    ids=str,
)
def test_a_schedule_by_hand_must_be_one(change):
    good = {"n": 2, "samples": np.array([0, 1]), "at": np.array([0, 1]), "views": 1}
    good |= {"cycle": 2, "window": 1, "total": 2}
    Schedule(**good)
    with pytest.raises((TypeError, ValueError)):
        Schedule(**(good | change))


@pytest.mark.parametrize("lost_from", [0, 1, 2, 5])
def test_a_sample_that_is_lost_in_the_end_is_missed(lost_from):
    rng = np.random.default_rng(0)
    steps = []
    for c in range(6):
        order = rng.permutation(40)
        steps += np.array_split(order if c < lost_from else order[order != 7], 10)
    verdicts = [c.verdict for c in of_steps(steps, 40, 4, 10).certificates[1:]]
    assert verdicts == [Verdict.FAILS, Verdict.FAILS]


def test_steps_are_whole_numbers_in_order():
    samples, at = np.array([0, 1, 0, 1]), np.arange(4)
    made = Schedule(2, samples, at, 1, 2, 1, 4)
    assert [c.verdict for c in made.certificates] == [Verdict.HOLDS] * 3
    with pytest.raises(ValueError, match="in order"):
        Schedule(2, samples, at[::-1].astype(np.uint8), 1, 2, 1, 4)
    for bad in (samples + 0.0, samples[None]):
        with pytest.raises(ValueError, match="samples must be one row of whole numbers"):
            Schedule(2, bad, at, 1, 2, 1, 4)
