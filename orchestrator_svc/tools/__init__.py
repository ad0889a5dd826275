"""Actions that ship with the mesh, one a file."""
