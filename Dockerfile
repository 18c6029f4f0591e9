# The server as an image: binary, ONNX Runtime, licences, a list of parts. No model is in it: mount a
# repository at /mnt/models. docs/operations.md, "Container image", says how it is built and run.
#
#   make image                        # docker, podman or buildah, whichever is there
#   make image ARGS="--target gpu"    # for NVIDIA GPUs; read what stands at that stage
#
# What runs needs no shell, no root and no writable root. The last stages only copy, so their bases may be
# any with glibc 2.36 or newer, libgcc and libstdc++.
ARG BUILD_IMAGE=docker.io/library/rust:1.95.0-slim-bookworm
ARG RUNTIME_IMAGE=docker.io/library/debian:bookworm-slim
ARG GPU_RUNTIME_IMAGE=docker.io/nvidia/cuda:13.0.1-cudnn-runtime-ubuntu24.04

FROM ${BUILD_IMAGE} AS tools
WORKDIR /src
COPY scripts/setup scripts/fetch-onnxruntime scripts/
RUN scripts/setup

FROM tools AS onnxruntime
RUN scripts/fetch-onnxruntime --into /onnxruntime

FROM tools AS onnxruntime-gpu
RUN scripts/fetch-onnxruntime --gpu --into /onnxruntime

FROM tools AS build
# Dependencies in a layer of their own, which a change in src/ leaves alone. Tests and benches are not here,
# so they are taken out of the manifest, too.
COPY Cargo.toml Cargo.lock ./
RUN awk '/^\[/ { skip = /^\[\[/ } !skip' Cargo.toml >Cargo.toml.new && mv Cargo.toml.new Cargo.toml \
    && mkdir src && echo 'fn main() {}' >src/main.rs && touch src/lib.rs \
    && cargo build --profile dist --locked && rm -r src
COPY src src
# The files come with the times they had outside; cargo must not take them for older than what it built.
RUN touch src/main.rs src/lib.rs && cargo build --profile dist --locked

# What the image has beside its base, in the places where it goes.
FROM build AS parts
COPY LICENSE-MIT LICENSE-APACHE /parts/usr/share/doc/linesight/
COPY scripts/sbom scripts/
RUN install -D -t /parts/usr/bin target/dist/linesight \
    && install -D -m 644 -t /parts/usr/share/doc/linesight/libjpeg-turbo \
        "${CARGO_HOME:-$HOME/.cargo}"/registry/src/*/turbojpeg-sys-*/libjpeg-turbo/LICENSE.md \
        "${CARGO_HOME:-$HOME/.cargo}"/registry/src/*/turbojpeg-sys-*/libjpeg-turbo/README.ijg \
    && install -d /parts/mnt/models \
    && install -d -o 65532 -g 65532 /parts/var/cache/linesight

FROM parts AS parts-gpu
COPY --from=onnxruntime-gpu /onnxruntime /onnxruntime
RUN scripts/sbom --onnxruntime /onnxruntime --output /parts/usr/share/linesight/sbom.cdx.json

FROM parts AS parts-cpu
COPY --from=onnxruntime /onnxruntime /onnxruntime
RUN scripts/sbom --onnxruntime /onnxruntime --output /parts/usr/share/linesight/sbom.cdx.json

# For NVIDIA GPUs: the base brings CUDA and cuDNN, the host the driver. It was built on a plain Debian only, where
# it serves from the processor: never on CUDA, and never run beside a GPU.
FROM ${GPU_RUNTIME_IMAGE} AS gpu
COPY --from=onnxruntime-gpu /onnxruntime /usr/lib/linesight
COPY --from=parts-gpu /parts /
ENV LINESIGHT_SERVER__DATA=0.0.0.0:8080 \
    LINESIGHT_SERVER__ADMIN=0.0.0.0:8082 \
    LINESIGHT_MODELS__PATH=/mnt/models \
    LINESIGHT_MODELS__CACHE=/var/cache/linesight \
    LINESIGHT_LOG__FORMAT=json
EXPOSE 8080 8082
USER 65532:65532
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=3s --start-period=60s CMD ["/usr/bin/linesight", "doctor", "--ready"]
ENTRYPOINT ["/usr/bin/linesight"]
CMD ["serve"]
ARG VERSION=unknown
ARG REVISION=unknown
ARG SOURCE=unknown
LABEL org.opencontainers.image.title="Linesight" \
      org.opencontainers.image.description="Serves ONNX vision models over HTTP and answers every item inside a latency budget." \
      org.opencontainers.image.licenses="MIT OR Apache-2.0" \
      org.opencontainers.image.source="${SOURCE}" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"

# The default, being the last.
FROM ${RUNTIME_IMAGE} AS cpu
COPY --from=onnxruntime /onnxruntime /usr/lib/linesight
COPY --from=parts-cpu /parts /
ENV LINESIGHT_SERVER__DATA=0.0.0.0:8080 \
    LINESIGHT_SERVER__ADMIN=0.0.0.0:8082 \
    LINESIGHT_MODELS__PATH=/mnt/models \
    LINESIGHT_MODELS__CACHE=/var/cache/linesight \
    LINESIGHT_LOG__FORMAT=json
EXPOSE 8080 8082
USER 65532:65532
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=3s --start-period=60s CMD ["/usr/bin/linesight", "doctor", "--ready"]
ENTRYPOINT ["/usr/bin/linesight"]
CMD ["serve"]
ARG VERSION=unknown
ARG REVISION=unknown
ARG SOURCE=unknown
LABEL org.opencontainers.image.title="Linesight" \
      org.opencontainers.image.description="Serves ONNX vision models over HTTP and answers every item inside a latency budget." \
      org.opencontainers.image.licenses="MIT OR Apache-2.0" \
      org.opencontainers.image.source="${SOURCE}" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
