"""Search learning rates and learning-rate schedules of image classifiers."""

__version__ = "0.1.0"
