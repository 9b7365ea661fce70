"""What `make connectors` installs is not there in the everyday run, which leaves these files alone."""

from importlib.util import find_spec

collect_ignore = [] if find_spec("psycopg") else ["test_postgres_sink.py"]
collect_ignore += [] if find_spec("pyarrow") and find_spec("moto") else ["test_object_store.py"]
