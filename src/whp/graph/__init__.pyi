from ._hierarchical_communities import HierarchicalCommunities as HierarchicalCommunities
from ._hierarchical_communities import (
    HierarchicalCommunitiesResult as HierarchicalCommunitiesResult,
)
from ._hierarchical_communities import (
    HierarchicalCommunityClustering as HierarchicalCommunityClustering,
)
from ._hierarchical_communities import Tree as Tree
from ._hierarchical_communities import average_linkage as average_linkage
from ._hierarchical_communities import btsbm_threshold as btsbm_threshold
from ._hierarchical_communities import btsbm_top_down_threshold as btsbm_top_down_threshold
from ._hierarchical_communities import chernoff_hellinger as chernoff_hellinger
from ._hierarchical_communities import density_from_rate as density_from_rate
from ._hierarchical_communities import held_out_rate as held_out_rate
from ._hierarchical_communities import hierarchical_communities as hierarchical_communities
from ._hierarchical_communities import linkage_lemma as linkage_lemma
