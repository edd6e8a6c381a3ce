"""Information censorship: what innocent answers give away together, and what it costs to bound it.

Glukhov et al. (ICLR 2025) attack filters by decomposition and censor at random; leakage is exact here, on networks of patients,
on the elements, and by probability vectors of a fitted model.
"""
