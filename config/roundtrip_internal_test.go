package config

import (
	"fmt"
	"os"
	"reflect"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// plain turns the result of toMap into what a user would write.
func plain(v any) any {
	switch v := v.(type) {
	case map[string]any:
		for key := range v {
			v[key] = plain(v[key])
		}
	case time.Duration, Bytes:
		return fmt.Sprint(v)
	case Secret:
		return v.Reveal()
	}
	return v
}

func TestDefaultsRoundTripThroughYAML(t *testing.T) {
	data, err := os.ReadFile("testdata/smallest.good.yaml")
	if err != nil {
		t.Fatal(err)
	}
	want, err := Parse("smallest", data, nil)
	if err != nil {
		t.Fatal(err)
	}
	m := toMap(reflect.ValueOf(*want))
	m["clusters"] = map[string]any{"a": map[string]any{"brokers": []string{"a:9092"}}, "b": map[string]any{"brokers": []string{"b:9092"}}}
	m["flows"] = []any{plain(toMap(reflect.ValueOf(want.Flows[0])))}
	delete(m["flows"].([]any)[0].(map[string]any), "rename")
	delete(m["flows"].([]any)[0].(map[string]any), "anomalies_by_topic")
	text, err := new(parser).Marshal(plain(m).(map[string]any))
	if err != nil {
		t.Fatal(err)
	}
	got, err := Parse("written", text, nil)
	if err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
}

// Every field needs a tag: the tags are the list of known keys.
func TestAllFieldsHaveAKey(t *testing.T) {
	var check func(t reflect.Type) error
	check = func(typ reflect.Type) error {
		switch typ.Kind() { //nolint:exhaustive // every other kind is a plain value
		case reflect.Pointer, reflect.Slice, reflect.Map:
			return check(typ.Elem())
		case reflect.Struct:
			for i := range typ.NumField() {
				if f := typ.Field(i); f.Tag.Get("koanf") == "" {
					return fmt.Errorf("%v.%s has no koanf tag", typ, f.Name)
				} else if err := check(f.Type); err != nil {
					return err
				}
			}
		}
		return nil
	}
	if err := check(configType()); err != nil {
		t.Error(err)
	}
}
