import math

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st

from whp.certificate import Status, Verdict
from whp.datasets.linear_systems import digits_graph, heat_equation, shifted_laplacians, stencil
from whp.intervals import Estimate
from whp.linalg.learning_to_relax import (
    RelaxationTuner,
    System,
    conjugate_gradients,
    energy_bound,
    guarantee,
    jacobi_radius,
    learning_to_relax,
    optimal_omega,
    run_grid,
    solve_sequence,
    sor,
    sor_radius,
    ssor_bound,
    ssor_cg,
    surrogate,
)
from whp.linalg.learning_to_relax.theory import asymptocity, energy_rate
from whp.linalg.learning_to_relax.tuner import Chebyshev

A = stencil(10)
BETA = math.cos(math.pi / 11)
STAR = 1.5603879213
LINE = sp.diags_array([-1.0, 4.0, -1.0], offsets=[-1, 0, 1], shape=(3, 3))


def test_1_young():
    assert jacobi_radius(A) == pytest.approx(BETA, abs=1e-10)
    assert jacobi_radius(A, "power", steps=2000) <= BETA + 1e-9
    assert optimal_omega(BETA) == pytest.approx(STAR, abs=1e-9)
    assert optimal_omega(A) == pytest.approx(STAR, abs=1e-7)
    for omega, rho in ((1.0, 0.9206267664), (1.4, 0.8058902655), (1.7, 0.7)):
        assert sor_radius(omega, BETA) == pytest.approx(rho, abs=1e-9)
        dense = A.toarray()
        M = np.diag(np.diag(dense)) / omega + np.tril(dense, -1)
        C = np.eye(100) - np.linalg.solve(M, dense)
        assert np.abs(np.linalg.eigvals(C)).max() == pytest.approx(rho, abs=1e-9)


def test_2_three_unknowns():
    np.testing.assert_allclose(sor(LINE, [1, 2, 3], 1.2, cap=1).x, (0.3, 0.69, 1.107))
    assert [sor(LINE, [1, 2, 3], w).iterations for w in (1.0, 1.0334, 1.2, 1.5)] == [10, 7, 12, 28]
    assert [ssor_cg(LINE, [1, 2, 3], w).iterations for w in (1.0, 1.2)] == [3, 3]


def test_3_counts_on_the_stencil():
    grid = (1.0, 1.2, 1.4, 1.5, STAR, 1.6, 1.8, 1.95)
    one = np.ones(100)
    assert [sor(A, one, w).iterations for w in grid] == [223, 145, 88, 62, 41, 43, 89, 383]
    assert [ssor_cg(A, one, w).iterations for w in grid] == [13, 12, 13, 13, 13, 13, 15, 17]
    assert [sor(A, np.eye(100)[0], w).iterations for w in (1.0, 1.5, 1.8)] == [168, 44, 80]
    np.testing.assert_array_equal(
        run_grid([(A, one)], grid)[0], [223, 145, 88, 62, 41, 43, 89, 383]
    )
    for solve in (sor, ssor_cg):
        found = solve(A, one, 1.4)
        assert found.converged
        np.testing.assert_allclose(A @ found.x, one, atol=1e-6)
        assert found.residual == pytest.approx(np.linalg.norm(one - A @ found.x), rel=1e-6)
    assert sor(A, np.zeros(100), 1.4).iterations == 0
    np.testing.assert_allclose(A @ conjugate_gradients(A, one).x, one, atol=1e-6)


def test_6_surrogate():
    wanted = {1.0: 266.19797, 1.5: 71.49816, 1.8: 100.45118, 1.95: 427.50612}
    for omega, value in wanted.items():
        assert surrogate(omega, BETA, 0.1545934, 1e-8) == pytest.approx(value, abs=1e-4)
    taus = [asymptocity(A, w, sor(A, np.ones(100), w).iterations) for w in np.linspace(1, 1.95, 20)]
    assert max(taus) == pytest.approx(0.15459342, abs=1e-7)
    for omega, value in wanted.items():
        assert sor(A, np.ones(100), omega).iterations <= value


def test_7_energy_bound():
    rates = {1.0: 0.92766610, 1.4: 0.87639801, 1.56: 0.86651014, 1.8: 0.90781153, 1.95: 0.97488077}
    for (omega, q), cap in zip(rates.items(), (272, 155, 143, 211, 801), strict=True):
        assert energy_rate(omega, 1 - BETA, 0.25) == pytest.approx(q, abs=1e-8)
        assert energy_bound(A, omega, gamma=1 - BETA, Gamma=0.25) == cap
        for rng in np.random.default_rng(0).spawn(40):
            assert sor(A, rng.standard_normal(100), omega).iterations <= cap
    # The contraction is one: the energy norm of the sweep's matrix does not exceed q.
    dense = A.toarray()
    root = np.linalg.cholesky(dense).T
    M = np.diag(np.diag(dense)) / 1.8 + np.tril(dense, -1)
    C = root @ (np.eye(100) - np.linalg.solve(M, dense)) @ np.linalg.inv(root)
    assert np.linalg.norm(C, 2) == pytest.approx(0.89406, abs=1e-4)
    steps = heat_equation(25, 5000)
    system, _, _ = next(steps)
    k = (system.diagonal()[0] - 1) / 4
    assert 1 - 4 * k / (1 + 4 * k) == pytest.approx(1 / (1 + 4 * k))


def test_8_axelsson():
    for omega, chi, count in ((1.0, 7.168247, 27.8204), (1.8, 5.654053, 24.4780)):
        assert ssor_bound(A, omega) == pytest.approx((chi, count), abs=1e-4)
        assert ssor_cg(A, np.ones(100), omega).iterations <= count


def test_9_the_textbooks_sweep():
    rng = np.random.default_rng(0)
    dense, b, x = A.toarray(), rng.standard_normal(100), np.zeros(100)
    for _ in range(100):
        for i in range(100):
            x[i] += 1.3 * (b[i] - dense[i] @ x) / dense[i, i]
    np.testing.assert_allclose(sor(A, b, 1.3, cap=100, tol=1e-16).x, x, atol=1e-12)
    from pyamg.relaxation.relaxation import sor as theirs

    y = np.zeros(100)
    theirs(A, y, b, 1.3, iterations=7)
    np.testing.assert_allclose(sor(A, b, 1.3, cap=7, tol=1e-16).x, y, atol=1e-9)


def test_9_order_matters_and_scale_does_not():
    b = np.random.default_rng(0).standard_normal(100)
    order = np.random.default_rng(1).permutation(100)
    turned = sp.csr_array(A.toarray()[np.ix_(order, order)])
    assert sor(turned, b[order], 1.5).iterations != sor(A, b, 1.5).iterations
    np.testing.assert_allclose(sor(turned, b[order], 1.5).x, sor(A, b, 1.5).x[order], atol=1e-5)
    assert sor(7 * A, 7 * b, 1.5).iterations == sor(A, b, 1.5).iterations
    loose = sp.coo_array(
        (np.r_[A.data / 2, A.data / 2], (np.tile(A.tocoo().row, 2), np.tile(A.tocoo().col, 2))),
        shape=A.shape,
    )
    assert sor(loose, b, 1.5).iterations == sor(A, b, 1.5).iterations
    assert System(A + sp.eye_array(100), like=System(A)).indices is not None


def test_10_grid_means_of_the_simulation():
    counts = run_grid(shifted_laplacians(600, rng=0), (1.2, 1.4, 1.6, 1.8))
    np.testing.assert_allclose(counts.mean(axis=0), (405, 257, 151, 103.8), rtol=0.2)


def test_12_chebcb_learns_a_line():
    learner = Chebyshev(1, 0.0, 1.0, 6, np.random.default_rng(0))
    rng = np.random.default_rng(1)
    for _ in range(200):
        c = rng.random()
        arm, p = learner.ask(c)
        assert (arm, p.sum()) == (0, pytest.approx(1, abs=1e-12))
        learner.tell(100 + 40 * c)
    s = learner._scales()[0]
    for c in np.linspace(0.05, 0.95, 10):
        assert 1 + s * (learner.theta[0] @ learner.features(c)) == pytest.approx(
            100 + 40 * c, rel=0.02
        )


def test_context_beats_every_fixed_omega():
    T, grid = 800, np.linspace(1, 1.9, 10)
    systems = list(shifted_laplacians(T, rng=0))
    table = run_grid(systems, grid)
    paid = {}
    for learner, options in (
        ("tsallis", {}),
        ("chebcb", {"context_range": (-0.15, 0.45)}),
        ("young", {"jacobi": (BETA, 4.0)}),
    ):
        tuner = RelaxationTuner(learner, grid, rng=0, **options)
        total = 0
        for (matrix, b, c), row in zip(systems, table, strict=True):
            arm, omega = tuner.ask(c)
            cost = row[arm] if arm >= 0 else sor(matrix, b, omega).iterations
            tuner.tell(cost)
            total += cost
        paid[learner] = total / T
    best = table.mean(axis=0).min()
    assert paid["young"] < paid["chebcb"] < best < paid["tsallis"] < table.mean()


@pytest.mark.parametrize("learner", ["tsallis", "tsallis-cb", "chebcb"])
def test_a_saved_tuner_draws_the_same(learner):
    def new():
        return RelaxationTuner(learner, context_range=(0, 1), rng=5)

    first, second = new(), new()
    contexts = np.random.default_rng(0).random(60)
    for c in contexts[:40]:
        arm, _ = first.ask(c)
        first.tell(10 + arm + 20 * c)
    second.load_state_dict(first.state_dict())
    for c in contexts[40:]:
        assert first.ask(c) == second.ask(c)
        first.tell(9.0)
        second.tell(9.0)
    with pytest.raises(ValueError, match="state must hold"):
        new().load_state_dict({"rounds": 0})


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
    assert heat.certificates[0].assumptions[0].status in (Status.MET, Status.UNCHECKED)
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
    diverging = sp.csr_array([[1.0, 3.0], [3.0, 1.0]])
    assert not sor(diverging, [1.0, 2.0], 1.5, cap=5000).converged


def stream(rng, T=120):
    for c in rng.beta(0.5, 1.5, T):
        yield sp.csr_array(A + (0.6 * c - 0.1) * sp.eye_array(100)), rng.standard_normal(100)


def test_verdicts_of_regret():
    rng = np.random.default_rng(0)
    audited = solve_sequence(
        list(stream(rng)), warm_start=False, audit=1.0, omegas=[1.0, 1.5, 1.8], rng=0
    )
    regret, worst, counts = audited.certificates
    assert regret.measured.method == "every system audited"
    assert regret.measured.value <= regret.bound
    assert worst.verdict == Verdict.VACUOUS
    assert counts.verdict == Verdict.HOLDS
    assert regret.assumptions[0].status == Status.MET
    plain = solve_sequence(list(stream(rng, 30)), rng=0)
    assert plain.certificates[0].verdict in (Verdict.VACUOUS, Verdict.UNMEASURED)
    assert plain.certificates[0].assumptions[0].status == Status.UNCHECKED
    void = solve_sequence(list(stream(rng, 30)), adaptive=True, rng=0)
    assert [c.verdict for c in void.certificates[:2]] == [Verdict.VOID, Verdict.VOID]
    long = solve_sequence(
        [(LINE, np.ones(3) * (1 + t % 3)) for t in range(3000)], omegas=[1.0, 1.9], audit=0.1, rng=0
    )
    assert long.certificates[0].verdict == Verdict.HOLDS
    lied = guarantee.regret_certificate(
        10.0, Estimate(50.0, 40.0, 60.0, 0.95, 30), 500.0, (), {}, against="the best"
    )
    assert lied.verdict == Verdict.FAILS


def test_verdicts_of_counts():
    skew = sp.csr_array([[2.0, -1.0], [0.0, 2.0]])
    assert (
        solve_sequence([(skew, [1.0, 1.0])], learner=1.0).certificates[-1].verdict == Verdict.VOID
    )
    indefinite = sp.csr_array([[1.0, 2.0], [2.0, 1.0]])
    void = solve_sequence([(indefinite, [1.0, 1.0])], learner=0.1, cap=3, fallback="none")
    assert void.certificates[-1].verdict in (Verdict.VOID, Verdict.UNMEASURED)
    wrong = guarantee.count_certificate(
        [223], [energy_bound(A, 1.0, gamma=10 * (1 - BETA), Gamma=0.25)], 0, (), "sor"
    )
    assert wrong.verdict == Verdict.FAILS
    right = solve_sequence([(A + sp.eye_array(100), np.ones(100))], solver="ssor-cg", learner=1.2)
    assert right.certificates[-1].verdict == Verdict.HOLDS


def test_no_count_exceeds_its_bound():
    for rng in np.random.default_rng(0).spawn(300):
        n = int(rng.integers(2, 12))
        root = rng.standard_normal((n, n)) * (rng.random((n, n)) < 0.5)
        matrix = root @ root.T + np.diag(rng.uniform(0.1, 2, n))
        omega, b = float(rng.uniform(0.2, 1.9)), rng.standard_normal(n)
        found = sor(matrix, b, omega, cap=100_000)
        assert found.iterations <= energy_bound(matrix, omega)
        steps = ssor_cg(matrix, b, omega)
        assert steps.iterations <= math.ceil(ssor_bound(matrix, omega)[1])


MISUSE = [
    ({"A": None}, "A"),
    ({"A": np.ones((2, 3))}, "A must be square"),
    ({"A": np.array([[1.0, 0], [0, 0]])}, "non-positive diagonal entry at row 1"),
    ({"A": np.array([[1.0, np.nan], [0, 1]])}, "A must be finite"),
    ({"b": np.ones((3, 5))}, "b must have shape"),
    ({"b": np.full((3, 2), np.inf)}, "b must be finite"),
    ({"shifts": [1.0]}, "shifts"),
    ({"shifts": [1.0, 1.0, 1.0], "learner": "chebcb"}, "shifts must differ"),
    ({"learner": "chebcb"}, "shifts must be given"),
    ({"learner": "oracle"}, "learner"),
    ({"learner": "2.5"}, "learner"),
    ({"solver": "jacobi"}, "solver"),
    ({"tol": 0.0}, "tol"),
    ({"cap": 0}, "cap"),
    ({"audit": 2.0}, "audit"),
    ({"rate": "quick"}, "rate"),
    ({"solver": "ssor-cg", "A": np.array([[2.0, 1], [0, 2]])}, "symmetric"),
]


@pytest.mark.parametrize(("wrong", "named"), MISUSE, ids=str)
def test_misuse_is_named(wrong, named):
    good = {"A": np.array([[2.0, -1], [-1, 2]]), "b": np.ones((3, 2))}
    with pytest.raises((ValueError, TypeError), match=named):
        learning_to_relax(**{**good, **wrong})


def test_misuse_of_parts_is_named():
    with pytest.raises(ValueError, match="omega"):
        sor(A, np.ones(100), 2.0)
    with pytest.raises(ValueError, match="omegas"):
        RelaxationTuner(omegas=[1.0, 2.5])
    with pytest.raises(ValueError, match="context_range"):
        RelaxationTuner("tsallis-cb")
    with pytest.raises(ValueError, match="context_range"):
        RelaxationTuner("chebcb", context_range=(1, 1))
    with pytest.raises(ValueError, match="context must be given"):
        RelaxationTuner("chebcb", context_range=(0, 1)).ask()
    with pytest.raises(ValueError, match="ask must come before tell"):
        RelaxationTuner().tell(3)
    with pytest.raises(ValueError, match="jacobi"):
        RelaxationTuner("young")
    with pytest.raises(ValueError, match=r"system 2: A must keep its 100 unknowns"):
        solve_sequence([(A, np.ones(100)), (LINE, np.ones(3))])
    with pytest.raises(ValueError, match="at least one system"):
        solve_sequence([])
    with pytest.raises(TypeError, match="systems"):
        solve_sequence(7)
    with pytest.raises(ValueError, match="sent back"):
        list(heat_equation(5, 3))


@settings(max_examples=80, deadline=None)
@given(
    st.lists(
        st.lists(st.one_of(st.floats(), st.text(max_size=1), st.none()), max_size=3), max_size=3
    ),
    st.lists(st.lists(st.one_of(st.floats(), st.text(max_size=1)), max_size=3), max_size=3),
    st.one_of(st.none(), st.lists(st.one_of(st.floats(), st.none()), max_size=3)),
)
def test_bad_input_is_refused_by_name(matrix, b, shifts):
    told = ""
    try:
        learning_to_relax(matrix, b, shifts, cap=20)
    except (ValueError, TypeError) as error:
        told = str(error)
    assert not told or told.startswith(("A ", "b ", "shifts ", "system "))
