"""Score networks, learned by denoising, and what is done to them."""
