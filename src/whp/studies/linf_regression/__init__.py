"""Fast regression with an ℓ∞ guarantee: dense sketches against sparse ones and row sampling.

Song, Ye, Yin & Zhang (ICML 2023) have no experiments; their theorem is tested here, together with
the 2026 correction by two of the authors and with error bars that neither has.
"""
