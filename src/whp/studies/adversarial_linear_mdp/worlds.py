"""Worlds of changing losses, whose expected regret a second implementation knows."""

from __future__ import annotations

import copy
import hashlib
import pickle
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pandas as pd

from whp.certificate import Certificate
from whp.experiment.worlds import Instance, Worlds
from whp.rl import AdversarialPolicyOptimizer, LinearQModel, adversarial_linear_mdp
from whp.rl._adversarial_linear_mdp import theorems as t

__all__ = ["worlds"]

worlds = Worlds("adversarial-linear-mdp", t.THEOREMS)
HERE = "whp.rl._adversarial_linear_mdp"
Rng = np.random.Generator
Truths = Mapping[str, bool | None]
REGRETS = ("regret-log-barrier", "regret-magnitude-reduced")
K = 1000
REPLAYS = 60
DRAWS = 64  # of the second implementation
KNOWN: dict[bytes, tuple[float, float]] = {}


def point(scores: np.ndarray, eta: float, barrier: bool) -> np.ndarray:
    """Policies (R, A) by bisection, or by softmax."""
    g = eta * (scores - scores.min(axis=1, keepdims=True))
    if not barrier:
        p = np.exp(-g)
        return p / p.sum(axis=1, keepdims=True)
    low, high = np.ones(len(g)), np.full(len(g), float(g.shape[1]))
    for _ in range(60):
        middle = (low + high) / 2
        above = (1 / (g + middle[:, None])).sum(axis=1) > 1
        low, high = np.where(above, middle, low), np.where(above, high, middle)
    return 1 / (g + high[:, None])


def played(
    phi: np.ndarray, losses: np.ndarray, method: str, rates: tuple[float, float, float], rng: Rng
) -> tuple[float, float]:
    """Mean regret of episodes of one step in one state, and its standard error, written out anew."""
    eta, beta, gamma = rates
    scores, total = np.zeros((DRAWS, len(phi))), np.zeros(DRAWS)
    eye = gamma * np.eye(phi.shape[1])
    for loss in losses:
        pi = point(scores, eta, method == "log-barrier")
        total += pi @ loss
        a = (rng.random((DRAWS, 1)) > pi.cumsum(axis=1)[:, :-1]).sum(axis=1)
        G = phi @ np.linalg.inv(np.einsum("ra,ai,aj->rij", pi, phi, phi) + eye) @ phi.T
        z = G[np.arange(DRAWS), :, a]
        Q = z * loss[a][:, None]
        if method == "magnitude-reduced":
            Q = Q - np.minimum(z, 0) + np.einsum("rab,rb->ra", np.minimum(G, 0), pi)
        norms = np.einsum("raa->ra", G)
        scores += Q - beta * (norms + (pi * norms).sum(axis=1, keepdims=True))
    regrets = total - losses.sum(axis=0).min()
    return float(regrets.mean()), float(regrets.std(ddof=1) / np.sqrt(DRAWS))


def theory(method: str, A: int, d: int, episodes: int) -> tuple[float, float, float]:
    """Rates of one step, written out."""
    if method == "log-barrier":
        eta = np.sqrt(A * np.log(episodes) / (d * episodes * (2 * np.e + 12)))
        return eta, 2 * eta, 4 * np.e * eta**2
    eta = np.sqrt(np.log(A) / (d * episodes * (4 * np.e + 96)))
    return eta, 16 * eta, 64 * np.e * eta**2


def against(mean: float, spread: float, bound: float) -> bool | None:
    """Whether an expectation is at most the bound; None within five standard errors."""
    if abs(mean - bound) <= 5 * spread:
        return None
    return mean <= bound


def learners(result: Any) -> Truths:
    """The regret of the learners is what their lemma says, for all that the algorithm plays."""
    return {c.name: True for c in result.certificates if c.name.startswith("ftrl")}


def judged(
    phi: np.ndarray,
    losses: np.ndarray,
    method: str,
    unit: float = 1.0,
    rates: tuple[float, float, float] | None = None,
) -> Callable[[Any], Truths]:
    """Truths of a run of one step in one state."""
    used = rates or theory(method, len(phi), phi.shape[1], len(losses))

    def judge(result: Any) -> Truths:
        key = hashlib.sha256(repr((method, used)).encode() + phi.tobytes() + losses.tobytes())
        if (name := key.digest()) not in KNOWN:  # the same losses come with every seed
            KNOWN[name] = played(phi, losses, method, used, np.random.default_rng(0))
        mean, spread = KNOWN[name]
        return {**learners(result), **regret_of(result, unit * mean, unit * spread)}

    return judge


def regret_of(result: Any, mean: float, spread: float = 0.0) -> dict[str, bool | None]:
    return {
        c.name: against(mean, spread, c.bound) for c in result.certificates if c.name in REGRETS
    }


def two_arms(gap: float = 1.0, episodes: int = K) -> np.ndarray:
    """The first arm loses less, always by as much."""
    return np.tile([0.5 - gap / 2, 0.5 + gap / 2], (episodes, 1))


def one_step(
    rng: Rng,
    losses: np.ndarray,
    phi: np.ndarray | None = None,
    method: str = "magnitude-reduced",
    **options: Any,
) -> Instance:
    """A run of the front door on episodes of one step in one state."""
    features = np.eye(losses.shape[1]) if phi is None else phi
    model = LinearQModel(features[None, None])
    arguments = {
        "losses": losses[:, None, None],
        "model": model,
        "method": method,
        "loss_range": (0.0, 1.0),
        "replays": REPLAYS,
        "rng": int(rng.integers(1 << 31)),
    }
    return Instance(arguments | options, judged(features, losses, method))


def signed(rng: Rng, A: int, d: int) -> np.ndarray:
    """Features (1, v)/√2 with v on the sphere: products of both signs."""
    v = rng.normal(size=(A, d - 1))
    return np.column_stack([np.ones(A), v / np.linalg.norm(v, axis=1, keepdims=True)]) / np.sqrt(2)


# Honest


@worlds.world(run=adversarial_linear_mdp, strengths=(1.0, 0.1))
def a_better_arm(rng: Rng, strength: float) -> Instance:
    """Two arms whose losses differ by so much in every episode: where the bound is tight."""
    return one_step(rng, two_arms(strength))


@worlds.world(run=adversarial_linear_mdp)
def arms_that_change_places(rng: Rng, strength: float) -> Instance:
    """The better arm is the worse one in the second half: the regret is negative."""
    losses = two_arms()
    losses[K // 2 :] = losses[K // 2 :, ::-1]
    return one_step(rng, losses)


@worlds.world(run=adversarial_linear_mdp)
def signed_features(rng: Rng, strength: float) -> Instance:
    """Losses linear in features of both signs, which turn every five episodes."""
    phi = signed(rng, 6, 3)
    w, u = rng.normal(size=(2, 2))
    turns = np.where(np.arange(K) // 5 % 2, 0.7, -0.7)[:, None]
    theta = np.column_stack(
        [np.ones(K), 0.2 * u / np.linalg.norm(u) + turns * w / np.linalg.norm(w)]
    )
    return one_step(rng, theta @ phi.T / np.sqrt(2), phi)


@worlds.world(run=adversarial_linear_mdp)
def the_log_barrier(rng: Rng, strength: float) -> Instance:
    """The better arm under the log-barrier, in as many episodes as its bound needs."""
    return one_step(rng, two_arms(1.0, 4 * K), method="log-barrier", replays=30)


@worlds.world(run=adversarial_linear_mdp, strengths=(1e-6, 1e6))
def other_units(rng: Rng, strength: float) -> Instance:
    """The better arm, in units of this size above an offset."""
    made = one_step(rng, two_arms())
    losses = strength * (made.arguments["losses"] + 3)
    arguments = dict(made.arguments) | {
        "losses": losses,
        "loss_range": (3 * strength, 4 * strength),
    }
    return Instance(arguments, judged(np.eye(2), two_arms(), "magnitude-reduced", strength))


def layers(rng: Rng, H: int = 3, X: int = 4, A: int = 2, d: int = 3) -> dict[str, Any]:
    """A linear model with a state that nothing starts in and one that is hardly reached."""
    phi = rng.dirichlet(np.ones(d), (H, X, A))
    phi[:, 1, 1] = phi[:, 0, 0]  # rows that repeat
    mu = rng.dirichlet(np.ones(X), (H - 1, d))
    mu[:, :, -1] = 1e-6
    mu /= mu.sum(axis=-1, keepdims=True)
    init = np.r_[0.0, np.ones(X - 1)] / (X - 1)
    return {"phi": phi, "P": np.einsum("hxad,hdy->hxay", phi[:-1], mu), "init": init}


def worst_possible(model: dict[str, Any], losses: np.ndarray) -> float:
    """What the worst sequence of policies loses above the best fixed one, by plain recursion."""

    def recursion(tables: np.ndarray, pick: Callable[..., Any]) -> np.ndarray:
        after = np.zeros((len(tables), len(model["init"])))
        for h in reversed(range(tables.shape[1])):
            later = np.einsum("xay,ky->kxa", model["P"][h], after) if h < len(model["P"]) else 0.0
            after = pick(tables[:, h] + later, axis=-1)
        return after @ model["init"]

    best = recursion(losses.sum(axis=0)[None], np.min)[0]
    return float(recursion(losses, np.max).sum() - best)


def through(model: dict[str, Any], rng: Rng) -> Instance:
    """Three steps; losses linear, drawn anew in every episode, or all the same."""
    kind = rng.integers(3)
    theta = rng.random((300, 3, 3)) if kind else np.full((300, 3, 3), float(rng.integers(2)))
    losses = np.einsum("hxad,khd->khxa", model["phi"], theta)
    worst = worst_possible(model, losses)
    arguments = {
        "losses": losses,
        "model": model,
        "method": str(rng.choice(["log-barrier", "magnitude-reduced"])),
        "loss_range": (0.0, 1.0),
        "replays": 10,
        "rng": int(rng.integers(1 << 31)),
    }

    def judge(result: Any) -> Truths:
        # A bound above what can be lost at all is true; this few episodes have no other.
        made = {c.name: True if worst <= c.bound else None for c in result.certificates}
        return {**made, **learners(result)}

    return Instance(arguments, judge)


@worlds.world(run=adversarial_linear_mdp)
def several_layers(rng: Rng, strength: float) -> Instance:
    """Three steps through four states, one of which no episode starts in."""
    return through(layers(rng), rng)


@worlds.world(run=adversarial_linear_mdp)
def states_out_of_reach(rng: Rng, strength: float) -> Instance:
    """Each step has two states of its own; what is said of the others is not linear."""
    model = layers(rng)
    first = np.arange(4) < 2
    mu = rng.dirichlet(np.ones(2), (2, 3))
    for h, here in enumerate((first, ~first)):
        law = np.zeros((4, 2, 4))
        law[..., ~here] = model["phi"][h] @ mu[h]
        law[~here] = np.eye(4)[2]  # where nobody comes
        model["P"][h] = law
    model["init"] = first / 2
    return through(model, rng)


def log_of(rng: Rng, action: np.ndarray, state: np.ndarray) -> Instance:
    """A log of one choice among three an episode."""
    loss = (rng.random(len(action)) < np.where(action == state, 0.3, 0.7)).astype(float)
    rows = {"episode": np.arange(len(action)), "state": state, "action": action, "loss": loss}
    return Instance(
        {"losses": pd.DataFrame(rows), "rng": int(rng.integers(1 << 31))},
        lambda result: dict.fromkeys(REGRETS) | dict(learners(result)),
    )


@worlds.world(run=adversarial_linear_mdp, false_voids=0.02)
def a_log_of_uniform_choices(rng: Rng, strength: float) -> Instance:
    """Choices of a log were drawn uniformly; two states are common, and some rare."""
    state = rng.choice(8, p=[0.45, 0.45, *[0.1 / 6] * 6], size=600)
    return log_of(rng, rng.integers(3, size=600), state)


# Live: a loop written out, whose learners are judged from what they said of themselves


class Live:
    """What a loop of act and update returns, with the sums that its claims are about."""

    def __init__(self, certificates: tuple[Certificate, ...], truths: Truths) -> None:
        self.certificates, self.truths = certificates, truths


def live(
    optimizer: AdversarialPolicyOptimizer,
    losses: np.ndarray,
    rng: Rng,
    P: np.ndarray | None = None,
    init: np.ndarray | None = None,
    halfway: Callable[[AdversarialPolicyOptimizer], AdversarialPolicyOptimizer] | None = None,
    override: float = 0.0,
    reacts: bool = False,
    of_regret: bool = True,
) -> Live:
    """Play losses (K, H, X, A) one by one, in a world of these laws, and judge."""
    episodes, H, X, A = losses.shape
    P = optimizer.model.P if P is None else P
    init = optimizer.model.init if init is None else init
    moves = np.zeros((episodes, H, X, A))
    policies = np.zeros((episodes, H, X, A))
    lost = 0.0
    for k in range(episodes):
        if halfway is not None and k == episodes // 2:
            optimizer = halfway(optimizer)
        policies[k] = [optimizer.policy_(h) for h in range(H)]
        table = losses[k]
        if reacts:  # the likeliest action loses all
            table = np.where(policies[k] == policies[k].max(axis=-1, keepdims=True), 1.0, 0.0)
            losses[k] = table
        x = int(rng.choice(X, p=init))
        path, taken = [], []
        for h in range(H):
            a = optimizer.act(h, x)
            a = int(rng.integers(A)) if rng.random() < override else a
            path.append(x)
            taken.append(a)
            x = int(rng.choice(X, p=P[h, x, a])) if h < H - 1 else x
        optimizer.update(path, taken, table[np.arange(H), path, taken])
        moves[k] = optimizer.last_estimate_ - optimizer.last_bonus_
        lost += float((init @ (policies[k, 0] * table[0]).sum(axis=-1)) if H == 1 else 0.0)
    eta = optimizer.rates.eta
    squares = (policies * moves**2).sum(axis=(0, -1))
    left = (policies * moves).sum(axis=(0, -1))
    total = moves.sum(axis=0)
    if optimizer.method == "log-barrier":
        right = (A - 1) * np.log(episodes) / eta + eta / 2 * squares
        left -= (1 - 1 / episodes) * total.min(axis=-1) + total.mean(axis=-1) / episodes
    else:
        right = np.log(A) / eta + eta * squares
        left -= total.min(axis=-1)
    truths: dict[str, bool | None] = {}
    for c in optimizer.certificates():
        if c.name.startswith("ftrl"):
            over = (left / right).max()
            truths[c.name] = None if abs(over - 1) < 1e-6 else bool(over < 1)
        elif of_regret:
            best = losses.sum(axis=0)[0].min(axis=-1) @ init if H == 1 else np.inf
            truths[c.name] = False if lost - best > 1.5 * c.bound else None
    return Live(optimizer.certificates(), truths)


def said(result: Live) -> Truths:
    return result.truths


def in_person(rng: Rng, optimizer: AdversarialPolicyOptimizer, losses: Any, **options: Any) -> Any:
    arguments = {
        "optimizer": optimizer,
        "losses": losses,
        "rng": np.random.default_rng(rng.integers(1 << 31)),
    }
    return Instance(arguments | options, said)


def arms(rng: Rng, method: Any, episodes: int = 200, **options: Any) -> tuple[Any, np.ndarray]:
    """A learner on signed features, and losses that are linear in them."""
    A = int(rng.integers(2, 6))
    phi = signed(rng, A, 3)
    theta = np.column_stack([np.ones(episodes), rng.uniform(-0.7, 0.7, (episodes, 2))])
    losses = (theta @ phi.T / np.sqrt(2))[:, None, None]
    options = {"n_episodes": episodes} | options
    optimizer = AdversarialPolicyOptimizer(
        LinearQModel(phi[None, None]), method=method, random_state=rng, **options
    )
    return optimizer, losses


@worlds.world(run=live, strengths=(1e-6, 1e-3, 0.1, 1.0, 10.0))
def any_rate_of_the_log_barrier(rng: Rng, strength: float) -> Instance:
    """Estimates of any size and sign under the log-barrier, at rates small and large."""
    return in_person(rng, *arms(rng, "log-barrier", eta=strength), of_regret=False)


@worlds.world(run=adversarial_linear_mdp)
def the_log_barrier_at_its_best(rng: Rng, strength: float) -> Instance:
    """The better arm at a rate that makes the learners' bound tight; nothing is said of the regret."""
    made = one_step(rng, two_arms(), method="log-barrier", eta=0.1, bonus=False)
    return Instance(made.arguments, learners)


@worlds.world(run=live)
def hedge_at_its_rate(rng: Rng, strength: float) -> Instance:
    """Hedge on estimates whose negative part was taken off."""
    return in_person(rng, *arms(rng, "magnitude-reduced"))


@worlds.world(run=live)
def saved_and_loaded(rng: Rng, strength: float) -> Instance:
    """A learner that is saved and loaded in the middle of its life."""
    return in_person(
        rng,
        *arms(rng, str(rng.choice(["log-barrier", "magnitude-reduced"]))),
        halfway=lambda o: pickle.loads(pickle.dumps(o)),
    )


# Broken


@worlds.world(
    run=adversarial_linear_mdp, breaks=t.THETA, strengths=(0.7, 0.1, 0.03, 0.01), rising=False
)
def features_shrunk(rng: Rng, strength: float) -> Instance:
    """Features of this norm, to be safe: action values then have coefficients as large as its inverse."""
    return one_step(rng, two_arms(), strength * np.eye(2))


@worlds.world(run=adversarial_linear_mdp, breaks=t.THETA, strengths=(0.5, 0.1, 0.01), rising=False)
def one_feature_shrunk(rng: Rng, strength: float) -> Instance:
    """Only the feature of the worse arm is short."""
    return one_step(rng, two_arms(), np.diag([1.0, strength]))


@worlds.world(
    run=adversarial_linear_mdp, breaks=t.LINEAR, strengths=(1e-8, 1e-4, 0.1), broken_from=1e-4
)
def a_law_that_is_not_linear(rng: Rng, strength: float) -> Instance:
    """One law of the next state is moved by so much."""
    made = several_layers.make(rng, 1.0)
    model = dict(made.arguments["model"])
    law = model["P"][0, 1, 0]
    moved = law.copy()
    i, j = int(law.argmax()), int(law.argmin())
    moved[i], moved[j] = law[i] - min(strength, law[i]), law[j] + min(strength, law[i])
    model["P"] = model["P"].copy()
    model["P"][0, 1, 0] = moved
    return Instance(dict(made.arguments) | {"model": model}, made.truths)


@worlds.world(
    run=adversarial_linear_mdp, breaks=t.LINEAR, strengths=(0.001, 0.1, 0.5), broken_from=0.001
)
def losses_outside_the_span(rng: Rng, strength: float) -> Instance:
    """Three arms on a plane of features; the losses have a part across it."""
    phi = np.array([[1.0, 0.0], [0.0, 1.0], [0.6, 0.6]])
    losses = np.clip(rng.random((K, 2)) @ phi.T / 1.2, 0, 1)
    losses[:, 2] = np.clip(losses[:, 2] + strength * rng.random(K), 0, 1)
    made = one_step(rng, losses, phi)
    return Instance(made.arguments, made.truths)


@worlds.world(run=adversarial_linear_mdp, breaks=t.TUNING, strengths=(0.01, 0.1, 0.9, 10.0))
def another_rate(rng: Rng, strength: float) -> Instance:
    """A rate that is this many times the theory's, bonus and regularisation with it."""
    losses = two_arms()
    eta, beta, gamma = theory("magnitude-reduced", 2, 2, K)
    used = (eta * strength, beta * strength, gamma * strength**2)
    made = one_step(rng, losses, eta=eta * strength)
    return Instance(made.arguments, judged(np.eye(2), losses, "magnitude-reduced", rates=used))


@worlds.world(run=adversarial_linear_mdp, breaks=t.TUNING)
def rates_that_work(rng: Rng, strength: float) -> Instance:
    """The tuned rates, which do better and have no proof."""
    made = one_step(rng, two_arms(), tuning="tuned")
    return Instance(made.arguments, lambda result: dict.fromkeys(REGRETS) | dict(learners(result)))


def stopped(losses: np.ndarray, share: float, seed: int) -> AdversarialPolicyOptimizer:
    """Rates for all episodes, of which this share is played."""
    model = LinearQModel(np.eye(losses.shape[-1])[None, None])
    made = AdversarialPolicyOptimizer(
        model, n_episodes=len(losses), n_runs=REPLAYS, random_state=seed
    )
    return made.run(losses, int(share * len(losses)))


class Stopped:
    """Certificates of a learner that was stopped."""

    def __init__(self, certificates: tuple[Certificate, ...]) -> None:
        self.certificates = certificates


def stop(losses: np.ndarray, share: float, seed: int) -> Stopped:
    """The certificates at that moment."""
    return Stopped(stopped(losses, share, seed).certificates())


def rename(losses: np.ndarray, seed: int) -> Stopped:
    """Hedge at the rates of the magnitude-reduced method, by whose name it is called afterwards."""
    A = losses.shape[-1]
    eta, beta, gamma = theory("magnitude-reduced", A, A, len(losses))
    made = AdversarialPolicyOptimizer(
        LinearQModel(np.eye(A)[None, None]),
        method="hedge",
        n_episodes=len(losses),
        eta=eta,
        beta=beta,
        gamma=gamma,
        n_runs=REPLAYS,
        random_state=seed,
    ).run(losses)
    made.method = "magnitude-reduced"
    return Stopped(made.certificates())


@worlds.world(run=rename, breaks=t.TUNING)
def another_method_by_its_name(rng: Rng, strength: float) -> Instance:
    """The method is changed when all is played."""
    arguments = {"losses": two_arms()[:, None, None], "seed": int(rng.integers(1 << 31))}
    return Instance(arguments, lambda result: dict.fromkeys(REGRETS) | dict(learners(result)))


@worlds.world(run=stop, breaks=t.TUNING, strengths=(0.999, 0.5, 0.1), rising=False)
def stopped_early(rng: Rng, strength: float) -> Instance:
    """Only this share of the episodes that the rates are for is played."""
    losses = two_arms()
    arguments = {"losses": losses[:, None, None], "share": strength, "seed": 0}
    rates = theory("magnitude-reduced", 2, 2, K)
    return Instance(
        arguments, judged(np.eye(2), losses[: int(strength * K)], "magnitude-reduced", rates=rates)
    )


@worlds.world(run=live, breaks=t.EXTREMES, strengths=(30.0, 100.0))
def hedge_too_fast(rng: Rng, strength: float) -> Instance:
    """Plain estimates under hedge, so many times faster than its rate."""
    optimizer, losses = arms(rng, "hedge")
    optimizer.eta = strength * optimizer.rates.eta
    optimizer.gamma = 1e-3
    return in_person(rng, optimizer, losses)


@worlds.world(run=live, breaks=t.EXTREMES, strengths=(10.0, 1000.0))
def a_large_bonus(rng: Rng, strength: float) -> Instance:
    """A bonus of this size."""
    return in_person(rng, *arms(rng, "magnitude-reduced", beta=strength))


@worlds.world(run=live, breaks=t.MOVES, strengths=(0.3, 3.0))
def steps_beyond_hedge(rng: Rng, strength: float) -> Instance:
    """Plain estimates at this rate and little regularisation: some fall far below −1/η."""
    return in_person(rng, *arms(rng, "hedge", eta=strength, gamma=1e-4))


@worlds.world(run=live, breaks=t.MOVES, strengths=(1.0, 5.0))
def a_bonus_beyond_hedge(rng: Rng, strength: float) -> Instance:
    """A bonus of this size at a rate of 1."""
    return in_person(rng, *arms(rng, "magnitude-reduced", eta=1.0, beta=strength, gamma=0.01))


def faster(by: float) -> Callable[[Any], Any]:
    """Multiply the learning rate."""

    def change(optimizer: AdversarialPolicyOptimizer) -> AdversarialPolicyOptimizer:
        optimizer.eta = by * optimizer.rates.eta
        return optimizer

    return change


@worlds.world(run=live, breaks=t.CONSTANT_RATE, strengths=(1.1, 100.0))
def another_rate_halfway(rng: Rng, strength: float) -> Instance:
    """The learning rate is multiplied by this in the middle."""
    return in_person(rng, *arms(rng, "magnitude-reduced", eta=0.001), halfway=faster(strength))


def other_method(optimizer: AdversarialPolicyOptimizer) -> AdversarialPolicyOptimizer:
    """A copy that goes on with the other method."""
    made = copy.deepcopy(optimizer)
    made.method = "hedge"
    return made


@worlds.world(run=live, breaks=t.CONSTANT_RATE)
def another_method_halfway(rng: Rng, strength: float) -> Instance:
    """A copy of a learner goes on as hedge."""
    return in_person(rng, *arms(rng, "log-barrier", eta=0.01), halfway=other_method)


@worlds.world(run=live, breaks=t.RANGE, refuses=(ValueError,), strengths=(1.02, 100.0))
def a_loss_outside(rng: Rng, strength: float) -> Instance:
    """One loss is this large where 1 was said to be the most."""
    optimizer, losses = arms(rng, "log-barrier", 50)
    losses = losses.copy()
    losses[25] = strength
    return in_person(rng, optimizer, losses)


@worlds.world(run=adversarial_linear_mdp, breaks=t.RANGE, refuses=(ValueError,))
def dollars(rng: Rng, strength: float) -> Instance:
    """Losses in dollars, and loss_range forgotten."""
    made = one_step(rng, two_arms())
    return Instance(dict(made.arguments) | {"losses": 250 * made.arguments["losses"]}, made.truths)


@worlds.world(
    run=adversarial_linear_mdp, breaks=t.RANGE, refuses=(ValueError,), strengths=(1.001, 1.6, 100.0)
)
def a_loss_outside_above_an_offset(rng: Rng, strength: float) -> Instance:
    """Times in seconds since 1970, allowed to differ by one and differing by this."""
    made = one_step(rng, two_arms())
    losses = 1.7e9 + strength * made.arguments["losses"]
    arguments = dict(made.arguments) | {"losses": losses, "loss_range": (1.7e9, 1.7e9 + 1)}
    return Instance(arguments, judged(np.eye(2), strength * two_arms(), "magnitude-reduced"))


class Against:
    """Certificates of a learner against an adversary."""

    def __init__(self, certificates: tuple[Certificate, ...], regret: float) -> None:
        self.certificates, self.regret = certificates, regret


def adversary(seed: int, episodes: int) -> Against:
    """The likeliest action loses all, by a callable that sees the policy."""
    tables = []

    def reacts(k: int, policy: np.ndarray) -> np.ndarray:
        tables.append((policy == policy.max(axis=-1, keepdims=True)).astype(float))
        return tables[-1]

    model = LinearQModel(np.eye(2)[None, None])
    made = AdversarialPolicyOptimizer(model, n_episodes=episodes, random_state=seed)
    made.run(reacts)
    lost = made.history_["loss"].iloc[-1] - np.sum(tables, axis=0).min()
    return Against(made.certificates(), float(lost))


@worlds.world(run=adversary, breaks=t.OBLIVIOUS)
def an_adversary_that_sees(rng: Rng, strength: float) -> Instance:
    """Losses are chosen after seeing the policy, by a callable."""
    return Instance(
        {"seed": int(rng.integers(1 << 31)), "episodes": 300},
        lambda result: {
            **learners(result),
            **{c.name: result.regret <= c.bound or None for c in result.certificates[:1]},
        },
    )


@worlds.world(run=live, breaks=t.OBLIVIOUS, noticeable=False)
def an_adversary_unseen(rng: Rng, strength: float) -> Instance:
    """The same where the learner only acts and updates: nothing is measured, and nothing shows."""
    optimizer, losses = arms(rng, "log-barrier")
    return in_person(rng, optimizer, losses.copy(), reacts=True)


def other_laws(rng: Rng, strength: float, episodes: int = 600) -> Instance:
    """A live run in two layers whose laws are moved by so much."""
    model = layers(rng, 2, 3, 2, 3)
    known = LinearQModel(**model)
    P = (1 - strength) * model["P"] + strength * np.roll(model["P"], 1, axis=-1)
    losses = np.einsum("hxad,khd->khxa", model["phi"], rng.random((episodes, 2, 3)))
    made = AdversarialPolicyOptimizer(known, n_episodes=episodes, random_state=rng)
    return in_person(rng, made, losses, P=P)


@worlds.world(run=live, false_voids=0.02)
def laws_that_are_true(rng: Rng, strength: float) -> Instance:
    """A live run in two layers by the model's laws."""
    return other_laws(rng, 0.0)


@worlds.world(run=live, breaks=t.WORLD, strengths=(0.1, 0.3, 0.9), broken_from=0.9)
def laws_that_are_not(rng: Rng, strength: float) -> Instance:
    """Next states are by laws that are shifted by one state with this weight."""
    return other_laws(rng, strength)


@worlds.world(
    run=adversarial_linear_mdp, breaks=t.WORLD, strengths=(0.05, 0.4, 0.95), broken_from=0.4
)
def a_log_of_one_favourite(rng: Rng, strength: float) -> Instance:
    """This share of a log's choices is always the same."""
    action = np.where(rng.random(600) < strength, 0, rng.integers(3, size=600))
    return log_of(rng, action, rng.integers(2, size=600))


@worlds.world(
    run=adversarial_linear_mdp, breaks=t.WORLD, strengths=(0.05, 0.4, 1.0), broken_from=0.4
)
def a_log_that_looks_at_the_state(rng: Rng, strength: float) -> Instance:
    """This share of choices is by the state, though each is chosen as often as the others."""
    state = rng.integers(3, size=600)
    return log_of(
        rng, np.where(rng.random(600) < strength, state, rng.integers(3, size=600)), state
    )


@worlds.world(run=live, breaks=t.WORLD, strengths=(0.01, 0.1, 1.0), broken_from=0.1)
def actions_of_others(rng: Rng, strength: float) -> Instance:
    """Somebody else chooses this share of the actions."""
    return in_person(rng, *arms(rng, "magnitude-reduced"), override=strength)


def scaled(by: float) -> Callable[[Any], Any]:
    """A bound multiplied by this."""
    return lambda bound: lambda *a: by * bound(*a)


def narrowed(by: float) -> Callable[[Any], Any]:
    """The right side of the learners' regret multiplied by this."""
    return lambda ftrl: lambda theorem, left, right, *a: ftrl(theorem, left, by * right, *a)


worlds.mutant(
    "regret-magnitude-reduced",
    "a third of the bound",
    target=f"{HERE}.certify:regret_bound",
    change=scaled(1 / 3),
    world=a_better_arm,
)
worlds.mutant(
    "regret-log-barrier",
    "a tenth of the bound",
    target=f"{HERE}.certify:regret_bound",
    change=scaled(0.1),
    world=the_log_barrier,
    seeds=20,
)
worlds.mutant(
    "ftrl-hedge",
    "the bound halved",
    target=f"{HERE}.theorems:ftrl",
    change=narrowed(0.5),
    world=a_better_arm,
    caught_by="false fails",
)
worlds.mutant(
    "ftrl-log-barrier",
    "a quarter of the bound",
    target=f"{HERE}.theorems:ftrl",
    change=narrowed(0.25),
    world=the_log_barrier_at_its_best,
    caught_by="false fails",
)
