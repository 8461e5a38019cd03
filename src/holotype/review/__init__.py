"""Review: which image to ask about next, what the answers change, and the page where they are given."""
