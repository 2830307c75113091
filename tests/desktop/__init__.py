"""Real compositors and an X server without hardware, in trees of Debian: see `programs`."""
