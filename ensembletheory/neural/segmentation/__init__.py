"""Networks that give the law of masks of an image."""
