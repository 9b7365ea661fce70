# `make demo` and `make test` are all the set-up there is; both go through the target .venv.
PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.installed
PYTEST := $(BIN)/python -m pytest
PIP := $(BIN)/python -m pip --disable-pip-version-check

.PHONY: .venv demo test slices lint compat compat-all compat-java compat-engines differential differential-three test-on-kafka chaos-on-kafka chaos sim sim-proof bench bench-nexmark clean

$(STAMP): pyproject.toml requirements.lock
	rm -rf .venv
	$(PYTHON) -m venv .venv
	$(PIP) install --quiet --require-hashes --only-binary :all: -r requirements.lock
	$(PIP) install --quiet --no-deps --no-build-isolation --no-index -e .
	touch $@

.venv: $(STAMP)

demo: .venv
	$(BIN)/streamkit demo

# What runs on clusters, under kills, or for long; `make slices` plays the short forms of these.
SLICES := tests/chaos tests/broker/cluster tests/processing/cluster tests/cli/test_cluster.py \
    tests/simulation/test_mutations.py tests/compatibility tests/demo tests/grafana
# AGAIN=--last-failed plays only what failed the last time.
AGAIN :=
EVERYDAY := $(AGAIN) -n 2 --dist loadgroup \
    -m "not (slow or compat or compat_java or compat_all or compat_engines or connectors or differential or differential_three)"

# Everything but the slices, the client matrix and the full counts; at most five minutes on two cores.
test: .venv
	$(PYTEST) $(EVERYDAY) $(SLICES:%=--ignore=%) tests

# Kills, stops, growth, damage and rebalances in their short forms, on real processes.
slices: .venv
	$(PYTEST) $(EVERYDAY) $(SLICES)

lint: .venv
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# The scenario book with the clients of every day, and what one writes read by every other. Needs kcat.
compat: .venv
	$(PYTEST) $(AGAIN) -n 2 --dist loadgroup -m compat tests/compatibility

# The book with the clients of other languages, and what claims safety with every client on three brokers of
# which one is killed. Each foreign client needs its language's tools, and is built once.
# CLIENTS="java or sarama" plays some of them.
CLIENTS :=
compat-all: .venv
	$(PYTEST) $(AGAIN) -n 2 --dist loadgroup -m "compat_all or three_brokers" $(if $(CLIENTS),-k "$(CLIENTS)") tests/compatibility

# Apache Kafka's own tools on our cluster and our files, and Apicurio's schema registry. Needs a JDK and Maven.
compat-java: .venv
	$(PYTEST) $(AGAIN) -m compat_java tests/compatibility/java tests/compatibility/registry

# Stream engines that others wrote, over our broker and under kills: Kafka Streams, Flink, and Spark with HDFS. Needs a
# JDK and Maven; the first run fetches about 750 MB.
compat-engines: .venv
	$(PYTEST) -m compat_engines tests/compatibility/engines

# PostgreSQL and an object store as judges of sinks. Needs PostgreSQL; installs what else it takes.
.PHONY: connectors
connectors: .venv
	$(PIP) install --quiet --require-hashes --only-binary :all: -r requirements.connectors.lock
	$(PYTEST) $(AGAIN) -m connectors tests/processing/connectors/judged

# The same requests to Apache Kafka and to our broker, the answers compared. Needs a JDK and Maven.
differential: .venv
	$(PYTEST) -m differential tests/differential

# The same with three nodes of each, in the newest version of every API; the leader is killed half-way.
differential-three: .venv
	$(PYTEST) -m differential_three tests/differential

# What runs the engine, on Apache Kafka in place of our broker. Needs a JDK and Maven.
ON_KAFKA := tests/apps tests/processing tests/demo tests/cli/test_dlq.py tests/cli/test_worker.py \
    tests/chaos/test_async_agents.py tests/chaos/test_exactly_once.py tests/chaos/test_worker_kills.py
test-on-kafka: .venv
	$(PYTEST) $(AGAIN) -n 2 --dist loadgroup --on-kafka --timeout 600 -m "not slow" $(ON_KAFKA)

# Exactly-once on three brokers of Apache Kafka: a million events, 24 kills of a worker and 12 of a broker.
chaos-on-kafka: .venv
	$(PYTEST) -s --on-kafka -m slow -k full-three tests/chaos/test_exactly_once.py

# The full counts: 20 kills of the broker, 20 of a worker.
chaos: .venv
	$(PYTEST) -s -m slow tests/chaos

# 200 clusters for a virtual minute each, under everything that may go wrong; the tapes of failures are kept.
sim: .venv
	$(BIN)/streamkit sim run --seeds 0:200 --until 60s --keep build/tapes

# The tester is tested: each known defect is patched in and must be caught.
sim-proof: .venv
	$(BIN)/python -m tests.simulation.mutations

bench: .venv
	$(BIN)/python -m tests.benchmarks

# Nexmark's queries on a million events: how fast, and whether each answer is the one that DuckDB gives; it fails where
# one is not. About eight minutes and 5 GB. NEXMARK="q5 q7 --events 100000 --json" plays some, on fewer, for a program.
NEXMARK :=
bench-nexmark: .venv
	$(BIN)/python -m tests.benchmarks.nexmark $(NEXMARK)

clean:
	rm -rf .venv .mypy_cache .pytest_cache .ruff_cache
