package config

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
)

// Kafka's config providers, which replace ${name:path:key} in values.
const (
	envProvider       = "org.apache.kafka.common.config.provider.EnvVarConfigProvider"
	fileProvider      = "org.apache.kafka.common.config.provider.FileConfigProvider"
	directoryProvider = "org.apache.kafka.common.config.provider.DirectoryConfigProvider"
	// Files of Kubernetes secrets need not be there when the config is read.
	mountedSecret = "a mounted secret"
)

// reference is the regular expression of Kafka's ConfigTransformer.
var reference = regexp.MustCompile(`\$\{([^}]*?):(([^}]*?):)?([^}]*?)\}`)

// resolver replaces references to config providers, and collects problems.
type resolver struct {
	env      func(string) (string, bool)
	props    map[string]*property
	classes  map[string]string              // of providers, by name
	files    map[string]map[string]property // of FileConfigProvider, by path
	problems []Problem
}

func newResolver(env func(string) (string, bool), props map[string]*property) resolver {
	return resolver{env: env, props: props, classes: make(map[string]string), files: make(map[string]map[string]property)}
}

func (r *resolver) problem(line int, key, text string) {
	r.problems = append(r.problems, Problem{Line: line, Path: key, Text: text})
}

// bad adds a problem with a property. The message starts with the property's value.
func (r *resolver) bad(p *property, format string, args ...any) {
	r.problem(p.line, p.name(), r.shown(p)+" "+fmt.Sprintf(format, args...))
}

// shown is the value for messages, before anything is replaced, unless it is a secret.
func (*resolver) shown(p *property) string {
	key := strings.ToLower(p.key)
	for _, word := range []string{"password", "jaas", "keystore.key", "secret", "token", "credential"} {
		if strings.Contains(key, word) {
			return hidden
		}
	}
	if strings.Contains(p.value, "PRIVATE KEY") { // PEM in the wrong place
		return hidden
	}
	const enough = 200
	if len(p.value) > enough {
		return fmt.Sprintf("%.*q...", enough, p.value)
	}
	return fmt.Sprintf("%q", p.value)
}

// providers reads config.providers.
func (m *mm2) providers() {
	list := m.first("config.providers")
	if list == nil {
		return
	}
	for _, name := range splitList(list.value) {
		p := m.first("config.providers." + name + ".class")
		if p == nil {
			m.bad(list, "lists the provider %q, but config.providers.%s.class is missing", name, name)
			continue
		}
		switch class := strings.TrimSpace(p.value); class {
		case envProvider, fileProvider, directoryProvider:
			m.classes[name] = class
		default:
			m.bad(p, "is Java code, which milena cannot run; use EnvVarConfigProvider, FileConfigProvider or DirectoryConfigProvider of org.apache.kafka.common.config.provider")
		}
	}
}

// value returns a property's value with references replaced. If ok is false, the problem has been reported.
func (r *resolver) value(p *property) (value string, ok bool) { return r.resolve(p, p.value) }

// resolve replaces the references in a part of a property's value.
func (r *resolver) resolve(p *property, text string) (value string, ok bool) {
	ok = true
	value = reference.ReplaceAllStringFunc(text, func(found string) string {
		part := reference.FindStringSubmatch(found)
		got, why := r.lookup(part[1], part[3], part[4])
		if why != "" {
			ok = false
			r.bad(p, "%s", why)
		}
		return got
	})
	return value, ok
}

// lookup asks one provider. Its messages never quote a value.
func (r *resolver) lookup(provider, path, key string) (value, why string) {
	switch class := r.classes[provider]; class {
	case envProvider:
		value, set := r.env(key)
		if !set {
			return "", fmt.Sprintf("refers to environment variable %s, which is not set; set it", key)
		}
		return value, ""
	case fileProvider:
		entries, ok := r.files[path]
		if !ok {
			data, err := os.ReadFile(path)
			if err != nil {
				return "", fmt.Sprintf("cannot be replaced: %v", err)
			}
			entries = make(map[string]property)
			list, _ := parseProperties(data)
			for _, p := range list {
				entries[p.key] = p
			}
			r.files[path] = entries
		}
		p, ok := entries[key]
		if !ok {
			return "", fmt.Sprintf("refers to the key %s, which is not in %s", key, path)
		}
		return p.value, ""
	case directoryProvider:
		if key != filepath.Base(key) {
			return "", fmt.Sprintf("refers to the file %q, which is not directly in the directory", key)
		}
		data, err := os.ReadFile(filepath.Join(path, key))
		if err != nil {
			return "", fmt.Sprintf("cannot be replaced: %v", err)
		}
		return string(data), ""
	case mountedSecret:
		return hidden, ""
	case "":
		if len(r.classes) > 0 && r.props["config.providers"] == nil {
			return "", fmt.Sprintf("refers to the provider %q, which milena does not have; use ${env:NAME}, ${file:PATH:KEY} or ${directory:PATH:NAME}", provider)
		}
		fallthrough
	default:
		return "", fmt.Sprintf("refers to the provider %q, which is not in config.providers; set config.providers = %s and "+
			"config.providers.%s.class, such as %s", provider, provider, provider, envProvider)
	}
}
