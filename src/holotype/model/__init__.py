"""From groups to a classifier: rows to learn from, head, calibration, predictions."""
