"""Let samples rest: several views of few samples in a batch, so that each comes back later and is kept longer.

Problem: a continual learner that sees a sample again and again at short intervals learns it quickly and forgets it quickly, as
people do.

Idea: fill each batch of B images with V random views of B/V samples. Images and updates stay the same, and the interval until a
sample comes back is V times longer. An optional loss ties the views of a sample to its first, weak one.

Cost: one permutation a cycle for the schedule; all views of a batch are made in one resampling. The gradient is noisier: of a
sample's V views only what differs counts as new.

What is proven: the paper has no theorem. Derived here: the mean interval is exactly C = ⌈nV/B⌉ steps, but a full shuffle promises
no least interval; shuffling inside a window does. Gradient noise grows by the design effect of cluster samples, 1 + (V − 1)ρ. By
Pinsker's inequality the tie bounds how often views disagree.

References
----------
H. Kang, G. Seifer, D. Lee, J. Ryu. Do Your Best and Get Enough Rest for Continual Learning. CVPR 2025. arXiv:2503.18371.
"""

from whp.continual._view_batch.front_door import ViewBatchResult, view_batch

__all__ = ["ViewBatchResult", "view_batch"]
