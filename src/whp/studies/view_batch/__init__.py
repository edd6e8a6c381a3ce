"""View batches on real images: rest, forgetting and its price.

The claims of Kang, Seifer, Lee and Ryu (CVPR 2025). The paper's images (CIFAR, TinyImageNet,
DomainNet) are in no package; 5,000 digits of MNIST and 9,716 silhouettes of animals stand in, with a
small convolutional network. An interval over seeds speaks of training and split together, since
splits share rows.
"""
