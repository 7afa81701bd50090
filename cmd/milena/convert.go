package main

import (
	"errors"

	"github.com/spf13/pflag"
)

func (p *program) convert(args []string) error {
	f := p.flags("convert", "print a MirrorMaker 2 file (mm2.properties) as a milena.yaml that means the same: milena convert FILE")
	file := f.StringP("config", "c", "", "the `file`, which may also be named without the flag")
	switch err := f.Parse(args); {
	case errors.Is(err, pflag.ErrHelp):
		return err // has printed itself; parse would have it printed again
	case err == nil && f.NArg() == 1 && *file == "":
		*file, args = f.Arg(0), nil
	}
	if err := parse(f, args); err != nil {
		return err
	}
	read, err := p.read(*file)
	if err != nil {
		return err
	}
	text, err := read.YAML()
	if err != nil {
		return err
	}
	if !read.IsMM2 {
		p.complain("milena: " + *file + " is a milena.yaml already")
	}
	p.printf("%s", text)
	return nil
}
