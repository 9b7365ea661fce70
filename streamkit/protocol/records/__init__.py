"""Record batches: the unit that producers send, logs store and consumers fetch."""
