"""h-calibration: windowed calibration error against log-loss and other recalibrators."""
