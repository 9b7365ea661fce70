"""The controller: what the cluster knows of itself, and who may change it how. Pure: decide, then replay."""
