package main

import (
	"context"
	"runtime/debug"
)

const versionHelp = `milena version prints the version and revision of this binary and the Go version that built it.

Example:
  milena version
`

func (p *program) version(_ context.Context, args []string) error {
	f := p.flags("version", versionHelp)
	if err := parse(f, args); err != nil {
		return err
	}
	p.printf("milena %s", buildVersion())
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, s := range info.Settings {
			switch {
			case s.Key == "vcs.revision":
				p.printf(", revision %.12s", s.Value)
			case s.Key == "vcs.modified" && s.Value == "true":
				p.printf(" (modified)")
			}
		}
		p.printf(", %s", info.GoVersion)
	}
	p.printf("\n")
	return nil
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
