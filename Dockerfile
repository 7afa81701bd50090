# docker build -t milena .
# docker run --rm -v "$PWD/milena.yaml:/etc/milena/milena.yaml:ro" -p 9644:9644 milena
#
# Inside a container http.listen must be ":9644": the default listens on loopback.
FROM golang:1.26 AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY . .
RUN CGO_ENABLED=0 go build -trimpath -o /out/milena ./cmd/milena
# An image of one binary has no authorities of its own: these are what a tls section without ca_file trusts.
RUN mkdir -p /out/root/etc/ssl/certs /out/root/etc/milena \
    && cp /etc/ssl/certs/ca-certificates.crt /out/root/etc/ssl/certs/ \
    && mv /out/milena /out/root/milena \
    && env -i /out/root/milena version

FROM scratch
COPY --from=build /out/root/ /
# A number, so that an orchestrator can see that it is not root.
USER 65532:65532
EXPOSE 9644
# SIGTERM stops cleanly. Give it longer than shutdown_timeout before it is killed: docker stop -t 45.
STOPSIGNAL SIGTERM
ENTRYPOINT ["/milena"]
CMD ["run", "-c", "/etc/milena/milena.yaml"]
