"""One file for each format: what it looks like on disk, its reader and its writer."""
