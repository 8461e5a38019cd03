"""Vectors by image: computed here, or supplied."""
