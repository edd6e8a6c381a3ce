import numpy as np
import pandas as pd
import pytest
from continual_streams import ENDS, A, run_of
from hypothesis import given, settings
from hypothesis import strategies as st

from whp.certificate import Verdict
from whp.continual import continual_fit, stability_gap


def test_verdicts_of_a_gap():
    correct, ends = run_of(0.5)
    deep = stability_gap(None, ends, correct=correct)
    assert [c.verdict for c in deep.certificates] == [Verdict.FAILS, Verdict.HOLDS]
    correct, ends = run_of(0.0)
    flat = stability_gap(None, ends, correct=correct, gap=0.1)
    # That nothing fell in between needs every update, which a log does not show.
    assert [c.verdict for c in flat.certificates] == [Verdict.HOLDS, Verdict.INCONCLUSIVE]
    assert (
        stability_gap(None, ends, correct=correct, gap=0.6).certificates[0].verdict
        == Verdict.VACUOUS
    )
    few = stability_gap(None, ends, correct=[c[:, :20] for c in correct], gap=0.1)
    assert few.certificates[0].verdict == Verdict.INCONCLUSIVE
    coarse = stability_gap(None, ends, correct=[c[4::5] for c in correct], every=5, gap=0.1)
    assert coarse.certificates[0].verdict == Verdict.INCONCLUSIVE
    assert coarse.wc_acc.low < 0.6
    lied = stability_gap(A, ENDS, reported={"acc": 0.8867, "wc_acc": 0.9})
    assert lied.certificates[-1].verdict == Verdict.FAILS
    assert (
        stability_gap(A, ENDS, reported={"acc": 0.8867, "wc_acc": 0.72}).certificates[-1].verdict
        == Verdict.HOLDS
    )
    logged = stability_gap(A, ENDS)
    assert logged.certificates[0].verdict == Verdict.FAILS
    assert str(logged.certificates[0].scope) == "this run"
    assert "n, the number of rows" in str(logged.certificates[0].conditions)


NORMS = ["task", "step", "plasticity", "stability"]
GOOD = {"curves": A, "task_ends": ENDS}


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"curves": None}, "curves"),
        ({"curves": A * 100}, "divide by 100"),
        ({"curves": A - 0.5}, "curves"),
        (
            {"curves": np.where(np.arange(12) == 9, np.nan, A)},
            "task 1 has no value at iteration 10",
        ),
        ({"curves": A[0]}, "curves"),
        ({"curves": "a"}, "curves"),
        ({"task_ends": None}, "task_ends"),
        ({"task_ends": [4, 4, 12]}, "task_ends"),
        ({"task_ends": [4, 8]}, "task_ends"),
        ({"task_ends": [4, 8, 11]}, "curves"),
        ({"task_ends": [4.0, 8.5, 12.0]}, "task_ends"),
        ({"windows": (1,)}, "windows"),
        ({"every": 0}, "every"),
        ({"n": 0}, "n "),
        ({"n": [1, 2]}, "n "),
        ({"n": 100, "n_total": 50}, "n must not exceed"),
        ({"n": 100, "target": "set"}, "n_total"),
        ({"target": "all"}, "target"),
        ({"gap": 2}, "gap"),
        ({"delta": 0}, "delta"),
        ({"correct": [np.ones((12, 5))] * 3}, "correct"),
        ({"correct": [np.ones((12, 5), bool)] * 3}, "correct"),
        ({"grads": 3}, "grads"),
        ({"grads": pd.DataFrame({"task": [1]})}, "grads"),
        ({"grads": pd.DataFrame([[1, 0, np.nan, 0]], columns=NORMS)}, "grads"),
        ({"iteration": "step"}, "iteration"),
        ({"windows": "ten"}, "windows"),
        ({"n": "many"}, "n "),
        ({"reported": {"accuracy": 1}}, "reported"),
        ({"curves": pd.DataFrame({"task": [0]})}, "columns"),
    ],
)
def test_bad_input_is_named(change, named):
    with pytest.raises((ValueError, TypeError), match=named):
        stability_gap(**(GOOD | change))


values = st.one_of(st.floats(), st.none(), st.text(max_size=2), st.integers(-1, 2))


@settings(max_examples=80, deadline=None)
@given(
    st.lists(st.lists(values, max_size=4), max_size=3),
    st.lists(st.integers(-1, 5), max_size=3),
    st.one_of(st.none(), st.integers(-1, 5)),
)
def test_anything_comes_out_or_is_refused_by_name(accuracy, ends, n):
    told = ""
    try:
        stability_gap(accuracy, ends, n=n)
    except (ValueError, TypeError) as error:
        told = str(error)
    assert not told or told.startswith(("curves", "task_ends", "n "))


def test_picture_and_files(tmp_path):
    import matplotlib.pyplot as plt

    correct, ends = run_of(0.5)
    result = stability_gap(None, ends, correct=correct)
    assert result.plot() is not None
    assert set(result.artifacts()) == {"gaps.csv", "curves.csv"}
    assert "worst_case_accuracy" in result.summary()
    plt.close("all")


# Logs as people have them


@pytest.mark.parametrize("every", [2, 25, 100])
@pytest.mark.parametrize("n", [None, 2000])
def test_a_log_with_gaps_never_holds(every, n):
    """The fall lies between two evaluations: nothing that was seen speaks against it."""
    curves = np.full((2, 200), 0.95)
    curves[0, 100:110] = 0.3
    seen = stability_gap(curves, (100, 200), every=every, n=n)
    hidden, temporary = seen.certificates
    assert hidden.verdict in (Verdict.INCONCLUSIVE, Verdict.FAILS)
    assert temporary.verdict in (Verdict.INCONCLUSIVE, Verdict.HOLDS)
    if every > 10:
        assert hidden.verdict is Verdict.INCONCLUSIVE
        assert hidden.measured.high >= 0.475
        assert seen.wc_acc.low <= 0.625
    assert "worst_case_accuracy_seen" in seen.summary()
    assert "worst_case_accuracy" not in seen.summary()


def log(curves, kept, n=None, names=("iteration", "task", "accuracy")):
    K, _ = curves.shape
    rows = [(u, f"t{i}", curves[i, u - 1]) for i in range(K) for u in kept]
    table = pd.DataFrame(rows, columns=list(names)).dropna()
    return table if n is None else table.assign(n=n)


def test_a_row_a_task_says_what_is_not_known():
    curves = np.where(np.arange(5000) >= np.arange(5)[:, None] * 1000, 0.9, np.nan)
    table = log(curves, range(1000, 5001, 1000), names=("step", "eval_task", "acc"))
    made = stability_gap(table, iteration="step", task="eval_task", accuracy="acc", windows=2)
    hidden = made.certificates[0]
    assert hidden.verdict is Verdict.INCONCLUSIVE
    assert "nothing is known between iterations 1,000 and 2,000" in hidden.advice
    assert made.task_ends.tolist() == [1000, 2000, 3000, 4000, 5000]


def test_a_column_a_task_is_taken_too():
    long = stability_gap(A, ENDS, windows=2)
    wide = pd.DataFrame(A.T, columns=["zero", "one", "two"]).assign(step=range(1, 13))
    made = stability_gap(wide, iteration="step", windows=2)
    assert made.tasks == ("zero", "one", "two")
    assert made.wc_acc.value == long.wc_acc.value
    assert made.task_ends.tolist() == ENDS


def test_epochs_are_no_updates():
    table = log(np.full((2, 40), 0.9), range(1, 41), names=("epoch", "task", "accuracy"))
    made = stability_gap(table, [20, 40], iteration="epoch", n=1000, gap=0.4)
    assert made.certificates[0].verdict is Verdict.INCONCLUSIVE
    steps = stability_gap(table.rename(columns={"epoch": "iteration"}), [20, 40], n=1000, gap=0.4)
    assert steps.certificates[0].verdict is Verdict.HOLDS


def test_a_log_said_to_be_complete_is_void():
    curves = np.full((2, 40), 0.9)
    table = log(curves, range(10, 41, 10))
    made = stability_gap(table, [20, 40], every=1, n=[100, 100], windows=2)
    assert made.certificates[0].verdict is Verdict.VOID
    assert stability_gap(table, [20, 40], n=100).certificates[0].verdict is Verdict.INCONCLUSIVE
    finer = log(curves, range(1, 41))
    assert stability_gap(finer, [20, 40], every=10).times.tolist() == [10, 20, 30, 40]


def test_tasks_are_in_the_order_of_the_file():
    """Ten tasks named after ranges, evaluated from the start; text does not sort like numbers."""
    names = [f"{20 * k:02d}-{20 * k + 19}" for k in range(10)]
    rows = [
        (u, name, 0.9 if u > 10 * k else 0.05)
        for u in range(5, 101, 5)
        for k, name in enumerate(names)
    ]
    table = pd.DataFrame(rows, columns=["iteration", "task", "accuracy"])
    made = stability_gap(table, list(range(10, 101, 10)), every=5, windows=2)
    assert made.tasks == tuple(names)
    assert made.wc_acc.value == pytest.approx(0.9)
    assert made.forg.value == pytest.approx(0.0)
    assert made.summary()["order_of_tasks"].startswith("00-19, 20-39")


def from_the_start(names, steps=5):
    """All tasks are evaluated from the first update on."""
    T = len(names) * steps
    rows = [
        (u, n, 0.9 if u > steps * k else 0.05) for u in range(1, T + 1) for k, n in enumerate(names)
    ]
    table = pd.DataFrame(rows, columns=["iteration", "task", "accuracy"])
    return table, [steps * (k + 1) for k in range(len(names))]


def test_tasks_that_begin_at_once_need_rows_in_an_order():
    """Shuffled rows gave them an order by chance, and a worst case of 0.05."""
    names = [f"task{k + 1}" for k in range(12)]
    table, ends = from_the_start(names)
    for ordered in (
        table,
        table.sort_values("task", key=lambda t: t.str[4:].astype(int), kind="stable"),
    ):
        made = stability_gap(ordered, ends)
        assert made.tasks == tuple(names)
        assert made.wc_acc.value == pytest.approx(0.9)
    for seed in range(20):
        with pytest.raises(ValueError, match="in no order"):
            stability_gap(table.sample(frac=1, random_state=seed), ends)
    for by in (["iteration", "task"], ["task", "iteration"]):
        with pytest.raises(ValueError, match="task10 before task2"):
            stability_gap(table.sort_values(by), ends)
    wide = table.pivot(index="iteration", columns="task", values="accuracy").reset_index()
    with pytest.raises(ValueError, match="task10 before task2"):
        stability_gap(wide, ends)
    # Where each begins with its own first update, the order of rows does not matter.
    staged = table[table["iteration"] > table["task"].str[4:].astype(int) * 5 - 5]
    made = stability_gap(staged.sample(frac=1, random_state=0))
    assert (made.tasks, made.task_ends.tolist()) == (tuple(names), ends)
    assert made.summary()["updates_at_ends_of_tasks"].startswith("5, 10, 15")


def test_two_numbers_of_rows_are_refused():
    table = from_the_start(["a", "b"])[0].assign(n=500)
    with pytest.raises(ValueError, match="column 'n'"):
        stability_gap(table, [5, 10], n=5000)
    assert stability_gap(table, [5, 10], n=500).acc.n == 500


def test_the_digits_of_a_log_are_in_its_band():
    """Whole percents of 99,991 rows: the truth may be half a percent away from what is written."""
    rng = np.random.default_rng(0)
    seen = rng.integers(80, 95, (2, 8)) / 100
    seen[1, :4] = np.nan
    made = stability_gap(seen, [4, 8], n=99_991)
    off = np.nanmin(made.high - seen), np.nanmin(seen - made.low)
    assert min(off) > 0.005
    fine = stability_gap(np.where(np.isnan(seen), np.nan, seen + 1e-5), [4, 8], n=10**5)
    assert np.nanmax(fine.high - fine.low) < 0.012
    # In two digits, a hundred rows are all there is.
    assert stability_gap(seen, [4, 8], n=100).low[0, 0] == pytest.approx(
        stability_gap(seen.astype(np.float32), [4, 8], n=100).low[0, 0]
    )


def test_wrong_numbers_of_rows_are_found():
    rng = np.random.default_rng(0)
    curves = np.round(0.8 + 0.1 * rng.random((2, 40)), 2)
    honest = stability_gap(curves, [20, 40], n=100).certificates[0]
    assert honest.verdict is Verdict.INCONCLUSIVE
    inflated = stability_gap(curves, [20, 40], n=10000)
    assert inflated.certificates[0].verdict is Verdict.VOID
    assert "as if from 100 rows, and n = 10000 was given" in str(
        inflated.certificates[0].conditions
    )
    assert inflated.wc_acc.low == inflated.wc_acc.high  # no interval is shown
    assert stability_gap(curves, [20, 40], n=3).certificates[0].verdict is Verdict.VOID


def test_rows_of_one_group_are_one_piece_of_evidence():
    correct, ends = run_of(0.3, n=40)
    frames = [np.repeat(c, 20, axis=1) for c in correct]
    groups = [np.arange(800) // 20] * 2
    alone = stability_gap(None, ends, correct=correct).certificates[0].measured
    taken = stability_gap(None, ends, correct=frames).certificates[0].measured
    kept = stability_gap(None, ends, correct=frames, groups=groups).certificates[0]
    assert kept.measured == alone
    assert kept.measured.low < taken.low
    assert "one row of each group" in str(kept.conditions)
    with pytest.raises(TypeError, match="groups"):
        stability_gap(A, ENDS, groups=groups)
    with pytest.raises(ValueError, match="groups"):
        stability_gap(None, ends, correct=frames, groups=groups[:1])


def test_one_task_has_nothing_to_forget():
    made = stability_gap(np.full((1, 10), 0.9), [10], n=100)
    assert [c.verdict for c in made.certificates] == [Verdict.VACUOUS, Verdict.UNMEASURED]
    assert made.forg is None


def test_a_bad_model_is_called_bad():
    made = stability_gap(np.full((2, 10), 0.05), [5, 10], n=100, gap=0.05).certificates[0]
    assert made.verdict is Verdict.VACUOUS
    assert "bad at the end already" in made.advice


def test_whole_floats_and_single_windows_are_taken():
    made = stability_gap(A, np.array([4.0, 8.0, 12.0]), windows=2)
    assert list(made.wf) == [2]


def test_an_exact_hit_of_the_demand_does_not_fail():
    """Rounding decides nothing: what is hidden is the demand itself."""
    for drop in np.arange(1, 40) / 100:
        curves = np.full((2, 8), 0.9)
        curves[0, 5] -= drop
        made = stability_gap(curves, [4, 8], gap=drop / 2).certificates[0]
        assert made.verdict is not Verdict.FAILS, drop


def test_reports_below_a_log_with_gaps_are_no_contradiction():
    seen = stability_gap(A, ENDS, every=4, reported={"wc_acc": 0.62})
    assert seen.certificates[-1].verdict is Verdict.HOLDS
    assert (
        stability_gap(A, ENDS, reported={"wc_acc": 0.5}).certificates[-1].verdict is Verdict.FAILS
    )


def test_certificates_say_what_they_are_about():
    made = stability_gap(np.round(A, 2), ENDS, n=100)
    assert {str(c.scope) for c in made.certificates} == {"the population"}
    whole = stability_gap(np.round(A, 2), ENDS, n=100, n_total=200, target="set")
    assert {str(c.scope) for c in whole.certificates} == {"this run"}


def by_rows():
    """Two tasks whose rows are looked at after each of ten updates."""
    rng = np.random.default_rng(0)
    right = [rng.random((T, 300)) < 0.999 for T in (10, 5)]
    lines = [
        (u, f"task {i}", f"x{j}", bool(r[u - 1 - 5 * i, j]))
        for i, r in enumerate(right)
        for u in range(1 + 5 * i, 11)
        for j in range(300)
    ]
    return pd.DataFrame(lines, columns=["iteration", "task", "row", "correct"]), right


@pytest.mark.parametrize("how", [bool, int, float, str])
def test_a_table_may_say_which_rows_were_right(how):
    table, right = by_rows()
    wanted = stability_gap(None, [5, 10], correct=right, windows=2).certificates[0]
    shuffled = table.assign(correct=table["correct"].map(how)).sample(frac=1, random_state=0)
    found = stability_gap(shuffled, windows=2).certificates[0]
    assert found.verdict is wanted.verdict is Verdict.HOLDS
    assert found.measured == wanted.measured
    sparse = stability_gap(shuffled, [5, 10], every=5, windows=2)
    assert (sparse.times.tolist(), sparse.seen_all) == ([5, 10], False)
    assert sparse.certificates[0].verdict is Verdict.INCONCLUSIVE


def test_rows_of_a_table_must_be_the_same_at_all_times():
    table, right = by_rows()
    other = table.copy()
    other.loc[(other["iteration"] == 7) & (other["row"] == "x5"), "row"] = "y"
    with pytest.raises(ValueError, match="other rows at iteration"):
        stability_gap(other)
    with pytest.raises(ValueError, match="a row twice"):
        stability_gap(pd.concat([table, table[:1]]))
    with pytest.raises(ValueError, match="0 and 1"):
        stability_gap(table.assign(correct="maybe"))
    with pytest.raises(TypeError, match="correct is a column"):
        stability_gap(table, correct=right)


def long_log():
    """Two tasks, every update; the second has rows without accuracy before it begins."""
    rows = [(u, t, 0.8 if u > 5 * t else np.nan) for u in range(1, 11) for t in range(2)]
    return pd.DataFrame(rows, columns=["iteration", "task", "accuracy"])


def test_rows_before_a_task_may_have_no_accuracy():
    made = stability_gap(long_log(), n=100, windows=2)
    assert made.task_ends.tolist() == [5, 10]
    gone = long_log()
    gone.loc[gone["iteration"] == 8, "accuracy"] = np.nan
    with pytest.raises(ValueError, match="no value at iteration 8"):
        stability_gap(gone)
    gone.loc[gone["task"] == 1, "accuracy"] = np.nan
    with pytest.raises(ValueError, match="no accuracy of task 1"):
        stability_gap(gone)


def test_iterations_that_count_from_0_are_named():
    log = long_log()
    log["iteration"] -= 1
    with pytest.raises(ValueError, match="add 1 if they count from 0"):
        stability_gap(log)


@pytest.mark.parametrize("name", ["test_error", "val/loss", "testError", "err"])
def test_errors_are_no_accuracies(name):
    """Of an error rate the minimum is the best moment: a gap would be a peak, and nothing hidden."""
    with pytest.raises(ValueError, match="the higher the better"):
        stability_gap(long_log().rename(columns={"accuracy": name}), accuracy=name)
    assert stability_gap(long_log().rename(columns={"accuracy": "terror"}), accuracy="terror")


@pytest.mark.parametrize("name", ["forgetting", "mean_acc", "acc/task1__MIN", "loss"])
def test_other_columns_of_a_log_are_no_tasks(name):
    wide = pd.DataFrame({"iteration": np.arange(1, 7), "task 1": 0.8})
    wide[name] = [np.nan] * 3 + [0.1] * 3
    with pytest.raises(ValueError, match="seems to be none"):
        stability_gap(wide)


def test_gradients_of_another_run_are_refused():
    from continual_streams import network, stream

    fit = continual_fit(network(), stream()[0], strategy="si", epochs=1, record_gradients=True)
    with pytest.raises(ValueError, match="of another run"):
        stability_gap(long_log(), grads=fit)
