package main

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"strings"

	"github.com/milena-kafka/milena/cmd/milena/guard"
	"github.com/milena-kafka/milena/config"
)

// refusedHTTP is an error of the HTTP server at the start. What the config file must say is an error of that.
func refusedHTTP(file *config.File, err error) error {
	if exposed, ok := errors.AsType[*guard.ExposedError](err); ok {
		return config.Refusal(file, "http.listen", exposed.Error())
	}
	return err
}

// checkHTTP returns why the HTTP server of a config would not start, as far as this is known without its address being taken.
func checkHTTP(ctx context.Context, file *config.File) error {
	h := file.Config.HTTP
	if h.Listen == "" {
		return nil
	}
	var exposed error
	if isReached(ctx, h.Listen) {
		exposed = refusedHTTP(file, guard.Exposed(h))
	}
	_, unusable := guard.New(h).TLSConfig()
	return errors.Join(exposed, unusable)
}

// isReached reports whether other machines reach an address to listen on. A name that cannot be looked up here may be one of another host.
func isReached(ctx context.Context, listen string) bool {
	host, _, err := net.SplitHostPort(listen)
	if err != nil || host == "" || isLoopbackName(listen) {
		return err == nil && host == ""
	}
	found, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host)
	return err == nil && len(found) > 0 && !found[0].Unmap().IsLoopback()
}

// isLoopbackName reports whether an address to listen on is one of loopback by what is written.
func isLoopbackName(listen string) bool {
	host, _, err := net.SplitHostPort(listen)
	if err != nil {
		return false
	}
	ip, err := netip.ParseAddr(host)
	return strings.EqualFold(host, "localhost") || err == nil && ip.Unmap().IsLoopback()
}
