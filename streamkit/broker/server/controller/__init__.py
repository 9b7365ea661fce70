"""The controller's shell: the metadata quorum on disk and wire, and what its leader does."""
