"""Trials, records, findings."""
