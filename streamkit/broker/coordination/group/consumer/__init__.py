"""Consumer groups of KIP-848: the coordinator divides the work."""
