"""pac-invariance: heads that serve all environments, what new ones lose, and what others find there."""
