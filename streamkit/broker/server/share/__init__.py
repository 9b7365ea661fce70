"""Share groups: records handed out one by one, and the states of their partitions."""
