# docker build -t milena .
# docker run --rm -v "$PWD/milena.yaml:/etc/milena/milena.yaml:ro" -p 9644:9644 milena
#
# In a container, set http: {listen: ":9644", open: [metrics, probes]}: the default listens on loopback only.
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
COPY --from=build /out/root/ /
# A numeric id, so that Kubernetes can verify runAsNonRoot.
USER 65532:65532
EXPOSE 9644
# SIGTERM stops cleanly. Allow longer than shutdown_timeout before SIGKILL: docker stop -t 45.
STOPSIGNAL SIGTERM
ENTRYPOINT ["/milena"]
CMD ["run", "-c", "/etc/milena/milena.yaml"]
