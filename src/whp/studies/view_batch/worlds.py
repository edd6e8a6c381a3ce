"""Worlds of view batches: lists of batches that a model got, gradients and retention of known law.

Gaps and counts are those of a dictionary of last visits over the batches that were trained, never of
a schedule; the ratio of variances and the best interval come from the law; whether less is forgotten
in most runs from the law of the differences.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from whp.certificate import Certificate, Verdict
from whp.continual._view_batch import theorems as t
from whp.experiment.worlds import Instance, Worlds

__all__ = ["worlds"]

worlds = Worlds("view-batch", t.THEOREMS)
HERE = "whp.continual._view_batch"
Rng = np.random.Generator
Array = np.ndarray
Steps = Sequence[Array]
Truths = Mapping[str, bool | None]
N, BATCH, VIEWS, CYCLE, WINDOW = 203, 32, 4, 26, 8


# Rest: what a model got, and when each sample came back


class Delivered:
    """Certificates, and the samples of each step that was trained."""

    def __init__(self, certificates: tuple[Certificate, ...], steps: Steps, n: int) -> None:
        self.certificates, self.steps, self.n = certificates, steps, n


def rest_of(run: Delivered, only: Sequence[str] = ()) -> Truths:
    """What is true of the batches that were trained, by what the certificates say."""
    by_name = {c.name: c for c in run.certificates}
    last: dict[int, int] = {}
    number: dict[int, int] = {}
    gaps: list[int] = []
    sums: dict[int, int] = {}
    many: dict[int, int] = {}
    for step, samples in enumerate(run.steps):
        for i in samples.tolist():
            if i in last:
                j = number[i]
                gaps.append(step - last[i])
                sums[j] = sums.get(j, 0) + gaps[-1]
                many[j] = many.get(j, 0) + 1
            last[i] = step
            number[i] = number.get(i, 0) + 1
    cycle = int(by_name["mean-recall"].inputs["C"])
    pairs = range(1, len(run.steps) // cycle)  # of whole cycles, each of which all must return in
    means = [many.get(j) == run.n and sums[j] == run.n * cycle for j in pairs]
    made: dict[str, bool | None] = {
        "minimum-rest": min(gaps) >= by_name["minimum-rest"].bound if gaps else None,
        "mean-recall": all(means) if means else False,
        "equal-work": len(number) == run.n and len(set(number.values())) == 1,
    }
    return {name: made[name] for name in only or made}


def planned(
    n: int, batch: int, views: int, epochs: int, shuffle: str, window: int | None, seed: int
) -> Delivered:
    """A plan that is trained as it is."""
    from whp.continual import recall_schedule

    given = {"views": views, "epochs": epochs, "shuffle": shuffle, "window": window}
    plan = recall_schedule(n, batch, **given, rng=seed)  # type: ignore[arg-type]
    return Delivered(plan.certificates, plan.steps, n)


def plan(rng: Rng, **changes: Any) -> dict[str, Any]:
    """Arguments of a windowed plan."""
    given = {"n": N, "batch": BATCH, "views": VIEWS, "epochs": 16, "shuffle": "window"}
    given |= {"window": WINDOW, "seed": int(rng.integers(1 << 31)), **changes}
    return given | {"window": given["window"] if given["shuffle"] == "window" else None}


@worlds.world(run=planned, strengths=(0, 1, 2))
def plans(rng: Rng, strength: float) -> Instance:
    """203 samples, 8 a step, four cycles: a full shuffle, windows, always the same."""
    kind = ("full", "window", "fixed")[int(strength)]
    return Instance(plan(rng, shuffle=kind), rest_of)


@worlds.world(run=planned, strengths=(0, 1))
def small_plans(rng: Rng, strength: float) -> Instance:
    """Eleven samples, so that the last step of a cycle has one, or as many as fill the steps."""
    n = 12 if strength else 11
    return Instance(plan(rng, n=n, batch=8, window=2), rest_of)


def sampled(
    saved: int | None,
    told: bool,
    deliver: Callable[[list[Array]], list[Array]],
    seed: int,
    epochs: int = 16,
    until: int | None = None,
) -> Delivered:
    """A loop with the sampler, `deliver` between it and the model; saved, loaded and gone on with."""
    from whp.continual import ViewBatchSampler

    given = {"views": VIEWS, "epochs": epochs, "window": WINDOW}
    sampler = ViewBatchSampler(N, BATCH, **given, seed=seed)  # type: ignore[arg-type]
    yielded: list[Array] = []
    for batch in sampler:
        yielded.append(np.array([i for i, _ in batch]))
        if len(yielded) == saved:
            state = sampler.state_dict()
            sampler = ViewBatchSampler(N, BATCH, **given, seed=seed + 1)  # type: ignore[arg-type]
            sampler.load_state_dict(state)
            yielded += [np.array([i for i, _ in b]) for b in sampler]
            break
        if len(yielded) == until:
            break
    got = deliver(yielded)
    if told:
        for images in got:
            sampler.trained(images)
    return Delivered(sampler.log.certificates, [np.unique(images) for images in got], N)


def untouched(batches: list[Array]) -> list[Array]:
    """All that were yielded."""
    return batches


def loop(rng: Rng, **changes: Any) -> dict[str, Any]:
    """Arguments of a loop."""
    given = {"saved": None, "told": False, "deliver": untouched}
    return given | {"seed": int(rng.integers(1 << 31)), **changes}


@worlds.world(run=sampled, strengths=(8, 26, 60))
def saved_and_loaded(rng: Rng, strength: float) -> Instance:
    """The sampler is saved after so many steps, inside a cycle or at its end, and goes on elsewhere."""
    return Instance(loop(rng, saved=int(strength)), rest_of)


def passed(passes: int, epochs: int, told: bool, seed: int) -> Delivered:
    """A loop over the sampler inside a loop over epochs, as for an ordinary loader."""
    from whp.continual import ViewBatchSampler

    sampler = ViewBatchSampler(N, BATCH, views=VIEWS, epochs=epochs, window=WINDOW, seed=seed)
    steps: list[Array] = []
    for _ in range(passes):
        for batch in sampler:
            images = np.array([i for i, _ in batch])
            steps.append(np.unique(images))
            if told:
                sampler.trained(images)
    return Delivered(sampler.log.certificates, steps, N)


@worlds.world(run=passed, strengths=(0, 1))
def several_passes(rng: Rng, strength: float) -> Instance:
    """Three passes of two cycles each, reported or not."""
    given = {"passes": 3, "epochs": 8, "told": bool(strength)}
    return Instance({**given, "seed": int(rng.integers(1 << 31))}, rest_of)


@worlds.world(run=passed, expects=Verdict.FAILS, strengths=(6, 9, 10))
def passes_that_end_inside_a_cycle(rng: Rng, strength: float) -> Instance:
    """Two passes of so many epochs of four views: samples return too early in the second."""
    given = {"passes": 2, "epochs": int(strength), "told": True}
    return Instance(
        {**given, "seed": int(rng.integers(1 << 31))}, lambda run: rest_of(run, ["minimum-rest"])
    )


@worlds.world(run=sampled)
def told_what_was_trained(rng: Rng, strength: float) -> Instance:
    """Each batch is reported after its update."""
    return Instance(loop(rng, told=True), rest_of)


def trained(X: Array, y: Array, task: Array, window: int, seed: int) -> Delivered:
    """The front door, with a model that notes the pixel by which it knows each image."""
    import torch
    from torch import nn

    from whp.continual import view_batch

    seen: list[Array] = []

    class Noting(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = nn.Linear(X.shape[1], 4)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            if self.training:
                seen.append(np.unique(np.rint(x[:, 0].detach().numpy() * len(X)).astype(int)))
            return self.body(x)

    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        model = Noting()
    given = {"epochs": 4, "views": 2, "batch_size": 8, "weak": "none", "strategy": "finetune"}
    found = view_batch(
        X,
        y,
        task,
        model=model,
        window=window,
        compare=False,
        test=0.25,
        rng=seed,
        **given,  # type: ignore[arg-type]
    )
    rows = np.unique(np.concatenate(seen))
    return Delivered(found.certificates, [np.searchsorted(rows, s) for s in seen], len(rows))


@worlds.world(run=trained, seeds=200)
def trained_by_the_front_door(rng: Rng, strength: float) -> Instance:
    """Forty images of one task, shown as they are to a model that notes what it is trained on."""
    X = rng.random((40, 4)).astype(np.float32)
    X[:, 0] = np.arange(40) / 40
    y = np.arange(40) % 2
    return Instance(
        {"X": X, "y": y, "task": 0 * y, "window": 2, "seed": int(rng.integers(1 << 31))}, rest_of
    )


def altered(kind: int, rng: Rng, share: float = 0.05) -> Callable[[list[Array]], list[Array]]:
    """What may happen between a sampler and a model."""
    lost = rng.random(10_000) < share
    lost[rng.integers(0, 60)] = True
    order = rng.permutation(104)

    def deliver(batches: list[Array]) -> list[Array]:
        if kind == 0:  # every second one is skipped
            return batches[::2]
        if kind == 1:  # another rank has the second half of each
            return [b[: len(b) // 2] for b in batches if len(b) > 4]
        if kind == 2:  # a buffer shuffles them
            return [batches[i] for i in order[order < len(batches)]]
        if kind == 3:  # bad samples are filtered out
            return [b[~lost[b]] for b in batches if not lost[b].all()]
        if kind == 4:  # single batches are skipped
            return [b for k, b in enumerate(batches) if not lost[k]]
        return batches[: int(0.6 * len(batches))]  # training stops while workers are ahead

    return deliver


@worlds.world(run=sampled, breaks=t.TRAINED, strengths=(0, 1, 2, 3, 5), noticeable=False)
def something_after_the_sampler(rng: Rng, strength: float) -> Instance:
    """Batches are skipped, halved, shuffled, filtered or never reach the model, and nobody says so."""
    return Instance(loop(rng, deliver=altered(int(strength), rng)), rest_of)


@worlds.world(run=sampled, breaks=t.TRAINED, strengths=(0, 1, 2, 3))
def something_after_the_sampler_that_is_told(rng: Rng, strength: float) -> Instance:
    """Batches are skipped, halved, shuffled or filtered, and what is trained is reported."""
    return Instance(loop(rng, told=True, deliver=altered(int(strength), rng)), rest_of)


@worlds.world(run=sampled, breaks=t.TRAINED, strengths=(0.5, 0.1, 0.01))
def batches_that_are_skipped_and_told(rng: Rng, strength: float) -> Instance:
    """So large a share of the batches, one at least, is skipped, and what is trained is reported."""
    return Instance(loop(rng, told=True, deliver=altered(4, rng, strength)), rest_of)


def recall_alone(run: Delivered) -> Truths:
    """Without two whole cycles there is no pair of which anything could be true."""
    return {"mean-recall": None}


def work_alone(run: Delivered) -> Truths:
    """Whether all were shown equally often."""
    return rest_of(run, ["equal-work"])


@worlds.world(run=planned, breaks=t.TWO_CYCLES, strengths=(4, 6, 7), rising=False)
def too_few_epochs(rng: Rng, strength: float) -> Instance:
    """As many epochs as make less than two cycles of four views."""
    return Instance(plan(rng, epochs=int(strength)), recall_alone)


@worlds.world(run=sampled, breaks=t.TWO_CYCLES, strengths=(1, 20, 51), rising=False)
def training_that_stops_early(rng: Rng, strength: float) -> Instance:
    """The loop ends after so many steps of cycles of 26."""
    return Instance(loop(rng, until=int(strength)), recall_alone)


@worlds.world(run=planned, breaks=t.WHOLE_CYCLES, strengths=(5, 6, 9, 15), rising=False)
def epochs_that_are_no_multiple(rng: Rng, strength: float) -> Instance:
    """So many epochs of four views."""
    return Instance(plan(rng, epochs=int(strength)), work_alone)


@worlds.world(run=sampled, breaks=t.WHOLE_CYCLES, strengths=(27, 60, 103), rising=False)
def training_that_stops_inside_a_cycle(rng: Rng, strength: float) -> Instance:
    """The loop ends after so many steps."""
    return Instance(loop(rng, until=int(strength)), work_alone)


def by_hand(steps: list[Array], n: int = N) -> Delivered:
    """Steps of somebody else's sampler, judged as a schedule of four views."""
    from whp.continual import Schedule

    at = np.repeat(np.arange(len(steps)), [len(s) for s in steps])
    found = Schedule(n, np.concatenate(steps), at, VIEWS, CYCLE, CYCLE, len(steps))
    return Delivered(found.certificates, steps, n)


def means_and_work(run: Delivered) -> Truths:
    """Of the two that say that nothing is lost."""
    return rest_of(run, ["mean-recall", "equal-work"])


@worlds.world(run=by_hand, expects=Verdict.FAILS, strengths=(0, 1, 2, 3, 4, 5))
def other_samplers(rng: Rng, strength: float) -> Instance:
    """Draws with replacement, a shard, sizes rounded down, the last batch dropped, one sample lost, or in the end."""
    steps: list[Array] = []
    lost = int(rng.integers(N))
    while len(steps) < 4 * CYCLE:
        order = rng.permutation(N)
        if strength == 0:
            order = rng.integers(0, N, N)
        elif strength == 1:
            order = np.resize(order[order % 2 == 0], N)
        elif strength == 2:
            order = np.resize(order[:128], N)
        elif strength == 3:
            order = order[:200]
        elif strength == 4 or len(steps) >= 3 * CYCLE:
            order = order[order != lost]
        steps += np.split(order, range(8, len(order), 8))
    return Instance({"steps": [np.unique(s) for s in steps[: 4 * CYCLE]]}, means_and_work)


@worlds.world(run=by_hand, expects=Verdict.FAILS, strengths=(0.1, 0.01))
def samples_that_come_twice(rng: Rng, strength: float) -> Instance:
    """So large a share of the samples, one at least, comes again in a second step of a cycle."""
    steps = []
    for _ in range(4):
        order = np.split(rng.permutation(N), range(8, N, 8))
        for i in rng.choice(N, max(1, int(strength * N)), replace=False):
            k = int(rng.integers(CYCLE))
            order[k] = np.unique(np.append(order[k], i))
        steps += order
    return Instance({"steps": steps}, lambda run: rest_of(run, ["equal-work"]))


# Noise: gradients of known law


def judge_ratio(truth: float) -> Callable[[Certificate], Truths]:
    """Whether the true ratio is at most the bound that the user is given."""
    return lambda c: {"effective-batch": bool(truth <= c.bound * (1 + 1e-9))}


def drawn_gradients(
    rng: Rng,
    n: int = 300,
    between: float = 1.0,
    within: float = 1.0,
    spread: float = 1.0,
    shift: float = 0.0,
    heavy: bool = False,
    views: int = VIEWS,
) -> tuple[Any, float]:
    """Gradients in R⁸ of batches and of single views, and the ratio of variances by formula.

    The first view is μ_i + ε with standard deviation `within`; the others have `spread` times that,
    and are off by a vector of their sample's own of size `shift`.
    """
    from whp.continual._view_batch.noise import Gradients

    D, m, V = 8, 300, views
    mu = rng.lognormal(0.0, 1.5, (n, D)) if heavy else rng.normal(size=(n, D))
    mu = between * mu
    off = shift * rng.normal(size=(n, D))
    d = BATCH // V
    rows = rng.random((2 * m, n), dtype=np.float32).argpartition(BATCH, axis=1)[:, :BATCH]
    strong = within * spread
    noise_of_views = np.sqrt(within**2 + (V - 1) * strong**2) * np.sqrt(d) / BATCH
    with_views = (mu + (V - 1) / V * off)[rng.permuted(rows[:m], axis=1)[:, :d]].mean(axis=1)
    with_views += noise_of_views * rng.normal(size=(m, D))
    ordinary = mu[rows[m:]].mean(axis=1)
    ordinary += within / np.sqrt(BATCH) * rng.normal(size=(m, D))
    k = min(64, n)
    few = rng.permutation(n)[:k]
    singles = mu[few][:, None] + np.repeat(off[few][:, None], V, axis=1)
    singles[:, 0] -= off[few]
    scale = np.array([within] + [strong] * (V - 1))[None, :, None]
    singles = singles + scale * rng.normal(size=(k, V, D))

    def variance(a: Array, count: int, noise: float) -> float:
        return float(a.var(axis=0, ddof=1).sum() * (1 / count - 1 / n) + D * noise**2)

    of_views = variance(mu + (V - 1) / V * off, d, noise_of_views)
    truth = of_views / variance(mu, BATCH, within / np.sqrt(BATCH))
    return Gradients(np.stack([with_views, ordinary], axis=1), singles, 0, 0.0), truth


def priced(found: Any, n: int, views: int = VIEWS, seed: int = 0) -> Certificate:
    """The certificate of gradients."""
    from whp.continual._view_batch.noise import certified

    return certified(found, n, BATCH, views, np.random.default_rng(seed))


def price(rng: Rng, n: int = 300, views: int = VIEWS, **law: Any) -> Instance:
    """Gradients drawn from a law."""
    found, truth = drawn_gradients(rng, n, views=views, **law)
    seed = int(rng.integers(1 << 31))
    return Instance({"found": found, "n": n, "views": views, "seed": seed}, judge_ratio(truth))


@worlds.world(run=priced, strengths=(1, 2))
def samples_and_views_vary(rng: Rng, strength: float) -> Instance:
    """Views vary so much, samples one: 2.6 times the variance, and 1.6, where copies have 4.4."""
    return price(rng, within=strength)


@worlds.world(run=priced)
def views_that_hardly_differ(rng: Rng, strength: float) -> Instance:
    """Views vary by 10⁻⁶: the bound is reached."""
    return price(rng, within=1e-6)


@worlds.world(run=priced)
def samples_of_heavy_tails(rng: Rng, strength: float) -> Instance:
    """Means of samples are lognormal, and few of them carry the variance."""
    return price(rng, heavy=True)


@worlds.world(run=priced, strengths=(5000, 10_000))
def one_row_that_carries_the_variance(rng: Rng, strength: float) -> Instance:
    """Of so many rows one has a gradient of 300 times the others', and few batches hold it."""
    from whp.continual._view_batch.noise import Gradients

    n, m, D, within, large = int(strength), 400, 8, 0.5, 300 * rng.normal(size=8)

    def batches(count: int) -> Array:  # the others are many, and their mean is normal
        held = rng.random((m, 1)) < count / n
        spread = np.sqrt(1 / count + within**2 / BATCH)
        return held * large / count + spread * rng.normal(size=(m, D))

    def variance(count: int) -> float:
        return ((large**2).sum() / n + D) * (1 / count - 1 / n) + D * within**2 / BATCH

    found = np.stack([batches(BATCH // VIEWS), batches(BATCH)], axis=1)
    singles = rng.normal(size=(64, 1, D)) + within * rng.normal(size=(64, VIEWS, D))
    given = {"found": Gradients(found, singles, 0, 0.0), "n": n, "seed": int(rng.integers(1 << 31))}
    return Instance(given, judge_ratio(variance(BATCH // VIEWS) / variance(BATCH)))


@worlds.world(run=priced)
def few_samples(rng: Rng, strength: float) -> Instance:
    """Forty samples for batches of 32: copies have 16 times the variance."""
    return price(rng, n=40)


@worlds.world(run=priced)
def two_views(rng: Rng, strength: float) -> Instance:
    """Two views."""
    return price(rng, views=2)


@worlds.world(run=priced, breaks=t.ALIKE, strengths=(5, 3, 2, 1.5), broken_from=2)
def views_of_larger_spread(rng: Rng, strength: float) -> Instance:
    """All views but the first have so many times its spread."""
    return price(rng, spread=strength)


@worlds.world(run=priced, breaks=t.ALIKE, strengths=(2, 1, 0.25), broken_from=1)
def views_that_are_off(rng: Rng, strength: float) -> Instance:
    """All views but the first are off by a vector of that size, the sample's own."""
    return price(rng, shift=strength)


@worlds.world(run=priced, breaks=t.ALIKE, strengths=(2, 1, 0.5))
def weak_views_that_hardly_move(rng: Rng, strength: float) -> Instance:
    """Views vary by a tenth, and all but the first are off by so much."""
    return price(rng, within=0.1, shift=strength)


def with_copies(rng: Rng, share: float) -> Instance:
    """Views of which a share are copies of the first."""
    made = price(rng, within=1e-6 if share == 1 else 1.0)
    found = made.arguments["found"]
    hit = rng.random((len(found.singles), VIEWS - 1)) < share
    singles = found.singles.copy()
    singles[:, 1:] = np.where(hit[:, :, None], singles[:, :1], singles[:, 1:])
    again = replace(found, singles=singles, equal=int(hit.sum()))
    return Instance({**made.arguments, "found": again}, made.truths)


@worlds.world(run=priced, breaks=t.DIFFER, strengths=(1, 0.3, 0.05))
def views_that_are_copies(rng: Rng, strength: float) -> Instance:
    """That share of the views is equal to the first."""
    return with_copies(rng, strength)


@worlds.world(run=priced, breaks=t.DIFFER, strengths=(0.1, 0.02), broken_from=0.1)
def workers_that_share_a_seed(rng: Rng, strength: float) -> Instance:
    """In that share of the samples the last two views come from workers of one seed."""
    made = price(rng)
    found = made.arguments["found"]
    hit = rng.random(len(found.singles)) < strength
    singles = found.singles.copy()
    singles[hit, -1] = singles[hit, -2]
    again = replace(found, singles=singles, equal=int(hit.sum()))
    return Instance({**made.arguments, "found": again}, made.truths)


def in_company(rng: Rng, company: float, larger: float) -> Instance:
    """Gradients of view batches are so many times larger, since scores depend on who else is there."""
    made = price(rng)
    found = made.arguments["found"]
    batches = found.batches * np.array([larger, 1.0])[:, None]
    truth = drawn_gradients(np.random.default_rng(0))[1] * larger**2
    again = replace(found, batches=batches, company=company)
    return Instance({**made.arguments, "found": again}, judge_ratio(truth))


@worlds.world(run=priced, breaks=t.SEPARATE, strengths=(1, 0.01))
def statistics_of_a_batch(rng: Rng, strength: float) -> Instance:
    """Batch norm: scores move by that share with the batch, and views that hardly differ blow it up."""
    return in_company(rng, strength, 5)


@worlds.world(run=priced, breaks=t.SEPARATE, strengths=(0.5, 0.05))
def statistics_that_change_little(rng: Rng, strength: float) -> Instance:
    """Scores move by that share with the batch, and the variance stays below the bound."""
    return in_company(rng, strength, 1)


@worlds.world(run=priced, breaks=t.MORE_ROWS, strengths=(32, 20), rising=False)
def a_task_smaller_than_a_batch(rng: Rng, strength: float) -> Instance:
    """So many samples for batches of 32, of which nothing can be drawn."""
    return Instance({"found": None, "n": int(strength)}, lambda c: {"effective-batch": None})


@worlds.world(run=priced, breaks=t.MORE_ROWS)
def a_batch_of_everything(rng: Rng, strength: float) -> Instance:
    """Gradients of batches that hold all 32 samples, and do not vary but for their views."""
    found, _ = drawn_gradients(rng, 64)
    return Instance({"found": found, "n": BATCH}, lambda c: {"effective-batch": None})


# Decisions


def softmax(z: Array) -> Array:
    """Log-probabilities."""
    z = z - z.max(axis=-1, keepdims=True)
    return z - np.log(np.exp(z).sum(axis=-1, keepdims=True))


def divergences(log_p: Array) -> Array:
    """KL(p⁰ ‖ pʲ), summed over classes."""
    first, others = log_p[:, :1], log_p[:, 1:]
    return (np.exp(first) * (first - others)).sum(axis=2)


def judge_flips(log_p: Array, divergence: Array) -> Callable[[Certificate], Truths]:
    """Whether a decision changes where the divergence that was handed in forbids it."""
    worst = -np.inf
    for views, row in zip(log_p, divergence, strict=True):
        p = np.sort(np.exp(views[0]))
        for other, kl in zip(views[1:], row, strict=True):
            if other.argmax() != views[0].argmax():
                worst = max(worst, p[-1] - p[-2] - np.sqrt(2 * max(kl, 0.0)))
    return lambda c: {"view-consistency": None if 0 < worst < 2e-6 else bool(worst <= 0)}


def pairs(rng: Rng, classes: int, near: float, rows: int = 300) -> Array:
    """Scores of two views of each sample."""
    z = rng.normal(size=(rows, 1, classes)) + near * rng.normal(size=(rows, 2, classes))
    return softmax(z)


@worlds.world(run=t.view_consistency, strengths=(2, 10))
def views_that_disagree(rng: Rng, strength: float) -> Instance:
    """Views of so many classes whose scores differ by noise."""
    log_p = pairs(rng, int(strength), 0.5)
    kl = divergences(log_p)
    return Instance({"log_p": log_p, "divergence": kl}, judge_flips(log_p, kl))


@worlds.world(run=t.view_consistency, strengths=(1e-2, 1e-3))
def decisions_that_just_change(rng: Rng, strength: float) -> Instance:
    """Two classes whose margin is about √(2 KL): Pinsker's inequality is an equality to first order."""
    e = strength * rng.uniform(0.5, 1, 200)
    just = 1e-9 * rng.random(200)
    first, second = np.stack([0.5 + e, 0.5 - e], 1), np.stack([0.5 - just, 0.5 + just], 1)
    log_p = np.log(np.stack([first, second], axis=1))
    kl = divergences(log_p)
    return Instance({"log_p": log_p, "divergence": kl}, judge_flips(log_p, kl))


def logged(logits: Any, views: int, kept: Any = None) -> Certificate:
    """A loop that logs the divergence of its loss, in the precision in which it trains or in another."""
    from whp.continual import view_consistency
    from whp.continual._view_batch.loss import view_divergence

    divergence = view_divergence(logits, views)
    return view_consistency(logits, divergence if kept is None else divergence.to(kept), views)


@worlds.world(run=logged, strengths=(16, 32, 64))
def divergences_of_little_precision(rng: Rng, strength: float) -> Instance:
    """Views that are so close that the divergence in numbers of so many bits is mostly rounding."""
    import torch

    near = {16: 1e-2, 32: 1e-3, 64: 1e-3}[int(strength)]
    z = 3 * rng.normal(size=(1500, 1, 10)) + near * rng.normal(size=(1500, 4, 10))
    kind = {16: torch.float16, 32: torch.float32, 64: torch.float64}[int(strength)]
    logits = torch.from_numpy(z.reshape(-1, 10)).to(kind)
    return Instance({"logits": logits, "views": 4}, lambda c: {"view-consistency": True})


@worlds.world(run=logged, strengths=(8, 16))
def divergences_kept_in_more_digits(rng: Rng, strength: float) -> Instance:
    """Computed in so many bits of half precision and kept in float32, for numpy has no bfloat16."""
    import torch

    kind, near = {8: (torch.bfloat16, 0.1), 16: (torch.float16, 1e-2)}[int(strength)]
    z = 3 * rng.normal(size=(1500, 1, 10)) + near * rng.normal(size=(1500, 4, 10))
    logits = torch.from_numpy(z.reshape(-1, 10)).to(kind)
    given = {"logits": logits, "views": 4, "kept": torch.float32}
    return Instance(given, lambda c: {"view-consistency": True})


@worlds.world(run=t.view_consistency, expects=Verdict.FAILS, strengths=(10, 3), broken_from=10)
def divergences_that_are_means(rng: Rng, strength: float) -> Instance:
    """The divergence is divided by the number of classes."""
    log_p = pairs(rng, int(strength), 0.5)
    kl = divergences(log_p) / strength
    return Instance({"log_p": log_p, "divergence": kl}, judge_flips(log_p, kl))


@worlds.world(run=t.view_consistency, expects=Verdict.FAILS)
def neighbours_for_teachers(rng: Rng, strength: float) -> Instance:
    """Divergences are those of other samples, as where views are known by equal labels."""
    log_p = pairs(rng, 10, 0.5, 1500)
    kl = np.roll(divergences(log_p), 1, axis=0)
    return Instance({"log_p": log_p, "divergence": kl}, judge_flips(log_p, kl))


# Forgetting


def a_run(forgotten: float, moved: float, **changes: Any) -> Any:
    """What a training leaves behind that forgot so much of its first task."""
    import torch

    from whp.continual._view_batch.runs import Run

    nothing = torch.empty(0)
    accuracy = np.array([[0.9, np.nan], [0.9 - forgotten, 0.9]])
    given = {"updates": 100, "new": 3200, "stored": 1600, "start": np.ones(3)}
    given |= {"moved": moved * np.ones(3), **changes}
    return Run(torch.nn.Identity(), accuracy, [], [], None, (nothing, nothing), **given)


def comparison(
    differences: Array,
    views: int = VIEWS,
    moved: float = 1.0,
    theirs: Mapping[str, Any] | None = None,
) -> Certificate:
    """``forgetting`` of runs that differ by so much."""
    from whp.continual._view_batch.forgetting import compared
    from whp.continual._view_batch.runs import Setting
    from whp.continual._view_batch.views import weak_view

    setting = Setting(
        "er", "class", views, "both", False, 1.0, 0.25, weak_view, None, 8, 32, 0.05, 200
    )
    ours = [a_run(0.1 + float(x), moved) for x in differences]
    base = [a_run(0.1, moved / 2, **(theirs or {})) for _ in differences]
    return compared(setting, ours, base, True)


def judge_majority(share: float) -> Callable[[Certificate], Truths]:
    """By the share of runs in which less is forgotten: "holds" must not be said of a half or less."""

    def truths(c: Certificate) -> Truths:
        if share > 0.5:
            return {"forgetting": True}
        return {"forgetting": False if c.verdict is Verdict.HOLDS else None}

    return truths


@worlds.world(run=comparison, strengths=(10, 20))
def views_that_help(rng: Rng, strength: float) -> Instance:
    """So many runs, with .05 less forgotten and a spread of .02."""
    return Instance({"differences": rng.normal(-0.05, 0.02, int(strength))}, judge_majority(0.99))


@worlds.world(run=comparison, strengths=(20, 2, 6))
def views_that_change_nothing(rng: Rng, strength: float) -> Instance:
    """So many runs, in which as much is forgotten with views as without, up or down at random."""
    n = int(strength)
    laws = (rng.normal(0, 0.02, n), rng.standard_cauchy(n), rng.choice([-1.0, 1.0], n), None)
    law = laws[int(rng.integers(4))]
    return Instance(
        {"differences": 0.01 * rng.standard_t(2, n) if law is None else law}, judge_majority(0.5)
    )


@worlds.world(run=comparison, strengths=(6, 20))
def a_rare_gain(rng: Rng, strength: float) -> Instance:
    """Each run forgets .01 more, but for one in ten that forgets .09 less: the mean is 0."""
    hit = rng.random(int(strength)) < 0.1
    return Instance({"differences": 0.01 - 0.1 * hit}, judge_majority(0.1))


@worlds.world(run=comparison, strengths=(6, 20))
def mostly_equal(rng: Rng, strength: float) -> Instance:
    """Seven runs of ten forget exactly as much, the others less."""
    hit = rng.random(int(strength)) < 0.3
    return Instance({"differences": -0.02 * hit}, judge_majority(0.3))


@worlds.world(run=comparison, strengths=(6, 20))
def equal_but_for_rounding(rng: Rng, strength: float) -> Instance:
    """Seven runs of ten forget as much, up to the last bits of means, the others less."""
    hit = rng.random(int(strength)) < 0.3
    return Instance({"differences": np.where(hit, -0.02, -4e-16)}, judge_majority(0.3))


def alone(c: Certificate) -> Truths:
    """What is true of a comparison of a training with itself: nothing is gained."""
    return judge_majority(0.0)(c)


@worlds.world(run=comparison, breaks=t.ARMS_DIFFER, strengths=(2, 6))
def one_view(rng: Rng, strength: float) -> Instance:
    """So many runs with views=1, which is the baseline."""
    return Instance({"differences": np.zeros(int(strength)), "views": 1}, alone)


@worlds.world(run=comparison, breaks=t.ARMS_DIFFER, strengths=(2, 6))
def weights_that_do_not_move(rng: Rng, strength: float) -> Instance:
    """The learning rate is 10⁻¹²."""
    return Instance({"differences": np.zeros(int(strength)), "moved": 1e-11}, alone)


@worlds.world(run=comparison, breaks=t.EQUAL_ARMS, strengths=(0.5, 0.8))
def a_baseline_of_fewer_images(rng: Rng, strength: float) -> Instance:
    """The baseline saw that share of the new images."""
    differences = rng.normal(-0.05, 0.02, 10)
    changes = {"new": int(3200 * strength)}
    return Instance({"differences": differences, "theirs": changes}, alone)


@worlds.world(run=comparison, breaks=t.EQUAL_ARMS, strengths=(0, 1, 2), rising=False)
def another_baseline(rng: Rng, strength: float) -> Instance:
    """The baseline has other weights at the start, or half of the updates, or of the stored images."""
    changes: dict[str, Any] = ({"start": rng.normal(size=3)}, {"updates": 50}, {"stored": 800})[
        int(strength)
    ]
    return Instance({"differences": rng.normal(-0.05, 0.02, 10), "theirs": changes}, alone)


@worlds.world(run=comparison, breaks=t.INDEPENDENT_RUNS, strengths=(1.0, 0.9), noticeable=False)
def runs_that_share_their_chance(rng: Rng, strength: float) -> Instance:
    """That share of the variance is the same in all ten runs, as of one split for all of them."""
    shared = np.sqrt(strength) * rng.normal() + np.sqrt(1 - strength) * rng.normal(size=10)
    return Instance({"differences": 0.02 * shared}, judge_majority(0.5))


@worlds.world(run=comparison, breaks=t.INDEPENDENT_RUNS, noticeable=False)
def one_run_ten_times(rng: Rng, strength: float) -> Instance:
    """One run is counted ten times, of two that are as likely to forget more as less."""
    return Instance({"differences": np.full(10, 0.02 * rng.normal())}, judge_majority(0.5))


@worlds.world(run=comparison, breaks=t.CHOSEN_BEFORE, strengths=(100, 10), noticeable=False)
def the_best_of_some_rates(rng: Rng, strength: float) -> Instance:
    """Eight runs at each of so many learning rates; those at the best one are shown."""
    runs = 0.02 * rng.normal(size=(int(strength), 8))
    best = runs[(runs < 0).sum(axis=1).argmax()]
    return Instance({"differences": best}, judge_majority(0.5))


@worlds.world(run=comparison, breaks=t.CHOSEN_BEFORE, noticeable=False)
def runs_until_it_holds(rng: Rng, strength: float) -> Instance:
    """Runs are added, up to forty, until the verdict is the wanted one."""
    runs = 0.02 * rng.normal(size=40)
    wins = np.cumsum(runs < 0)
    count = np.arange(1, 41)
    enough = (count >= 6) & (wins - count / 2 >= np.sqrt(count))
    stop = int(np.argmax(enough)) + 1 if enough.any() else 40
    return Instance({"differences": runs[:stop]}, judge_majority(0.5))


# The best interval

ELAPSED = np.array([10.0, 30, 100, 300, 1000])
TRIED = np.array([15.0, 30, 60, 120, 240, 480, 960])


def judge_best(best: float | None) -> Callable[[Any], Truths]:
    """Whether the interval that the user is given holds the best one; None is no claim."""

    def truths(curve: Any) -> Truths:
        given = curve.best_interval
        if given is None:
            return {"best-interval": None}
        if best is None:
            return {"best-interval": False}
        factor = max((best + 1) / (given.value + 1), (given.value + 1) / (best + 1))
        certificate = curve.certificates[0]
        covered = certificate.measured is not None or given.low <= best <= given.high
        return {"best-interval": bool(covered and factor <= certificate.bound)}

    return truths


def fitted(
    interval: Array, elapsed: Array, retention: Array, n: Array, within: float | None = None
) -> Any:
    """The fit."""
    from whp.continual import fit_forgetting_curve

    return fit_forgetting_curve(interval, elapsed, retention, n=n, within=within)


def retained(
    rng: Rng,
    best: float,
    c: float,
    rows: int,
    law: Callable[[Array, Array], Array] | None = None,
    known: bool = True,
) -> Instance:
    """Counts of rows that are still right, by interval and steps since."""
    I, elapsed = (a.ravel() for a in np.meshgrid(TRIED, ELAPSED))  # noqa: E741
    S = 1 + c * (np.log1p(I) - np.log1p(best)) ** 2
    R = 0.95 * (0.02 * elapsed + 1) ** -S if law is None else law(I, elapsed)
    seen = rng.binomial(rows, R) / rows
    arguments = {"interval": I, "elapsed": elapsed, "retention": seen, "n": np.full(len(I), rows)}
    return Instance(arguments, judge_best(best if known else None))


@worlds.world(run=fitted, strengths=(400, 5000))
def a_best_interval(rng: Rng, strength: float) -> Instance:
    """Retention lasts longest at 120 steps; so many test rows."""
    return retained(rng, 120, 0.15, int(strength))


@worlds.world(run=fitted)
def a_sharp_best_interval(rng: Rng, strength: float) -> Instance:
    """It falls off twice as fast around 200 steps."""
    return retained(rng, 200, 0.3, 1000)


@worlds.world(run=fitted, strengths=(2, 1.3))
def a_demand(rng: Rng, strength: float) -> Instance:
    """The same from 20,000 test rows, and the best interval is wanted to that factor."""
    made = retained(rng, 200, 0.3, 20_000)
    return Instance({**made.arguments, "within": strength}, made.truths)


@worlds.world(run=fitted, breaks=t.CURVED, strengths=(400, 5000), rising=False)
def a_flat_curve(rng: Rng, strength: float) -> Instance:
    """Retention does not depend on the interval; so many test rows."""
    return retained(rng, 120, 0.0, int(strength), known=False)


@worlds.world(run=fitted, breaks=t.CURVED, strengths=(0.02, 0.005))
def a_worst_interval(rng: Rng, strength: float) -> Instance:
    """Retention lasts longest at the ends: c is negative, by so much."""
    return retained(rng, 120, -strength, 2000, known=False)


def at_pairs(rng: Rng, pairs: list[tuple[float, float]], times: int) -> Instance:
    """Retention at these pairs of interval and steps since, each measured so many times."""
    I, elapsed = np.repeat(np.array(pairs), times, axis=0).T  # noqa: E741
    S = 1 + 0.3 * (np.log1p(I) - np.log1p(120)) ** 2
    seen = rng.binomial(2000, 0.95 * (0.02 * elapsed + 1) ** -S) / 2000
    arguments = {"interval": I, "elapsed": elapsed, "retention": seen, "n": np.full(len(I), 2000)}
    return Instance(arguments, judge_best(120))


@worlds.world(run=fitted, breaks=t.DETERMINED, strengths=(10, 3))
def three_pairs(rng: Rng, strength: float) -> Instance:
    """Three pairs of interval and steps since, each so many times: four parameters fit in many ways."""
    return at_pairs(rng, [(15, 10), (60, 10), (480, 100)], int(strength))


@worlds.world(run=fitted, breaks=t.DETERMINED)
def points_at_once(rng: Rng, strength: float) -> Instance:
    """Four pairs, of which three are of no steps since, at which no interval matters."""
    return at_pairs(rng, [(15, 0), (60, 0), (480, 0), (120, 10)], 10)


@worlds.world(run=fitted, breaks=t.DETERMINED)
def as_many_points_as_parameters(rng: Rng, strength: float) -> Instance:
    """Four points, which the curve goes through, whatever their noise."""
    return at_pairs(rng, [(30, 10), (120, 100), (480, 100), (120, 10)], 1)


@worlds.world(run=fitted, breaks=t.INSIDE, strengths=(3000, 1500), broken_from=1500)
def a_best_beyond_the_longest(rng: Rng, strength: float) -> Instance:
    """It is best at so many steps, and at most 960 were tried."""
    return retained(rng, strength, 0.15, 2000)


@worlds.world(run=fitted, breaks=t.INSIDE, strengths=(3, 7), rising=False)
def a_best_below_the_shortest(rng: Rng, strength: float) -> Instance:
    """It is best at so many steps, and at least 15 were tried."""
    return retained(rng, strength, 0.15, 2000)


@worlds.world(run=fitted, breaks=t.FORM, noticeable=False)
def two_sides_of_different_slope(rng: Rng, strength: float) -> Instance:
    """Retention falls off four times as fast below 120 steps as above."""

    def law(I: Array, elapsed: Array) -> Array:  # noqa: E741
        off = np.log1p(I) - np.log1p(120)
        S = 1 + np.where(off < 0, 0.3, 0.075) * off**2
        return 0.95 * (0.02 * elapsed + 1) ** -S

    return retained(rng, 120, 0.0, 1000, law)


@worlds.world(run=fitted, breaks=t.FORM, noticeable=False)
def exponential_forgetting(rng: Rng, strength: float) -> Instance:
    """What is known falls off exponentially, slowest at 120 steps."""

    def law(I: Array, elapsed: Array) -> Array:  # noqa: E741
        off = np.log1p(I) - np.log1p(120)
        return 0.95 * np.exp(-0.003 * (1 + 0.3 * off**2) * elapsed)

    return retained(rng, 120, 0.0, 1000, law)


@worlds.world(run=fitted, breaks=t.POINTS, strengths=(20, 4), noticeable=False)
def points_that_are_repeated(rng: Rng, strength: float) -> Instance:
    """Each point is given so many times."""
    made = retained(rng, 120, 0.15, 400)
    again = {k: np.tile(v, int(strength)) for k, v in made.arguments.items()}
    return Instance(again, made.truths)


@worlds.world(run=fitted, breaks=t.POINTS, noticeable=False)
def one_training_an_interval(rng: Rng, strength: float) -> Instance:
    """All points of an interval come from one training, which is better or worse than others by a tenth."""
    made = retained(rng, 120, 0.15, 400)
    luck = np.tile(0.1 * rng.normal(size=len(TRIED)), len(ELAPSED))
    share = np.clip(made.arguments["retention"] * np.exp(luck), 0, 1)
    return Instance({**made.arguments, "retention": share}, made.truths)


# Mutants

worlds.mutant(
    "minimum-rest",
    "half of the window",
    target=f"{HERE}.theorems:least_gap",
    change=lambda least: lambda cycle, window: cycle - window / 2,
    world=plans,
    strength=1,
)
worlds.mutant(
    "mean-recall",
    "half of the cycle",
    target=f"{HERE}.schedule:sum_of_gaps",
    change=lambda total: lambda n, cycle: total(n, cycle) / 2,
    world=plans,
    strength=1,
    caught_by="false fails",
)
worlds.mutant(
    "equal-work",
    "a cycle and nine visits counted",
    target=f"{HERE}.schedule:Schedule.counts",
    change=lambda counts: (
        lambda self: counts(replace(self, samples=self.samples[: N + 9], at=self.at[: N + 9]))
    ),
    world=plans,
    strength=1,
    caught_by="false fails",
)
worlds.mutant(
    "effective-batch",
    "half of the bound",
    target=f"{HERE}.theorems:copies_ratio",
    change=lambda ratio: lambda n, batch, views: ratio(n, batch, views) / 2,
    world=views_that_hardly_differ,
)
worlds.mutant(
    "view-consistency",
    "half of the margin",
    target=f"{HERE}.theorems:largest_margin",
    change=lambda margin: lambda divergence: margin(divergence) / 2,
    world=decisions_that_just_change,
    caught_by="false fails",
)
worlds.mutant(
    "forgetting",
    "a quarter of the runs for a half",
    target=f"{HERE}.theorems:majority",
    change=lambda majority: lambda: majority() / 2,
    world=views_that_change_nothing,
    caught_by="false holds",
)
worlds.mutant(
    "best-interval",
    "half of the standard errors",
    target=f"{HERE}.retention:half_widths",
    change=lambda widths: lambda covariance: widths(covariance) / 2,
    world=a_best_interval,
    strength=5000,
)
