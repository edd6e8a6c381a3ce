from .sae_gba import SparseFeatures as SparseFeatures
from .sae_gba import bias_adaptation as bias_adaptation
from .sae_gba import sae_gba as sae_gba
from .sae_gba.coder import SparseFeatureCoder as SparseFeatureCoder
from .sae_gba.network import BiasAdapter as BiasAdapter
from .sae_gba.network import GBASparseAutoencoder as GBASparseAutoencoder
