"""Recovering rewards: how close a timetable comes to what any policy could earn, and what learning costs.

Simchi-Levi, Zheng & Zhu (ICML 2021) prove bounds; their constants are measured here, on known curves
and on a year of promotions.
"""
