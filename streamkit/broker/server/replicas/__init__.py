"""The partitions on this broker: who leads them, who follows, how they are read and written."""
