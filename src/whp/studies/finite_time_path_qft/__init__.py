"""Causality and renormalisation at finite time: what is repaired by multiplying first, and what young plasmas do.

Dadić & Klabučar (Particles 2019) argue by analyticity; the exponents, and the sizes, are measured here.
"""
