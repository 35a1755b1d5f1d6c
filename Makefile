# Two commands do everything on a fresh machine: `make run` and `make test`.
# What a command needs and does not find it installs (Debian packages, with apt); cargo fetches the crates.

CARGO ?= cargo
RELEASE := target/release/outrigger

.PHONY: run build image test test-clients chaos fuzz bench build-tools test-tools docs

## Builds the proxy and starts it; ARGS are its arguments: make run ARGS="-c config/redis.yml"
run: build
	$(RELEASE) $(ARGS)

build: build-tools
	$(CARGO) build --release --locked

## The container image, with podman, buildah or docker. IMAGE names it, ARGS go to the builder.
VERSION := $(shell sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml)
IMAGE ?= outrigger:$(VERSION)
BUILDER ?= $(firstword $(foreach name,podman buildah docker,$(shell command -v $(name))))
image:
	@[ -n "$(BUILDER)" ] || { echo "podman, buildah or docker is needed" >&2; exit 1; }
	$(BUILDER) build $(if $(findstring docker,$(notdir $(BUILDER))),,--format docker) --tag $(IMAGE) \
	    --build-arg VERSION=$(VERSION) --build-arg REVISION=$$(git rev-parse HEAD 2>/dev/null || echo unknown) $(ARGS) .

## Everything that CI runs.
test: build-tools test-tools
	$(CARGO) fmt --check
	$(CARGO) clippy --all-targets --locked -- -D warnings
	.ci/clients short
	OUTRIGGER_TEST_PYTHON="$$(.ci/python-clients)" $(CARGO) test --locked
	$(CARGO) build --release --locked

## Client libraries in their own languages against Redis itself and through the proxy, with a table; CLIENTS names some of them,
## CLIENTS_MAY_SKIP=1 lets those be missing that cannot be had. See tests/clients/README.md.
CLIENTS ?= all
test-clients: build-tools test-tools
	.ci/clients
	OUTRIGGER_TEST_PYTHON="$$(.ci/python-clients all)" OUTRIGGER_CLIENTS="$(CLIENTS)" \
	    $(CARGO) test --locked --test clients suites -- --nocapture

## Faults, reloads and upgrades in their long forms, with tables of errors and times; as root, to have a network of their own.
chaos: build-tools test-tools
	OUTRIGGER_CHAOS=long $(CARGO) test --locked --test chaos -- --include-ignored --nocapture --test-threads 1
	$(CARGO) test --locked --test overload -- --ignored --test-threads 1
	$(CARGO) test --locked --test upgrade -- --ignored --nocapture --test-threads 1
	# Optimised, as they judge times.
	OUTRIGGER_CHAOS=long $(CARGO) test --locked --release --test reload -- --include-ignored --nocapture --test-threads 1

## Every fuzz target for a minute; needs a nightly toolchain and cargo-fuzz. See fuzz/README.md.
FUZZ_TARGETS = redis_request redis_response memcached_request memcached_response config session
FUZZ_SECONDS ?= 60
fuzz: build-tools
	$(CARGO) test --locked --test fuzz seeds -- --ignored
	for target in $(FUZZ_TARGETS); do \
	    $(CARGO) +nightly fuzz run $$target -- -max_len=1024 -max_total_time=$(FUZZ_SECONDS) || exit 1; \
	done

## Outrigger against twemproxy against no proxy; takes about half an hour. See benches/README.md.
bench: build-tools test-tools build
	$(CARGO) bench --locked --bench proxies -- $(ARGS)

build-tools:
	@.ci/install cmake cc:gcc

test-tools:
	@.ci/install redis-server redis-cli:redis-tools memcached nutcracker nft:nftables ss:iproute2 ip:iproute2 unshare:util-linux \
	    promtool:prometheus chromium chromedriver:chromium-driver python3

## docs/metrics.md, from the program's table of metrics.
docs: build-tools
	OUTRIGGER_WRITE_DOCS=1 $(CARGO) test --locked --test metrics reference
