"""A run: its inputs, its folder, its stages, its results."""
