package guard

import (
	"net"
	"net/netip"
	"slices"
	"strings"
)

// isCalled reports whether a request's Host is a name of this server. On a loopback address that is a loopback name or address, or one of
// http.hosts: a web page on another name that resolves to loopback (DNS rebinding) could otherwise read everything. On another address every
// name may be one of its names unless http.hosts says them. An address is no name that could be rebound, and probes use it.
func (g *Guard) isCalled(host string) bool {
	if !g.bound || !g.local && len(g.config.Hosts) == 0 {
		return true
	}
	name := host
	if h, _, err := net.SplitHostPort(host); err == nil {
		name = h
	}
	name = strings.ToLower(strings.TrimSuffix(strings.Trim(name, "[]"), "."))
	if name == "localhost" || strings.HasSuffix(name, ".localhost") { // RFC 6761: both always resolve to loopback
		return true
	}
	if ip, err := netip.ParseAddr(name); err == nil && (ip.IsLoopback() || !g.local) {
		return true
	}
	return slices.ContainsFunc(g.config.Hosts, func(known string) bool { return strings.EqualFold(known, name) })
}
