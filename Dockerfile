# docker build -t milena .
# docker run --rm -v "$PWD/milena.yaml:/etc/milena/milena.yaml:ro" -p 9644:9644 milena
#
# In a container, set http: {listen: ":9644", open: [metrics, probes]}: the default listens on loopback only.
# deploy/image makes the same image without Docker.
FROM golang:1.26 AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY . .
RUN CGO_ENABLED=0 go build -trimpath -o /out/milena ./cmd/milena
# The image has nothing but the binary. A tls section without ca_file trusts these certificate authorities.
RUN mkdir -p /out/root/etc/ssl/certs /out/root/etc/milena \
    && cp /etc/ssl/certs/ca-certificates.crt /out/root/etc/ssl/certs/ \
    && mv /out/milena /out/root/milena \
    && env -i /out/root/milena version

FROM scratch
# docker build --build-arg VERSION=v1.0.0 --build-arg REVISION="$(git rev-parse HEAD)" names them in the labels. milena version says both in any case.
ARG VERSION=(devel)
ARG REVISION=
LABEL org.opencontainers.image.title="milena" \
    org.opencontainers.image.description="Replicates Apache Kafka clusters" \
    org.opencontainers.image.licenses="Apache-2.0" \
    org.opencontainers.image.source="https://github.com/milena-kafka/milena" \
    org.opencontainers.image.documentation="https://github.com/milena-kafka/milena/blob/main/docs/operations.md#containers" \
    org.opencontainers.image.version="${VERSION}" \
    org.opencontainers.image.revision="${REVISION}"
COPY --from=build /out/root/ /
# A numeric id, so that Kubernetes can verify runAsNonRoot.
USER 65532:65532
WORKDIR /
EXPOSE 9644/tcp
# Whether the process lives; a cluster that does not answer makes no container unhealthy. Kubernetes has probes of its own.
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s --retries=3 CMD ["/milena", "health", "-c", "/etc/milena/milena.yaml"]
# SIGTERM stops cleanly. Allow longer than shutdown_timeout before SIGKILL: docker stop -t 45.
STOPSIGNAL SIGTERM
ENTRYPOINT ["/milena"]
CMD ["run", "-c", "/etc/milena/milena.yaml"]
