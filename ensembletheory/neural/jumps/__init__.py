"""Ratios of jump processes and velocities of telegraph flows."""
