"""Saved models at an address: what several kinds of clients speak, and one queue behind it."""
