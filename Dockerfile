# The image of Outrigger: one static program, and nothing else.
#
#   make image            with podman, buildah or docker, whichever is there
#
# Podman and buildah need --format docker: an OCI image has no HEALTHCHECK.
ARG RUST=1.95

FROM docker.io/library/rust:${RUST}-slim-bookworm AS build
RUN apt-get update \
 && apt-get install -y --no-install-recommends cmake make \
 && rm -rf /var/lib/apt/lists/*
WORKDIR /build
# Static, with the C library. A target must be named, or build scripts and macros would be static as well, which macros
# cannot be; host-tuple is the platform of this stage, so `--platform` decides. Random numbers come from the system call:
# a static program finds the C library's function for it only with a detour by /dev/urandom. The names of functions stay,
# for the backtrace of a crash.
ENV CARGO_BUILD_TARGET=host-tuple \
    CARGO_INCREMENTAL=0 \
    CARGO_PROFILE_RELEASE_DEBUG=none \
    CARGO_PROFILE_RELEASE_STRIP=debuginfo \
    RUSTFLAGS="-C target-feature=+crt-static --cfg getrandom_backend=\"linux_getrandom\""
# The dependencies are a layer of their own, made again only when these two files change. Benches and tests, which are
# not here, are taken out of the manifest.
COPY Cargo.toml Cargo.lock ./
RUN sed -i '/^\[\[/,/^$/d' Cargo.toml \
 && mkdir src && touch src/lib.rs \
 && cargo build --release --locked --lib
COPY config/default.yml config/
COPY src src
# What was made of the empty source is forgotten first: it is newer than the files that were copied, which keep their times.
RUN rm -r target/*/release/.fingerprint/outrigger-* \
 && cargo build --release --locked --bin outrigger \
 && cp target/*/release/outrigger /outrigger \
 && /outrigger --version

FROM scratch
ARG VERSION=unknown
ARG REVISION=unknown
LABEL org.opencontainers.image.title="Outrigger" \
      org.opencontainers.image.description="A sidecar caching proxy in front of Redis and memcached" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
COPY --from=build /outrigger /outrigger
# A number, as there is no /etc/passwd: Kubernetes sees that it is not root.
USER 65532:65532
# One pool, and the admin port; both are what the configuration says.
EXPOSE 22121 22223
# Asks /readyz at OUTRIGGER_ADMIN, by default 127.0.0.1:22223. Kubernetes has probes of its own.
HEALTHCHECK --interval=10s --timeout=3s --start-period=5s --retries=3 CMD ["/outrigger", "healthcheck"]
ENTRYPOINT ["/outrigger"]
# Mount the directory, not the file: a file that is replaced is seen only through its directory.
CMD ["run", "--config", "/etc/outrigger/outrigger.yml"]
