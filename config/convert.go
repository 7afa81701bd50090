package config

import (
	"bytes"
	"fmt"
	"io"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
)

// File is a config file that was read: the Config, and notes about the file.
type File struct {
	Config *Config
	// Notes are in the order of the file's lines: keys of an mm2.properties file that have no effect or another one than in
	// MirrorMaker 2, and keys of a milena.yaml that have a new name.
	Notes []Note
	// IsMM2 is set for a file of MirrorMaker 2: an mm2.properties, a Strimzi resource, or connectors as JSON.
	IsMM2 bool

	name    string
	data    []byte
	lines   map[string]int // of the paths of a milena.yaml
	origins map[string]*property
	secrets map[string]string
}

// Format prints the name of the file only: its content may be secret.
func (f File) Format(s fmt.State, _ rune) { _, _ = io.WriteString(s, f.name) }

// YAML returns the file as an equivalent milena.yaml. A file that is a milena.yaml already is returned unchanged.
// Passwords that are inline in the properties are inline in the YAML too. Those from a config provider become
// environment variables.
func (f File) YAML() ([]byte, error) {
	if !f.IsMM2 {
		return f.data, nil
	}
	w := converter{f}
	root := mapping()
	root.HeadComment = fmt.Sprintf("Converted from %s. Keys that are left out have milena's default.", f.name)
	if len(f.Notes) > 0 {
		root.HeadComment += "\n\nWithout effect in milena, or with another one than in MirrorMaker 2:"
		for _, n := range f.Notes {
			root.HeadComment += "\n  " + n.String()
		}
	}
	clusters := mapping()
	for _, alias := range slices.Sorted(maps.Keys(f.Config.Clusters)) {
		w.put(clusters, alias, w.cluster(alias), "")
	}
	w.put(root, "clusters", clusters, "")
	flows := &yaml.Node{Kind: yaml.SequenceNode}
	for i := range f.Config.Flows {
		flows.Content = append(flows.Content, w.flow(i))
	}
	w.put(root, "flows", flows, "")
	var out bytes.Buffer
	e := yaml.NewEncoder(&out)
	e.SetIndent(2)
	if err := e.Encode(root); err != nil {
		return nil, err
	}
	return out.Bytes(), e.Close()
}

// converter writes a Config as YAML nodes.
type converter struct{ File }

// mapping returns an empty YAML mapping.
func mapping() *yaml.Node { return &yaml.Node{Kind: yaml.MappingNode} }

// put adds a key with a comment above it.
func (converter) put(to *yaml.Node, key string, value *yaml.Node, comment string) {
	to.Content = append(to.Content, &yaml.Node{Kind: yaml.ScalarNode, Value: key, HeadComment: comment, Style: style(key)}, value)
}

// style quotes a key that YAML would not read as text: an alias may be 1 or true.
func style(key string) yaml.Style {
	var n yaml.Node
	if err := yaml.Unmarshal([]byte(key), &n); err != nil || len(n.Content) != 1 || n.Content[0].ShortTag() != "!!str" || n.Content[0].Value != key {
		return yaml.DoubleQuotedStyle
	}
	return 0
}

// text is a string without variables.
func text(s string) *yaml.Node { return expression(strings.ReplaceAll(s, "${", "$${")) }

// expression is a string whose variables are replaced when it is read.
func expression(s string) *yaml.Node {
	style := yaml.SingleQuotedStyle
	if strings.Contains(s, "\n") { // PEM
		style = yaml.LiteralStyle
	}
	return &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: s, Style: style}
}

// node is any value of a flow.
func node(v reflect.Value) *yaml.Node {
	switch value := v.Interface().(type) {
	case []string:
		n := &yaml.Node{Kind: yaml.SequenceNode, Style: yaml.FlowStyle}
		for _, item := range value {
			n.Content = append(n.Content, text(item))
		}
		return n
	case string:
		return text(value)
	case time.Duration:
		return &yaml.Node{Kind: yaml.ScalarNode, Value: value.String()}
	default:
		return &yaml.Node{Kind: yaml.ScalarNode, Value: fmt.Sprint(value)}
	}
}

// from is a comment that names the property that a value came from.
func (w converter) from(path string) string {
	p := w.origins[path]
	if p == nil {
		return ""
	}
	return fmt.Sprintf("from %s, line %d", p.name(), p.line)
}

func (w converter) cluster(alias string) *yaml.Node {
	c, n := w.Config.Clusters[alias], mapping()
	path := "clusters." + alias
	w.put(n, "brokers", node(reflect.ValueOf(c.Brokers)), "")
	if c.ClientID != DefaultCluster().ClientID {
		w.put(n, "client_id", text(c.ClientID), w.from(path+".client_id"))
	}
	if c.TLS != nil {
		w.put(n, "tls", w.tls(alias, *c.TLS), "")
	}
	if c.SASL != nil {
		w.put(n, "sasl", w.sasl(alias, *c.SASL), "")
	}
	return n
}

func (w converter) sasl(alias string, s SASL) *yaml.Node {
	n := mapping()
	w.put(n, "mechanism", text(s.Mechanism), "")
	if s.Username != "" {
		w.put(n, "username", text(s.Username), "")
	}
	w.secret(n, alias, "sasl.password", s.Password, s.PasswordFile)
	if s.OAuth != nil {
		w.put(n, "oauth", w.oauth(alias, *s.OAuth), "")
	}
	if s.AWS != nil {
		w.put(n, "aws", w.texts(reflect.ValueOf(*s.AWS)), "")
	}
	if s.Kerberos != nil {
		w.put(n, "kerberos", w.texts(reflect.ValueOf(*s.Kerberos)), "")
	}
	return n
}

// texts is a section of texts only.
func (w converter) texts(section reflect.Value) *yaml.Node {
	n := mapping()
	for i := range section.NumField() {
		if value := section.Field(i).String(); value != "" {
			w.put(n, section.Type().Field(i).Tag.Get("koanf"), text(value), "")
		}
	}
	return n
}

// plainly returns a function that puts the texts of a section which are not empty, with where they come from.
func (w converter) plainly(n *yaml.Node, section string) func(key, value string) {
	return func(key, value string) {
		if value != "" {
			w.put(n, key, text(value), w.from(section+key))
		}
	}
}

func (w converter) oauth(alias string, o OAuth) *yaml.Node {
	n := mapping()
	plain := w.plainly(n, "clusters."+alias+".sasl.oauth.")
	plain("token_endpoint", o.TokenEndpoint)
	plain("client_id", o.ClientID)
	w.secret(n, alias, "sasl.oauth.client_secret", o.ClientSecret, o.ClientSecretFile)
	plain("assertion_file", o.AssertionFile)
	plain("scope", o.Scope)
	plain("ca_file", o.CAFile)
	plain("token_file", o.TokenFile)
	if len(o.Extensions) > 0 {
		extensions := mapping()
		for _, name := range slices.Sorted(maps.Keys(o.Extensions)) {
			w.put(extensions, name, text(o.Extensions[name]), "")
		}
		w.put(n, "extensions", extensions, "")
	}
	return n
}

func (w converter) tls(alias string, t TLS) *yaml.Node {
	n := mapping()
	plain := w.plainly(n, "clusters."+alias+".tls.")
	plain("ca", t.CA)
	plain("ca_file", t.CAFile)
	w.secret(n, alias, "tls.ca_password", t.CAPassword, t.CAPasswordFile)
	plain("cert", t.Cert)
	plain("cert_file", t.CertFile)
	w.secret(n, alias, "tls.cert_password", t.CertPassword, t.CertPasswordFile)
	w.secret(n, alias, "tls.key", t.Key, t.KeyFile)
	w.secret(n, alias, "tls.key_password", t.KeyPassword, t.KeyPasswordFile)
	if t.Verify != DefaultTLS().Verify {
		plain("verify", t.Verify)
	}
	return n
}

// secret writes a secret as it was found: a file stays a file, a reference to a config provider becomes a variable.
func (w converter) secret(to *yaml.Node, alias, key string, value Secret, file string) {
	path, name := "clusters."+alias+"."+key, key[strings.LastIndex(key, ".")+1:]
	switch outside, ok := w.secrets[path]; {
	case file != "":
		w.put(to, name+"_file", text(file), w.from(path))
	case ok:
		comment := w.from(path)
		if outside == "${"+variableName(alias, key)+"}" {
			comment += "; set this variable to the value, or use " + name + "_file"
		}
		w.put(to, name, expression(outside), comment)
	case value != "":
		w.put(to, name, text(value.Reveal()), w.from(path))
	}
}

// flow writes the values that differ from milena's defaults.
func (w converter) flow(i int) *yaml.Node {
	n, f := mapping(), w.Config.Flows[i]
	got, ours := reflect.ValueOf(f), reflect.ValueOf(DefaultFlow(f.Source, f.Target))
	for j := range got.NumField() {
		key := got.Type().Field(j).Tag.Get("koanf")
		if key != "source" && key != "target" && reflect.DeepEqual(got.Field(j).Interface(), ours.Field(j).Interface()) {
			continue
		}
		comment := w.from("flows[" + strconv.Itoa(i) + "]." + key)
		if theirs := ours.Field(j); key != "source" && key != "target" {
			if comment == "" {
				comment = "MirrorMaker 2's default"
			}
			comment += "; milena's default is " + shownDefault(theirs)
		}
		w.put(n, key, node(got.Field(j)), comment)
	}
	return n
}

func shownDefault(v reflect.Value) string {
	switch value := v.Interface().(type) {
	case []string:
		return "[" + strings.Join(value, ", ") + "]"
	case string:
		if value == "" {
			return `""`
		}
		return value
	default:
		return fmt.Sprint(value)
	}
}
