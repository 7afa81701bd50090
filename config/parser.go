package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

func configType() reflect.Type { return reflect.TypeFor[Config]() }

// parser is a koanf.Parser that reads YAML strictly and remembers the line of every key. A parser reads one file.
type parser struct {
	env func(string) (string, bool)
	// problems found so far, in no particular order.
	problems []Problem
	// lines of all paths in the file.
	lines map[string]int
	// wrong holds the paths that have a problem already. Problems that follow from it are not reported.
	wrong map[string]bool
	// broken is set if the file is not YAML, so there is nothing to validate.
	broken bool
	// notes on keys that were written under an old name.
	notes []Note
}

// Marshal writes a mapping as YAML. The koanf interface requires it, and a test uses it to read defaults back.
func (*parser) Marshal(m map[string]any) ([]byte, error) { return yaml.Marshal(m) }

// Unmarshal reads one YAML document into typed values. It never returns an error: it collects problems, and returns
// what it could read, so that validation finds the remaining ones.
func (p *parser) Unmarshal(data []byte) (map[string]any, error) {
	var doc, second yaml.Node
	dec := yaml.NewDecoder(bytes.NewReader(data))
	err := dec.Decode(&doc)
	switch {
	case errors.Is(err, io.EOF):
		p.broken = true
		p.problem(0, "", "the file is empty; set at least clusters and flows")
		return nil, nil
	case err != nil:
		p.broken = true
		p.syntax(err)
		return nil, nil
	}
	if err := dec.Decode(&second); !errors.Is(err, io.EOF) {
		p.problem(second.Line, "", "a second YAML document starts here; use one file per process and no --- line")
	}
	root := doc.Content[0]
	if root.Kind != yaml.MappingNode {
		p.broken = true
		p.problem(root.Line, "", "the file must be a mapping with the keys clusters and flows")
		return nil, nil
	}
	m, _ := p.walk(root, configType(), "").(map[string]any)
	return m, nil
}

// syntax reports that the file is not valid YAML. It keeps the library's message unless the message would quote the
// file: a password that starts with * looks like an anchor.
func (p *parser) syntax(err error) {
	text := strings.TrimPrefix(err.Error(), "yaml: ")
	line := 0
	if rest, ok := strings.CutPrefix(text, "line "); ok {
		if number, after, ok := strings.Cut(rest, ": "); ok {
			line, _ = strconv.Atoi(number)
			text = after
		}
	}
	if strings.Contains(text, "unknown anchor") {
		text = "a value begins with * but names no anchor; put it in quotes"
	}
	p.problem(line, "", "not valid YAML: "+text)
}

// problem records a problem at a path.
func (p *parser) problem(line int, path, text string) {
	p.wrong[path] = true
	p.problems = append(p.problems, Problem{Line: line, Path: path, Text: text})
}

// parent returns the path without its last element, or "" at the top.
func parent(path string) string {
	return path[:max(0, strings.LastIndexAny(path, ".["))]
}

// reported reports whether a problem is known at the path or at one of its parents.
func (p *parser) reported(path string) bool {
	for ; path != ""; path = parent(path) {
		if p.wrong[path] {
			return true
		}
	}
	return false
}

// line returns the line of a path, or of its nearest parent that is in the file.
func (p *parser) line(path string) int {
	for ; path != ""; path = parent(path) {
		if line, ok := p.lines[path]; ok {
			return line
		}
	}
	return 1
}

// walk turns a node into a value of type t, with everything below it. It returns nil after reporting a problem with
// the node. It terminates even if the anchors of the file form a loop, because every step goes down in t, which has
// none.
func (p *parser) walk(n *yaml.Node, t reflect.Type, path string) any {
	if n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	if n.Kind == yaml.ScalarNode && n.ShortTag() == "!!null" {
		p.problem(p.line(path), path, "has no value; write one or remove the key")
		return nil
	}
	switch {
	case t.Kind() == reflect.Pointer:
		return p.walk(n, t.Elem(), path)
	case t.Kind() == reflect.Struct:
		return p.walkStruct(n, t, path)
	case t.Kind() == reflect.Map:
		return p.walkMap(n, t, path)
	case t.Kind() == reflect.Slice:
		return p.walkList(n, t, path)
	default:
		return p.scalar(n, t, path)
	}
}

// eachKey calls visit once for each key of a mapping. It reports whether the node is a mapping.
func (p *parser) eachKey(n *yaml.Node, path string, visit func(key, path string, value *yaml.Node)) bool {
	if n.Kind != yaml.MappingNode {
		p.problem(p.line(path), path, "must be a mapping of keys and values")
		return false
	}
	seen := make(map[string]int)
	for i := 0; i+1 < len(n.Content); i += 2 {
		k, value := n.Content[i], n.Content[i+1]
		at := path
		if k.Kind != yaml.ScalarNode {
			p.problem(k.Line, at, "keys must be plain text")
			continue
		}
		if at != "" {
			at += "."
		}
		at += k.Value
		if first, ok := seen[k.Value]; ok {
			p.problem(k.Line, at, fmt.Sprintf("is set twice; it is first set in line %d", first))
			continue
		}
		seen[k.Value] = k.Line
		p.lines[at] = k.Line
		visit(k.Value, at, value)
	}
	return true
}

func (p *parser) walkStruct(n *yaml.Node, t reflect.Type, path string) any {
	fields := make(map[string]reflect.Type)
	for i := range t.NumField() {
		fields[t.Field(i).Tag.Get("koanf")] = t.Field(i).Type
	}
	out := make(map[string]any)
	if t != configType() { // at the top level koanf merges the defaults
		maps.Copy(out, defaultsOf(t))
	}
	p.eachKey(n, path, func(key, at string, value *yaml.Node) {
		if t == reflect.TypeFor[Flow]() {
			key = p.currentKey(n, key, at)
		}
		ft, ok := fields[key]
		if !ok {
			p.unknown(key, at, slices.Sorted(maps.Keys(fields)))
			return
		}
		v := p.walk(value, ft, at)
		if written, ok := v.(map[string]any); ok {
			if below, ok := out[key].(map[string]any); ok {
				maps.Copy(below, written)
				return
			}
		}
		if v != nil {
			out[key] = v
		}
	})
	if t == reflect.TypeFor[Flow]() {
		nameFlow(out)
	}
	return out
}

// currentKey returns the name that a key of a flow has now. For an old name it adds a note, or a problem if the new name is
// set as well.
func (p *parser) currentKey(flow *yaml.Node, key, at string) string {
	const renamed, current = "take_over", "migrate_from"
	if key != renamed {
		return key
	}
	for i := 0; i+1 < len(flow.Content); i += 2 {
		if flow.Content[i].Value == current {
			p.problem(p.lines[at], at, renamed+" is the old name of "+current+", and both are set; remove "+renamed)
			return current
		}
	}
	p.notes = append(p.notes, Note{Key: at, Line: p.lines[at], Reason: "is now called " + current + "; the old name still works"})
	p.lines[strings.TrimSuffix(at, renamed)+current] = p.lines[at]
	return current
}

// nameFlow fills in the one default that depends on other keys.
func nameFlow(flow map[string]any) {
	s, _ := flow["source"].(string)
	t, _ := flow["target"].(string)
	if _, ok := flow["name"]; !ok && s != "" && t != "" {
		flow["name"] = DefaultFlow(s, t).Name
	}
}

func (p *parser) unknown(key, at string, known []string) {
	text := "unknown key"
	switch near := Nearest(key, known); {
	case key == "<<":
		text = "merge keys are not supported; write the keys out"
	case near != "":
		text += fmt.Sprintf("; did you mean %q?", near)
		// The key that was meant would also be reported as missing or empty, which is the same mistake.
		p.wrong[strings.TrimSuffix(at, key)+near] = true
	default:
		text += "; known here are " + strings.Join(known, ", ")
	}
	p.problem(p.lines[at], at, text)
}

func (p *parser) walkMap(n *yaml.Node, t reflect.Type, path string) any {
	out := make(map[string]any)
	ok := p.eachKey(n, path, func(key, at string, value *yaml.Node) {
		v := p.walk(value, t.Elem(), at)
		if v == nil {
			v = reflect.Zero(t.Elem()).Interface() // keeps the key, so that it is not reported as missing
		}
		out[key] = v
	})
	if !ok {
		return nil
	}
	return out
}

func (p *parser) walkList(n *yaml.Node, t reflect.Type, path string) any {
	if n.Kind != yaml.SequenceNode {
		p.problem(p.line(path), path, "must be a list; write [one, two], or one line with a dash per item")
		return nil
	}
	out := make([]any, 0, len(n.Content))
	for i, item := range n.Content {
		at := fmt.Sprintf("%s[%d]", path, i)
		p.lines[at] = item.Line
		v := p.walk(item, t.Elem(), at)
		if v == nil {
			v = reflect.Zero(t.Elem()).Interface() // keeps the indices of the other items
		}
		out = append(out, v)
	}
	return out
}

var variable = regexp.MustCompile(`^\$\{([A-Za-z_][A-Za-z0-9_]*)\}`)

// expand replaces ${NAME} in text. It reports whether a variable was replaced, and whether there was no problem.
func (p *parser) expand(text, path string) (out string, replaced, ok bool) {
	var b strings.Builder
	ok = true
	for {
		i := strings.IndexByte(text, '$')
		if i < 0 {
			b.WriteString(text)
			return b.String(), replaced, ok
		}
		b.WriteString(text[:i])
		text = text[i:]
		found := variable.FindStringSubmatch(text)
		switch {
		case strings.HasPrefix(text, "$${"):
			b.WriteString("${")
			text = text[3:]
		case found != nil:
			value, set := p.env(found[1])
			if !set {
				ok = false
				p.problem(p.line(path), path, "environment variable "+found[1]+" is not set; set it, or write $${ for a literal ${")
			}
			b.WriteString(value)
			replaced = true
			text = text[len(found[0]):]
		case strings.HasPrefix(text, "${"):
			p.problem(p.line(path), path, "${ must be followed by the name of a variable and }; write $${ for a literal ${")
			return "", replaced, false
		default:
			b.WriteByte('$')
			text = text[1:]
		}
	}
}
