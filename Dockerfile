# The image: one static binary and nothing else.
#
#   docker build -t httpserver .
#   docker build -t httpserver --build-arg REVISION="$(git rev-parse HEAD)" \
#     --build-arg SOURCE_DATE_EPOCH="$(git log -1 --format=%ct)" \
#     --build-arg CREATED="$(TZ=UTC git log -1 --date=format-local:%FT%TZ --format=%cd)" .
#
# The build stage runs on the machine's own architecture and compiles for TARGETARCH: both targets are linked by
# the compiler's own linker, so an arm64 image costs no emulation. How std and the binary are built, and why so,
# is written in .cargo/static.toml. Nothing that differs between two builds of one commit gets into the image.

# The compiler's version goes with .cargo/static.toml: change both together, and the digest with the tag.
FROM --platform=$BUILDPLATFORM docker.io/library/rust:1.96.1-alpine3.24@sha256:a41f7740f8b45d45795624eec13a8b42263cc700f19f7e4e86e04d3dda08a479 AS build
WORKDIR /build
ARG TARGETARCH
RUN case "$TARGETARCH" in \
      amd64) target=x86_64-unknown-linux-musl ;; \
      arm64) target=aarch64-unknown-linux-musl ;; \
      *) echo "TARGETARCH is \"$TARGETARCH\", expected amd64 or arm64" >&2; exit 1 ;; \
    esac \
    && echo "$target" >/target \
    && rustup target add "$target" \
    && rustup component add rust-src

# The dependencies and std in a layer of their own: it is built anew only when one of these files changes.
ENV RUSTC_BOOTSTRAP=1
COPY Cargo.toml Cargo.lock ./
COPY .cargo/static.toml .cargo/
COPY src/build.rs src/
RUN echo 'fn main() {}' >src/main.rs \
    && touch src/lib.rs \
    && cargo --config .cargo/static.toml build --release --locked --target "$(cat /target)" --bin httpserver

# The touch, because cargo goes by file times, and those of a checkout may be older than the layer before.
COPY src src
ARG REVISION=unknown
ARG SOURCE_DATE_EPOCH=0
RUN touch src/main.rs src/lib.rs \
    && HTTPSERVER_REVISION="$REVISION" \
       cargo --config .cargo/static.toml build --release --locked --target "$(cat /target)" --bin httpserver \
    && cp "target/$(cat /target)/release/httpserver" /httpserver \
    && touch -d "@$SOURCE_DATE_EPOCH" /httpserver

FROM scratch
COPY --from=build /httpserver /httpserver
USER 65532:65532
EXPOSE 8080
HEALTHCHECK --interval=10s --timeout=5s --start-period=5s --retries=3 CMD ["/httpserver", "healthcheck"]
ENTRYPOINT ["/httpserver"]
# After the binary, which holds the revision too: podman 4 compares cached layers without the arguments' values.
ARG REVISION=unknown
ARG CREATED=1970-01-01T00:00:00Z
LABEL org.opencontainers.image.title="httpserver" \
      org.opencontainers.image.description="A tiny HTTP/1.1 echo server for Kubernetes: see what really arrives" \
      org.opencontainers.image.licenses="MIT" \
      org.opencontainers.image.version="1.0.0" \
      org.opencontainers.image.revision="$REVISION" \
      org.opencontainers.image.created="$CREATED"
