"""Learners against costs that change: rates of regret, many actions, real delays."""
