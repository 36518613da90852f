"""A package of its own, since some libraries install one of this name, which would stand before a folder without this file."""
