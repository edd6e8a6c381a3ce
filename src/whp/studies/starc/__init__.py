"""Distances of rewards: what they say of regret, and where others are fooled."""
