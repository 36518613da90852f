"""Variational autoencoders and averages of them."""
