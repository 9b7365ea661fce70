"""Whole clusters in one process: the real nodes on virtual time, a simulated network and simulated disks."""
