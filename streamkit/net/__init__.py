"""Listening, framing and the bounds of a connection; what a frame means is decided elsewhere."""
