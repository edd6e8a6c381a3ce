"""What the theorems rest on."""

from __future__ import annotations

from whp.theorem import Condition

__all__ = [
    "CLIENTS",
    "CONTRACTS",
    "DISTINCT",
    "GRADIENTS",
    "LOWER",
    "POLYAK",
    "SMOOTH",
    "STEP",
    "SUPPORTS",
    "UNBIASED",
    "VARIANCE",
]

SMOOTH = Condition(
    "f-smooth",
    "f is L-smooth",
    remedy="hand in a larger L, or leave it out: the mean of the L_i always serves; for gradients that are "
    "partly of float32, rounding=1.2e-7.",
)
CLIENTS = Condition(
    "clients-smooth",
    "each f_i is L_i-smooth",
    remedy="hand in larger constants, or smoothness='estimate'; for gradients that are partly of float32, "
    "rounding=1.2e-7.",
)
GRADIENTS = Condition(
    "gradients-of-f",
    "grads are the gradients of f, and the same whenever they are asked for",
    remedy="both must be means (or both sums) over the same rows, without hooks that change gradients; "
    "minibatches are method='EF21-SGD'; for parts in float32, rounding=1.2e-7.",
)
CONTRACTS = Condition(
    "contracts",
    "the compressor contracts: ‖C(v) − v‖² ≤ (1 − α)‖v‖², in expectation where it draws",
    remedy="take TopK, BlockTopK, RandK, NaturalDeterministic or Identity, or state a smaller alpha.",
)
LOWER = Condition("lower-bound", "f ≥ f_inf", remedy="hand in a true lower bound.")
STEP = Condition(
    "step",
    "the step is at most what the theorem allows, or kept the proof's inequality on this run",
    remedy="step='auto', or step='guarded', which checks every step.",
)
SUPPORTS = Condition(
    "supports",
    "the gradient of each client is 0 outside of its support",
    remedy="put all coordinates that a client uses, by a penalty too, into its row of supports.",
)
POLYAK = Condition(
    "polyak-lojasiewicz",
    "f(x) − f* ≤ ‖∇f(x)‖²/(2μ), with f* = f_inf",
    remedy="hand in a smaller mu, and the least value of f as f_inf.",
)
UNBIASED = Condition(
    "unbiased",
    "noisy gradients have the gradients as their mean",
    remedy="draw rows uniformly, and divide by the size of the batch.",
)
VARIANCE = Condition(
    "variance",
    "noisy gradients have variance at most σ_i²",
    remedy="hand in a larger variance, or take larger batches.",
)
DISTINCT = Condition(
    "independent-runs",
    "the runs drew independently of each other",
    remedy="give each run a seed of its own: numpy.random.default_rng(seed).spawn(20).",
)
