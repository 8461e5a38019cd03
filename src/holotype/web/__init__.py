"""What every server of ours has: connections that cannot keep it waiting, whole requests, safe answers."""
