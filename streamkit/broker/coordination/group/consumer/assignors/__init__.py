"""Ways to divide partitions among the members of a group."""
