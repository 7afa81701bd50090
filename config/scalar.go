package config

import (
	"fmt"
	"reflect"
	"strconv"
	"time"

	"go.yaml.in/yaml/v3"
)

// scalar turns a plain value into type t, or reports a problem and returns nil.
func (p *parser) scalar(n *yaml.Node, t reflect.Type, path string) any {
	if n.Kind != yaml.ScalarNode {
		p.problem(p.line(path), path, "must be "+wanted(t)+", not a list or a mapping")
		return nil
	}
	text, tag := n.Value, n.ShortTag()
	if tag == "!!str" {
		var replaced, ok bool
		if text, replaced, ok = p.expand(text, path); !ok {
			return nil
		}
		if replaced {
			tag = fromEnvironment
		}
	}
	v, err := convert(text, t, tag)
	if err != nil {
		hint := ""
		if t != reflect.TypeFor[Secret]() && tag != fromEnvironment {
			hint = fmt.Sprintf(", not %q", text)
		}
		if t.Kind() == reflect.String {
			hint = "; put it in quotes"
		}
		p.problem(p.line(path), path, "must be "+wanted(t)+hint)
		return nil
	}
	return v
}

// fromEnvironment is the tag of a value from an environment variable, which has no type of its own.
const fromEnvironment = "!environment"

// wanted describes a type for messages.
func wanted(t reflect.Type) string {
	switch {
	case t == reflect.TypeFor[time.Duration]():
		return "a duration such as 500ms, 2s or 1m"
	case t == reflect.TypeFor[Bytes]():
		return "a size such as 32MiB"
	case t.Kind() == reflect.Bool:
		return "true or false"
	case t.Kind() == reflect.String:
		return "text"
	default:
		return fmt.Sprintf("a whole number of at most %d", int64(1)<<(t.Bits()-1)-1)
	}
}

// convert reads text as type t. The tag is the type that YAML gave to the text.
func convert(text string, t reflect.Type, tag string) (any, error) {
	v := reflect.New(t).Elem()
	mismatch := fmt.Errorf("a value of type %s", tag)
	switch {
	case t == reflect.TypeFor[time.Duration]():
		d, err := time.ParseDuration(text)
		if err != nil {
			return nil, err
		}
		v.SetInt(int64(d))
	case t == reflect.TypeFor[Bytes]():
		var b Bytes
		if err := b.UnmarshalText([]byte(text)); err != nil {
			return nil, err
		}
		v.SetInt(int64(b))
	case t.Kind() == reflect.Bool:
		if text != "true" && text != "false" || (tag != "!!bool" && tag != fromEnvironment) {
			return nil, mismatch
		}
		v.SetBool(text == "true")
	case t.Kind() == reflect.String:
		if tag != "!!str" && tag != fromEnvironment {
			return nil, mismatch
		}
		v.SetString(text)
	default: // an integer: 012 is ten in YAML 1.1 and twelve to a reader, so only plain decimals are accepted
		i, err := strconv.ParseInt(text, 10, t.Bits())
		if err != nil {
			return nil, err
		}
		if (tag != "!!int" && tag != fromEnvironment) || strconv.FormatInt(i, 10) != text {
			return nil, mismatch
		}
		v.SetInt(i)
	}
	return v.Interface(), nil
}
