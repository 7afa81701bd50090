package config

import (
	"maps"
	"regexp"
	"slices"
	"strings"
)

// jaasToken is one token of a JAAS config: quoted, with backslash escapes, or bare. A reference to a config provider may
// contain any character.
var jaasToken = regexp.MustCompile(`^(?:"((?:[^"\\]|\\.)*)"|'((?:[^'\\]|\\.)*)'|((?:\$\{[^}]*\}|[^\s=;"'])+)|(=|;))`)

// jaas is the login module of a cluster and its options, such as
//
//	org.apache.kafka.common.security.scram.ScramLoginModule required username="u" password="p";
type jaas struct {
	*mm2
	alias    string
	property *property
	module   string
	options  map[string]string
	read     map[string]bool // the options that the Config was built from
	whole    bool            // the property is one reference to a config provider, which is replaced already
}

// newJAAS splits a JAAS config. If ok is false, the problem has been reported.
func (m *mm2) newJAAS(alias string, p *property) (j *jaas, ok bool) {
	j = &jaas{mm2: m, alias: alias, property: p, options: make(map[string]string), read: make(map[string]bool)}
	text := p.value
	if j.whole = onlyReference.MatchString(strings.TrimSpace(p.value)); j.whole {
		if text, ok = m.value(p); !ok {
			return nil, false
		}
	}
	words, ok := jaasWords(text)
	if !ok || len(words) < 3 || words[len(words)-1] != ";" {
		m.bad(p, `is not a JAAS config; use org.apache.kafka.common.security.scram.ScramLoginModule required username="NAME" password="SECRET"; with the ; at the end`)
		return nil, false
	}
	j.module = words[0]
	rest := words[2 : len(words)-1]
	for ; len(rest) >= 3 && rest[1] == "="; rest = rest[3:] {
		j.options[rest[0]] = rest[2]
	}
	if len(rest) > 0 {
		m.bad(p, `has an option that is not of the form name="value"`)
		return nil, false
	}
	return j, true
}

// of reports a problem unless the login module is that of the mechanism.
func (j *jaas) of(mechanism, module string) bool {
	if j.module == module {
		return true
	}
	j.bad(j.property, "has a login module that is not for %s; use %s, or set another sasl.mechanism", mechanism, module)
	return false
}

// option returns an option with references replaced, empty if it is not set.
func (j *jaas) option(name string) string {
	j.read[name] = true
	return j.resolved(j.options[name])
}

func (j *jaas) resolved(text string) string {
	if j.whole {
		return text
	}
	value, _ := j.resolve(j.property, text)
	return value
}

// secretOption is an option that is the secret with this path below the cluster.
func (j *jaas) secretOption(path, name string) (value Secret, file string) {
	j.read[name] = true
	if j.whole && j.options[name] != "" {
		j.secrets["clusters."+j.alias+"."+path] = "${" + variableName(j.alias, path) + "}"
	}
	if j.options[name] != "" {
		j.origins["clusters."+j.alias+"."+path] = j.property
	}
	if j.whole {
		return Secret(j.options[name]), ""
	}
	return j.secret(j.alias, path, j.options[name], j.resolved)
}

// ignore counts options as read that have no meaning here.
func (j *jaas) ignore(names ...string) {
	for _, name := range names {
		j.read[name] = true
	}
}

// refuseRest reports the options that nothing has read.
func (j *jaas) refuseRest(known string) {
	for _, name := range slices.Sorted(maps.Keys(j.options)) {
		if !j.read[name] {
			j.bad(j.property, "has the option %s, which milena has no equivalent of; remove it (milena reads %s)", name, known)
		}
	}
}

// password reads the login of PLAIN and SCRAM.
func (j *jaas) password(s *SASL) {
	if !slices.Contains([]string{plainModule, scramModule}, j.module) {
		j.bad(j.property, "has a login module that milena does not support; use PlainLoginModule of org.apache.kafka.common.security.plain or ScramLoginModule of org.apache.kafka.common.security.scram")
		return
	}
	switch {
	case j.options["tokenauth"] == "true":
		j.bad(j.property, "has tokenauth, a delegation token, which milena does not support; use a username and password")
	case j.options["username"] == "" || j.options["password"] == "":
		j.bad(j.property, "has no username or no password")
	default:
		s.Username = j.option("username")
		s.Password, s.PasswordFile = j.secretOption("sasl.password", "password")
	}
}

// jaasWords splits a JAAS config into tokens as Java's tokenizer does. The ok result is false if it has an invalid token.
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

// unquote removes the escapes of a quoted token, as Java does.
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
