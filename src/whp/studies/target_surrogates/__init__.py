"""Target-based surrogates: oracle calls against progress, convex, a network and imitation (Lavington et al., ICML 2023).

The paper's rcv1, mushrooms and ijcnn1 are in no package, nor are MuJoCo experts: breast cancer,
diabetes, digits of MNIST and the pendulum of gymnasium stand in.
"""
