"""Continual release: what answering after every record costs, and whether an audit finds what is broken.

Jain, Raskhodnikova, Sivakumar & Smith (ICML 2023) prove bounds and have no experiments; they are evaluated with constants and
measured on baskets and flights.
"""
