"""Tools of other people's servers, by the Model Context Protocol: this room is their client."""
