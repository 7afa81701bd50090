package main

import (
	"context"
	"runtime/debug"
)

const versionHelp = `milena version prints the version and revision of this binary and the Go version that built it.

Examples:
  milena version
  milena version --output json
`

func (p *program) version(_ context.Context, args []string) error {
	f := p.flags("version", versionHelp)
	var output string
	addOutput(f, &output)
	if err := parse(f, args); err != nil {
		return err
	}
	b := thisBuild()
	if output != outputTable {
		return p.printAs(output, b)
	}
	p.printf("milena %s", b.Version)
	if b.Revision != "" {
		p.printf(", revision %.12s", b.Revision)
	}
	if b.Modified {
		p.printf(" (modified)")
	}
	if b.Go != "" {
		p.printf(", %s", b.Go)
	}
	p.printf("\n")
	return nil
}

// build is what the Go tool wrote into the binary.
type build struct {
	Version  string `json:"version"`
	Revision string `json:"revision,omitempty"`
	Modified bool   `json:"modified"` // the working tree differed from the revision
	Go       string `json:"go,omitempty"`
}

func thisBuild() build {
	b := build{Version: buildVersion()}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return b
	}
	b.Go = info.GoVersion
	for _, s := range info.Settings {
		switch s.Key {
		case "vcs.revision":
			b.Revision = s.Value
		case "vcs.modified":
			b.Modified = s.Value == "true"
		}
	}
	return b
}

// buildVersion is the version that the Go tool wrote into the binary: the module's version, or the revision it was built from.
func buildVersion() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	version := info.Main.Version
	if version == "" {
		version = "(devel)"
	}
	return version
}
