from confluent_kafka import Producer
import json

config = {'bootstrap.servers': 'localhost:9092'}
producer = Producer(config)

message = {"order_id": 101, "product": "Laptop"}
producer.produce("orders", key="101", value=json.dumps(message))
producer.flush()
