"""a"""
class CausalMinimaxRegressor: pass
