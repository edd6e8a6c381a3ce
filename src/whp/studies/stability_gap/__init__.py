"""The stability gap on real digits: what evaluating at the ends of tasks hides.

De Lange, van de Ven, Tuytelaars, ICLR 2023. The paper's streams (CIFAR-10, Mini-ImageNet,
Mini-DomainNet) are in no package; 5,000 digits of MNIST stand in, on which gaps are milder. An
interval over seeds speaks of training and split together, since splits share rows.
"""
