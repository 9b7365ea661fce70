"""What every group has whose work is divided by the coordinator: consumer, share and streams groups."""
