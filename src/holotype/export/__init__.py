"""What a run leaves for other programs: its model in one file, its labels in their formats."""
