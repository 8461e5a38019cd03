"""The images: unlabelled, in a fixed order, read by their place; and the exemplars that define the classes."""
