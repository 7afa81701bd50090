package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"

	"github.com/spf13/pflag"
	"go.yaml.in/yaml/v3"
)

// The values of --output.
const (
	outputTable = "table"
	outputJSON  = "json"
	outputYAML  = "yaml"
)

// outputs are the values of --output.
func outputs() []string { return []string{outputTable, outputJSON, outputYAML} }

// addOutput adds --output to a command that prints a result. --json is what earlier versions had instead.
func addOutput(f *pflag.FlagSet, format *string) {
	f.StringVarP(format, "output", "o", outputTable, "`FORMAT` of the result: table, json or yaml")
	f.Var(jsonFlag{format}, "json", "the same as --output json")
	f.Lookup("json").NoOptDefVal = "true"
	f.Lookup("json").Hidden = true
}

// jsonFlag is --json. It implements pflag.Value.
type jsonFlag struct{ format *string }

// Set reads a bool.
func (j jsonFlag) Set(text string) error {
	on, err := strconv.ParseBool(text)
	if on {
		*j.format = outputJSON
	}
	return err
}

// String is the default.
func (jsonFlag) String() string { return "false" }

// Type is what pflag's own flags without a value are.
func (jsonFlag) Type() string { return "bool" }

// printAs writes v to stdout as JSON, or as YAML with the same fields.
func (p *program) printAs(format string, v any) error {
	var text bytes.Buffer
	enc := json.NewEncoder(&text)
	enc.SetIndent("", "  ")
	if err := enc.Encode(v); err != nil {
		return err
	}
	return p.printDocument(format, text.Bytes())
}

// printDocument writes a JSON document to stdout, as it is or as YAML.
func (p *program) printDocument(format string, document []byte) error {
	if format == outputYAML {
		var err error
		if document, err = toYAML(document); err != nil {
			return err
		}
	}
	_, err := p.stdout.Write(document)
	return err
}

// toYAML writes a JSON document as YAML, with its fields in their order and its numbers as they are. JSON is YAML in another style.
func toYAML(document []byte) ([]byte, error) {
	var plain bytes.Buffer // YAML allows no control characters, also not between quotes
	if _, err := (&printable{Writer: &plain}).Write(document); err != nil {
		return nil, err
	}
	var n yaml.Node
	if err := yaml.Unmarshal(plain.Bytes(), &n); err != nil {
		return nil, fmt.Errorf("print YAML: %w", err)
	}
	restyle(&n)
	var text bytes.Buffer
	enc := yaml.NewEncoder(&text)
	enc.SetIndent(2)
	if err := enc.Encode(&n); err != nil {
		return nil, fmt.Errorf("print YAML: %w", err)
	}
	return text.Bytes(), enc.Close()
}

// restyle gives the values of a document the block style, and removes quotes that are not needed.
func restyle(n *yaml.Node) {
	n.Style = 0
	if n.Kind == yaml.ScalarNode && n.Tag == "!!str" && (isBoolBefore12(n.Value) || strings.ContainsFunc(n.Value, isControl)) {
		n.Style = yaml.DoubleQuotedStyle
	}
	for _, child := range n.Content {
		restyle(child)
	}
}

// isBoolBefore12 reports whether parsers of YAML 1.1 read a plain word as a bool.
func isBoolBefore12(word string) bool {
	switch strings.ToLower(word) {
	case "y", "n", "yes", "no", "on", "off":
		return true
	}
	return false
}
