"""How bad a model becomes while it learns, not only how good it is when a task has ended.

Problem: continual learners are judged at the boundaries of tasks. Between them, accuracy on what
was learnt before can fall almost to chance and come back before anybody looks; a model that serves
while it learns is then wrong without notice.

Idea: evaluate after every update, on a subset of each old task that is drawn once; keep the minimum
(min-ACC), combine it with the current task's accuracy (WC-ACC), and take the largest fall and rise
within windows of updates. A subset's noise, over thousands of moments, makes minima too low: an
interval for all moments at once says what of a fall is real.

Cost: one forward pass over the subsets after each update; metrics in O(KT) time for K tasks and T
evaluations.

What is proven: the paper defines metrics and proves nothing. The simultaneous band, the paired
intervals of falls, the envelope and the statement on the first step of a new task (regularisers
that are centred on the old model exert no force there, so that step is plain fine-tuning) are
derived here.

References
----------
M. De Lange, G. M. van de Ven, T. Tuytelaars. Continual evaluation for lifelong learning:
Identifying the stability gap. ICLR 2023. arXiv:2205.13452.
"""

from whp.continual._stability_gap.front_door import StabilityGapResult, stability_gap

__all__ = ["StabilityGapResult", "stability_gap"]
