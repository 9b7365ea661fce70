"""Streams groups of the new protocol (KIP-1071)."""
