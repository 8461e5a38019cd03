"""What people say about images: kept, and followed."""
