"""What the head of an image file says, format by format, and the file without its metadata."""
