"""Comp-sum losses under label noise and attack, and their bounds where the truth is known.

The claims of Mao, Mohri and Zhong (ICML 2023). The paper's networks and data (CIFAR, SVHN) are in no
package: small networks on real digits and MNIST are what is run. An interval over seeds speaks of
training and split together, since splits share rows.
"""
