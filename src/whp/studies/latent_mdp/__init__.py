"""Latent MDPs: horizon, variance and history, the lower bound's family, and which test to ask next."""
