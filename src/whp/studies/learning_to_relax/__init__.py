"""Learning to relax: does a bandit find ω, and a contextual one each system's own?

Khodak, Chow, Balcan & Talwalkar (ICLR 2024): the paper's two simulations, and the Laplacian of a real graph.
"""
