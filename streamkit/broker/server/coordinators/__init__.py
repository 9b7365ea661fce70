"""The coordinators of groups and transactions over their partitions: loaded, hosted, moved."""
