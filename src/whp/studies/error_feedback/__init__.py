"""Error feedback on real data and a slow link (Richtárik, Gasanov, Burlachenko, ICLR 2024).

The paper's LIBSVM files are in no package; 560 rows of breast cancer among 20 clients, sorted so
that clients differ, and verses of the King James Bible by book stand in.
"""
