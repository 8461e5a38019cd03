"""The demo's data: emoji drawn by eight artists, in the shape of the reference job."""
