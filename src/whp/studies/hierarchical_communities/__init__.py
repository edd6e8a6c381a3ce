"""Bottom-up against top-down hierarchical communities (Dreveton, Kuroda, Grossglauser & Thiran, JASA 2026).

Tree models where the truth is known, contacts in two schools whose classes are known, and power grids
where only inversions can be counted. The paper's high-school contacts of 2013, alliances and European
grid are in no package.
"""
