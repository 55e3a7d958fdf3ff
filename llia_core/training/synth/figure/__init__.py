"""The parts of a procedural portrait: identity, geometry, and one file a layer of paint."""
