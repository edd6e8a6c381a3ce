"""Real data that packages carry, and the generative models of the theory."""
