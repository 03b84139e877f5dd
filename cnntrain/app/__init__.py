"""The wiring, and the Python API: a function for each thing that a user can ask for."""
