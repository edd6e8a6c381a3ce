"""Losing stages of a character model on the King James Bible (Blagoev, Ersoy, Chen 2025).

The paper trains LLaMA models of 124M to 1.5B parameters on GPUs; here six small blocks learn
characters. Convergence is measured with the simulator, which gives the same numbers as the processes
to the last bit; times with processes that are really killed.
"""
