package config

import (
	"bytes"
	"fmt"
	"os"

	"github.com/knadh/koanf/v2"
)

// Load reads a config file: a milena.yaml, or an mm2.properties of MirrorMaker 2, which is recognized by its content.
// It blocks only for reading files. The function env looks up the variables that values refer to, usually
// os.LookupEnv; nil means that there are no variables.
//
// The error is that of the operating system if the file cannot be read, and an *Error with all problems if the file
// is wrong.
func Load(path string, env func(string) (string, bool)) (*Config, error) {
	f, err := Read(path, env)
	if err != nil {
		return nil, err
	}
	return f.Config, nil
}

// Parse is Load for bytes. The name is the name of the file in messages.
func Parse(name string, data []byte, env func(string) (string, bool)) (*Config, error) {
	f, err := parse(name, data, env)
	if err != nil {
		return nil, err
	}
	return f.Config, nil
}

// Read is Load that also returns the notes about the file.
func Read(path string, env func(string) (string, bool)) (*File, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read the config: %w", err)
	}
	return ReadData(path, data, env)
}

// ReadData is Read for bytes. The name is the name of the file in messages.
func ReadData(name string, data []byte, env func(string) (string, bool)) (*File, error) {
	return parse(name, data, env)
}

func parse(name string, data []byte, env func(string) (string, bool)) (*File, error) {
	if env == nil {
		env = func(string) (string, bool) { return "", false }
	}
	data = bytes.TrimPrefix(data, []byte("\xef\xbb\xbf")) // the byte order mark that editors on Windows write
	if bytes.HasPrefix(data, []byte("\xff\xfe")) || bytes.HasPrefix(data, []byte("\xfe\xff")) {
		return nil, errorOf([]Problem{{File: name, Text: "the file is in UTF-16; save it as UTF-8"}})
	}
	if file, ok := readForeign(data); ok {
		return readMM2(name, file, env)
	}
	if isProperties(name, data) {
		return parseMM2(name, data, env)
	}
	c, lines, notes, err := parseYAML(name, data, env)
	if err != nil {
		return nil, err
	}
	return &File{Config: c, Notes: notes, name: name, data: data, lines: lines}, nil
}

func parseYAML(name string, data []byte, env func(string) (string, bool)) (*Config, map[string]int, []Note, error) {
	p := &parser{env: env, lines: make(map[string]int), wrong: make(map[string]bool)}
	c := new(Config)
	if err := load(c, data, p); err != nil {
		p.problem(0, "", err.Error())
	}
	problems := p.problems
	if !p.broken {
		for _, found := range c.problems() {
			if p.reported(found.Path) {
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
		return nil, nil, nil, err
	}
	return c, p.lines, append(p.notes, c.assignHeartbeats(p.line)...), nil
}

// load lets koanf merge the file over the defaults and fill the struct. Both are typed already, so koanf and
// mapstructure have nothing to guess. An error here is a bug in this package, but must not be lost.
func load(c *Config, data []byte, p *parser) error {
	// Aliases and topics contain dots. YAML text cannot contain NUL.
	k := koanf.New("\x00")
	if err := k.Load(source{}, nil); err != nil {
		return err
	}
	if err := k.Load(source{data: data}, p); err != nil {
		return err
	}
	return k.Unmarshal("", c)
}

// source is the koanf.Provider of both layers: the defaults as a mapping, and the file as bytes.
type source struct {
	data []byte
}

// ReadBytes returns the content of the file.
func (s source) ReadBytes() ([]byte, error) { return s.data, nil }

// Read returns the defaults.
func (source) Read() (map[string]any, error) { return defaultsOf(configType()), nil }
