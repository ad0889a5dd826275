"""The built-in engine: llama.cpp in a child process, reached through a private unix socket."""
