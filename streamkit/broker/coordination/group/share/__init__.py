"""Share groups: members that take records one by one from the same partitions (KIP-932)."""
