package main

import "context"

const convertHelp = `milena convert prints the config of a MirrorMaker 2 as the milena.yaml that means the same, with a comment
wherever a value is not milena's default. It reads an mm2.properties, a KafkaMirrorMaker2 resource of the
Strimzi operator, or connectors of a Connect cluster as JSON.

Examples:
  milena convert mm2.properties > milena.yaml
  kubectl get kafkamirrormaker2 NAME -o yaml | milena convert /dev/stdin > milena.yaml
`

func (p *program) convert(_ context.Context, args []string) error {
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
