import numpy as np
import pytest
import scipy.sparse as sp

from whp.certificate import Status, Verdict
from whp.datasets.linear_systems import digits_graph, heat_equation, shifted_laplacians, stencil
from whp.linalg import run_grid, solve_sequence, sor
from whp.linalg._learning_to_relax.sequence import SOLVERS

A = stencil(10)
LINE = sp.diags_array([-1.0, 4.0, -1.0], offsets=[-1, 0, 1], shape=(3, 3))


def test_streams_of_all_kinds():
    systems = [(A, np.eye(100)[i]) for i in range(5)]

    class Model:
        def __init__(self):
            self.left, self.seen = systems[::-1], []

        def next_system(self, x):
            self.seen.append(x)
            return self.left.pop() if self.left else None

    model = Model()
    runs = [
        solve_sequence(s, learner=1.5, keep=True, warm_start=False)
        for s in (systems, iter(systems), model)
    ]
    for run in runs:
        assert run.converged.all()
        np.testing.assert_allclose(run.solutions @ A, np.eye(100)[:5], atol=1e-6)
    np.testing.assert_allclose(model.seen[1], runs[0].solutions[0])
    heat = solve_sequence(
        heat_equation(12, 30), solver="ssor-cg", learner="chebcb", context_range=(0, 10), rng=0
    )
    assert heat.converged.all()
    assert heat.certificates[0].conditions[0].status is Status.UNCHECKED
    graph = solve_sequence(digits_graph(3, rng=0), solver="ssor-cg", learner=1.0)
    assert graph.converged.all()
    import matplotlib.pyplot as plt

    heat.plot()
    plt.close("all")
    assert set(heat.artifacts()) == {"solutions.npy", "choices.csv"}


def test_the_cap_and_what_comes_after():
    hard = A - 0.15 * sp.eye_array(100)
    rescued = solve_sequence([(hard, np.ones(100))], learner=1.0, cap=20)
    assert rescued.converged.all()
    assert 20 < rescued.iterations[0] < 100
    left = solve_sequence([(hard, np.ones(100))], learner=1.0, cap=20, fallback="none")
    assert not left.converged.any()


def stream(rng, T=120):
    for c in rng.beta(0.5, 1.5, T):
        yield sp.csr_array(A + (0.6 * c - 0.1) * sp.eye_array(100)), rng.standard_normal(100)


def named(run):
    return {c.name: c for c in run.certificates}


def test_regret_is_measured_on_a_fixed_list_alone():
    rng = np.random.default_rng(0)
    systems, grid = list(stream(rng, 60)), [1.0, 1.5, 1.8]
    audited = solve_sequence(systems, warm_start=False, audit=1.0, omegas=grid, rng=0)
    regret = named(audited)["regret"]
    assert regret.measured.method == "betting"
    assert regret.measured.high <= regret.bound
    assert regret.conditions[0].status is Status.BY_CONSTRUCTION
    assert audited.replay is not None

    class Lazy(list):
        pass

    for others, options in (
        (systems, {}),  # warm starts
        (iter(systems), {"warm_start": False}),
        (Lazy(systems), {"warm_start": False}),
    ):
        run = solve_sequence(others, audit=1.0, omegas=grid, rng=0, **options)
        regret = named(run)["regret"]
        assert regret.measured is None
        assert regret.verdict is Verdict.VACUOUS
        assert regret.conditions[0].status is Status.UNCHECKED
        assert not regret.passes("stands")

    class Answering:  # a number that is made when it is asked for
        def __float__(self):
            return 1.0

    class Posing(sp.csr_array):  # as if scipy had made it
        pass

    Posing.__module__ = "scipy.sparse._csr"
    dressed = A.copy()
    dressed.astype = lambda dtype: A  # asked anew in every round

    class Watching(np.ndarray):
        pass

    watched = A.copy()
    watched.data = watched.data.view(Watching)
    for others in (
        [(watched, b) for _, b in systems],
        [(Posing(matrix), b) for matrix, b in systems],
        [(dressed, b) for _, b in systems],
        [(matrix, [Answering()] * 100) for matrix, _ in systems],
        [(matrix, np.array([Answering()] * 100, dtype=object)) for matrix, _ in systems],
        [(matrix, b, Answering()) for matrix, b in systems],
    ):
        run = solve_sequence(
            others, learner="tsallis", warm_start=False, audit=1.0, omegas=grid, rng=0
        )
        assert named(run)["regret"].conditions[0].status is Status.UNCHECKED
    void = solve_sequence(systems, adaptive=True, warm_start=False, audit=1.0, omegas=grid, rng=0)
    assert named(void)["regret"].verdict is Verdict.VOID


def test_the_worst_case_belongs_to_a_scale_set_beforehand():
    systems = [(LINE, np.ones(3) * (1 + t % 3)) for t in range(400)]
    assert "regret-worst-case" not in named(solve_sequence(systems, omegas=[1.0, 1.9], rng=0))
    options = {"omegas": [1.0, 1.9], "warm_start": False, "rng": 0}
    whole = named(solve_sequence(systems, rate="fixed:200", audit=1.0, **options))
    assert whole["regret-worst-case"].conditions[-1].status is Status.MET
    part = named(solve_sequence(systems, rate="fixed:2000", **options))["regret-worst-case"]
    assert part.conditions[-1].status is Status.UNCHECKED
    low = named(solve_sequence(systems, rate="fixed:3", **options))["regret-worst-case"]
    assert low.verdict is Verdict.VOID
    capped = named(solve_sequence(systems, rate="fixed:5000", cap=300, **options))
    assert capped["regret-worst-case"].conditions[-1].status is Status.MET


def test_what_never_converged_costs_the_cap_and_voids():
    indefinite = sp.csr_array(A - 2 * sp.eye_array(100))
    rng = np.random.default_rng(0)
    systems = [(indefinite, rng.standard_normal(100)) for _ in range(30)]
    run = solve_sequence(
        systems, solver="ssor-cg", fallback="none", cap=50, warm_start=False, audit=1.0, rng=0
    )
    assert not run.converged.any()
    assert set(run.iterations) == {50}
    assert set(run.audited[0]) == {50}
    assert {c.verdict for c in run.certificates} == {Verdict.VOID}
    assert "system 1 did not converge" in named(run)["regret"].explain()


def test_an_omega_that_no_table_shows_solved_voids_the_replay():
    hard = sp.csr_array(A - 0.16 * sp.eye_array(100))
    systems = [(hard, np.ones(100))] * 25
    run = solve_sequence(
        systems, omegas=[1.0, 1.85], fallback="none", cap=700, warm_start=False, audit=1.0, rng=3
    )
    assert named(run)["regret"].verdict is Verdict.VOID


def test_contexts_are_used_or_asked_for():
    systems = list(shifted_laplacians(20, rng=0))
    assert solve_sequence(systems, rng=0).learner == "chebcb"
    with pytest.raises(ValueError, match="context_range must be given beside contexts"):
        solve_sequence(iter(systems), rng=0)
    assert solve_sequence(iter(systems), learner="tsallis", rng=0).learner == "tsallis"
    outside = solve_sequence(systems, context_range=(0.4, 0.45), rng=0)
    assert outside.outside > 10
    assert outside.summary()["contexts_outside_of_their_range"] == outside.outside


def test_ssor_cg_refuses_what_is_not_symmetric_wherever_it_comes():
    skew = sp.csr_array(A + 0.1 * sp.diags_array([1.0, -1], offsets=[-1, 1], shape=(100, 100)))
    with pytest.raises(ValueError, match=r"system 2: A must be symmetric for ssor-cg \(entry"):
        solve_sequence([(A, np.ones(100)), (skew, np.ones(100))], solver="ssor-cg", learner=1.0)
    with pytest.raises(ValueError, match="symmetric for ssor-cg"):
        run_grid([(A, np.ones(100)), (skew, np.ones(100))], [1.0], "ssor-cg")


def test_misuse_of_parts_is_named():
    with pytest.raises(ValueError, match="omega"):
        sor(A, np.ones(100), 2.0)
    with pytest.raises(ValueError, match=r"system 2: A must keep its 100 unknowns"):
        solve_sequence([(A, np.ones(100)), (LINE, np.ones(3))])
    with pytest.raises(ValueError, match="at least one system"):
        solve_sequence([])
    with pytest.raises(TypeError, match="systems"):
        solve_sequence(7)
    with pytest.raises(TypeError, match="system 1: systems must yield"):
        solve_sequence([3])
    with pytest.raises(ValueError, match="sent back"):
        list(heat_equation(5, 3))


def settling(T):
    """Implicit Euler with a source: after some thirty steps nothing changes any more."""
    u, matrix = np.zeros(100), sp.csr_array(A + sp.eye_array(100))
    for _ in range(T):
        u = yield matrix, u + 1


@pytest.mark.parametrize("solver", ["sor", "ssor-cg"])
def test_time_steps_that_settle_cost_no_more_than_others(solver):
    run = solve_sequence(settling(80), solver=solver, omegas=[1.0, 1.3, 1.6], rng=0)
    assert run.converged.all()
    assert run.iterations.max() < 100
    assert named(run)["iteration-bound"].verdict is Verdict.HOLDS


def test_what_is_rescued_costs_what_was_taken():
    b = np.ones(100)
    alone = sor(A, b, 1.5, tol=1e-15)
    assert alone.stagnated
    run = solve_sequence([(A, b)], learner=1.5, tol=1e-15, warm_start=False)
    assert run.converged.all()
    assert alone.iterations < run.iterations[0] < 2 * alone.iterations


def test_what_is_done_to_a_solution_that_was_sent_back_stays_there():
    def overwritten():
        for _ in range(3):
            x = yield A, np.ones(100)
            x *= 0

    for keep in (True, False):
        run = solve_sequence(overwritten(), learner=1.5, keep=keep)
        np.testing.assert_allclose(run.solutions @ A, np.ones_like(run.solutions), atol=1e-6)


def test_what_would_be_ignored_is_refused():
    for learner in ("tsallis", 1.5):
        with pytest.raises(ValueError, match="context_range must be left out"):
            solve_sequence([(A, np.ones(100), 1.0)], learner=learner, context_range=(0.0, 1.0))
    systems = [(A, np.ones(100), c) for c in (0.0, 1.0)]
    for wrong in (
        {"rate": "fixed:3"},
        {"learner": "tsallis", "bins": 3},
        {"learner": "tsallis", "jacobi": (0.5, 4.0)},
        {"learner": 1.5, "omegas": [1.0, 1.2]},
    ):
        with pytest.raises(ValueError, match="must go with"):
            solve_sequence(systems, **wrong)
    with pytest.raises(ValueError, match="system 1: systems must yield"):
        solve_sequence([(A, np.ones(100), 1.0, 2.0)])


def test_a_run_that_ends_early_keeps_what_was_solved():
    good = [(A, np.eye(100)[i]) for i in range(4)]

    def broken(error):
        yield from good
        raise error

    bad = (A, np.full(100, np.nan))
    for systems, kind in (
        ([*good, bad, *good], ValueError),
        (broken(KeyboardInterrupt()), KeyboardInterrupt),
    ):
        with pytest.raises(kind) as stopped:
            solve_sequence(systems, learner=1.5, keep=True, warm_start=False)
        run = stopped.value.run
        assert "4 systems before" in stopped.value.__notes__[0]
        np.testing.assert_allclose(run.solutions @ A, np.eye(100)[:4], atol=1e-6)
    with pytest.raises(ValueError, match="system 1: ") as stopped:
        solve_sequence([bad], learner=1.5)
    assert not hasattr(stopped.value, "run")


@pytest.mark.parametrize(("audit", "solves"), [(0.0, 5), (1.0, 14), (1.0, 15)])
def test_an_interrupt_in_the_middle_of_a_solve_leaves_the_systems_before(
    monkeypatch, audit, solves
):
    asked = iter(range(solves))

    def until(*args, **options):
        if next(asked, None) is None:
            raise KeyboardInterrupt
        return sor(*args, **options)

    monkeypatch.setitem(SOLVERS, "sor", until)
    systems = [(A, np.eye(100)[i]) for i in range(12)]
    with pytest.raises(KeyboardInterrupt) as stopped:
        solve_sequence(
            systems, omegas=[1.0, 1.3, 1.5], warm_start=False, audit=audit, replays=20, rng=0
        )
    run = stopped.value.run
    T = len(run.iterations)
    assert (solves // 3 if audit else solves) == T
    assert len(run.bounds) == len(run.probabilities) == len(run.converged) == T
    assert len(run.audited) == (T if audit else 0)
    by_name = {c.name: c for c in run.certificates}
    assert by_name["iteration-bound"].inputs["solves with a bound"] == T
    assert len(run.artifacts()["choices.csv"]) == T


def test_a_solve_that_takes_the_cap_exactly_has_converged():
    systems = [(A, np.eye(100)[i]) for i in range(40)]
    cap = int(run_grid(systems, [1.0, 1.5]).max())
    for given, status in ((cap, Status.MET), (cap - 1, Status.VIOLATED)):
        run = solve_sequence(
            systems,
            omegas=[1.0, 1.5],
            warm_start=False,
            audit=1.0,
            fallback="none",
            cap=given,
            replays=20,
            rng=0,
        )
        assert run.certificates[0].conditions[1].status is status


@pytest.mark.parametrize("solver", ["sor", "ssor-cg"])
@pytest.mark.parametrize("size", [1e-3, 1e-150, 0.0])
def test_warm_starts_from_large_solutions_do_not_loosen_the_tolerance(solver, size):
    rng = np.random.default_rng(0)
    sides = [unit * rng.standard_normal(100) for unit in (1.0, size, 1.0, size, size)]
    run = solve_sequence([(A, b) for b in sides], solver=solver, learner=1.5, keep=True)
    assert run.converged.all()
    for x, b in zip(run.solutions, sides, strict=True):
        assert np.abs(b - A @ x).max() <= 1e-7 * np.abs(b).max()
    far = solve_sequence([(A, sides[0])], solver=solver, learner=1.5, x0=np.full(100, 1e200))
    np.testing.assert_allclose(far.solutions[0], run.solutions[0], rtol=1e-6)


def test_contexts_that_are_no_numbers_are_refused_with_their_system():
    systems = [(A, np.ones(100), 0.1), (A, np.ones(100), "warm")]
    for learner in ("tsallis", "chebcb"):
        range_ = (0, 1) if learner == "chebcb" else None
        with pytest.raises(TypeError, match="system 2: context must be a number, got str"):
            solve_sequence(systems, learner=learner, context_range=range_)
    run = solve_sequence([(A, np.ones(100), None)] * 2, rng=0)
    assert run.learner == "tsallis"
    assert np.isnan(run.contexts).all()
