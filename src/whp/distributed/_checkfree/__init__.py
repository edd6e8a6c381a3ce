"""Lose a stage of a training pipeline and go on: rebuild it from its two neighbours, without any checkpoint.

Problem: a model trained in a pipeline over cheap machines loses a stage whenever one of them is taken away. Checkpoints roll every
stage back, redundant copies compute every stage twice.

Idea: stages of a residual network are alike, so a lost one starts again from the average of its neighbours' weights, the one with
the larger gradient weighing more, with fresh optimizer state and a slightly larger learning rate. CheckFree+ lets every second
microbatch run through the first two and the last two stages in swapped order, so that twins can stand in for each other, and keeps
copies of embedding and head.

Cost: nothing as long as nobody dies (CheckFree+: a copy of embedding and head). A recovery moves two stages' weights.

What is proven: the paper's convergence statement averages functions where the method averages weights, and assumes its rate; its
error term is kept as a diagnostic. Derived here: a failure costs exactly the jump of the loss it causes, added to the initial
gap in the bound of gradient descent; and the number of iterations a checkpointed run executes at a given rate of failures.

References
----------
N. Blagoev, O. Ersoy, L. Y. Chen. All is Not Lost: LLM Recovery without Checkpoints. 2025. arXiv:2506.15461.
"""

from whp.distributed._checkfree.front_door import CheckFreeResult, checkfree

__all__ = ["CheckFreeResult", "checkfree"]
