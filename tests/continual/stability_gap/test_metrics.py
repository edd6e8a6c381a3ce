import numpy as np
import pytest
from continual_streams import ENDS, A, curves_of
from hypothesis import given, settings
from hypothesis import strategies as st

from whp.continual import stability_gap
from whp.continual._stability_gap.metrics import Curves, metrics, windowed


def test_1_all_metrics_of_a_small_run():
    r = stability_gap(A, ENDS, windows=(2, 3, 5, 12))
    assert r.acc.value == pytest.approx(0.886667, abs=1e-6)
    assert r.forg.value == pytest.approx(0.085)
    assert r.min_acc_task.tolist() == [0.3, 0.6]
    assert r.min_acc.value == pytest.approx(0.45)
    assert r.wc_acc.value == pytest.approx(0.62)
    np.testing.assert_allclose(
        r.wc_curve[4:], [0.25, 0.45, 0.65, 0.66, 0.366667, 0.533333, 0.583333, 0.62], atol=1e-6
    )
    np.testing.assert_allclose(
        r.acc_curve[4:], [0.25, 0.5, 0.85, 0.885, 0.366667, 0.7, 0.826667, 0.886667], atol=1e-6
    )
    assert [r.wf[w].value for w in (2, 3, 5, 12)] == pytest.approx(
        [0.29, 0.29, 0.29, 0.323333], abs=1e-6
    )
    assert [r.wp[w].value for w in (2, 3, 5, 12)] == pytest.approx(
        [0.433333, 0.716667, 0.776667, 0.776667], abs=1e-6
    )
    first = r.gaps.iloc[0]
    assert (first["before"], first["minimum"], first["iteration"], first["after"]) == (
        0.95,
        0.4,
        5,
        0.85,
    )
    assert first["drop"] == pytest.approx(0.55)
    assert first["recovery"] == pytest.approx(0.45)


def test_2_coarse_evaluation_hides_it():
    two = stability_gap(A, ENDS, every=2)
    assert two.min_acc_task.tolist() == [0.5, 0.7]
    assert two.wc_acc.value == pytest.approx(0.72)
    four = stability_gap(A, ENDS, every=4)
    assert four.wc_acc.value == pytest.approx(four.acc.value)
    columns = stability_gap(A[:, 1::2], ENDS, every=2)
    assert columns.wc_acc.value == two.wc_acc.value


@settings(max_examples=100, deadline=None)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=20), st.integers(2, 25))
def test_windows_against_all_pairs(a, window):
    a = np.array(a)
    fall, rise = windowed(a, window)
    pairs = [(s, t) for t in range(len(a)) for s in range(max(0, t - window + 1), t)]
    for x in range(len(a)):
        some = [a[s] - a[t] for s, t in pairs if t <= x]
        assert fall[x] == pytest.approx(max([0.0, *some]))
        assert rise[x] == pytest.approx(max([0.0, *(-d for d in some)]))


@settings(max_examples=12, deadline=None)
@given(st.integers(0, 10**6))
def test_10_inequalities_and_invariances(seed):
    accuracy, ends = curves_of(seed)
    r = stability_gap(accuracy, ends, windows=(3, 5, 24))
    assert (r.wc_curve <= r.acc_curve + 1e-12).all()
    assert r.wf[3].value <= r.wf[5].value <= r.wf[24].value
    assert r.wf[24].value <= np.ceil(23 / 2) * r.wf[3].value + 1e-12
    upside = stability_gap(1 - accuracy, ends, windows=(3, 5, 24))
    for w in (3, 5, 24):
        assert upside.wf[w].value == pytest.approx(r.wp[w].value)
    lower = stability_gap(accuracy / 2, ends, windows=(3,))
    raised = stability_gap(accuracy / 2 + 0.3, ends, windows=(3,))
    assert raised.wf[3].value == pytest.approx(lower.wf[3].value)
    np.testing.assert_allclose(raised.gaps["drop"], lower.gaps["drop"])
    coarse = stability_gap(accuracy, ends, every=4)
    assert stability_gap(accuracy, ends, every=2).wc_acc.value <= coarse.wc_acc.value + 1e-12
    told = {"acc": r.acc.value, "wc_acc": r.wc_acc.value}
    fits = stability_gap(accuracy, ends, reported=told).certificates[-1]
    assert str(fits.verdict) == "holds"
    found = metrics(Curves(accuracy, np.arange(1, 25), np.array([7, 15, 23])), (3,))
    assert found.wf[3] == r.wf[3].value
    table = r.to_frame()
    again = stability_gap(table, windows=(3, 5, 24))
    assert again.wc_acc.value == r.wc_acc.value
    assert again.task_ends.tolist() == ends
