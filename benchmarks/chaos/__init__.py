"""What accidents leave behind: kills, full disks, two writers, and pools that change under a run."""
