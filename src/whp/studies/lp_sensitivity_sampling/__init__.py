"""ℓp sensitivity sampling: which scores keep all ℓp norms, how many rows, how loose the bounds are.

Woodruff & Yasuda (ICML 2023) have no experiments; their rates and those of the papers around it are
tested here, on tables where uniform sampling fails.
"""
