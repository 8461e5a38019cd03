"""What clients already speak, each to the same questions."""
