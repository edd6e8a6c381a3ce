"""Groupwise regret: does every group fare nearly as well as under its own best model?

The experiments of Acharya et al. (ICLR 2024), on the census and on medical costs that pip packages
carry, and on the paper's synthetic streams.
"""
