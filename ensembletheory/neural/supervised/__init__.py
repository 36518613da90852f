"""Regressors, classifiers and networks of several inputs."""
