"""Studies: the claims of papers, run again."""
