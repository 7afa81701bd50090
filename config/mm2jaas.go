package config

import (
	"regexp"
	"strings"
)

// jaasToken is one token of a JAAS config: quoted, with backslash escapes, or bare. A reference to a config provider may
// contain any character.
var jaasToken = regexp.MustCompile(`^(?:"((?:[^"\\]|\\.)*)"|'((?:[^'\\]|\\.)*)'|((?:\$\{[^}]*\}|[^\s=;"'])+)|(=|;))`)

// jaas reads the username and password of a JAAS config such as
//
//	org.apache.kafka.common.security.scram.ScramLoginModule required username="u" password="p";
//
// The whole value may be one reference to a config provider, which is then replaced first.
func (m *mm2) jaas(alias string, s *SASL, p *property) {
	text, whole := p.value, onlyReference.MatchString(strings.TrimSpace(p.value))
	if whole {
		var ok bool
		if text, ok = m.value(p); !ok {
			return
		}
	}
	options, ok := m.jaasOptions(p, text)
	if !ok {
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

// jaasOptions returns the options of a JAAS config, which include a username and a password, or reports a problem with p.
func (m *mm2) jaasOptions(p *property, text string) (options map[string]string, ok bool) {
	words, ok := jaasWords(text)
	if !ok || len(words) < 3 || words[len(words)-1] != ";" {
		m.bad(p, `is not a JAAS config; use org.apache.kafka.common.security.scram.ScramLoginModule required username="NAME" password="SECRET"; with the ; at the end`)
		return nil, false
	}
	switch module := words[0]; module {
	case "org.apache.kafka.common.security.plain.PlainLoginModule", "org.apache.kafka.common.security.scram.ScramLoginModule":
	default:
		m.bad(p, "has a login module that milena does not support; use PlainLoginModule of org.apache.kafka.common.security.plain or ScramLoginModule of org.apache.kafka.common.security.scram")
		return nil, false
	}
	options = make(map[string]string)
	rest := words[2 : len(words)-1]
	for ; len(rest) >= 3 && rest[1] == "="; rest = rest[3:] {
		options[rest[0]] = rest[2]
	}
	switch {
	case len(rest) > 0:
		m.bad(p, `has an option that is not of the form name="value"`)
	case options["tokenauth"] == "true":
		m.bad(p, "has tokenauth, a delegation token, which milena does not support; use a username and password")
	case options["username"] == "" || options["password"] == "":
		m.bad(p, "has no username or no password")
	default:
		return options, true
	}
	return nil, false
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
