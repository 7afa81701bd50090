package config

import (
	"fmt"
	"slices"
	"strings"
)

// javaList is a list of Java expressions in Go's: a name is selected that matches one of include and none of exclude.
//
// MirrorMaker 2 joins the items with | and compiles the result. Therefore flags such as (?i) hold from where they stand to the end of the list.
type javaList struct {
	include, exclude []string
	// rewritten are the items whose lookarounds became excludes.
	rewritten []string
}

// readJavaList translates a list. The problems are sentences without a subject, one per item that cannot be translated.
func readJavaList(items []string, characters string) (list javaList, problems []string) {
	list, problems = translateItems(items, characters)
	if len(problems) == 0 || len(items) < 2 {
		return list, problems
	}
	// (a, b) is a valid list, although (a and b) are not valid expressions.
	if joined, wrong := translateItems([]string{strings.Join(items, "|")}, characters); len(wrong) == 0 {
		return joined, nil
	}
	return list, problems
}

func translateItems(items []string, characters string) (list javaList, problems []string) {
	var all []alternative
	flags := ""
	for _, item := range items {
		translated, after, why := javaPatternIn(item, flags)
		if why == "" {
			all, flags = append(all, alternative{include: translated}), after
			continue
		}
		if !strings.Contains(why, "lookaround") {
			problems = append(problems, fmt.Sprintf("the pattern %q %s", item, why))
			continue
		}
		found, after, why := takeApart(item, flags)
		if why != "" {
			problems = append(problems, fmt.Sprintf("the pattern %q %s", item, why))
			continue
		}
		list.rewritten = append(list.rewritten, item)
		all, flags = append(all, found...), after
	}
	if len(problems) > 0 {
		return list, problems
	}
	for i, a := range all {
		list.include, list.exclude = append(list.include, a.include), append(list.exclude, a.exclude...)
		if why := takesFromOthers(all, i, characters); why != "" {
			problems = append(problems, why)
		}
	}
	list.include, list.exclude = unduplicated(list.include), unduplicated(list.exclude)
	if len(problems) > 0 {
		problems = append(problems[:1:1], fmt.Sprintf("nearest is the list %q without %q", list.include, list.exclude))
		return list, []string{strings.Join(problems, "; ")}
	}
	return list, nil
}

// takesFromOthers says which name an exclude of one alternative would take away from another one that selects it, or returns "". Java leaves names
// out of one alternative only.
func takesFromOthers(all []alternative, i int, characters string) string {
	for j, other := range all {
		if i == j {
			continue
		}
		for _, exclude := range all[i].exclude {
			name, known := commonName([]string{other.include, exclude}, other.exclude, characters)
			switch {
			case !known:
				return fmt.Sprintf("the pattern %q cannot be proven to have no name in common with %q, which a lookaround leaves out elsewhere in the list", other.include, exclude)
			case name != "":
				return fmt.Sprintf("the pattern %q selects %q, which a lookaround leaves out elsewhere in the list: milena's excludes hold for the whole list, so use two flows, or leave it out", other.include, name)
			}
		}
	}
	return ""
}

func unduplicated(list []string) (kept []string) {
	for _, item := range list {
		if !slices.Contains(kept, item) {
			kept = append(kept, item)
		}
	}
	return kept
}

// splitJava splits a Java expression at the | outside of groups and classes.
func splitJava(text string) (parts []string) {
	from := 0
	for i := 0; i < len(text); {
		if text[i] == '|' {
			parts, from = append(parts, text[from:i]), i+1
			i++
			continue
		}
		i += atomLength(text[i:])
	}
	return append(parts, text[from:])
}

// atomLength is the length of the first character, escape, quotation, class or group of a Java expression, without its quantifier.
func atomLength(text string) int {
	switch {
	case strings.HasPrefix(text, `\Q`):
		if end := strings.Index(text, `\E`); end >= 0 {
			return end + 2
		}
		return len(text)
	case text[0] == '\\':
		if found := braced.FindString(text); found != "" {
			return len(found)
		}
		if found := code.FindString(text); found != "" {
			return len(found)
		}
		return min(2, len(text))
	case text[0] == '[':
		return enclosed(text, ']')
	case text[0] == '(':
		return enclosed(text, ')')
	default:
		return 1
	}
}

// enclosed is the length of a class or a group.
func enclosed(text string, end byte) int {
	i := 1
	if end == ']' { // a ] at the beginning is a character
		i += len(text[i:]) - len(strings.TrimPrefix(text[i:], "^"))
		i += len(text[i:]) - len(strings.TrimPrefix(text[i:], "]"))
	}
	for i < len(text) && text[i] != end {
		if end == ']' && text[i] != '\\' {
			i++
		} else {
			i += atomLength(text[i:])
		}
	}
	return min(i+1, len(text))
}

// atom is a part of a Java expression with its quantifier.
type atom struct{ text, quantifier string }

// atomsOf splits an expression without | at its top into its atoms.
func atomsOf(text string) (atoms []atom) {
	for text != "" {
		n := atomLength(text)
		a := atom{text: text[:n]}
		text = text[n:]
		rest := text
		switch {
		case strings.HasPrefix(rest, "*"), strings.HasPrefix(rest, "+"), strings.HasPrefix(rest, "?"):
			rest = rest[1:]
		default:
			rest = strings.TrimPrefix(rest, repeat.FindString(rest))
		}
		if rest != text && (strings.HasPrefix(rest, "?") || strings.HasPrefix(rest, "+")) { // lazy or possessive
			rest = rest[1:]
		}
		a.quantifier, text = text[:len(text)-len(rest)], rest
		atoms = append(atoms, a)
	}
	return atoms
}

// trimAnchors removes ^ and $ around an expression without | at its top. Names are matched as a whole in any case.
func trimAnchors(text string) string {
	text = strings.TrimLeft(text, "^")
	for {
		trimmed, ok := trimDollar(text)
		if !ok {
			return text
		}
		text = trimmed
	}
}

// trimDollar removes the assertion $ from the end.
func trimDollar(text string) (string, bool) {
	before, ok := strings.CutSuffix(text, "$")
	if !ok || continues(before) || strings.Contains(text, `\Q`) {
		return text, false
	}
	return before, true
}

// unwrapJava removes a group around a whole expression that only groups.
func unwrapJava(text string) (inner string, ok bool) {
	if !strings.HasPrefix(text, "(") || atomLength(text) != len(text) || len(text) < 2 {
		return text, false
	}
	inner = strings.TrimPrefix(text[1:len(text)-1], "?:")
	return inner, !strings.HasPrefix(inner, "?")
}
