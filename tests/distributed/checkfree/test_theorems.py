def quadratic(rng, noise=0.0, jumps=5, T=200, size=1.0):
    """Gradient descent on ½ Σ aᵢxᵢ², thrown off its way now and then."""
    a = rng.uniform(0.1, 1.0, 10)
    x, gamma = rng.normal(size=10) * 3, 0.8 / a.max()
    at = set(rng.choice(np.arange(1, T), jumps, replace=False).tolist())
    h = lambda x: 0.5 * float(a @ x**2)  # noqa: E731
    start, squares, J, gaps = h(x), [], [], []
    for t in range(T):
        if t in at:
            before = h(x)
            x = x + size * rng.normal(size=10)
            J.append(h(x) - before)
        squares.append(float(((a * x) ** 2).sum()))
        gaps.append(h(x))
        x = x - gamma * (a * x + noise / math.sqrt(10) * rng.normal(size=10))
    known = {
        "steps": T,
        "lr": gamma,
        "smoothness": float(a.max()),
        "start": start,
        "floor": 0.0,
        "variance": noise**2,
    }
    return known, float(np.mean(squares)), J, gaps


def test_descent_with_jumps():
    known, measured, J, gaps = quadratic(np.random.default_rng(0), size=6.0)
    assert g.descent(exact(measured), **known, jumps=J, gaps=gaps).verdict == Verdict.HOLDS
    assert g.descent(exact(measured), **known, jumps=()).verdict == Verdict.FAILS
    assert g.descent(exact(measured), **(known | {"lr": 3.0}), jumps=J).verdict == Verdict.VOID
    assert g.descent(exact(measured), **known, jumps=[math.inf]).verdict == Verdict.VOID
    assert g.descent(None, **known, jumps=J, optimizer="adam").verdict == Verdict.VOID
    assert (
        g.descent(exact(measured), **(known | {"steps": 1}), jumps=J, gaps=gaps).verdict
        == Verdict.VACUOUS
    )
    assert g.descent(None, **known, jumps=J).verdict == Verdict.UNMEASURED


def test_descent_error_rate():
    """Bound on an expectation: twelve runs on one quadratic, whose jumps are averaged too."""

    def instance(rng):
        seed = int(rng.integers(2**31))
        runs = [quadratic_runs(seed, child) for child in rng.spawn(12)]
        known = runs[0][0]
        return g.descent(
            mean([r[1] for r in runs]),
            **known,
            jumps=np.mean([r[2] for r in runs], axis=0),
            gaps=np.mean([r[3] for r in runs], axis=0),
        )

    assert_error_rate(instance, 0.05, n=300)


def quadratic_runs(seed, rng):
    fixed = np.random.default_rng(seed)
    a, x = fixed.uniform(0.1, 1.0, 10), fixed.normal(size=10) * 3
    gamma, T, noise = 0.5 / a.max(), 60, 0.3
    start, squares, J, gaps = 0.5 * float(a @ x**2), [], [], []
    for t in range(T):
        if t in (10, 20, 30, 40, 50):
            before = 0.5 * float(a @ x**2)
            x = x + 2 * rng.normal(size=10)
            J.append(0.5 * float(a @ x**2) - before)
        squares.append(float(((a * x) ** 2).sum()))
        gaps.append(0.5 * float(a @ x**2))
        x = x - gamma * (a * x + noise / math.sqrt(10) * rng.normal(size=10))
    known = {
        "steps": T,
        "lr": gamma,
        "smoothness": float(a.max()),
        "start": start,
        "floor": 0.0,
        "variance": noise**2,
    }
    return known, float(np.mean(squares)), J, gaps


def recovered(**changes):
    good = {
        "iteration": 3,
        "stages": (2,),
        "how": "rebuilt",
        "resumed": 3,
        "sources": ((1, 3),),
        "difference": 1e-8,
        "spread": 0.3,
        "changed": 0,
        "compared": 5,
    }
    return Recovery(**(good | changes))


def test_certificates_of_recoveries_can_come_out_every_way():
    assert g.rebuilt([recovered()]).verdict == Verdict.HOLDS
    assert g.rebuilt([recovered(difference=1e-3)]).verdict == Verdict.FAILS
    assert (
        g.rebuilt([recovered(reason="stages 2 and 3 were lost together", difference=None)]).verdict
        == Verdict.VOID
    )
    assert g.rebuilt([recovered(spread=0.0)]).verdict == Verdict.VACUOUS
    assert g.rebuilt([]).verdict == Verdict.UNMEASURED
    assert g.rebuilt([recovered()], mode="checkpoint").verdict == Verdict.VOID
    assert g.untouched([recovered()]).verdict == Verdict.HOLDS
    assert g.untouched([recovered(changed=1)]).verdict == Verdict.FAILS
    assert g.untouched([recovered(how="rolled back")]).verdict == Verdict.VOID
    assert g.untouched([recovered(compared=0)]).verdict == Verdict.VACUOUS
    assert g.untouched([]).verdict == Verdict.UNMEASURED
    assert g.each_once(range(5)).verdict == Verdict.HOLDS
    assert g.each_once([0, 1, 1, 2]).verdict == Verdict.FAILS
    assert g.each_once([]).verdict == Verdict.VACUOUS
    assert g.each_once([0, 1, 0], [recovered(how="rolled back")]).verdict == Verdict.VOID
    assert g.progress([4.0, 3.0, 2.0], [0.2]).verdict == Verdict.HOLDS
    assert g.progress([2.0, 2.5], [0.7]).verdict == Verdict.FAILS
    assert g.progress([2.0, math.nan], [0.7]).verdict == Verdict.VOID
    assert g.progress([2.0, 1.0], []).verdict == Verdict.VACUOUS
    with pytest.raises(ValueError, match="losses"):
        g.progress([1.0], [])


def test_beats_redundancy_can_come_out_every_way():
    times = {"iteration_seconds": 91.32, "recovery_seconds": 30.0, "redundancy": 1.654}
    assert g.beats_redundancy(Estimate(1.45, 1.4, 1.5), 0.05, **times).verdict == Verdict.HOLDS
    assert g.beats_redundancy(Estimate(2.2, 2.1, 2.3), 0.16, **times).verdict == Verdict.FAILS
    assert (
        g.beats_redundancy(Estimate(1.6, 1.5, 1.7), 0.05, **times).verdict == Verdict.INCONCLUSIVE
    )
    assert g.beats_redundancy(None, 0.05, **times).verdict == Verdict.UNMEASURED
    assert g.beats_redundancy(None, 0.05, **times, reached=False).verdict == Verdict.VOID
    assert (
        g.beats_redundancy(None, 0.05, **(times | {"redundancy": math.inf})).verdict
        == Verdict.VACUOUS
    )


def test_rebuilt_stages_never_break_the_formula():
    """Random weights and norms; every recovery is audited."""
    rules = ("grad", "uniform", "copy")
    sims = {
        rule: make(Simulator, parts(4), mode="checkfree", audit=True, rule=rule) for rule in rules
    }

    def instance(rng):
        sim = sims[str(rng.choice(rules))]
        sim.recoveries.clear()
        for unit in (u for s in sim._sites for u in s.units.values()):
            unit.norm = float(rng.exponential())
            for p in unit.parameters:
                p.data.normal_()
        sim.kill(int(rng.integers(1, 3)))
        sim._heal()
        return g.rebuilt(sim.recoveries), g.untouched(sim.recoveries)

    assert_error_rate(instance, 0.001, n=300)
