"""Keep an erasure-coded copy of the training state in other processes' memory, and restart from it in seconds.

Problem: a crash of one process or machine stops a whole training job, and what was computed since the last checkpoint is lost;
saving to disk is so slow that checkpoints are rare.

Idea: each rank copies its share of the state, while the next forward pass runs, into the memory of a process that does not die
with it. These keepers exchange blocks and hold parity of each other's shares, so that any m of n lost memories are rebuilt bit for
bit. A version counts when all have it encoded; at every moment all hold a common one.

Cost: memory of 2·(B/n)(1 + m/(n − m)) bytes a rank for a state of B bytes, one copy at the speed of memory, and a stall of
milliseconds.

What is proven: recovery is exact for every failure set with at most m lost members and any trainers, at any moment (derived here
from the commit rule and the distance of the code). Survival of independent losses is binomial, S = Σ_(j ≤ m) C(n, j) p^j
(1 − p)^(n−j), and correlation within a group destroys it. The interval between snapshots is Young's, √(2δ/λ).

References
----------
Wang, Shi, He, Tang, Pan, Zheng, Wu, Zhou, He, Chu. Reliable and Efficient In-Memory Fault Tolerance of Large Language Model
Pretraining. 2023. arXiv:2310.12670.
"""
