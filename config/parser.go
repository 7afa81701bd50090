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

// parser is a koanf.Parser that reads YAML strictly and remembers where everything stood. One parser reads one file.
type parser struct {
	env func(string) (string, bool)
	// problems found so far, in no order.
	problems []Problem
	// lines of every path in the file.
	lines map[string]int
	// wrong holds the paths that a problem was already told about; what follows from it is noise.
	wrong map[string]bool
	// broken says that the file isn't YAML at all, so there is nothing to validate.
	broken bool
	// notes on keys that still work under an old name.
	notes []Note
}

// Marshal writes a mapping as YAML, as the interface of koanf demands; tests use it for the way back.
func (*parser) Marshal(m map[string]any) ([]byte, error) { return yaml.Marshal(m) }

// Unmarshal reads one YAML document into typed values. It returns no error: problems are collected, and what could be
// understood is returned so that validation finds the rest of them.
func (p *parser) Unmarshal(data []byte) (map[string]any, error) {
	var doc, second yaml.Node
	dec := yaml.NewDecoder(bytes.NewReader(data))
	err := dec.Decode(&doc)
	switch {
	case errors.Is(err, io.EOF):
		p.broken = true
		p.problem(0, "", "the file is empty; it needs at least clusters and flows")
		return nil, nil
	case err != nil:
		p.broken = true
		p.syntax(err)
		return nil, nil
	}
	if err := dec.Decode(&second); !errors.Is(err, io.EOF) {
		p.problem(second.Line, "", "a second document begins; write one file per daemon and no --- line")
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

// syntax reports that the file isn't YAML. The message of the library is kept except where it would quote the file: a
// password that begins with * looks like an anchor.
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

// problem notes what is wrong at a path.
func (p *parser) problem(line int, path, text string) {
	p.wrong[path] = true
	p.problems = append(p.problems, Problem{Line: line, Path: path, Text: text})
}

// parent is the path without its last step, or "" at the top.
func parent(path string) string {
	return path[:max(0, strings.LastIndexAny(path, ".["))]
}

// told says whether a problem at path, or at something around it, is known already.
func (p *parser) told(path string) bool {
	for ; path != ""; path = parent(path) {
		if p.wrong[path] {
			return true
		}
	}
	return false
}

// line of a path, or of the nearest thing around it that is in the file.
func (p *parser) line(path string) int {
	for ; path != ""; path = parent(path) {
		if line, ok := p.lines[path]; ok {
			return line
		}
	}
	return 1
}

// walk turns a node into a value of type t, with everything in it. It returns nil where the node is wrong, after telling.
// It ends even if the file's anchors form a loop, as every step goes down in t, which has none.
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

// pairs calls visit for each key of a mapping, once.
func (p *parser) pairs(n *yaml.Node, path string, visit func(key, path string, value *yaml.Node)) bool {
	if n.Kind != yaml.MappingNode {
		p.problem(p.line(path), path, "must be a mapping of keys and values")
		return false
	}
	seen := make(map[string]int)
	for i := 0; i+1 < len(n.Content); i += 2 {
		k, value := n.Content[i], n.Content[i+1]
		at := path
		if k.Kind != yaml.ScalarNode {
			p.problem(k.Line, at, "a key must be plain text")
			continue
		}
		if at != "" {
			at += "."
		}
		at += k.Value
		if first, ok := seen[k.Value]; ok {
			p.problem(k.Line, at, fmt.Sprintf("written twice; the first one is in line %d", first))
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
	if t != configType() { // koanf lays the top over its own defaults
		maps.Copy(out, defaultsOf(t))
	}
	p.pairs(n, path, func(key, at string, value *yaml.Node) {
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

// nameFlow fills in the one default that depends on what was written.
func nameFlow(flow map[string]any) {
	s, _ := flow["source"].(string)
	t, _ := flow["target"].(string)
	if _, ok := flow["name"]; !ok && s != "" && t != "" {
		flow["name"] = DefaultFlow(s, t).Name
	}
}

func (p *parser) unknown(key, at string, known []string) {
	text := "unknown key"
	switch near := nearest(key, known); {
	case key == "<<":
		text = "merge keys are not supported; write the keys out"
	case near != "":
		text += fmt.Sprintf("; did you mean %q?", near)
		// The one that was meant is surely reported as missing, or its default fails: that isn't a second mistake.
		p.wrong[strings.TrimSuffix(at, key)+near] = true
	default:
		text += "; known here are " + strings.Join(known, ", ")
	}
	p.problem(p.lines[at], at, text)
}

func (p *parser) walkMap(n *yaml.Node, t reflect.Type, path string) any {
	out := make(map[string]any)
	ok := p.pairs(n, path, func(key, at string, value *yaml.Node) {
		v := p.walk(value, t.Elem(), at)
		if v == nil {
			v = reflect.Zero(t.Elem()).Interface() // keeps the key, so that nobody is told that it doesn't exist
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
		p.problem(p.line(path), path, "must be a list; write [one, two] or one line with a dash for each")
		return nil
	}
	out := make([]any, 0, len(n.Content))
	for i, item := range n.Content {
		at := fmt.Sprintf("%s[%d]", path, i)
		p.lines[at] = item.Line
		v := p.walk(item, t.Elem(), at)
		if v == nil {
			v = reflect.Zero(t.Elem()).Interface() // keeps the positions of the others
		}
		out = append(out, v)
	}
	return out
}

var variable = regexp.MustCompile(`^\$\{([A-Za-z_][A-Za-z0-9_]*)\}`)

// expand replaces ${NAME}. It reports whether a variable was replaced, and whether all went well.
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
				p.problem(p.line(path), path, "the environment has no "+found[1]+"; set it, or write $${ for a plain ${")
			}
			b.WriteString(value)
			replaced = true
			text = text[len(found[0]):]
		case strings.HasPrefix(text, "${"):
			p.problem(p.line(path), path, "${ must be followed by the name of a variable and }; write $${ for a plain ${")
			return "", replaced, false
		default:
			b.WriteByte('$')
			text = text[1:]
		}
	}
}
