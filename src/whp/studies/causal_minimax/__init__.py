"""Causal minimax: which stable variables to use where some mechanisms may become anything.

Liu et al. (ICML 2023) choose by the worst case; it is exact here on tables, and bounded for environments that nobody saw.
"""
