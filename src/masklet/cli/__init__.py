"""The shell: `masklet COMMAND`. One file a command; `main` puts them together."""
