"""Worlds of the comp-sum losses: laws whose best classifier, and models whose robust error, are known.

The truth is the excess error of the law, from the probabilities that labels were drawn with, and the
robust error of a linear model in closed form. Networks are judged by points of the ball that were
drawn: an attack that succeeds there proves a bound false.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from whp.experiment.worlds import Instance, Worlds
from whp.losses import comp_sum_losses, robust_error_bound
from whp.losses._comp_sum_losses import theorems as t

__all__ = ["worlds"]

worlds = Worlds("comp-sum-losses", t.THEOREMS)
HERE = "whp.losses._comp_sum_losses"
Rng = np.random.Generator
Array = np.ndarray
Truths = Mapping[str, bool | None]


def drawn(P: Array, rng: Rng) -> Array:
    """Labels drawn from probabilities."""
    below = P.cumsum(axis=1) < rng.random((len(P), 1)) * P.sum(axis=1, keepdims=True)
    return below.sum(axis=1)


def excess(P: Array, z: Array) -> float:
    """Mean over rows of the best class's probability less the predicted one's."""
    return float((P.max(axis=1) - P[np.arange(len(P)), z.argmax(axis=1)]).mean())


def judge(truth: float) -> Callable[[Any], Truths]:
    """Whether all bounds that the user is given lie above the excess error of the law."""

    def truths(result: Any) -> Truths:
        bounds = [result.bound, result.elementary]
        bounds += [*result.table["bound"], *result.table["elementary"]]
        made = {c.name: bool(c.bound >= truth) for c in result.certificates}
        return made | {"h-consistency": bool(min(bounds) >= truth - 1e-12)}

    return truths


def atoms(
    rng: Rng, classes: int = 5, sigma: float = 0.7, power: float = 1.0
) -> tuple[Array, Array]:
    """400 kinds of rows: their probabilities, and scores power·log P with noise."""
    P = rng.dirichlet(np.full(classes, 0.5), 400)
    return P, power * np.log(P + 1e-12) + sigma * rng.normal(size=P.shape)


def known(rng: Rng, n: int, P: Array, z: Array, **given: Any) -> Instance:
    """Rows drawn from the atoms, with their probabilities."""
    rows = rng.integers(0, len(P), n)
    arguments = {"logits": z[rows], "y": drawn(P[rows], rng), "conditional": P[rows]}
    # Rows of one kind repeat by themselves.
    return Instance({**arguments, "distinct": False, **given}, judge(excess(P, z)))


def flips(
    rng: Rng, n: int, classes: int, rate: Any, wrong: Any = 0.05, kinds: Any = None
) -> tuple[Array, Array, Array]:
    """Clean classes, flipped ones, and what a model says that errs on a share of the rows."""
    clean = rng.integers(0, classes, n) if kinds is None else kinds
    hit = rng.random(n) < rate
    y = np.where(hit, (clean + rng.integers(1, classes, n)) % classes, clean)
    errs = rng.random(n) < wrong
    said = np.where(errs, (clean + rng.integers(1, classes, n)) % classes, clean)
    return clean, y, said


def scored(rng: Rng, said: Array, classes: int, noise: float) -> Array:
    """Logits of a model that knows how often labels are flipped."""
    right = np.eye(classes)[said] == 1
    return np.log(np.where(right, 1 - noise, noise / (classes - 1))) + 1e-3 * rng.normal(
        size=right.shape
    )


# Honest worlds of the excess error


@worlds.world(run=comp_sum_losses, strengths=(1, 0.5, 1.5, 2))
def kinds_of_rows(rng: Rng, strength: float) -> Instance:
    """400 kinds of rows of 5 classes with known probabilities, 1,000 rows, dial as the strength says."""
    return known(rng, 1000, *atoms(rng), tau=strength)


@worlds.world(run=comp_sum_losses)
def few_rows(rng: Rng, strength: float) -> Instance:
    """The same with 60 rows."""
    return known(rng, 60, *atoms(rng))


@worlds.world(run=comp_sum_losses, strengths=(1.5, 1.8))
def sharper_transformation(rng: Rng, strength: float) -> Instance:
    """The same in 3 classes with the transformation that is not proved, and the best model's logits."""
    P, z = atoms(rng, 3, 0.3)
    return known(rng, 1000, P, z, tau=strength, transform="sharp")


@worlds.world(run=comp_sum_losses, strengths=(1, 0.5, 1.5))
def always_the_wrong_one_by_a_hair(rng: Rng, strength: float) -> Instance:
    """Two classes, .65 against .35, scores 1e-6 apart the wrong way: the theorem without room, 8,000 rows."""
    P = np.tile([0.65, 0.35], (50, 1))
    z = np.column_stack([np.zeros(50), np.full(50, 1e-6)])
    return known(rng, 8000, P, z, tau=strength, from_probs=False)


@worlds.world(run=comp_sum_losses, strengths=(2000, 20_000))
def rate_of_these_very_rows(rng: Rng, strength: float) -> Instance:
    """The same theorem without room, so many rows, 35 % flipped: what y and y_clean say is given as noise."""
    n = int(strength)
    clean, y, said = flips(rng, n, 2, 0.35, 1.0)
    z = 1e-6 * np.eye(2)[said] + 1e-9 * rng.normal(size=(n, 2))
    given = {"logits": z, "y": y, "noise": float((y != clean).mean()), "y_clean": clean}
    return Instance({**given, "from_probs": False, "distinct": False}, judge(0.3))


@worlds.world(run=comp_sum_losses, strengths=(1, 1.7, 0.5))
def uniform_flips(rng: Rng, strength: float) -> Instance:
    """10 classes, a fifth of the labels flipped and said so, 5 % wrong, 4,000 rows, clean labels given."""
    clean, y, said = flips(rng, 4000, 10, 0.2)
    z = scored(rng, said, 10, 0.2)
    truth = 0.05 * (1 - 0.2 - 0.2 / 9)
    given = {"logits": z, "y": y, "noise": 0.2, "y_clean": clean, "tau": strength}
    return Instance(given, judge(truth))


@worlds.world(run=comp_sum_losses, strengths=(0.02, 0.3))
def overconfident_on_flips(rng: Rng, strength: float) -> Instance:
    """Three classes, 30 % flipped, a model that is sure of itself and wrong on a share, 2,000 rows."""
    _, y, said = flips(rng, 2000, 3, 0.3, strength)
    z = 20.0 * np.eye(3)[said] + rng.normal(size=(2000, 3))
    return Instance({"logits": z, "y": y, "noise": 0.3}, judge(strength * (1 - 0.3 - 0.15)))


@worlds.world(run=comp_sum_losses)
def nothing_said(rng: Rng, strength: float) -> Instance:
    """Clean labels, 4 classes, 5 % wrong, 4,000 rows, some classes impossible."""
    _, y, said = flips(rng, 4000, 4, 0.0)
    z = np.column_stack([2.0 * np.eye(4)[said], np.full(4000, -np.inf)])
    z[:, :4] += 0.1 * rng.normal(size=(4000, 4))
    return Instance({"logits": z, "y": y}, judge(0.05))


@worlds.world(run=comp_sum_losses, strengths=(3, 10, 100))
def votes_of_a_few(rng: Rng, strength: float) -> Instance:
    """So many people vote on each row, and one more gives its label."""
    P, z = atoms(rng)
    rows = rng.integers(0, len(P), 2000)
    votes = rng.multinomial(int(strength), P[rows])
    y = drawn(P[rows], rng)
    given = {"logits": z[rows], "y": y, "conditional": votes, "distinct": False}
    return Instance(given, judge(excess(P, z)))


@worlds.world(run=comp_sum_losses, strengths=(5, 50))
def patients(rng: Rng, strength: float) -> Instance:
    """Groups of so many rows that all fare alike, and are named: 40 groups, 30 % flipped."""
    count, size = 40, int(strength)
    clean = np.repeat(rng.integers(0, 3, count), size)
    _, y, _ = flips(rng, count * size, 3, 0.3, 0.0, clean)
    errs = np.repeat(rng.random(count) < 0.2, size)
    said = np.where(errs, (clean + 1) % 3, clean)
    z = scored(rng, said, 3, 0.3)
    given = {"logits": z, "y": y, "noise": 0.3, "groups": np.repeat(np.arange(count), size)}
    return Instance(given, judge(0.2 * (1 - 0.3 - 0.15)))


@worlds.world(run=comp_sum_losses, strengths=(5, 100))
def shares_of_votes(rng: Rng, strength: float) -> Instance:
    """Probabilities are shares of so many votes, as those of neighbours or trees, and tie by themselves."""
    clean, y, said = flips(rng, 1500, 4, 0.2)
    votes = rng.multinomial(int(strength), 0.76 * np.eye(4)[said] + 0.06)
    votes[np.arange(1500), said] += 1 + votes.max(axis=1) - votes[np.arange(1500), said]
    shares = votes / votes.sum(axis=1, keepdims=True)
    given = {"logits": shares, "y": y, "noise": 0.2, "y_clean": clean}
    return Instance(given, judge(0.05 * (1 - 0.2 * 4 / 3)))


# Honest worlds of the robust error


def linear_truth(W: Array, b: Array, X: Array, y: Array, radius: float) -> Array:
    """Whether an attack makes each row wrong: the margin against some class falls to 0."""
    open_ = np.zeros(len(X), dtype=bool)
    for c in range(len(W)):
        for k in range(len(W)):
            if k != c:
                rows = y == c
                fall = (X[rows] @ (W[c] - W[k]) + b[c] - b[k]) - radius * np.abs(W[c] - W[k]).sum()
                open_[rows] |= fall <= 0
    return open_


def robust_judge(
    here: float, law: float | None, demand: float | None = None
) -> Callable[[Any], Truths]:
    """Bounds on these rows against their robust error, the limit against that of the law."""

    def of(bound: float, truth: float) -> bool | None:
        if demand is not None:  # what is demanded is no promise; what is proven must be true
            return True if truth <= demand else None
        return bool(bound >= truth - 1e-12)

    def truths(found: Any) -> Truths:
        made: dict[str, bool | None] = {
            "robust-count": of(found.counted, here),
            "robust-margin": bool(found.bound >= here - 1e-12),
            "robust-smooth": bool(found.smooth >= here - 1e-12),
        }
        if demand is not None:
            made["robust-count"] = made["robust-count"] if found.counted >= here else False
        if law is not None:
            made["robust-error"] = of(found.rows_to_come, law)
            if demand is not None and found.rows_to_come < law:
                made["robust-error"] = False
        return made

    return truths


def law_of_rows(rng: Rng, noise: float = 0.3) -> tuple[Array, Array, Array]:
    """A linear model of 3 classes and 5 inputs, and 20,000 rows that are the law."""
    W = rng.normal(size=(3, 5))
    X = rng.normal(size=(20_000, 5))
    y = (X @ W.T + noise * rng.normal(size=(20_000, 3))).argmax(axis=1)
    return W, X, y


@worlds.world(run=robust_error_bound, strengths=(50, 200, 2000))
def linear_model(rng: Rng, strength: float) -> Instance:
    """So many rows of a law, a linear model, radius .1."""
    W, X, y = law_of_rows(rng)
    open_ = linear_truth(W, np.zeros(3), X, y, 0.1)
    rows = rng.integers(0, len(X), int(strength))
    given = {"model": (W, np.zeros(3)), "x": X[rows], "y": y[rows], "radius": 0.1, "rho": 0.05}
    given["distinct"] = False  # a row of the law may be drawn twice
    return Instance(given, robust_judge(float(open_[rows].mean()), float(open_.mean())))


@worlds.world(run=robust_error_bound, strengths=(0.5, 0.2))
def linear_model_with_a_demand(rng: Rng, strength: float) -> Instance:
    """The same with 500 rows, and at most so much to be tolerated."""
    W, X, y = law_of_rows(rng)
    open_ = linear_truth(W, np.zeros(3), X, y, 0.1)
    rows = rng.integers(0, len(X), 500)
    given = {"model": (W, np.zeros(3)), "x": X[rows], "y": y[rows], "radius": 0.1}
    here, law = float(open_[rows].mean()), float(open_.mean())
    given |= {"at_most": strength, "distinct": False}
    return Instance(given, robust_judge(here, law, strength))


def fooled_in_a_box(w: Array, X: Array, margin: Array, radius: float) -> Array:
    """Whether a step of at most this length within [0, 1] makes each row's margin, falling along w (n, d), 0.

    The step is -w/λ, cut at the box: coordinates are cut one by one, those first that meet it first.
    """
    wrong = np.zeros(len(X), dtype=bool)
    for i, x in enumerate(X):
        size, room = np.abs(w[i]), np.where(w[i] > 0, x, 1 - x)
        fall, left, rest = 0.0, radius**2, float(size @ size)
        for j in np.argsort(room / size):
            if room[j] * np.sqrt(rest) >= size[j] * np.sqrt(left):
                break
            fall, left, rest = fall + size[j] * room[j], left - room[j] ** 2, rest - size[j] ** 2
        wrong[i] = margin[i] <= fall + np.sqrt(max(rest, 0.0) * max(left, 0.0))
    return wrong


@worlds.world(run=robust_error_bound, strengths=(0.4, 0.8))
def round_ball_in_a_box(rng: Rng, strength: float) -> Instance:
    """Pixels near black and white, two classes, an l2 ball of the strength, half of the room to be tolerated."""
    n, d = 200, 20
    X = np.clip(rng.integers(0, 2, (n, d)) + 0.05 * rng.normal(size=(n, d)), 0, 1)
    w = rng.normal(size=d)
    y = (X @ w < w.sum() / 2).astype(int)
    margin = np.abs(X @ w - w.sum() / 2)
    down = np.where(y[:, None] == 0, w, -w)
    here = float(fooled_in_a_box(down, X, margin, strength).mean())
    loose = float((margin <= strength * np.linalg.norm(w)).mean())
    W, b = np.array([w, 0 * w]), np.array([-w.sum() / 2, 0.0])
    demand = (here + loose) / 2
    given = {"model": (W, b), "x": X, "y": y, "radius": strength, "norm": "l2", "box": (0.0, 1.0)}
    return Instance({**given, "at_most": demand}, robust_judge(here, None, demand))


@worlds.world(run=robust_error_bound)
def ties(rng: Rng, strength: float) -> Instance:
    """Two classes, half of the rows on the border, half far from it: mean losses without room."""
    X = np.where(rng.random((200, 1)) < 0.5, 0.0, 1e3)
    given = {"model": (np.array([[1.0], [0.0]]), np.zeros(2)), "x": X, "y": np.zeros(200, int)}
    here = float((X == 0).mean())
    return Instance({**given, "radius": 0.0, "rho": 0.1}, robust_judge(here, None))


def network(rng: Rng, kind: str) -> Any:
    """A small network with weights drawn here, in evaluation mode."""
    import torch
    from torch import nn

    layers = {
        "plain": [nn.Linear(6, 12), nn.ReLU(), nn.Linear(12, 3)],
        "norms": [nn.Linear(6, 8), nn.BatchNorm1d(8), nn.Tanh(), nn.LayerNorm(8), nn.Linear(8, 3)],
        "pool": [
            nn.Unflatten(1, (1, 6)),
            nn.Conv1d(1, 4, 3),
            nn.MaxPool1d(2),
            nn.ELU(),
            nn.Flatten(),
            nn.Linear(8, 3),
            nn.Softplus(),
        ],
    }[kind]
    model = nn.Sequential(*layers)
    with torch.no_grad():
        for v in (*model.parameters(), *model.buffers()):
            if v.is_floating_point():
                v.copy_(torch.from_numpy(rng.normal(size=tuple(v.shape))))
        for m in model.modules():
            if isinstance(m, nn.BatchNorm1d):
                assert m.running_var is not None
                m.running_var.abs_()
    return model.eval()


def attacked(model: Any, X: Array, y: Array, radius: float, rng: Rng, tries: int = 40) -> float:
    """Share of rows that some drawn point of the ball makes wrong, corners mostly."""
    import torch

    wrong = np.zeros(len(X), dtype=bool)
    with torch.no_grad():
        for i in range(tries):
            step = rng.choice([-1.0, 1.0], X.shape) * (1 if i % 4 else rng.random())
            z = model(torch.from_numpy((X + radius * step * (i > 0)).astype(np.float32))).numpy()
            mine = np.take_along_axis(z, y[:, None], 1)
            rest = np.where(np.eye(z.shape[1])[y] == 1, -np.inf, z)
            wrong |= mine[:, 0] <= rest.max(axis=1)
    return float(wrong.mean())


def through(rng: Rng, model: Any, radius: float, n: int = 60, **given: Any) -> Instance:
    """A network on rows that it mostly gets right."""
    import torch

    X = rng.normal(size=(n, 6)).astype(np.float32)
    with torch.no_grad():
        y = model(torch.from_numpy(X)).argmax(dim=1).numpy()
    here = attacked(model, X, y, radius, rng)
    arguments = {"model": model, "x": X, "y": y, "radius": radius, "steps": 5, "rng": 0, **given}
    return Instance(arguments, robust_judge(here, None))


@worlds.world(run=robust_error_bound, strengths=(0, 1, 2))
def networks(rng: Rng, strength: float) -> Instance:
    """Linear layers; batch and layer norm; convolution and pooling (0 to 2), weights drawn."""
    kind = ("plain", "norms", "pool")[int(strength)]
    return through(rng, network(rng, kind), 0.1)


@worlds.world(run=robust_error_bound, strengths=(0.1, 0.5))
def half_precision_at_its_end(rng: Rng, strength: float) -> Instance:
    """A float16 network of logits near 65,504, which steps of the strength exceed: all are infinite then."""
    import torch
    from torch import nn

    first, last = nn.Linear(1, 1, bias=False), nn.Linear(1, 2, bias=False)
    model = nn.Sequential(first, last).eval()
    X = rng.uniform(0.8, 1.25, (100, 1))
    with torch.no_grad():
        first.weight.fill_(5e4)
        last.weight.copy_(torch.tensor([[0.5], [1.0]]))
        model.half()
        reached = model(torch.from_numpy(X + strength).half()).numpy()
    here = float((reached.argmax(axis=1) == 0).mean())
    given = {"model": model, "x": X, "y": np.ones(100, int), "radius": strength, "steps": 5}
    return Instance({**given, "rng": 0, "at_most": 0.05}, robust_judge(here, None, 0.05))


# What is stated of the labels, broken


@worlds.world(
    run=comp_sum_losses, breaks=t.SOURCE, strengths=(0.1, 0.3, 1), noticeable=False, slow=True
)
def teacher_without_a_column(rng: Rng, strength: float) -> Instance:
    """Calibrated probabilities of a teacher that does not see a column; the model is the teacher."""
    P, _ = atoms(rng)
    blind = P.copy()
    for i in range(0, int(strength * len(P)) // 2 * 2, 2):
        blind[i : i + 2] = P[i : i + 2].mean(axis=0)
    z = np.log(blind)
    rows = rng.integers(0, len(P), 1000)
    given = {"logits": z[rows], "y": drawn(P[rows], rng), "conditional": blind[rows]}
    return Instance({**given, "distinct": False}, judge(excess(P, z)))


@worlds.world(run=comp_sum_losses, breaks=t.SOURCE, strengths=(2, 1.5, 1.1, 0.9), broken_from=1.5)
def sharpened_probabilities(rng: Rng, strength: float) -> Instance:
    """Probabilities to a power, the model alike."""
    P, _ = atoms(rng)
    Q = P**strength / (P**strength).sum(axis=1, keepdims=True)
    z = np.log(Q + 1e-12) + 0.3 * rng.normal(size=Q.shape)
    rows = rng.integers(0, len(P), 1000)
    given = {"logits": z[rows], "y": drawn(P[rows], rng), "conditional": Q[rows]}
    return Instance({**given, "distinct": False}, judge(excess(P, z)))


@worlds.world(run=comp_sum_losses, breaks=t.SOURCE)
def tempered_naive_bayes(rng: Rng, strength: float) -> Instance:
    """A teacher that counts evidence twice, its temperature fitted so that the mean of −log P is right."""
    from scipy.optimize import minimize_scalar
    from scipy.special import log_softmax

    P = rng.dirichlet(np.full(4, 0.5), 3000)
    P = P[np.argsort(P.max(axis=1))]
    y = drawn(P, rng)
    half = np.where(np.arange(3000)[:, None] % 2, 0.4, 3.0)
    z = half * np.log(P + 1e-12)

    def nll(b: float) -> float:
        return -float(log_softmax(b * z, axis=1)[np.arange(3000), y].mean())

    b = float(minimize_scalar(nll, bounds=(1e-3, 5), method="bounded").x)
    Q = np.exp(log_softmax(b * z, axis=1))
    wrong = np.roll(z, 1, axis=1) * (rng.random((3000, 1)) < 0.1) + z
    return Instance({"logits": wrong, "y": y, "conditional": Q}, judge(excess(P, wrong)))


@worlds.world(
    run=comp_sum_losses, breaks=t.SOURCE, strengths=(0.2, 0.1, 0.05, 0.03), broken_from=0.03
)
def flips_by_class(rng: Rng, strength: float) -> Instance:
    """Half of the classes are flipped more often, half less; the mean rate is said; errors among the latter."""
    n = 20_000 if strength < 0.05 else 5000  # rows that show it
    clean = rng.integers(0, 10, n)
    low = clean >= 5
    rate = np.where(low, 0.2 - strength, 0.2 + strength)
    _, y, said = flips(rng, n, 10, rate, np.where(low, 0.4, 0.0), clean)
    truth = 0.5 * 0.4 * (1 - (0.2 - strength) * 10 / 9)
    given = {"logits": scored(rng, said, 10, 0.2), "y": y, "noise": 0.2, "y_clean": clean}
    return Instance(given, judge(truth))


@worlds.world(run=comp_sum_losses, breaks=t.SOURCE)
def flips_where_the_model_errs(rng: Rng, strength: float) -> Instance:
    """Hard rows are both mislabelled and got wrong, the label being what the model says."""
    clean, _, said = flips(rng, 6000, 5, 0.0, 0.2)
    errs = said != clean
    y = np.where(errs & (rng.random(6000) < 0.9), said, clean)
    rate = float((y != clean).mean())
    given = {"logits": scored(rng, said, 5, rate), "y": y, "noise": rate, "y_clean": clean}
    return Instance(given, judge(0.2 * (0.1 - 0.9)))


@worlds.world(run=comp_sum_losses, breaks=t.SOURCE, strengths=(0.3, 0.25, 0.22), broken_from=0.22)
def noise_said_too_high(rng: Rng, strength: float) -> Instance:
    """A fifth is flipped and more is said; clean labels are given."""
    clean, y, said = flips(rng, 20_000 if strength < 0.25 else 5000, 10, 0.2)
    z = scored(rng, said, 10, strength)
    given = {"logits": z, "y": y, "noise": strength, "y_clean": clean}
    return Instance(given, judge(0.05 * (1 - 0.2 * 10 / 9)))


@worlds.world(
    run=comp_sum_losses, breaks=t.SOURCE, strengths=(0.3, 0.25, 0.22), noticeable=False, slow=True
)
def noise_said_too_high_unseen(rng: Rng, strength: float) -> Instance:
    """The same without clean labels, 4,000 rows."""
    _, y, said = flips(rng, 4000, 10, 0.2)
    given = {"logits": scored(rng, said, 10, strength), "y": y, "noise": strength}
    return Instance(given, judge(0.05 * (1 - 0.2 * 10 / 9)))


@worlds.world(
    run=comp_sum_losses, breaks=t.SOURCE, strengths=(0.4, 0.2), noticeable=False, slow=True
)
def clean_labels_by_the_model(rng: Rng, strength: float) -> Instance:
    """What the model says is given as y_clean, and how often labels differ from it as noise; a tenth is flipped."""
    _, y, said = flips(rng, 20_000, 10, 0.1, strength)
    rate = float((y != said).mean())
    given = {"logits": scored(rng, said, 10, rate), "y": y, "noise": rate, "y_clean": said}
    return Instance(given, judge(strength * (1 - 0.1 * 10 / 9)))


# Rows that are not what they should be


@worlds.world(
    run=comp_sum_losses,
    breaks=t.INDEPENDENT,
    strengths=(200, 50, 20, 5),
    noticeable=False,
    slow=True,
)
def groups_unnamed(rng: Rng, strength: float) -> Instance:
    """Groups of so many rows that fare alike, of 2,000, are not named."""
    size = int(strength)
    count = 2000 // size
    clean = np.repeat(rng.integers(0, 3, count), size)
    errs = np.repeat(rng.random(count) < 0.2, size)
    flip = np.repeat(rng.random(count) < 0.3, size)
    shift = np.repeat(rng.integers(1, 3, count), size)
    y = np.where(flip, (clean + shift) % 3, clean)
    said = np.where(errs, (clean + 1) % 3, clean)
    given = {"logits": scored(rng, said, 3, 0.3), "y": y, "noise": 0.3}
    return Instance(given, judge(0.2 * (1 - 0.3 - 0.15)))


def repeated(rng: Rng, share: float, jitter: float) -> Instance:
    """Rows of which a share are copies of others."""
    clean, y, said = flips(rng, 3000, 4, 0.2)
    z = scored(rng, said, 4, 0.2)
    count = round(share * 3000)
    at = np.arange(3000)
    at[:count] = rng.integers(count, 3000, count) if count < 3000 else rng.integers(0, 300, 3000)
    z = z[at] + jitter * rng.normal(size=z.shape)
    given = {"logits": z, "y": y[at], "noise": 0.2, "y_clean": clean[at]}
    return Instance(given, judge(0.05 * (1 - 0.2 * 4 / 3)))


@worlds.world(
    run=comp_sum_losses, breaks=t.INDEPENDENT, strengths=(1, 0.05, 0.005), broken_from=0.05
)
def copies(rng: Rng, strength: float) -> Instance:
    """A share of the rows are exact copies of others."""
    return repeated(rng, strength, 0.0)


@worlds.world(
    run=comp_sum_losses,
    breaks=t.INDEPENDENT,
    strengths=(1e-9, 1e-4),
    broken_from=1e-9,
    rising=False,
)
def near_copies(rng: Rng, strength: float) -> Instance:
    """A fifth of the rows are copies, scored again with so much noise."""
    return repeated(rng, 0.2, strength)


@worlds.world(run=robust_error_bound, breaks=t.INDEPENDENT, strengths=(50, 10, 2), rising=False)
def robust_on_copies(rng: Rng, strength: float) -> Instance:
    """20 rows, each there so many times."""
    W, X, y = law_of_rows(rng)
    open_ = linear_truth(W, np.zeros(3), X, y, 0.1)
    rows = np.repeat(rng.choice(len(X), 20, replace=False), int(strength))
    given = {"model": (W, np.zeros(3)), "x": X[rows], "y": y[rows], "radius": 0.1}
    return Instance(given, robust_judge(float(open_[rows].mean()), float(open_.mean())))


def learnt(rng: Rng, n: int, share: float) -> tuple[Any, Array, Array, Array, Array, float]:
    """Logistic regression in 60 inputs on 300 rows; n rows of which it saw a share; the law's rows.

    And the error of the best classifier there, which takes the nearest centre.
    """
    from sklearn.linear_model import LogisticRegression

    centres = 0.25 * rng.normal(size=(3, 60))

    def rows(count: int) -> tuple[Array, Array]:
        y = rng.integers(0, 3, count)
        return centres[y] + rng.normal(size=(count, 60)), y

    X, y = rows(300)
    model = LogisticRegression(C=10.0, max_iter=200).fit(X, y)
    fresh, labels = rows(n)
    seen = round(share * n)
    fresh[:seen], labels[:seen] = X[:seen], y[:seen]
    far, truth = rows(5000)
    best = ((far[:, None] - centres) ** 2).sum(axis=2).argmin(axis=1)
    return model, fresh, labels, far, truth, float((best != truth).mean())


@worlds.world(
    run=comp_sum_losses, breaks=t.NOT_TRAINED_ON, strengths=(1, 0.5), noticeable=False, slow=True
)
def rows_that_trained_the_model(rng: Rng, strength: float) -> Instance:
    """A share of the 300 rows trained the model; clean labels."""
    model, X, y, far, truth, best = learnt(rng, 300, strength)
    error = float((model.predict(far) != truth).mean())
    return Instance({"logits": model.decision_function(X), "y": y}, judge(error - best))


@worlds.world(
    run=robust_error_bound, breaks=t.NOT_TRAINED_ON, strengths=(1, 0.5), noticeable=False, slow=True
)
def robust_on_rows_that_trained_the_model(rng: Rng, strength: float) -> Instance:
    """The same for the robust error of rows to come."""
    model, X, y, far, truth, _ = learnt(rng, 300, strength)
    W, b = model.coef_, model.intercept_
    here = float(linear_truth(W, b, X, y, 0.01).mean())
    law = float(linear_truth(W, b, far, truth, 0.01).mean())
    given = {"model": (W, b), "x": X, "y": y, "radius": 0.01}
    return Instance(given, robust_judge(here, law))


# Models and balls that are not what they seem


def in_training(rng: Rng, layer: str) -> Instance:
    """A network left in training mode."""
    from torch import nn

    model = network(rng, "norms" if layer == "batch norm" else "plain")
    if layer == "dropout":
        model = nn.Sequential(model[0], model[1], nn.Dropout(0.5), model[2]).eval()
    made = through(rng, model, 0.1)
    model.train()
    return made


@worlds.world(run=robust_error_bound, breaks=t.EVAL_MODE)
def batch_norm_in_training(rng: Rng, strength: float) -> Instance:
    """Batch norm in training mode."""
    return in_training(rng, "batch norm")


@worlds.world(run=robust_error_bound, breaks=t.EVAL_MODE)
def dropout_in_training(rng: Rng, strength: float) -> Instance:
    """Dropout in training mode."""
    return in_training(rng, "dropout")


@worlds.world(run=robust_error_bound, breaks=t.BOX, strengths=(255, 1.5))
def box_in_other_units(rng: Rng, strength: float) -> Instance:
    """Inputs up to the strength where the box ends at 1."""
    W, X, y = law_of_rows(rng)
    X, y = np.abs(X[:200]) / np.abs(X[:200]).max() * strength, y[:200]
    here = float(linear_truth(W, np.zeros(3), X, y, 0.1).mean())
    given = {"model": (W, np.zeros(3)), "x": X, "y": y, "radius": 0.1, "box": (0.0, 1.0)}
    return Instance(given, robust_judge(here, None))


@worlds.world(run=robust_error_bound, breaks=t.BOX)
def normalised_inputs_in_a_box_of_pixels(rng: Rng, strength: float) -> Instance:
    """Inputs of mean 0 and spread 1 where the box is that of pixels."""
    W, X, y = law_of_rows(rng)
    X, y = X[:200], y[:200]
    here = float(linear_truth(W, np.zeros(3), X, y, 0.1).mean())
    given = {"model": (W, np.zeros(3)), "x": X, "y": y, "radius": 0.1, "box": (0.0, 1.0)}
    return Instance(given, robust_judge(here, None))


def seeming(rng: Rng, how: str) -> Any:
    """A sequential model that does something else than its layers."""
    from torch import nn

    class Normalised(nn.Sequential):
        """Takes mean and spread off first, as image models do."""

        def forward(self, input: Any) -> Any:
            """Logits."""
            return super().forward((input - 0.2) / 0.05)

    layers = list(network(rng, "plain"))
    if how == "normalised":
        return Normalised(*layers).eval()
    model = nn.Sequential(*layers).eval()
    model[1].register_forward_hook(lambda module, given, out: -out)
    return model


@worlds.world(run=robust_error_bound, breaks=t.SUP_TRUE, refuses=(ValueError,))
def normalisation_in_forward(rng: Rng, strength: float) -> Instance:
    """A subclass of Sequential normalises in its forward."""
    return through(rng, seeming(rng, "normalised"), 0.005)


@worlds.world(run=robust_error_bound, breaks=t.SUP_TRUE, refuses=(ValueError,))
def hook_on_a_layer(rng: Rng, strength: float) -> Instance:
    """A hook turns a layer's output around."""
    return through(rng, seeming(rng, "hook"), 0.05)


@worlds.world(
    run=robust_error_bound, breaks=t.SUP_TRUE, strengths=(1000, 30, 1), noticeable=False, slow=True
)
def attack_on_a_saturated_network(rng: Rng, strength: float) -> Instance:
    """sup='pgd' where tanh of the given slope hides the gradient."""
    import torch

    model = network(rng, "norms")
    with torch.no_grad():
        model[1].weight.mul_(strength)
    return through(rng, model, 0.1, sup="pgd")


def with_nu(rng: Rng, share: float) -> Instance:
    """The smooth loss with a share of the ν that it needs."""
    W, X, y = law_of_rows(rng)
    X, y = X[:200], y[:200]
    here = float(linear_truth(W, np.zeros(3), X, y, 0.1).mean())
    given = {"model": (W, np.zeros(3)), "x": X, "y": y, "radius": 0.1}
    return Instance({**given, "nu": share * np.sqrt(2)}, robust_judge(here, None))


@worlds.world(run=robust_error_bound, breaks=t.NU_LARGE, strengths=(0.0, 0.5, 0.99), rising=False)
def nu_too_small(rng: Rng, strength: float) -> Instance:
    """ν a share of √(C − 1)/ρ."""
    return with_nu(rng, strength)


@worlds.world(run=robust_error_bound, breaks=t.NU_LARGE)
def nu_of_training(rng: Rng, strength: float) -> Instance:
    """ν = .3, as networks are trained."""
    return with_nu(rng, 0.3 / np.sqrt(2))


# Mutants


def halved(argument: int) -> Callable[[Any], Any]:
    """The same function of half of an argument."""

    def change(original: Callable[..., Any]) -> Callable[..., Any]:
        def mutated(*given: Any) -> Any:
            parts = list(given)
            parts[argument] = parts[argument] / 2
            return original(*parts)

        return mutated

    return change


for theorem in ("h-consistency", "pointwise"):
    worlds.mutant(
        theorem,
        "inverse of half the excess risk",
        target=f"{HERE}.rows:inverse_transform",
        change=halved(0),
        world=worlds.worlds["always-the-wrong-one-by-a-hair"],
        seeds=20,
    )
worlds.mutant(
    "h-consistency",
    "number of classes forgotten",
    target=f"{HERE}.regret:_paper",
    change=lambda f: lambda at, tau, n: f(at, tau, n) * (n ** (tau - 1) if tau > 1 else 1),
    world=worlds.worlds["always-the-wrong-one-by-a-hair"],
    strength=1.5,
    seeds=20,
)
for theorem in ("robust-count", "robust-margin"):
    worlds.mutant(
        theorem,
        "half of the radius",
        target=f"{HERE}.robust:linear_margins",
        change=halved(4),
        world=worlds.worlds["linear-model"],
        strength=200,
        seeds=20,
    )


def no_limit(original: Any) -> Any:
    """Shares in place of their limits."""

    def mutated(hits: Any, trials: Any, delta: float) -> Any:
        share = np.asarray(hits) / np.asarray(trials)
        return share, share

    return mutated


worlds.mutant(
    "robust-error",
    "share of these rows taken for the law's",
    target=f"{HERE}.robust:simultaneous_proportions",
    change=no_limit,
    world=worlds.worlds["linear-model"],
    strength=50,
)


def doubled_at_one(original: Any) -> Any:
    """Φ(1) doubled, the losses as they are."""
    return lambda u, tau: (2 if np.ndim(u) == 0 else 1) * original(u, tau)


for theorem in ("robust-margin", "robust-smooth"):
    worlds.mutant(
        theorem,
        "Φ(1) doubled",
        target=f"{HERE}.robust:comp_sum",
        change=doubled_at_one,
        world=worlds.worlds["ties"],
        seeds=20,
    )
