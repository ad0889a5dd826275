"""The operator's room: the `mesh` command starts, watches and explains a mesh on one machine."""
