"""From vectors and exemplars to groups: who is similar, along which graph, and what that makes of each image."""
