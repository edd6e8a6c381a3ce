"""Worlds of error feedback: quadratics whose gradients, constants and least value are known.

What is judged is recomputed from the true gradients at the points that the run went through, and
never from what it was told or noted; shifts are made again by a loop of a few lines.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from whp.certificate import Certificate, Verdict
from whp.distributed import BlockTopK, Compressor, Identity, NaturalDeterministic, TopK, ef21
from whp.distributed._error_feedback import conditions as c
from whp.distributed._error_feedback import theorems as t
from whp.distributed._error_feedback.solver import in_expectation
from whp.experiment.worlds import Instance, Worlds

__all__ = ["worlds"]

worlds = Worlds("error-feedback", t.THEOREMS)
HERE = "whp.distributed._error_feedback"
Rng = np.random.Generator
Truths = Mapping[str, bool | None]


@dataclass(frozen=True, eq=False)
class Quadratics:
    """f_i = ½ xᵀH_i x − b_iᵀx + shift, and where to start.

    Parameters
    ----------
    H : ndarray, shape (n, d, d)
    b : ndarray, shape (n, d)
    x0 : ndarray, shape (d,)
    shift : float
    """

    H: np.ndarray
    b: np.ndarray
    x0: np.ndarray
    shift: float = 0.0
    best: float = field(init=False)
    L: float = field(init=False)
    mu: float = field(init=False)
    clients: np.ndarray = field(init=False)

    def __post_init__(self) -> None:
        mean = self.H.mean(axis=0)
        x = np.linalg.lstsq(mean, self.b.mean(axis=0), rcond=None)[0]
        curvatures = np.linalg.eigvalsh(mean)
        values = {
            "best": float(-0.5 * self.b.mean(axis=0) @ x) + self.shift,
            "L": float(curvatures[-1]) * (1 + 1e-12),
            "mu": float(curvatures[0]) * (1 - 1e-12),
            "clients": np.linalg.eigvalsh(self.H)[:, -1] * (1 + 1e-12),
        }
        for name, value in values.items():
            object.__setattr__(self, name, value)

    def grads(self) -> list[Any]:
        """Gradients of the clients."""
        return [lambda x, H=H, b=b: H @ x - b for H, b in zip(self.H, self.b, strict=True)]

    def values(self) -> list[Any]:
        """Values of the clients."""
        return [
            lambda x, H=H, b=b: 0.5 * float(x @ H @ x) - float(b @ x) + self.shift
            for H, b in zip(self.H, self.b, strict=True)
        ]

    def gradients(self, path: np.ndarray) -> np.ndarray:
        """True gradients of all clients at all points, shape (points, n, d)."""
        return np.einsum("nde,te->tnd", self.H, path) - self.b

    def f(self, path: np.ndarray) -> np.ndarray:
        """True f at all points."""
        mean, b = self.H.mean(axis=0), self.b.mean(axis=0)
        return 0.5 * np.einsum("td,de,te->t", path, mean, path) - path @ b + self.shift

    @property
    def start(self) -> float:
        """f(x⁰) − f*."""
        return float(self.f(self.x0[None])[0]) - self.best


def drawn(rng: Rng, n: int = 3, d: int = 6, spread: float = 1.0, unit: float = 1.0) -> Quadratics:
    """Clients whose smoothness differs by factors e^spread."""
    H, b = np.empty((n, d, d)), np.empty((n, d))
    for i in range(n):
        Q = np.linalg.qr(rng.standard_normal((d, d)))[0]
        H[i] = np.exp(spread * rng.standard_normal()) * (Q * np.exp(rng.standard_normal(d))) @ Q.T
        H[i] = (H[i] + H[i].T) / 2
        b[i] = H[i] @ rng.standard_normal(d)
    return Quadratics(unit * H, unit * b, 3 * rng.standard_normal(d))


def flat(L: float, x0: Sequence[float] | np.ndarray) -> Quadratics:
    """One client, f = ½ L ‖x‖²."""
    d = len(x0)
    return Quadratics(L * np.eye(d)[None], np.zeros((1, d)), np.asarray(x0, float))


@dataclass(frozen=True)
class Went:
    """What the user is given, and the points that the run went through."""

    certificates: tuple[Certificate, ...]
    path: np.ndarray
    gamma: np.ndarray


def once(problem: Quadratics, **options: Any) -> Went:
    """:func:`ef21` on a problem; `options` may contradict it."""
    points: list[np.ndarray] = []
    given: dict[str, Any] = {
        "grads": problem.grads(),
        "f": problem.values(),
        "smoothness": problem.clients,
        "L": problem.L,
        "f_inf": problem.best,
        "T": 20,
        **options,
    }
    r = ef21(given.pop("grads"), problem.x0, callback=lambda _, x: points.append(x.copy()), **given)
    return Went(r.certificates, np.array([*points[: r.nit], r.x]), r.history["gamma"])


def several(problem: Quadratics, seeds: Sequence[Any], **options: Any) -> Several:
    """`once` for each seed, and what they say together: certificates, and the runs."""
    points: list[list[np.ndarray]] = []
    made = []
    given: dict[str, Any] = {
        "grads": problem.grads(),
        "f": problem.values(),
        "smoothness": problem.clients,
        "L": problem.L,
        "f_inf": problem.best,
        "T": 20,
        **options,
    }
    grads = given.pop("grads")
    for seed in seeds:
        points.append(kept := [])
        made.append(
            ef21(
                grads,
                problem.x0,
                callback=lambda _, x, k=kept: k.append(x.copy()),
                rng=seed,
                **given,
            )
        )
    return Several(in_expectation(made), points)


@dataclass(frozen=True)
class Several:
    """The same of several runs."""

    certificates: tuple[Certificate, ...]
    paths: list[list[np.ndarray]]


def bound_of(went: Any, name: str) -> float | None:
    """What a certificate promises."""
    return next((x.bound for x in went.certificates if x.name == name), None)


def mean_square(problem: Quadratics, path: np.ndarray, gamma: np.ndarray) -> float:
    """Mean of ‖∇f‖² over the steps, each weighed by its length."""
    mean = problem.gradients(path[: len(gamma)]).mean(axis=1)
    return float(gamma @ (mean**2).sum(axis=1) / gamma.sum())


def shifts_again(
    problem: Quadratics, path: np.ndarray, compressor: Compressor, init: str
) -> np.ndarray:
    """The shifts of EF21 along a path, from the true gradients, shape (points, n, d)."""
    G = problem.gradients(path)

    def send(v: np.ndarray) -> np.ndarray:
        return np.stack([compressor.decompress(compressor.compress(row)) for row in v])

    g = {"zero": 0 * G[0], "dense": G[0]}.get(init)
    every = [send(G[0]) if g is None else g]
    for gradients in G[1:]:
        every.append(every[-1] + send(gradients - every[-1]))
    return np.array(every)


def judge(
    problem: Quadratics,
    compressor: Compressor | None = None,
    alpha: float = 1.0,
    init: str = "compress",
) -> Callable[[Went], Truths]:
    """Mean gradient and linear rate; the fall of Φ where the compressor is given."""

    def truths(went: Went) -> Truths:
        said: dict[str, bool | None] = {}
        path, gamma = went.path, went.gamma
        if (bound := bound_of(went, "mean-gradient")) is not None:
            said["mean-gradient"] = mean_square(problem, path, gamma) <= bound
        f = problem.f(path[[0, -1]])
        if (bound := bound_of(went, "linear-rate")) is not None:
            said["linear-rate"] = float(f[1]) - problem.best <= bound
        if compressor is not None and (bound := bound_of(went, "lyapunov")) is not None:
            said["lyapunov"] = falls(problem, went, compressor, alpha, init, bound)
        return said

    return truths


def falls(
    problem: Quadratics, went: Went, compressor: Compressor, alpha: float, init: str, bound: float
) -> bool:
    """Whether Φ fell as it should, by shifts and gradients made again."""
    G, n = problem.gradients(went.path), len(problem.H)
    weights = problem.clients / problem.clients.sum()
    off = ((shifts_again(problem, went.path, compressor, init) - G) ** 2).sum(axis=2)
    distance = off @ (1 / (n**2 * weights))
    theta, f = 1 - np.sqrt(1 - alpha), problem.f(went.path)
    square = (G.mean(axis=1) ** 2).sum(axis=1)
    weight = went.gamma / (2 * theta)
    rises = np.diff(f) + weight * np.diff(distance) + went.gamma / 2 * square[:-1]
    scale = f[0] - problem.best + weight[0] * distance[0]
    return bool((rises <= bound + 1e-9 * scale).all())


# Honest


KINDS = (
    (TopK(3), 0.5),
    (BlockTopK(0.34, 3), 2 / 3),
    (NaturalDeterministic(), 8 / 9),
    (Identity(), 1.0),
)


@worlds.world(run=once, strengths=range(4))
def quadratics(rng: Rng, strength: float) -> Instance:
    """TopK, blocks, powers of two or everything; first shifts of three kinds; the step of theory or a guarded one."""
    problem, (compressor, alpha) = drawn(rng), KINDS[int(strength)]
    init = ("compress", "dense", "zero")[rng.integers(3)]
    step = ("auto", "guarded")[rng.integers(2)]
    arguments = {"problem": problem, "compressor": compressor, "init": init, "step": step}
    return Instance(arguments, judge(problem, compressor, alpha, init))


@worlds.world(run=once, strengths=(0, 1))
def old_step_and_weights(rng: Rng, strength: float) -> Instance:
    """The old step, or (1) EF21-W with weights of its own."""
    problem = drawn(rng)
    w = rng.dirichlet(np.full(3, 3.0)) + 0.01
    own = {"method": "EF21-W", "weights": w / w.sum()}
    more: dict[str, Any] = own if strength else {"step": "qm"}
    return Instance({"problem": problem, "compressor": TopK(2), **more}, judge(problem))


@worlds.world(run=once, strengths=(5,))
def equality(rng: Rng, strength: float) -> Instance:
    """f = ½ L x² and a step of 1/L: the mean gradient is the bound."""
    L = float(np.exp(3 * rng.standard_normal()))
    problem = flat(L, [float(np.exp(3 * rng.standard_normal()) * rng.standard_normal())])
    arguments = {"problem": problem, "compressor": Identity(), "init": "dense", "T": int(strength)}
    return Instance(arguments, judge(problem, Identity()))


@worlds.world(run=once)
def first_shifts_are_the_bound(rng: Rng, strength: float) -> Instance:
    """One client begins with a shift of 0 and far from its gradient: half of the bound is G⁰/(θT)."""
    L = float(np.exp(rng.standard_normal()))
    x0 = float(np.exp(rng.standard_normal()))
    problem = flat(L, [x0])
    arguments = {"problem": problem, "compressor": Identity(), "init": "zero", "T": 4}
    return Instance(arguments, judge(problem))


@worlds.world(run=once, strengths=(1e12, 1e-12))
def units(rng: Rng, strength: float) -> Instance:
    """f in another unit."""
    problem = drawn(rng, unit=strength)
    return Instance({"problem": problem, "compressor": TopK(3)}, judge(problem, TopK(3), 0.5))


@worlds.world(run=once, strengths=(1e9, 1e6, 1e3))
def far_values(rng: Rng, strength: float) -> Instance:
    """f is shifted by so much: its rounding is that of the shift."""
    problem = drawn(rng)
    problem = Quadratics(problem.H, problem.b, problem.x0, strength)
    arguments = {"problem": problem, "compressor": TopK(3), "mu": problem.mu, "step": "pl"}
    return Instance(arguments, judge(problem))


@worlds.world(run=once)
def small_gradients_of_large_terms(rng: Rng, strength: float) -> Instance:
    """What is left of terms of 10⁶, as in least squares of a target that hardly depends on x."""
    made = drawn(rng, n=2, d=4)
    large = 1e6
    # f is what squared residuals of that size come to: √(2 L_i f_i) = 10⁶
    problem = Quadratics(made.H, made.b, made.x0, large**2 / (2 * made.clients.min()))
    grads = [lambda x, g=g: (g(x) + large) - large for g in problem.grads()]
    arguments = {"problem": problem, "grads": grads, "compressor": Identity(), "T": 150}
    return Instance(arguments, judge(problem))


@worlds.world(run=once, strengths=(150, 40))
def single_precision(rng: Rng, strength: float) -> Instance:
    """Gradients in float32, cast to float64 as every user of torch does; so many steps."""
    problem = drawn(rng, n=2, d=4)

    def single(g: Any) -> Any:
        return lambda x: g(x).astype(np.float32).astype(np.float64)

    grads = [single(g) for g in problem.grads()]
    arguments = {
        "problem": problem,
        "grads": grads,
        "compressor": TopK(3),
        "T": int(strength),
        "mu": problem.mu,
    }
    return Instance(arguments, judge(problem))


@worlds.world(run=once, strengths=(150, 40))
def a_ridge_added_in_double_precision(rng: Rng, strength: float) -> Instance:
    """Gradients in float32 and a penalty in float64: no number shows what its rounding is, so it is told."""
    made = drawn(rng, n=2, d=4)
    problem = Quadratics(made.H + 0.01 * np.eye(4), made.b, made.x0)
    grads = [lambda x, g=g: g(x).astype(np.float32).astype(float) + 0.01 * x for g in made.grads()]
    arguments = {
        "problem": problem,
        "grads": grads,
        "compressor": TopK(3),
        "T": int(strength),
        "mu": problem.mu,
        "rounding": 1.2e-7,
    }
    return Instance(arguments, judge(problem))


@worlds.world(run=once)
def to_nothing(rng: Rng, strength: float) -> Instance:
    """The optimum is 0, and the run goes on until its squares are too small to be numbers."""
    problem = flat(float(np.exp(rng.standard_normal())), rng.standard_normal(2))
    arguments = {
        "problem": problem,
        "compressor": Identity(),
        "T": 300,
        "mu": problem.mu,
        "step": 0.9 / problem.L,
        "init": "dense",
    }
    judged = judge(problem)
    return Instance(
        arguments, lambda went: {k: v for k, v in judged(went).items() if k != "linear-rate"}
    )


@worlds.world(run=once, strengths=(0, 1))
def one_step_of_the_linear_rate(rng: Rng, strength: float) -> Instance:
    """f = ½‖x‖² with L = 100 handed in, one step; or (1) two."""
    problem = flat(1.0, rng.standard_normal(2))
    arguments = {
        "problem": problem,
        "compressor": Identity(),
        "T": 1 + int(strength),
        "L": 100.0,
        "smoothness": [100.0],
        "mu": 1.0,
        "step": "pl",
        "init": "dense",
    }
    return Instance(arguments, judge(problem))


@worlds.world(run=once)
def to_convergence(rng: Rng, strength: float) -> Instance:
    """The linear rate until nothing is left but rounding."""
    curvatures = np.exp(rng.standard_normal()) * np.array([1.0, rng.uniform(1, 2)])
    H = np.diag(curvatures)[None]
    problem = Quadratics(H, curvatures * rng.standard_normal((1, 2)), rng.standard_normal(2))
    arguments = {
        "problem": problem,
        "compressor": Identity(),
        "T": 90,
        "mu": problem.mu,
        "step": "pl",
    }
    return Instance(arguments, judge(problem))


def rare(rng: Rng) -> tuple[Quadratics, np.ndarray]:
    """Four clients with three coordinates each, one of them shared with the next."""
    n, d = 4, 9
    H, b = np.zeros((n, d, d)), np.zeros((n, d))
    supports = np.zeros((n, d), bool)
    for i in range(n):
        own = np.arange(2 * i, 2 * i + 3)
        supports[i, own] = True
        H[i][own, own] = np.exp(rng.standard_normal(3))
        b[i, own] = H[i][own, own] * rng.standard_normal(3)
    return Quadratics(H, b, rng.standard_normal(d)), supports


@worlds.world(run=once)
def rare_features(rng: Rng, strength: float) -> Instance:
    """Clients whose features overlap a little, weights of the analysis at their best."""
    problem, supports = rare(rng)
    arguments = {
        "problem": problem,
        "compressor": TopK(1),
        "step": "rf",
        "supports": supports,
        "weights": ("optimal", "smoothness")[rng.integers(2)],
        "T": 40,
    }
    return Instance(arguments, judge(problem))


def judge_several(
    problem: Quadratics, expected: float | None = None
) -> Callable[[Several], Truths]:
    """The best run by the points that it went through; the mean where it is known."""

    def truths(made: Several) -> Truths:
        T = len(made.paths[0])
        seen = [mean_square(problem, np.array(p), np.ones(T)) for p in made.paths]
        best, mean = bound_of(made, "best-run"), bound_of(made, "expected-gradient")
        assert best is not None
        assert mean is not None
        return {
            "best-run": min(seen) <= best,
            "expected-gradient": None if expected is None else expected <= mean,
        }

    return truths


@worlds.world(run=several)
def half_take_part(rng: Rng, strength: float) -> Instance:
    """Clients take part with probability ½, four runs."""
    problem = drawn(rng, n=2, d=4)
    arguments = {
        "problem": problem,
        "seeds": rng.spawn(4),
        "method": "EF21-PP",
        "participation": 0.5,
        "compressor": TopK(2),
        "T": 20,
    }
    return Instance(arguments, judge_several(problem))


def coin(size: float, chance: float = 1.0) -> Callable[[np.ndarray, Rng], np.ndarray]:
    """± size/√chance with that chance, else 0: variance size²."""

    def noise(x: np.ndarray, rng: Rng) -> np.ndarray:
        if chance < 1 and rng.random() >= chance:
            return np.zeros_like(x)
        return size / np.sqrt(chance) * rng.choice([-1.0, 1.0], x.shape)

    return noise


def noisy(
    x0: float, noise: Callable[[np.ndarray, Rng], np.ndarray], variance: float, truth: float = 1.0
) -> tuple[Quadratics, dict[str, Any], float]:
    """f = ½x² in one dimension, where each step leaves x at the noise; the mean is known.

    `truth` is the variance that the noise has.
    """
    problem, T = flat(1.0, [x0]), 12
    arguments = {
        "problem": problem,
        "method": "EF21-SGD",
        "compressor": Identity(),
        "T": T,
        "noisy_grads": [lambda x, rng: x + noise(x, rng)],
        "variance": variance,
    }
    return problem, arguments, (x0**2 + (T - 1) * truth) / T


@worlds.world(run=several, strengths=(1.0, 0.05))
def noise_is_the_floor(rng: Rng, strength: float) -> Instance:
    """Nothing but noise of variance 1 is left after a step; it is non-zero with that chance."""
    problem, arguments, mean = noisy(3.0, coin(1.0, strength), 1.0)
    return Instance({**arguments, "seeds": rng.spawn(10)}, judge_several(problem, mean))


@worlds.world(run=several)
def minibatches_of_several_clients(rng: Rng, strength: float) -> Instance:
    """Three clients, Top-2, Gaussian noise of the stated variance."""
    problem = drawn(rng, n=3, d=4, spread=0.3)

    def draw(g: Any) -> Any:
        return lambda x, r: g(x) + 0.5 * r.standard_normal(4)

    arguments = {
        "problem": problem,
        "method": "EF21-SGD",
        "compressor": TopK(2),
        "T": 20,
        "noisy_grads": [draw(g) for g in problem.grads()],
        "variance": 1.0,
        "seeds": rng.spawn(2),
    }
    return Instance(arguments, judge_several(problem))


# A1: L


@worlds.world(run=once, breaks=c.SMOOTH, strengths=(10, 3, 2, 1.2), broken_from=2)
def an_l_too_small(rng: Rng, strength: float) -> Instance:
    """L is so many times too small, nothing compressed; at ten the run diverges."""
    problem = drawn(rng)
    arguments = {"problem": problem, "compressor": Identity(), "L": problem.L / strength}
    return Instance(arguments, judge(problem))


@worlds.world(run=once, breaks=c.SMOOTH, strengths=(10, 3, 1.5), broken_from=3)
def an_l_too_small_for_top_k(rng: Rng, strength: float) -> Instance:
    """The same with Top-3 of 6."""
    problem = drawn(rng)
    arguments = {"problem": problem, "compressor": TopK(3), "L": problem.L / strength}
    return Instance(arguments, judge(problem))


@worlds.world(run=once, breaks=c.CLIENTS, strengths=(4, 2, 1.1), broken_from=2)
def all_clients_too_smooth(rng: Rng, strength: float) -> Instance:
    """All L_i are so many times too small; L is right."""
    problem = drawn(rng)
    arguments = {
        "problem": problem,
        "compressor": TopK(3),
        "smoothness": problem.clients / strength,
    }
    return Instance(arguments, judge(problem))


@worlds.world(run=once, breaks=c.CLIENTS, strengths=(30, 10, 2), broken_from=10)
def one_client_too_smooth(rng: Rng, strength: float) -> Instance:
    """One client's L_i is so many times too small."""
    problem = drawn(rng)
    wrong = problem.clients.copy()
    wrong[rng.integers(3)] /= strength
    arguments = {"problem": problem, "compressor": TopK(3), "smoothness": wrong}
    return Instance(arguments, judge(problem))


# f and its gradients


def tampered(problem: Quadratics, change: Callable[[np.ndarray], np.ndarray]) -> list[Any]:
    """Gradients that are changed on their way."""
    return [lambda x, g=g: change(g(x)) for g in problem.grads()]


@worlds.world(
    run=once, breaks=c.GRADIENTS, strengths=(0.1, 0.9, 0.98), broken_from=0.98, rising=False
)
def gradients_too_small(rng: Rng, strength: float) -> Instance:
    """Gradients are multiplied by so much (½ forgotten, a mean for a sum), nothing compressed."""
    problem = drawn(rng)
    grads = tampered(problem, lambda g: strength * g)
    arguments = {"problem": problem, "compressor": Identity(), "grads": grads}
    return Instance(arguments, judge(problem))


@worlds.world(run=once, breaks=c.GRADIENTS, strengths=(0.5, 0.9), rising=False)
def gradients_too_small_for_top_k(rng: Rng, strength: float) -> Instance:
    """The same with Top-3 of 6."""
    problem = drawn(rng)
    grads = tampered(problem, lambda g: strength * g)
    arguments = {"problem": problem, "compressor": TopK(3), "grads": grads}
    return Instance(arguments, judge(problem))


def hooked(problem: Quadratics, hook: Callable[[Any], Any]) -> list[Any]:
    """Gradients of torch, of parameters with ``register_hook(hook)``, as a training script has."""
    import torch

    def gradient(H: np.ndarray, b: np.ndarray) -> Any:
        A, c = torch.from_numpy(H), torch.from_numpy(b)

        def of(x: np.ndarray) -> np.ndarray:
            p = torch.from_numpy(x).requires_grad_()
            p.register_hook(hook)
            (p @ A @ p / 2 - c @ p).backward()
            assert p.grad is not None
            return p.grad.numpy()

        return of

    return [gradient(H, b) for H, b in zip(problem.H, problem.b, strict=True)]


@worlds.world(
    run=once, breaks=c.GRADIENTS, strengths=(0.1, 0.7, 0.9), broken_from=0.7, rising=False
)
def a_hook_that_clips(rng: Rng, strength: float) -> Instance:
    """``register_hook`` clamps gradients to that share of the largest first entry; nothing compressed."""
    problem = drawn(rng)
    most = strength * float(np.abs(problem.gradients(problem.x0[None])).max())
    grads = hooked(problem, lambda g: g.clamp(-most, most))
    arguments = {"problem": problem, "compressor": Identity(), "grads": grads, "T": 10}
    return Instance(arguments, judge(problem))


@worlds.world(run=once, breaks=c.GRADIENTS, strengths=(0.5, 0.9), rising=False)
def a_hook_that_halves(rng: Rng, strength: float) -> Instance:
    """``register_hook`` multiplies by so much, as for an average over two processes."""
    problem = drawn(rng)
    grads = hooked(problem, lambda g: strength * g)
    arguments = {"problem": problem, "compressor": Identity(), "grads": grads, "T": 10}
    return Instance(arguments, judge(problem))


@worlds.world(run=once, breaks=c.GRADIENTS, strengths=(0.3, 0.1, 0.01))
def a_decay_left_out(rng: Rng, strength: float) -> Instance:
    """f has a ridge penalty of that share of L, which its gradients leave out; nothing compressed."""
    made = drawn(rng)
    weight = strength * made.L
    problem = Quadratics(made.H + weight * np.eye(6), made.b, made.x0)
    arguments = {"problem": problem, "compressor": Identity(), "grads": made.grads()}
    return Instance(arguments, judge(problem))


@worlds.world(run=once, breaks=c.GRADIENTS, strengths=(1, 0.1, 0.01))
def a_loader_that_comes_round(rng: Rng, strength: float) -> Instance:
    """Three batches in turn, which differ by so much; asked after the run, the first one is due again."""
    problem = drawn(rng)
    off = strength * rng.standard_normal((3, *problem.b.shape))
    off -= off.mean(axis=0)

    def turning(i: int, g: Any) -> Any:
        batches = itertools.cycle(off[:, i])
        return lambda x: g(x) + next(batches)

    grads = [turning(i, g) for i, g in enumerate(problem.grads())]
    arguments = {"problem": problem, "compressor": TopK(3), "grads": grads}
    return Instance(arguments, judge(problem))


@worlds.world(run=once, breaks=c.GRADIENTS, strengths=(1 / 500, 0.1, 0.5), rising=False)
def values_too_small(rng: Rng, strength: float) -> Instance:
    """f is multiplied by so much (a mean beside gradients that are sums), Top-3."""
    problem = drawn(rng)
    values = [lambda x, v=v: strength * v(x) for v in problem.values()]
    arguments = {
        "problem": problem,
        "compressor": TopK(3),
        "f": values,
        "f_inf": strength * problem.best,
    }
    return Instance(arguments, judge(problem))


@worlds.world(run=once, breaks=c.GRADIENTS, strengths=(0.3, 0.01, 1e-6))
def a_shuffled_loader(rng: Rng, strength: float) -> Instance:
    """Noise of that size comes with the gradients, which are handed in as exact."""
    problem, noise = drawn(rng), np.random.default_rng(int(rng.integers(1 << 31)))
    grads = tampered(problem, lambda g: g + strength * noise.standard_normal(g.shape))
    arguments = {"problem": problem, "compressor": TopK(3), "grads": grads}
    return Instance(arguments, judge(problem))


# Lower bound


@worlds.world(run=once, breaks=c.LOWER, strengths=(0.9, 0.5, 0.05), broken_from=0.5)
def a_least_value_too_high(rng: Rng, strength: float) -> Instance:
    """f_inf lies above f* by that share of f(x⁰) − f*, Top-3."""
    problem = drawn(rng)
    f_inf = problem.best + strength * problem.start
    arguments = {"problem": problem, "compressor": TopK(3), "f_inf": f_inf}
    return Instance(arguments, judge(problem))


@worlds.world(run=once, breaks=c.LOWER, strengths=(0.5, 0.2, 0.05), broken_from=1)
def another_run_for_the_least(rng: Rng, strength: float) -> Instance:
    """f* is taken from a run that was not at the end, above it by that share; few steps, L far too large.

    Nothing contradicts it: what the linear rate says must be true all the same.
    """
    problem = drawn(rng)
    arguments = {
        "problem": problem,
        "compressor": Identity(),
        "f_inf": problem.best + strength * problem.start,
        "mu": problem.mu,
        "L": 20 * problem.L,
        "smoothness": 20 * problem.clients,
        "T": 3,
    }
    return Instance(arguments, judge(problem))


@worlds.world(run=once, breaks=c.LOWER, strengths=(0.9, 0.5, 0.05), broken_from=0.5)
def zero_for_a_loss_below_zero(rng: Rng, strength: float) -> Instance:
    """f_inf is left at 0, and f falls below it by that share; nothing compressed."""
    made = drawn(rng)
    shift = -made.best - strength * made.start
    problem = Quadratics(made.H, made.b, made.x0, shift)
    arguments = {"problem": problem, "compressor": Identity(), "f_inf": 0.0}
    return Instance(arguments, judge(problem))


# The step


@worlds.world(run=once, breaks=c.STEP, strengths=(2.5, 2, 1.3), broken_from=2)
def steps_too_long(rng: Rng, strength: float) -> Instance:
    """So many times 1/L, nothing compressed: the inequality must be kept, or it is void."""
    problem = drawn(rng)
    arguments = {"problem": problem, "compressor": Identity(), "step": strength / problem.L}
    return Instance(arguments, judge(problem))


@worlds.world(run=once, breaks=c.STEP, strengths=(1e6, 1e4, 10), broken_from=1e4)
def steps_far_too_long_for_top_k(rng: Rng, strength: float) -> Instance:
    """So many times the step of theory, Top-1."""
    problem = drawn(rng)
    alpha = 1 / 6
    xi = (1 + np.sqrt(1 - alpha)) / alpha - 1
    theory = 1 / (problem.L + problem.clients.mean() * xi)
    arguments = {"problem": problem, "compressor": TopK(1), "step": float(strength * theory)}
    return Instance(arguments, judge(problem))


@worlds.world(run=several, breaks=c.STEP)
def the_step_of_exact_gradients(rng: Rng, strength: float) -> Instance:
    """EF21-SGD with step='am', which was its default once."""
    problem = drawn(rng, n=2, d=4)

    def draw(g: Any) -> Any:
        return lambda x, r: g(x) + 0.1 * r.standard_normal(4)

    arguments = {
        "problem": problem,
        "method": "EF21-SGD",
        "compressor": TopK(1),
        "step": "am",
        "T": 10,
        "noisy_grads": [draw(g) for g in problem.grads()],
        "variance": 0.04,
        "seeds": rng.spawn(2),
    }
    return Instance(arguments, judge_several(problem))


@worlds.world(run=once, expects=Verdict.FAILS, strengths=(1.25, 1.9))
def a_phi_that_falls_too_little(rng: Rng, strength: float) -> Instance:
    """So many times 1/L on f = ½ L x²: f falls, and not by γ/2‖∇f‖²; whatever else is true."""
    L = float(np.exp(rng.standard_normal()))
    problem = flat(L, rng.standard_normal(1))
    arguments = {
        "problem": problem,
        "compressor": Identity(),
        "step": strength / L,
        "init": "dense",
    }
    judged = judge(problem, Identity())
    return Instance(arguments, lambda went: {"lyapunov": judged(went)["lyapunov"]})


# The compressor


class Boasts(TopK):
    """TopK that states another α."""

    def __init__(self, k: int, stated: float) -> None:
        super().__init__(k)
        self.stated = stated

    def alpha(self, d: int) -> float:
        """What it says."""
        return self.stated


@worlds.world(run=once, breaks=c.CONTRACTS, strengths=(0.9, 0.7, 0.45), broken_from=0.7)
def a_compressor_that_boasts(rng: Rng, strength: float) -> Instance:
    """A subclass of TopK(2) in six dimensions states that α in the place of 1/3."""
    problem = drawn(rng)
    arguments = {"problem": problem, "compressor": Boasts(2, strength)}
    return Instance(arguments, judge(problem))


class Scaled(Compressor):
    """RandK times d/k: unbiased, and not contractive."""

    deterministic = False

    def alpha(self, d: int) -> float:
        """What it would be without the factor."""
        return self.count(d) / d

    def count(self, d: int) -> int:
        """Half of them, where the ratio is 1 in every draw."""
        return d // 2

    def select(self, v: np.ndarray, generator: Rng | None = None) -> np.ndarray:
        """At random."""
        assert generator is not None
        return generator.choice(len(v), self.count(len(v)), replace=False)

    def compress(self, v: Any, generator: Rng | None = None) -> Any:
        """Scaled by d/k."""
        sent = super().compress(v, generator)
        return type(sent)(sent.values * len(v) / self.count(len(v)), sent.indices, sent.shape)


@worlds.world(run=several, breaks=c.CONTRACTS)
def a_compressor_that_is_unbiased(rng: Rng, strength: float) -> Instance:
    """RandK times d/k, as other methods want it, said to contract."""
    problem = drawn(rng, n=2, d=4)
    arguments = {"problem": problem, "compressor": Scaled(), "T": 15, "seeds": rng.spawn(2)}
    return Instance(arguments, judge_several(problem))


class Fades(Scaled):
    """RandK whose k falls from all to one after five steps of two clients."""

    def __init__(self) -> None:
        self.calls = 0

    def count(self, d: int) -> int:
        """Of this call."""
        return d if self.calls % 32 <= 12 else 1  # 32 calls a run: two, and two a step

    def compress(self, v: Any, generator: Rng | None = None) -> Any:
        """As it is."""
        self.calls += 1
        return Compressor.compress(self, v, generator)


@worlds.world(run=several, breaks=c.CONTRACTS)
def a_schedule_of_k(rng: Rng, strength: float) -> Instance:
    """Less and less is sent, and α is what it was at the start."""
    problem = drawn(rng, n=2, d=4)
    arguments = {"problem": problem, "compressor": Fades(), "T": 15, "seeds": rng.spawn(2)}
    return Instance(arguments, judge_several(problem))


class Forgets(Scaled):
    """Sends all of one client, and nothing of the other."""

    calls = 0

    def alpha(self, d: int) -> float:
        """True on average over clients."""
        return 0.5

    def count(self, d: int) -> int:
        """All, or nothing."""
        return d

    def compress(self, v: Any, generator: Rng | None = None) -> Any:
        """By turns."""
        self.calls += 1
        return Compressor.compress(self, v if self.calls % 2 else 0 * v, generator)


@worlds.world(run=several, breaks=c.CONTRACTS)
def a_client_that_is_never_served(rng: Rng, strength: float) -> Instance:
    """The mean over clients is as stated, and one of them loses everything."""
    problem = drawn(rng, n=2, d=4)
    arguments = {"problem": problem, "compressor": Forgets(), "T": 20, "seeds": rng.spawn(2)}
    return Instance(arguments, judge_several(problem))


# Supports


@worlds.world(run=once, breaks=c.SUPPORTS, strengths=(10, 1, 0.1))
def a_coordinate_left_out(rng: Rng, strength: float) -> Instance:
    """One client uses a coordinate that is not in its support, so many times the mean curvature."""
    made, supports = rare(rng)
    H, b = made.H.copy(), made.b.copy()
    H[0, 8, 8] = strength * np.trace(made.H.mean(axis=0)) / 9
    b[0, 8] = H[0, 8, 8]
    problem = Quadratics(H, b, made.x0)
    arguments = {"problem": problem, "compressor": TopK(1), "step": "rf", "supports": supports}
    return Instance(arguments, judge(problem))


@worlds.world(run=once, breaks=c.SUPPORTS, strengths=(1, 0.01))
def a_penalty_on_all(rng: Rng, strength: float) -> Instance:
    """Each client has a ridge penalty of that weight on all coordinates."""
    made, supports = rare(rng)
    problem = Quadratics(made.H + strength * np.eye(9), made.b, made.x0)
    arguments = {"problem": problem, "compressor": TopK(1), "step": "rf", "supports": supports}
    return Instance(arguments, judge(problem))


# Polyak and Łojasiewicz


@worlds.world(run=once, breaks=c.POLYAK, strengths=(5, 2, 1.2), broken_from=2)
def a_mu_too_large(rng: Rng, strength: float) -> Instance:
    """μ is so many times too large, and at most L."""
    problem = drawn(rng, n=2, d=3)
    mu = min(strength * problem.mu, problem.L)
    arguments = {"problem": problem, "compressor": Identity(), "mu": mu, "T": 40}
    judged = judge(problem)
    made = mu > 1.9 * problem.mu or strength < 2
    return Instance(arguments, lambda went: judged(went) if made else {})


@worlds.world(run=once, breaks=c.POLYAK, strengths=(1.0, 0.01))
def a_lower_bound_for_the_least(rng: Rng, strength: float) -> Instance:
    """f_inf is below f* by that share of f(x⁰) − f*: a lower bound, and not the least value."""
    problem = drawn(rng, n=1, d=2, spread=0.0)
    f_inf = problem.best - strength * problem.start
    gamma = problem.mu / problem.L
    arguments = {
        "problem": problem,
        "compressor": Identity(),
        "mu": problem.mu,
        "f_inf": f_inf,
        "T": int(np.clip(8 / gamma, 20, 200)),
    }
    judged = judge(problem)
    return Instance(arguments, judged)


# Noise


@worlds.world(run=several, breaks=c.UNBIASED, strengths=(2, 1, 0.2), broken_from=1)
def biased_gradients(rng: Rng, strength: float) -> Instance:
    """The noise has a mean of that many standard deviations."""
    shift = strength * rng.choice([-1.0, 1.0])
    truth = 1 + strength**2
    draw = coin(1.0)
    problem, arguments, mean = noisy(3.0, lambda x, r: shift + draw(x, r), truth, truth)
    return Instance({**arguments, "seeds": rng.spawn(6)}, judge_several(problem, mean))


@worlds.world(run=several, breaks=c.UNBIASED, strengths=(2, 1), broken_from=1)
def half_of_the_gradient(rng: Rng, strength: float) -> Instance:
    """Batches whose gradients are divided by twice their size: the run begins so many times ten away."""
    far = 10.0 * strength
    problem = flat(1.0, [far])
    draw = coin(1.0)
    arguments = {
        "problem": problem,
        "method": "EF21-SGD",
        "compressor": Identity(),
        "T": 10,
        "noisy_grads": [lambda x, r: 0.5 * x + draw(x, r)],
        "variance": 1.0,
        "seeds": rng.spawn(8),
    }
    return Instance(arguments, judge_several(problem))


@worlds.world(run=several, breaks=c.VARIANCE, strengths=(4, 2))
def more_noise_than_stated(rng: Rng, strength: float) -> Instance:
    """The variance is so many times the one that is stated."""

    def noise(x: np.ndarray, r: Rng) -> np.ndarray:
        return r.standard_normal(x.shape)

    problem, arguments, mean = noisy(3.0, noise, 1 / strength)
    return Instance({**arguments, "seeds": rng.spawn(10)}, judge_several(problem, mean))


@worlds.world(run=several, breaks=c.VARIANCE, strengths=(8, 3), broken_from=8)
def one_client_is_noisier(rng: Rng, strength: float) -> Instance:
    """One of six has so many times the variance that is stated, the others next to none."""
    problem = Quadratics(np.ones((6, 1, 1)), np.zeros((6, 1)), np.array([3.0]))
    sizes = np.sqrt([strength, *[0.01] * 5])
    arguments = {
        "problem": problem,
        "method": "EF21-SGD",
        "compressor": Identity(),
        "T": 12,
        "noisy_grads": [lambda x, r, s=s: x + s * r.standard_normal(x.shape) for s in sizes],
        "variance": 1.0,
        "seeds": rng.spawn(4),
    }
    return Instance(arguments, judge_several(problem))


@worlds.world(run=several, breaks=c.VARIANCE, strengths=(16, 4), broken_from=16)
def rare_noise(rng: Rng, strength: float) -> Instance:
    """The same with noise that is non-zero one time in five."""
    problem, arguments, mean = noisy(3.0, coin(1.0, 0.2), 1 / strength)
    return Instance({**arguments, "seeds": rng.spawn(10)}, judge_several(problem, mean))


@worlds.world(run=several, breaks=c.VARIANCE, strengths=(1.2,), noticeable=False)
def a_little_more_noise(rng: Rng, strength: float) -> Instance:
    """The variance is a fifth larger than stated, where the bound is nearly reached."""

    def noise(x: np.ndarray, r: Rng) -> np.ndarray:
        return r.standard_normal(x.shape)

    problem, arguments, mean = noisy(3.0, noise, 1 / strength)
    return Instance({**arguments, "seeds": rng.spawn(3)}, judge_several(problem, mean))


@worlds.world(run=several, breaks=c.VARIANCE, strengths=(2,), noticeable=False)
def very_rare_noise(rng: Rng, strength: float) -> Instance:
    """One time in five hundred: no run shows it."""
    problem, arguments, mean = noisy(3.0, coin(1.0, 0.002), 1 / strength)
    return Instance({**arguments, "seeds": rng.spawn(3)}, judge_several(problem, mean))


@worlds.world(run=several, breaks=c.DISTINCT, strengths=(6, 2))
def copies_of_one_seed(rng: Rng, strength: float) -> Instance:
    """So many of six runs have the same seed."""
    problem, arguments, mean = noisy(3.0, coin(1.0), 1.0)
    same = int(strength)
    seeds = [7] * same + [int(s) for s in rng.integers(1 << 31, size=6 - same)]
    return Instance({**arguments, "seeds": seeds}, judge_several(problem, mean))


@worlds.world(run=several, breaks=c.DISTINCT)
def a_loader_that_draws_the_same(rng: Rng, strength: float) -> Instance:
    """Runs have seeds of their own, and the batches come from a generator that begins anew."""
    seed, drawn_before = int(rng.integers(1 << 31)), {}

    def noise(x: np.ndarray, r: Rng) -> np.ndarray:
        count = drawn_before.get(id(r), (0, r))[0]
        drawn_before[id(r)] = (count + 1, r)
        return np.random.default_rng([seed, count]).standard_normal(x.shape)

    problem, arguments, mean = noisy(3.0, noise, 1.0)
    seeds = [int(s) for s in rng.integers(1 << 31, size=3)]
    return Instance({**arguments, "seeds": seeds}, judge_several(problem, mean))


# The hook


def sent(v: np.ndarray, compressor: Any, d: int) -> tuple[Certificate, ...]:
    """What the hook says of a gradient that was sent."""
    import torch

    from whp.distributed._error_feedback.hook import contraction_of

    values, indices, _ = compressor.difference(v, np.zeros_like(v))
    seen = contraction_of(
        torch.from_numpy(v), torch.from_numpy(values), torch.from_numpy(np.asarray(indices))
    )
    return (t.contraction(seen, compressor.alpha(d), 1),)


@worlds.world(run=sent, strengths=(0, 1, 2))
def gradients_that_are_sent(rng: Rng, strength: float) -> Instance:
    """Equal entries, where the ratio is 1 − α; normal ones (1); with heavy tails (2)."""
    d, k = 200, int(rng.integers(1, 150))
    v = (rng.choice([-1.0, 1.0], d), rng.standard_normal(d), rng.standard_cauchy(d))[
        int(strength)
    ].astype(np.float32)
    exact = np.sort(v.astype(np.float64) ** 2)
    ratio = float(exact[: d - k].sum() / exact.sum())
    return Instance(
        {"v": v, "compressor": TopK(k), "d": d},
        lambda made: {"contraction": ratio <= made[0].bound},
    )


def pickled(v: np.ndarray, stated: float) -> tuple[Certificate, ...]:
    """What is said of a compressor that boasts, after a checkpoint: the numbers of ``state_dict``."""
    import torch

    from whp.distributed._error_feedback.hook import EF21State

    def state() -> EF21State:
        return EF21State(torch.nn.Linear(2, 2), compressor=Boasts(20, stated))

    first, later = state(), state()
    first._alpha, first._looked = stated, 1
    values, indices, _ = first.compressor.difference(v, np.zeros_like(v))
    first._measure(
        torch.from_numpy(v), torch.from_numpy(values), torch.from_numpy(np.asarray(indices))
    )
    later._recall({"record": first._record()})
    return later.certificates[:1]


@worlds.world(run=pickled, expects=Verdict.FAILS, strengths=(0.9, 0.7))
def a_checkpoint_forgets_nothing(rng: Rng, strength: float) -> Instance:
    """Top-20 of 200 states that α; what was seen before a checkpoint is said after it."""
    v = rng.standard_normal(200).astype(np.float32)
    squares = np.sort(v.astype(np.float64) ** 2)
    ratio = float(squares[:180].sum() / squares.sum())
    return Instance(
        {"v": v, "stated": strength}, lambda made: {"contraction": ratio <= made[0].bound}
    )


def kept(drift: float) -> tuple[Certificate, ...]:
    """What the hook says of averages that are so far apart."""
    return (t.invariant(drift, 1),)


@worlds.world(run=kept)
def averages_that_drift(rng: Rng, strength: float) -> Instance:
    """Anything below 1e-5, as float32 gives."""
    drift = float(rng.uniform(0.6e-5, 0.99e-5))
    return Instance({"drift": drift}, lambda made: {"invariant": drift <= made[0].bound})


@worlds.world(run=kept, expects=Verdict.FAILS, strengths=(1e-2, 2e-5))
def averages_that_came_apart(rng: Rng, strength: float) -> Instance:
    """Further than that."""
    return Instance({"drift": strength}, lambda made: {"invariant": strength <= 1e-5})


# Mutants


def halved(function: Callable[..., float]) -> Callable[..., float]:
    """Half of what it says."""
    return lambda *given: function(*given) / 2


for name, world in (
    ("mean-gradient", equality),
    ("expected-gradient", noise_is_the_floor),
    ("best-run", noise_is_the_floor),
):
    worlds.mutant(
        name,
        "half of the bound",
        target=f"{HERE}.theorems:gradient_bound",
        change=halved,
        world=world,
    )
worlds.mutant(
    "mean-gradient",
    "half of the shifts' term",
    target=f"{HERE}.theorems:gradient_bound",
    change=lambda bound: lambda room, shifts, *rest: bound(room, shifts / 2, *rest),
    world=first_shifts_are_the_bound,
)
worlds.mutant(
    "lyapunov",
    "half of the fall",
    target=f"{HERE}.trace:promised",
    change=halved,
    world=a_phi_that_falls_too_little,
    caught_by="false holds",
)
worlds.mutant(
    "linear-rate",
    "twice the rate",
    target=f"{HERE}.theorems:rate",
    change=lambda rate: lambda start, gamma, mu, T: rate(start, 2 * gamma, mu, T),
    world=one_step_of_the_linear_rate,
)
worlds.mutant(
    "contraction",
    "half of the limit",
    target=f"{HERE}.theorems:contraction_limit",
    change=halved,
    world=gradients_that_are_sent,
)
worlds.mutant(
    "invariant",
    "half of the limit",
    target=f"{HERE}.theorems:drift_limit",
    change=halved,
    world=averages_that_drift,
)
