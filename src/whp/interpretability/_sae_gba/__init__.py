"""Sparse autoencoders whose neurons fire at prescribed frequencies: no sparsity penalty, and no number of features to guess.

Problem: activations of a network are mixtures of more features than they have dimensions. Sparse
autoencoders find them, but a penalty shrinks what it finds, and a fixed number K of active neurons is
wrong wherever inputs differ in how many features they hold.

Idea: give groups of neurons target frequencies, spread evenly on a logarithmic scale, and move each
neuron's bias until it fires as often as its group should. A neuron is drawn to features that occur
about as often as it is allowed to fire.

Cost: three matrix products of batch × d × M a step, as any sparse autoencoder; the adaptation adds
counts and maxima. Memory O(batch × M) beside the weights: activations may be a file larger than memory.

What is proven: Theorem 6.1 of the paper recovers all features of a statistical model with one target
frequency, at a width far beyond practice and with constants that are not published; a certificate
checks its conditions on simulated activations and measures the share found. That targets are kept on
new rows, that features come back under another seed, and that codes are the only ones as sparse, are
certified by statements derived here.

References
----------
S. Chen, H. Sheen, X. Xiong, T. Wang, Z. Yang. Taming Polysemanticity in LLMs: Provable Feature
Recovery via Sparse Autoencoders. ICLR 2026. arXiv:2506.14002.
"""

import lazy_loader as _lazy

__getattr__, __dir__, __all__ = _lazy.attach_stub(__name__, __file__)
