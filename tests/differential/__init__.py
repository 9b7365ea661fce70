"""Apache Kafka and our broker side by side: the same requests, and the answers compared field by field."""
