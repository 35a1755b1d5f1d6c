# Two commands do everything on a fresh machine: `make run` and `make test`.
# What a command needs and does not find it installs (Debian packages, with apt); cargo fetches the crates.

CARGO ?= cargo
RELEASE := target/release/outrigger

.PHONY: run build test bench build-tools test-tools

## Builds the proxy and starts it; ARGS are its arguments: make run ARGS="-c config/redis.yml"
run: build
	$(RELEASE) $(ARGS)

build: build-tools
	$(CARGO) build --release --locked

## Everything that CI runs.
test: build-tools test-tools
	$(CARGO) fmt --check
	$(CARGO) clippy --all-targets --locked -- -D warnings
	OUTRIGGER_TEST_PYTHON="$$(.ci/python-clients)" $(CARGO) test --locked
	$(CARGO) build --release --locked

## Outrigger against twemproxy against no proxy; takes about half an hour. See benches/README.md.
bench: build-tools test-tools build
	$(CARGO) bench --locked --bench proxies -- $(ARGS)

build-tools:
	@.ci/install cmake cc:gcc

test-tools:
	@.ci/install redis-server redis-cli:redis-tools memcached nutcracker
