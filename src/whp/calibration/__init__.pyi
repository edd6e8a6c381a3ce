from .h_calibration import HCalibration as HCalibration
from .h_calibration import HCalibrationMap as HCalibrationMap
from .h_calibration import HCalibrator as HCalibrator
from .h_calibration import Objective as Objective
from .h_calibration import error_band as error_band
from .h_calibration import h_calibration as h_calibration
from .h_calibration import windowed_calibration_error as windowed_calibration_error
