package config

import (
	"fmt"
	"os"

	"github.com/knadh/koanf/v2"
)

// Load reads a file, and env where a value names a variable; nil has no variables, and the usual one is os.LookupEnv. The
// file is a milena.yaml or an mm2.properties of MirrorMaker 2, which its content tells.
//
// A file that can't be read gives the error of the operating system; one that is wrong gives an *Error with all problems.
func Load(path string, env func(string) (string, bool)) (*Config, error) {
	f, err := Read(path, env)
	if err != nil {
		return nil, err
	}
	return f.Config, nil
}

// Parse is Load without a file: name stands for it in messages.
func Parse(name string, data []byte, env func(string) (string, bool)) (*Config, error) {
	f, err := parse(name, data, env)
	if err != nil {
		return nil, err
	}
	return f.Config, nil
}

// Read is Load with what else there is to say about the file.
func Read(path string, env func(string) (string, bool)) (*File, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read the config: %w", err)
	}
	return parse(path, data, env)
}

func parse(name string, data []byte, env func(string) (string, bool)) (*File, error) {
	if env == nil {
		env = func(string) (string, bool) { return "", false }
	}
	if isProperties(name, data) {
		return parseMM2(name, data, env)
	}
	c, notes, err := parseYAML(name, data, env)
	if err != nil {
		return nil, err
	}
	return &File{Config: c, Notes: notes, name: name, data: data}, nil
}

func parseYAML(name string, data []byte, env func(string) (string, bool)) (*Config, []Note, error) {
	p := &parser{env: env, lines: make(map[string]int), wrong: make(map[string]bool)}
	c := new(Config)
	if err := load(c, data, p); err != nil {
		p.problem(0, "", err.Error())
	}
	problems := p.problems
	if !p.broken {
		for _, found := range c.problems() {
			if p.told(found.Path) {
				continue
			}
			found.Line = p.line(found.Path)
			problems = append(problems, found)
		}
	}
	for i := range problems {
		problems[i].File = name
	}
	if err := errorOf(problems); err != nil {
		return nil, nil, err
	}
	return c, p.notes, nil
}

// load lets koanf lay the file over the defaults and fill the struct. Both come in already typed, so that koanf and
// mapstructure have nothing to guess; an error here is a bug of this package and still must not be lost.
func load(c *Config, data []byte, p *parser) error {
	// Aliases and topics contain dots, and YAML text can't contain NUL.
	k := koanf.New("\x00")
	if err := k.Load(source{}, nil); err != nil {
		return err
	}
	if err := k.Load(source{data: data}, p); err != nil {
		return err
	}
	return k.Unmarshal("", c)
}

// source is the koanf.Provider of both layers: the defaults as a mapping, the file as bytes.
type source struct {
	data []byte
}

// ReadBytes is the file's content.
func (s source) ReadBytes() ([]byte, error) { return s.data, nil }

// Read is the mapping of defaults.
func (source) Read() (map[string]any, error) { return defaultsOf(configType()), nil }
