package config

import (
	"regexp"
	"slices"
	"strings"
)

const (
	protocolPlain   = "PLAINTEXT"
	protocolSSL     = "SSL"
	protocolSASL    = "SASL_PLAINTEXT"
	protocolSASLSSL = "SASL_SSL"
)

// clientPrefixes are the prefixes of the settings of one of MirrorMaker 2's clients. Longer prefixes come before
// their suffixes.
func clientPrefixes() []string {
	return []string{
		"source.consumer.", "source.producer.", "source.admin.", "target.consumer.", "target.producer.", "target.admin.",
		"source.cluster.", "target.cluster.", "producer.override.", "consumer.override.", "admin.override.",
		"consumer.", "producer.", "admin.",
	}
}

// cluster reads the connection to one cluster. Keys without an alias, at the top of the file, apply to all clusters.
func (m *mm2) cluster(alias string) Cluster {
	c, path := DefaultCluster(), "clusters."+alias
	get := func(field, key string) *property {
		p := m.first(alias+"."+key, key)
		if p != nil && field != "" {
			m.origins[path+"."+field] = p
		}
		return p
	}
	m.origins[path] = m.origins["clusters"]
	m.brokers(&c, alias, get)
	m.clientID(&c, alias)
	protocol := m.protocol(get)
	if protocol == protocolSSL || protocol == protocolSASLSSL {
		c.TLS = m.tls(alias, get)
	}
	if protocol == protocolSASL || protocol == protocolSASLSSL {
		c.SASL = m.sasl(alias, get)
	}
	return c
}

// brokers reads bootstrap.servers.
func (m *mm2) brokers(c *Cluster, alias string, get lookup) {
	p := get("brokers", "bootstrap.servers")
	if p == nil {
		m.problem(m.origins["clusters"].line, alias+".bootstrap.servers", "is missing; set the addresses of the cluster, such as "+alias+".bootstrap.servers = host:9092")
		return
	}
	value, ok := m.value(p)
	if !ok {
		return
	}
	c.Brokers = splitList(value)
	for i, b := range c.Brokers {
		if _, address, ok := strings.Cut(b, "://"); ok { // PLAINTEXT://host:port, the form of listeners
			c.Brokers[i] = address
		}
		if why := checkAddress(c.Brokers[i], 1); why != "" {
			m.bad(p, "has the address %q, which %s; use host:port", b, why)
		}
	}
	if len(c.Brokers) == 0 {
		m.bad(p, "has no broker; add at least one host:port")
	}
}

// clientID reads the client id. MirrorMaker 2 has one per client, milena one per cluster: the first one found.
func (m *mm2) clientID(c *Cluster, alias string) {
	path := "clusters." + alias + ".client_id"
	for _, prefix := range []string{"", "consumer.", "producer.", "admin."} {
		p := m.props[alias+"."+prefix+"client.id"]
		if p == nil {
			continue
		}
		if m.used[p] = true; m.origins[path] != nil {
			m.note(p, "is not used: milena has one client.id per cluster, that of "+m.origins[path].key)
			continue
		}
		m.origins[path] = p
		var ok bool
		if c.ClientID, ok = m.value(p); ok && c.ClientID == "" {
			m.bad(p, "is empty; remove the key to use the default")
		}
	}
}

// protocol reads security.protocol.
func (m *mm2) protocol(get lookup) string {
	p := get("", "security.protocol")
	if p == nil {
		return protocolPlain
	}
	value, ok := m.value(p)
	protocol := strings.ToUpper(strings.TrimSpace(value))
	known := []string{protocolPlain, protocolSSL, protocolSASL, protocolSASLSSL}
	if ok && !slices.Contains(known, protocol) {
		m.bad(p, "is not a valid value; use %s", choice(known))
	}
	return protocol
}

// onlyReference matches a value that consists of one reference to a config provider.
var onlyReference = regexp.MustCompile(`^\$\{([^}:]*):(([^}]*?):)?([^}]*)\}$`)

// secret resolves a secret. A reference to a DirectoryConfigProvider becomes a file, so that a changed secret is read
// again. For other references it records the variable that convert writes.
func (m *mm2) secret(alias, key, written string, resolve func(string) string) (value Secret, file string) {
	found := onlyReference.FindStringSubmatch(written)
	if found != nil && m.isFile(found[1]) {
		if resolve(written) == "" {
			return "", ""
		}
		return "", strings.TrimRight(found[3], "/") + "/" + found[4]
	}
	switch path := "clusters." + alias + "." + key; {
	case found != nil && m.classes[found[1]] == envProvider && variable.MatchString("${"+found[4]+"}"):
		m.secrets[path] = "${" + found[4] + "}"
	case reference.MatchString(written):
		m.secrets[path] = "${" + variableName(alias, key) + "}"
	}
	return Secret(resolve(written)), ""
}

// isFile reports whether a config provider stands for a file that may change later.
func (r *resolver) isFile(provider string) bool {
	return r.classes[provider] == directoryProvider || r.classes[provider] == mountedSecret
}

// variableName is the environment variable that convert writes for a secret that YAML cannot refer to in another way.
func variableName(alias, key string) string {
	_, key, _ = strings.Cut(key, ".")
	return "MILENA_" + strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z':
			return r - 'a' + 'A'
		case r >= 'A' && r <= 'Z', r >= '0' && r <= '9':
			return r
		default:
			return '_'
		}
	}, alias+"_"+key)
}
