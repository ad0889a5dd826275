"""Figures of the mesh, each as a ratio or a difference measured in one run: `make bench`."""
