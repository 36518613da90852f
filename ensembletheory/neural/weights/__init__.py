"""Weight space: symmetries of perceptrons, matching, barriers, and distances of functions."""
