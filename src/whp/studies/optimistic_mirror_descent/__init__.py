"""Optimistic mirror descent: does predictability pay (Chen, Tu, Zhao & Zhang, ICML 2023)?

The paper has no experiments; its comparisons of bounds are tested here, on hourly bicycle hires,
biopsies and known models.
"""
