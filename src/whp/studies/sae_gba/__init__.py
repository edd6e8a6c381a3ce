"""Sparse autoencoders with prescribed frequencies, on the statistical model and on real activations (Chen et al., ICLR 2026).

The paper's models (Qwen2.5-1.5B, Gemma2-2B) are in no package: a transformer of 22 million parameters
on the King James Bible stands in, at a laptop's budget of steps. Our runs are far shorter than the
paper's.
"""
