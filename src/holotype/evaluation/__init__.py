"""A labelled test set, and what predictions are worth on it."""
