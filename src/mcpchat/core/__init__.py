"""Values and decisions: no input or output, standard library and msgspec only."""
