package config

import (
	"regexp"
	"slices"
	"strings"
)

const (
	protocolPlain    = "PLAINTEXT"
	protocolSSL      = "SSL"
	protocolSASL     = "SASL_PLAINTEXT"
	protocolSASLSSL  = "SASL_SSL"
	defaultMechanism = "GSSAPI"
)

// clientPrefixes stand before settings of one of MirrorMaker 2's clients; the longer ones first.
func clientPrefixes() []string {
	return []string{
		"source.consumer.", "source.producer.", "source.admin.", "target.consumer.", "target.producer.", "target.admin.",
		"source.cluster.", "target.cluster.", "producer.override.", "consumer.override.", "admin.override.",
		"consumer.", "producer.", "admin.",
	}
}

// cluster reads how to reach a cluster. What it does not say itself is taken from the top of the file.
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
	if p := get("brokers", "bootstrap.servers"); p == nil {
		m.problem(m.origins["clusters"].line, alias+".bootstrap.servers", "is missing; write the addresses of the cluster, as in "+alias+".bootstrap.servers = host:9092")
	} else if value, ok := m.value(p); ok {
		c.Brokers = splitList(value)
		for i, b := range c.Brokers {
			if _, address, ok := strings.Cut(b, "://"); ok { // PLAINTEXT://host:port, as listeners are written
				c.Brokers[i] = address
			}
			if why := checkAddress(c.Brokers[i], 1); why != "" {
				m.bad(p, "has the address %q, which %s; write host:port", b, why)
			}
		}
		if len(c.Brokers) == 0 {
			m.bad(p, "names no broker; write at least one host:port")
		}
	}
	for _, prefix := range []string{"", "consumer.", "producer.", "admin."} {
		key := alias + "." + prefix + "client.id"
		p := m.props[key]
		if p == nil {
			continue
		}
		if m.used[p] = true; m.origins[path+".client_id"] != nil {
			m.note(p, "is not used: milena has one client.id per cluster, that of "+m.origins[path+".client_id"].key)
			continue
		}
		m.origins[path+".client_id"] = p
		var ok bool
		if c.ClientID, ok = m.value(p); ok && c.ClientID == "" {
			m.bad(p, "is no name; remove the key")
		}
	}
	protocol := protocolPlain
	if p := get("", "security.protocol"); p != nil {
		value, ok := m.value(p)
		protocol = strings.ToUpper(strings.TrimSpace(value))
		if ok && !slices.Contains([]string{protocolPlain, protocolSSL, protocolSASL, protocolSASLSSL}, protocol) {
			m.bad(p, "is not known; use %s", choice([]string{protocolPlain, protocolSSL, protocolSASL, protocolSASLSSL}))
		}
	}
	if protocol == protocolSSL || protocol == protocolSASLSSL {
		c.TLS = m.tls(alias, get)
	}
	if protocol == protocolSASL || protocol == protocolSASLSSL {
		c.SASL = m.sasl(alias, get)
	}
	return c
}

func (m *mm2) sasl(alias string, get lookup) *SASL {
	s, named := &SASL{Mechanism: defaultMechanism}, get("sasl.mechanism", "sasl.mechanism")
	if named != nil {
		value, ok := m.value(named)
		if !ok {
			return s
		}
		s.Mechanism = strings.TrimSpace(value)
	}
	const use = "use PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512"
	switch {
	case named == nil:
		p := m.first(alias+".security.protocol", "security.protocol")
		m.bad(p, "without %s.sasl.mechanism means GSSAPI (Kerberos), which milena does not have; %s", alias, use)
		return s
	case !slices.Contains([]string{MechanismPlain, MechanismScramSHA256, MechanismScramSHA512}, s.Mechanism):
		m.bad(named, "is not a mechanism that milena has; %s", use)
		return s
	}
	for _, key := range []string{"sasl.client.callback.handler.class", "sasl.login.class", "sasl.login.callback.handler.class"} {
		if p := get("", key); p != nil {
			m.bad(p, "is Java code that milena can't run; write username and password in sasl.jaas.config, and remove the key")
		}
	}
	p := get("sasl", "sasl.jaas.config")
	if p == nil {
		m.bad(named, "needs %s.sasl.jaas.config with a username and a password", alias)
		return s
	}
	m.origins["clusters."+alias+".sasl.password"] = p
	m.jaas(alias, s, p)
	return s
}

// jaasToken is one word of a JAAS config: in quotes with backslashes, or bare. A reference may have any character.
var jaasToken = regexp.MustCompile(`^(?:"((?:[^"\\]|\\.)*)"|'((?:[^'\\]|\\.)*)'|((?:\$\{[^}]*\}|[^\s=;"'])+)|(=|;))`)

// onlyReference is a value that consists of one reference.
var onlyReference = regexp.MustCompile(`^\$\{([^}:]*):(([^}]*?):)?([^}]*)\}$`)

// jaas reads "org…ScramLoginModule required username="u" password="p";".
func (m *mm2) jaas(alias string, s *SASL, p *property) {
	text, whole := p.value, onlyReference.MatchString(strings.TrimSpace(p.value))
	if whole {
		var ok bool
		if text, ok = m.value(p); !ok {
			return
		}
	}
	words, ok := jaasWords(text)
	if !ok || len(words) < 3 || words[len(words)-1] != ";" {
		m.bad(p, `is not a JAAS config; write org.apache.kafka.common.security.scram.ScramLoginModule required username="NAME" password="SECRET"; with the ; at its end`)
		return
	}
	switch module := words[0]; module {
	case "org.apache.kafka.common.security.plain.PlainLoginModule", "org.apache.kafka.common.security.scram.ScramLoginModule":
	default:
		m.bad(p, "has a login module that milena can't run; use PlainLoginModule of org.apache.kafka.common.security.plain or ScramLoginModule of org.apache.kafka.common.security.scram")
		return
	}
	options := make(map[string]string)
	rest := words[2 : len(words)-1]
	for ; len(rest) >= 3 && rest[1] == "="; rest = rest[3:] {
		options[rest[0]] = rest[2]
	}
	if len(rest) > 0 {
		m.bad(p, `has an option that is not written name="value"`)
		return
	}
	if options["tokenauth"] == "true" {
		m.bad(p, "has tokenauth, a delegation token, which milena can't use; write the user's own name and password")
		return
	}
	if options["username"] == "" || options["password"] == "" {
		m.bad(p, "has no username or no password")
		return
	}
	resolve := func(text string) string {
		if whole {
			return text
		}
		value, _ := m.resolve(p, text)
		return value
	}
	s.Username = resolve(options["username"])
	s.Password, s.PasswordFile = m.secret(alias, "sasl.password", options["password"], resolve)
	if whole {
		m.secrets["clusters."+alias+".sasl.password"] = "${" + variableName(alias, "sasl.password") + "}"
	}
}

// secret keeps what can be read again where it is: a file of a directory stays a file.
func (m *mm2) secret(alias, key, written string, resolve func(string) string) (value Secret, file string) {
	found := onlyReference.FindStringSubmatch(written)
	if found != nil && m.classes[found[1]] == directoryProvider {
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

// variableName is the environment's variable for a secret that YAML has no other way to name.
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

// jaasWords splits a JAAS config as Java's tokenizer does.
func jaasWords(text string) (words []string, ok bool) {
	for {
		if text = strings.TrimSpace(text); text == "" {
			return words, true
		}
		found := jaasToken.FindStringSubmatch(text)
		if found == nil {
			return nil, false
		}
		word := found[3] + found[4]
		if text[0] == '"' || text[0] == '\'' {
			word = unquote(found[1] + found[2])
		}
		words = append(words, word)
		text = text[len(found[0]):]
	}
}

// unquote drops backslashes; \n and \t are what they are in Java.
func unquote(s string) string {
	var out strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] != '\\' || i+1 == len(s) {
			out.WriteByte(s[i])
			continue
		}
		i++
		switch s[i] {
		case 'n':
			out.WriteByte('\n')
		case 't':
			out.WriteByte('\t')
		case 'r':
			out.WriteByte('\r')
		default:
			out.WriteByte(s[i])
		}
	}
	return out.String()
}
