package main

const convertHelp = `milena convert prints an mm2.properties file as the milena.yaml that means the same, with a comment
wherever a value is not milena's default.

Example:
  milena convert mm2.properties > milena.yaml
`

func (p *program) convert(args []string) error {
	f := p.flags("convert", convertHelp)
	path := f.StringP("config", "c", "", "the `FILE`, instead of the argument")
	if err := parseArgs(f, args, 1); err != nil {
		return err
	}
	switch {
	case *path == "":
		*path = f.Arg(0)
	case f.NArg() > 0:
		return wrong(f, "the file is given twice, as -c %s and as %s", *path, f.Arg(0))
	}
	file, err := p.readConfig(*path)
	if err != nil {
		return err
	}
	text, err := file.YAML()
	if err != nil {
		return err
	}
	if !file.IsMM2 {
		p.complain("milena: " + *path + " is a milena.yaml already and is printed unchanged")
	}
	p.printf("%s", text)
	return nil
}
