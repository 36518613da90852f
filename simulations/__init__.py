"""Monte-Carlo studies, one per file, and the engine that runs any of them; run from a checkout as `python -m simulations`."""
